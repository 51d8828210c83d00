"""Raw rows from wherever they lie, and the split that keeps a prompt on one side."""

import unicodedata
from hashlib import blake2b
from math import ceil
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from datasets import Dataset

Row = dict[str, Any]


def prompt_key(prompt: str | list[dict[str, str]]) -> str:
    """What makes two prompts the same prompt: the text, or the first user turn, in NFC, white space collapsed.

    >>> prompt_key("오늘  뭐 먹지?\\n") == prompt_key([{"role": "user", "content": "오늘 뭐 먹지?"}])
    True
    """
    if not isinstance(prompt, str):
        user_turns = [message["content"] for message in prompt if message["role"] == "user"]
        prompt = user_turns[0] if user_turns else ""
    return " ".join(unicodedata.normalize("NFC", prompt).split())


def split_by_prompt(dataset: "Dataset", eval_fraction: float, seed: int = 42) -> "tuple[Dataset, Dataset]":
    """Split into train and eval rows so that no prompt stands on both sides.

    Rows of one prompt (see `prompt_key`) stay together. Prompts are ordered by a hash of text and seed, and the first
    `eval_fraction` of them, at least one, are held out: the same prompt falls on the same side whatever the order of
    the rows, and nearly always so in another file, so that one seed holds out the same prompts in all stages.

    Args:
        dataset ([`datasets.Dataset`]): Rows with a `prompt`, as text or as messages.
        eval_fraction (`float`): Share of the distinct prompts to hold out, above 0 and below 1.
        seed (`int`, *optional*, defaults to `42`): Another seed holds out other prompts.

    Raises:
        ValueError: There is no `prompt` column, the fraction is not between 0 and 1, or fewer than two prompts.
    """
    if "prompt" not in dataset.column_names:
        raise ValueError(f"split_by_prompt needs a column 'prompt'; there are {', '.join(dataset.column_names)}.")
    if not 0 < eval_fraction < 1:
        raise ValueError(f"eval_fraction is {eval_fraction}; it must be above 0 and below 1.")
    keys = [prompt_key(prompt) for prompt in dataset["prompt"]]
    ordered = sorted(set(keys), key=lambda key: blake2b(f"{seed}\n{key}".encode(), digest_size=16).digest())
    if len(ordered) < 2:
        raise ValueError(f"Cannot split {len(keys)} rows with {len(ordered)} distinct prompts: at least 2 are needed.")
    held_out = set(ordered[: min(ceil(eval_fraction * len(ordered)), len(ordered) - 1)])
    train = [i for i, key in enumerate(keys) if key not in held_out]
    evaluation = [i for i, key in enumerate(keys) if key in held_out]
    return dataset.select(train), dataset.select(evaluation)
