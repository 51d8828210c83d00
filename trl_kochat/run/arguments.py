"""The command line of a recipe: a preset's values, then `--config file.yaml`, then flags.

A key that no one knows is an error that names the nearest one, wherever it stands.
"""

import argparse
import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from transformers import TrainingArguments
from trl import ModelConfig, TrlParser

from ..errors import InputError
from ..processes import hush_other_processes, say
from .presets import PRESETS, Presets, choose_preset, precision, preset_values, read_yaml
from .short_help import USAGE, short_help
from .words import refuse_unknown


# What `find_checkpoint` makes of the flag; the config's own help knows paths alone.
RESUME_HELP = (
    "--resume_from_checkpoint true goes on from the last whole checkpoint in --output_dir; a path names a checkpoint, or "
    "the output folder of a run."
)


# The configs take any number here; it would fail at the first step, or nobody would heed it.
ABOVE_ZERO = (
    "learning_rate",
    "num_train_epochs",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "logging_steps",
    "save_steps",
    "max_length",
    "max_completion_length",
    "lora_r",
)
# What a user gives -> what the preset has no more say in: weights of its own losses and rewards, steps that beat epochs.
OVERRULES = {"loss_type": "loss_weights", "rewards": "reward_weights", "num_train_epochs": "max_steps"}


@dataclass
class RecipeArguments:
    """What a recipe asks for beside the trainer's and the model's arguments."""

    preset: str = field(
        default="auto",
        metadata={"help": "Values to start from: 'cpu', 'gpu', or 'auto' (gpu when there is a CUDA device)."},
    )
    dataset_name: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Files, folders, URLs or Hub ids with the raw rows, one or more; 'sample:FILE' is embedded."
        },
    )
    dataset_train_split: str = field(default="train", metadata={"help": "Split to read of a dataset on the Hub."})
    encoding: str = field(default="utf-8", metadata={"help": "Encoding of the files: 'cp949' (EUC-KR), 'utf-16', ..."})
    formatter: str | None = field(
        default=None,
        metadata={"help": "What makes rows of the raw ones: a formatter's name, or 'file.py:function'."},
    )
    columns: list[str] = field(
        default_factory=list,
        metadata={"help": "Other names for columns, as in 질문=prompt 답변=completion; NAME= leaves one out."},
    )
    clean: bool = field(
        default=False,
        metadata={"help": "Mend the texts where nothing is lost by it, and show three of them before and after."},
    )
    chat_template: str = field(
        default="auto",
        metadata={
            "help": "'auto' (the model's own, or ko_instruct), or ko_instruct, koalpaca, kullm, chatml in its place."
        },
    )
    eval_fraction: float = field(default=0.1, metadata={"help": "Share of the prompts held out to measure on."})
    max_eval_samples: int | None = field(
        default=None, metadata={"help": "Held-out rows to keep at most: measuring takes as long as a short training."}
    )
    split_seed: int = field(default=42, metadata={"help": "Another seed holds out other prompts."})
    dry_run: bool = field(
        default=False,
        metadata={"help": "Load, format and build everything, say what would run, and stop before the first step."},
    )
    accept_findings: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Codes of faults of the tokenizer or of the rows that the run is to be started with all the same."
        },
    )


@dataclass
class RankingArguments:
    """Flags of a recipe that trains on rankings."""

    whole_rankings: bool = field(
        default=True,
        metadata={
            "help": "All pairs of a ranking in one batch, each answer computed once; a batch then counts rankings. "
            "False shuffles the pairs, as TRL does."
        },
    )


@dataclass(frozen=True)
class Parsed:
    """What a command line gave, the preset taken and why, and the names of what the user gave values for."""

    preset: str
    reason: str
    given: frozenset[str]
    arguments: Any
    config: Any
    model_args: ModelConfig


def parse(
    recipe: str,
    config_class: type[TrainingArguments],
    argv: Sequence[str] | None = None,
    *,
    presets: Presets | None = None,
    arguments_class: type = RecipeArguments,
) -> Parsed:
    """Read the command line of a recipe.

    Args:
        recipe (`str`): Its name; `--output_dir` is `runs/<recipe>` unless given.
        config_class (`type`): The trainer's config, e.g. [`~trl.DPOConfig`].
        argv (`Sequence[str]`, *optional*): Arguments instead of those of the command line.
        presets (folder or mapping, *optional*): `cpu` and `gpu` -> the values that differ from TRL's defaults; by
            default those of `recipes/configs/<recipe>`.
        arguments_class (`type`, *optional*): [`RecipeArguments`] with what a recipe adds to them.

    Raises:
        InputError: A key is unknown (the nearest one is named), a value is refused, or the preset cannot be had.
    """
    argv = _separate_config(sys.argv[1:] if argv is None else argv)
    asked, in_file = _asked_early(argv)
    preset, reason = choose_preset(asked["preset"] or "auto")
    kinds: list[Any] = [arguments_class, config_class, ModelConfig]
    # An own usage, since an error would print that of all flags above its sentence.
    parser = TrlParser(kinds, prog=f"{recipe}.py", usage=USAGE, allow_abbrev=False, epilog=RESUME_HELP)
    known = {f.name for kind in kinds for f in fields(kind)}
    if {"-h", "--help"} & set(argv):
        say(short_help(recipe, known, {name: preset_values(recipe, name, presets) for name in PRESETS}), end="")
        sys.exit()
    flags = (word.removeprefix("--").partition("=")[0] for word in argv if word.startswith("--"))
    given = frozenset(in_file) | {flag.replace("-", "_") for flag in flags}  # `--lora-r` is `--lora_r`
    values = {"output_dir": f"runs/{recipe}", **preset_values(recipe, preset, presets)}
    for name in given & OVERRULES.keys():
        values.pop(OVERRULES[name], None)
    dtype, model = (asked[name] or values.get(name) for name in ("dtype", "model_name_or_path"))
    values = precision(preset, dtype, model=model) | values
    refuse_unknown(values, known, f"in the preset {preset} of {recipe}")
    parser.set_defaults_with_config(**values)
    refuse_unknown(in_file.keys() - {"env"}, known, f"in {asked['config']}")
    words = [*_as_flags(in_file), *("--help" if word == "--help_all" else word for word in argv)]
    try:
        with warnings.catch_warnings():
            # TRL sets `gradient_checkpointing`, which transformers 5 renames.
            warnings.filterwarnings("ignore", ".*gradient_checkpointing.*deprecated", FutureWarning)
            arguments, config, model_args, rest = parser.parse_args_and_config(words, return_remaining_strings=True)
    except ValueError as error:  # the configs of TRL and transformers look at their values when they are made
        raise InputError(str(error)) from error
    hush_other_processes()  # the config above started the process group
    refuse_unknown([word.partition("=")[0] for word in rest if word.startswith("-")], known, "on the command line")
    if rest:
        raise InputError(f"Nothing takes the arguments {' '.join(rest)}.")
    _refuse_numbers(config, model_args)
    if not arguments.dataset_name:
        raise InputError("--dataset_name needs a file, folder, URL or Hub id.")
    return Parsed(preset, reason, given, arguments, config, model_args)


def _asked_early(argv: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What defaults hang on, as flags or their file have it (`preset`, `dtype`, the model), and all values of that file."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--preset", "--dtype", "--config"):
        early.add_argument(flag)
    early.add_argument("--model_name_or_path", "--model-name-or-path")
    asked = vars(early.parse_known_args(argv)[0])
    in_file = read_yaml(Path(asked["config"])) if asked["config"] else {}
    return {name: value or in_file.get(name) for name, value in asked.items()}, in_file


def _as_flags(values: Mapping[str, Any]) -> list[str]:
    """Values of a file as flags, which are looked at by type; what no flag can be, the parser takes from the file as it is.

    >>> _as_flags({"dataset_name": "a.json", "columns": {"질문": "prompt"}, "max_length": None})
    ['--dataset_name', 'a.json', '--columns', '질문=prompt']
    """
    words: list[str] = []
    for name, value in values.items():
        if name == "columns" and isinstance(value, Mapping):
            value = [f"{old}={new}" for old, new in value.items()]
        several = value if isinstance(value, list) else [value]
        if several and not isinstance(value, Mapping | None):
            words += [f"--{name}", *map(str, several)]
    return words


def _refuse_numbers(config: TrainingArguments, model_args: ModelConfig) -> None:
    for name in ABOVE_ZERO:
        value = getattr(config, name, getattr(model_args, name, None))
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"--{name} {value:g}: give a number above 0.")
    if config.max_steps is None or (config.max_steps < 1 and config.max_steps != -1):
        raise InputError(f"--max_steps {config.max_steps}: give 1 or more, or -1 to leave it to --num_train_epochs.")


def _separate_config(argv: Sequence[str]) -> list[str]:
    """`--config=FILE` as `--config FILE`, the only form that `TrlParser` sees."""
    separated: list[str] = []
    for word in argv:
        separated += ["--config", word.removeprefix("--config=")] if word.startswith("--config=") else [word]
    if separated and separated[-1] == "--config":
        raise InputError("--config needs a YAML file.")
    return separated
