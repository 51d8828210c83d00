"""The split that keeps a prompt on one side."""

import logging
from collections import Counter
from hashlib import blake2b
from math import ceil
from numbers import Real
from typing import TYPE_CHECKING

from ..errors import InputError, need_dataset
from ..text.prompts import first_user_text, prompt_key
from ..text.shown import listed, shown


if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

# The column of rows that say themselves that they are held out, and why.
HELD_OUT = "held_out"


def split_by_prompt(
    dataset: "Dataset", eval_fraction: float, seed: int = 42, *, also_of_silent_rows: bool = False
) -> "tuple[Dataset, Dataset]":
    """Split into train and eval rows so that no prompt stands on both sides.

    Rows of one prompt stay together: the same text, or the same first user turn, whatever its spaces and Unicode form.
    Prompts are ordered by a hash of text and seed, and the first `eval_fraction` of them, at least one, are held out:
    the same prompt falls on the same side whatever the order of the rows, and nearly always so in another file, so
    that one seed holds out the same prompts in all stages.

    Where rows say themselves that they are held out, by a text in their column `held_out`, those are the eval rows and
    `eval_fraction` is not used. A training row with the prompt of such a row goes to their side, with a warning.

    Args:
        dataset ([`datasets.Dataset`]): Rows with a `prompt`, as text or as messages; those of language modelling go by
            the first user turn of their `messages`, or by their whole `text`.
        eval_fraction (`float`): Share of the distinct prompts to hold out, above 0 and below 1.
        seed (`int`, *optional*, defaults to `42`): Another seed holds out other prompts.
        also_of_silent_rows (`bool`, *optional*, defaults to `False`): Beside rows that say that they are held out, hold
            out `eval_fraction` of the prompts of rows that say nothing (`None`, as of a file without that column).

    Raises:
        ValueError: It is no dataset or a stream, there is no `prompt` column, a prompt or a `held_out` is no text, the
            fraction is not between 0 and 1, there are fewer than two prompts, or every one of them is held out.
    """
    need_dataset(dataset, "split_by_prompt")
    asked = next((name for name in ("prompt", "messages", "text") if name in dataset.column_names), None)
    if asked is None:
        raise InputError(f"split_by_prompt needs a column 'prompt'; there are {listed(dataset.column_names)}.")
    if not isinstance(eval_fraction, Real) or not 0 < eval_fraction < 1:
        raise InputError(f"eval_fraction is {shown(eval_fraction)}; it must be above 0 and below 1.")
    keys = []
    spelt: dict[str, str] = {}  # key -> the first of its spellings in the alphabet, whatever the order of the rows
    for number, prompt in enumerate(dataset[asked]):
        try:
            key, text = prompt_key(prompt), first_user_text(prompt)
        except InputError as error:
            raise InputError(f"Row {number} (counted from 0): {error}.") from error
        keys.append(key)
        spelt[key] = min(text, spelt.get(key, text))
    if len(spelt) < 2:
        raise InputError(f"Cannot split {len(keys)} rows with {len(spelt)} distinct prompts: at least 2 are needed.")
    reasons = _reasons(dataset)
    held_out = _marked(keys, reasons)
    if not held_out or also_of_silent_rows:
        said = {key for key, reason in zip(keys, reasons, strict=True) if reason is not None}
        free = set(spelt) - said if held_out else set(spelt)
        ordered = sorted(free, key=lambda key: blake2b(f"{seed}\n{spelt[key]}".encode(), digest_size=16).digest())
        held_out |= set(ordered[: max(0, min(ceil(eval_fraction * len(ordered)), len(ordered) - 1))])
    train = [i for i, key in enumerate(keys) if key not in held_out]
    evaluation = [i for i, key in enumerate(keys) if key in held_out]
    return dataset.select(train), dataset.select(evaluation)


def held_out_reasons(dataset: "Dataset") -> Counter[str]:
    """How many rows say themselves that they are held out, by what their column `held_out` says; none without it."""
    return Counter(reason for reason in _reasons(dataset) if reason)


def _reasons(dataset: "Dataset") -> list[str | None]:
    """Why each row is held out; an empty text for a row to train on, `None` where nothing is said."""
    if HELD_OUT not in dataset.column_names:
        return [None] * len(dataset)
    reasons = dataset[HELD_OUT][:]
    for number, reason in enumerate(reasons):
        if not isinstance(reason, str | None):
            raise InputError(
                f"Row {number} (counted from 0): held_out is {shown(reason)}; it is a text that says why training never "
                "sees the row, and empty for a row to train on."
            )
    return [None if reason is None else reason.strip() for reason in reasons]


def _marked(keys: list[str], reasons: list[str | None]) -> set[str]:
    """Keys of the prompts that rows say are held out."""
    marked = {key for key, reason in zip(keys, reasons, strict=True) if reason}
    if marked and marked == set(keys):
        raise InputError(
            f"All {len(keys)} rows say by their column {HELD_OUT!r} that they are held out: none to train on."
        )
    moved = sum(key in marked and not reason for key, reason in zip(keys, reasons, strict=True))
    if moved:
        logger.warning("%d rows have the prompt of a row that is held out, and are held out with it.", moved)
    return marked
