"""What PPO takes of the stages before it: the SFT adapter, the reward adapter, and prompts that fit."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..encode import prompt_ids
from ..errors import InputError
from ..models import read_adapter_config
from ..processes import say
from ..sample import embedded


@dataclass
class StageArguments:
    """Flags of a recipe that builds on earlier stages."""

    sft_adapter: str | None = field(
        default=None, metadata={"help": "Folder of the stage 1 adapter; runs/sft_kochatgpt if not given."}
    )
    reward_adapter: str | None = field(
        default=None, metadata={"help": "Folder of the stage 2 adapter; runs/reward_kochatgpt if not given."}
    )


def find_stages(arguments: StageArguments, base: str | None, preset: str) -> tuple[str, str]:
    """The adapters of stages 1 and 2 for a run on `base`.

    Each is the one given, that in `runs/<recipe>`, or on the cpu preset the embedded one.

    Raises:
        InputError: There is none, with the command that makes one, or it was trained on another base.
    """
    sft_adapter = _find_stage("sft_kochatgpt", arguments.sft_adapter, preset)
    reward_adapter = _find_stage("reward_kochatgpt", arguments.reward_adapter, preset)
    for adapter in (sft_adapter, reward_adapter):
        of_adapter = read_adapter_config(adapter).base_model_name_or_path
        if of_adapter and Path(of_adapter).name != Path(str(base)).name:
            raise InputError(
                f"The adapter {adapter} was trained on {of_adapter}, and this run has {base}: give "
                f"--model_name_or_path {of_adapter}, or another adapter."
            )
    return sft_adapter, reward_adapter


def _find_stage(recipe: str, given: str | None, preset: str) -> str:
    folder = Path(embedded(given or f"runs/{recipe}"))
    if (folder / "adapter_config.json").is_file():
        say(f"Stage {recipe}: {folder}")
        return str(folder)
    if given is None and preset == "cpu":
        say(f"Stage {recipe}: the embedded adapter (there is none in {folder})")
        return embedded(f"tiny-ko-{recipe.partition('_')[0]}")
    raise InputError(f"No adapter in {folder}. Make it first: trl-kochat {recipe} --preset {preset}")


def cut_prompts(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> Dataset:
    """Cut the last user text of each prompt whose rendered form is over `max_length` tokens, and print how many were.

    The template's own tokens are kept, so a cut prompt still asks for an answer. No syllable is cut in half.

    Raises:
        InputError: `max_length` leaves no room beside the template.
    """
    if max_length is None:
        return dataset

    def num_tokens(messages: list[dict[str, str]]) -> int:
        return len(prompt_ids(tokenizer, [messages])[0])

    def cut(row: dict[str, Any]) -> dict[str, Any]:
        *before, last = row["prompt"]
        text, excess = last["content"], num_tokens(row["prompt"]) - max_length
        is_cut = excess > 0
        while excess > 0:
            ends = [
                end for _, end in tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
            ]
            if len(ends) <= excess:
                raise InputError(f"--max_prompt_length {max_length} has no room for a prompt beside the template.")
            # A rare syllable is several tokens that end at the same place: at least one character must go.
            text = text[: min(ends[-excess - 1], len(text) - 1)]
            excess = num_tokens([*before, {**last, "content": text}]) - max_length
        return {"prompt": [*before, {**last, "content": text}], "is_cut": is_cut}

    dataset = dataset.map(cut, desc="Cutting long prompts")
    number = sum(dataset["is_cut"])
    if number:
        say(f"{number} prompts cut to --max_prompt_length {max_length} tokens.")
    return dataset.remove_columns("is_cut")
