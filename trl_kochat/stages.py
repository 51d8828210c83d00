"""What a recipe of stage 3 takes of the stages before it: the SFT adapter, the rewards, and prompts that fit."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from .encode import prompt_ids
from .errors import InputError
from .models import read_adapter_config
from .ppo.models import Loader
from .processes import say
from .rewards import Reward, get_reward, reward_model
from .run import Run
from .sample import embedded
from .text.shown import unique_names


# What `--rewards` calls the adapter of stage 2.
REWARD_ADAPTER = "reward_model"


@dataclass
class StageArguments:
    """Flags of a recipe that builds on earlier stages."""

    sft_adapter: str | None = field(
        default=None, metadata={"help": "Folder of the stage 1 adapter; runs/sft_kochatgpt if not given."}
    )
    reward_adapter: str | None = field(
        default=None, metadata={"help": "Folder of the stage 2 adapter; runs/reward_kochatgpt if not given."}
    )
    rewards: list[str] = field(
        default_factory=lambda: [REWARD_ADAPTER],
        metadata={
            "help": "What is rewarded: reward_model (the stage 2 adapter), names with arguments as in "
            "speech_level:해요체, FILE.py:FUNCTION. See docs/rewards.md; --reward_weights has a number for each."
        },
    )


@dataclass
class GroupArguments(StageArguments):
    """Flags of a recipe whose trainer compares several answers to one prompt."""

    trainer: str = field(
        default="grpo", metadata={"help": "grpo, or rloo; to be given on the command line, not in a file."}
    )
    max_prompt_length: int | None = field(
        default=None, metadata={"help": "Longest prompt, in tokens with the template's; longer ones are cut."}
    )


def find_sft_adapter(run: Run, *, embedded_name: str = "tiny-ko-sft") -> str:
    """The adapter of stage 1: the one given, that in `runs/sft_kochatgpt`, or on the cpu preset the embedded one.

    Args:
        run ([`Run`]): With [`StageArguments`].
        embedded_name (`str`, *optional*, defaults to `"tiny-ko-sft"`): Which one is the embedded one.

    Raises:
        InputError: There is none, with the command that makes one, or it was trained on another base.
    """
    return _find_stage(run, "sft_kochatgpt", run.arguments.sft_adapter, embedded_name)


def find_rewards(run: Run, *, as_functions: bool = False) -> list[str | Reward]:
    """What `--rewards` names: functions, and the folder of the stage 2 adapter, found as that of stage 1 is.

    Args:
        run ([`Run`]): With [`StageArguments`].
        as_functions (`bool`, *optional*, defaults to `False`): For a trainer that takes no folder of an adapter: it
            becomes a function too.

    Raises:
        InputError: There is no such reward or adapter, or not one of `--reward_weights` for each.
    """
    names, weights = run.arguments.rewards, run.config.reward_weights
    if weights is not None and len(weights) != len(names):
        raise InputError(f"{len(weights)} --reward_weights for {len(names)} --rewards; give one for each.")
    if not all(map(math.isfinite, weights or ())):
        raise InputError(f"--reward_weights {' '.join(map(str, weights))}: give a finite number for each reward.")
    # All of them before an adapter is loaded: what one lacks is said at once.
    functions = {name: get_reward(name, run.tokenizer) for name in names if name != REWARD_ADAPTER}
    rewards: list[str | Reward] = []
    for name in names:
        if name in functions:
            rewards.append(functions[name])
            continue
        folder = _find_stage(run, "reward_kochatgpt", run.arguments.reward_adapter, "tiny-ko-reward")
        rewards.append(_scored_by(folder, run) if as_functions else folder)
    made: list[Any] = [reward for reward in rewards if not isinstance(reward, str)]
    own = [getattr(function, "__name__", type(function).__name__) for function in made]
    for function, before, name in zip(made, own, unique_names(own), strict=True):
        if name != before:  # two of a kind: trainers log rewards by their names
            function.__name__ = name
    return rewards


def _scored_by(folder: str, run: Run) -> Reward:
    size, in_4bit = run.config.per_device_train_batch_size, run.model_args.load_in_4bit
    return reward_model(folder, run.tokenizer, batch_size=size, load_in_4bit=in_4bit)


def is_rloo(argv: Sequence[str] | None) -> bool:
    """Whether the command line asks for `--trainer rloo`: which settings there are, hangs on it."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--trainer", default="grpo")
    trainer = early.parse_known_args(argv)[0].trainer
    if trainer not in ("grpo", "rloo"):
        raise InputError(f"--trainer {trainer}: there are grpo and rloo.")
    return bool(trainer == "rloo")


def going_on_with(adapter: str, run: Run) -> dict[str, Any]:
    """[`Run.trainer_arguments`] for a trainer of TRL whose policy is an adapter that is there already."""
    arguments = run.trainer_arguments
    loader = Loader(run.config, arguments.pop("quantization_config"))
    arguments["model"] = loader.causal(adapter)
    run.config.model_init_kwargs = None  # the trainer loads nothing
    return arguments


def _find_stage(run: Run, recipe: str, given: str | None, embedded_name: str) -> str:
    adapter = _stage_folder(recipe, given, run.preset, embedded_name)
    base = str(run.model_args.model_name_or_path)
    of_adapter = read_adapter_config(adapter).base_model_name_or_path
    if of_adapter and Path(of_adapter).name != Path(base).name:
        raise InputError(
            f"The adapter {adapter} was trained on {of_adapter}, and this run has {base}: give "
            f"--model_name_or_path {of_adapter}, or another adapter."
        )
    return adapter


def _stage_folder(recipe: str, given: str | None, preset: str, embedded_name: str) -> str:
    folder = Path(embedded(given or f"runs/{recipe}"))
    if (folder / "adapter_config.json").is_file():
        say(f"Stage {recipe}: {folder}")
        return str(folder)
    if given is None and preset == "cpu":
        say(f"Stage {recipe}: the embedded {embedded_name} (there is none in {folder})")
        return embedded(embedded_name)
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
