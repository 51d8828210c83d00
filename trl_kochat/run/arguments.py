"""What every recipe shares: presets, arguments, 4-bit LoRA, and what a run says of itself.

Order: a preset's values, then `--config file.yaml`, then flags. A key that no one knows is an error that names the
nearest one, wherever it stands.
"""

import argparse
import difflib
import importlib.util
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from datasets import Dataset
from peft import PeftConfig
from transformers import BitsAndBytesConfig, PreTrainedTokenizerBase, Trainer, TrainingArguments
from trl import ModelConfig, RewardConfig, SFTConfig, TrlParser, get_peft_config, get_quantization_config

from ..data import RowCounts
from ..data.load import load_rows
from ..errors import InputError
from ..models import keep_4bit_gradients
from ..processes import hush_other_processes, say
from ..sample import SAMPLE_DIR
from ..tokenizer import tokenize_dataset


ConfigT = TypeVar("ConfigT", bound=TrainingArguments)
ArgumentsT = TypeVar("ArgumentsT", bound="RecipeArguments")
Presets = Mapping[str, Mapping[str, Any]]


# What `find_checkpoint` makes of the flag; the config's own help knows paths alone.
RESUME_HELP = (
    "--resume_from_checkpoint true goes on from the last whole checkpoint in --output_dir; a path names a checkpoint, or "
    "the output folder of a run."
)

# Settings of a trainer's config by which it writes other ids, or none.
CHANGES_IDS = frozenset(
    {
        "assistant_only_loss",
        "chat_template_path",
        "completion_only_loss",
        "dataset_kwargs",
        "eos_token",
        "pad_token",
    }
)


@dataclass
class RecipeArguments:
    """What a recipe asks for beside the trainer's and the model's arguments."""

    preset: str = field(
        default="auto",
        metadata={"help": "Values to start from: 'cpu', 'gpu', or 'auto' (gpu when there is a CUDA device)."},
    )
    dataset_name: list[str] = field(
        default_factory=list,
        metadata={"help": "Files, folders, URLs or Hub ids with the raw rows, one or more."},
    )
    dataset_train_split: str = field(default="train", metadata={"help": "Split to read of a dataset on the Hub."})
    eval_fraction: float = field(default=0.1, metadata={"help": "Share of the prompts held out to measure on."})
    split_seed: int = field(default=42, metadata={"help": "Another seed holds out other prompts."})
    dry_run: bool = field(
        default=False,
        metadata={"help": "Load, format and build everything, say what would run, and stop before the first step."},
    )
    accept_findings: list[str] = field(
        default_factory=list,
        metadata={"help": "Codes of faults of the tokenizer that the run is to be started with all the same."},
    )


@dataclass
class StageArguments(RecipeArguments):
    """What a stage that builds on earlier ones asks for as well."""

    sft_adapter: str | None = field(
        default=None, metadata={"help": "Folder of the stage 1 adapter; runs/sft_kochatgpt if not given."}
    )
    reward_adapter: str | None = field(
        default=None, metadata={"help": "Folder of the stage 2 adapter; runs/reward_kochatgpt if not given."}
    )


@dataclass(frozen=True)
class RunPlan:
    """The preset taken, and why (the first thing a recipe prints), and the names of what the user gave values for."""

    recipe: str
    preset: str
    reason: str
    given: frozenset[str] = frozenset()


def choose_preset(asked: str, presets: Presets) -> tuple[str, str]:
    """The preset to take, and the reason in words.

    Raises:
        ValueError: There is no such preset, or `gpu` was asked for where there is no CUDA device.
    """
    cuda = torch.cuda.is_available()
    if asked == "auto":
        return ("gpu", "a CUDA device is there") if cuda else ("cpu", "no CUDA device is there")
    if asked not in presets:
        raise InputError(f"No preset {asked!r}; there are auto, {', '.join(presets)}.")
    if asked == "gpu" and not cuda:
        raise InputError("--preset gpu: no CUDA device is there. Take --preset cpu, or look at `nvidia-smi`.")
    return asked, "as asked"


def precision(preset: str) -> dict[str, Any]:
    """Number formats that the machine can compute in: bf16 where the card has it, else fp16 (a T4), float32 on a CPU."""
    if preset == "cpu":
        return {"dtype": "float32", "bf16": False, "use_cpu": True}
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return {"dtype": "bfloat16"}  # and TRL's configs turn bf16 on by themselves
    return {"dtype": "float16", "fp16": True}


def parse(
    recipe: str,
    config_class: type[ConfigT],
    presets: Presets,
    argv: Sequence[str] | None = None,
    arguments_class: type[ArgumentsT] = RecipeArguments,  # type: ignore[assignment]
) -> tuple[RunPlan, ArgumentsT, ConfigT, ModelConfig]:
    """Read the command line of a recipe.

    Args:
        recipe (`str`): Its name; `--output_dir` is `runs/<recipe>` unless given.
        config_class (`type`): The trainer's config, e.g. [`~trl.DPOConfig`].
        presets (`Mapping`): `cpu` and `gpu` -> the values that differ from TRL's defaults.
        argv (`Sequence[str]`, *optional*): Arguments instead of those of the command line.
        arguments_class (`type`, *optional*): [`RecipeArguments`] or what a recipe adds to them.

    Raises:
        ValueError: A key is unknown (the nearest one is named), or the preset cannot be had. On the command line it
            is one line, and the exit status is 1.
    """
    _hush()
    try:
        return _parse(recipe, config_class, presets, sys.argv[1:] if argv is None else argv, arguments_class)
    except ValueError as error:
        if argv is None:
            sys.exit(f"{recipe}.py: {error}")
        raise


def _parse(
    recipe: str,
    config_class: type[ConfigT],
    presets: Presets,
    argv: Sequence[str],
    arguments_class: type[ArgumentsT],
) -> tuple[RunPlan, ArgumentsT, ConfigT, ModelConfig]:
    argv = _separate_config(argv)
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--preset")
    early.add_argument("--config", type=Path)
    asked, _ = early.parse_known_args(argv)
    in_file = _read_config(asked.config) if asked.config else {}
    preset, reason = choose_preset(asked.preset or in_file.get("preset", "auto"), presets)

    kinds: list[Any] = [arguments_class, config_class, ModelConfig]
    parser = TrlParser(kinds, prog=f"{recipe}.py", allow_abbrev=False, epilog=RESUME_HELP)
    known = {f.name for kind in kinds for f in fields(kind)}
    values = {"output_dir": f"runs/{recipe}", **precision(preset), **presets[preset]}
    flags = (word.removeprefix("--").partition("=")[0] for word in argv if word.startswith("--"))
    given = frozenset(in_file) | {flag.replace("-", "_") for flag in flags}  # `--lora-r` is `--lora_r`
    if "loss_type" in given:
        values.pop("loss_weights", None)  # a preset's weights belong to its own losses
    unknown_in_preset = parser.set_defaults_with_config(**values)
    assert not unknown_in_preset, unknown_in_preset
    _refuse_unknown(in_file.keys() - {"env"} - known, known, f"in {asked.config}")
    arguments, config, model_args, rest = parser.parse_args_and_config(argv, return_remaining_strings=True)
    hush_other_processes()  # the config above started the process group
    _refuse_unknown([key.partition("=")[0] for key in rest if key.startswith("-")], known, "on the command line")
    if rest:
        raise InputError(f"Nothing takes the arguments {' '.join(rest)}.")
    if not arguments.dataset_name:
        raise InputError("--dataset_name needs a file, folder, URL or Hub id.")
    return RunPlan(recipe, preset, reason, given), arguments, config, model_args


def _hush() -> None:
    """Leave out a warning that says nothing to a user of the recipes."""
    # TRL sets `gradient_checkpointing`, which transformers 5 renames.
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*deprecated", category=FutureWarning)


def _separate_config(argv: Sequence[str]) -> list[str]:
    """`--config=FILE` as `--config FILE`, the only form that `TrlParser` sees."""
    separated: list[str] = []
    for argument in argv:
        separated += (
            ["--config", argument.removeprefix("--config=")] if argument.startswith("--config=") else [argument]
        )
    if separated and separated[-1] == "--config":
        raise InputError("--config needs a YAML file.")
    return separated


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"--config: there is no file {path}.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"--config: {path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"--config: {path} does not hold `key: value` lines.")
    return values


def _refuse_unknown(keys: Any, known: set[str], where: str) -> None:
    for key in sorted(keys):
        name = key.lstrip("-").replace("-", "_")
        nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else "; --help lists all."
        raise InputError(f"Unknown key {name!r} {where}{hint}")


def lora_arguments(model_args: ModelConfig, config: Any) -> tuple[BitsAndBytesConfig | None, PeftConfig | None]:
    """What a TRL trainer takes as `quantization_config` and `peft_config`; sets `config.model_init_kwargs` in place.

    Without bitsandbytes (macOS) it says so in one line, and LoRA trains without 4-bit.
    """
    if (model_args.load_in_4bit or model_args.load_in_8bit) and importlib.util.find_spec("bitsandbytes") is None:
        say("bitsandbytes is not installed here: training LoRA without 4-bit.")
        model_args.load_in_4bit = model_args.load_in_8bit = False
    # `ModelConfig` reaches a model loaded by the trainer through `model_init_kwargs` only.
    given = {
        "dtype": model_args.dtype,
        "revision": model_args.model_revision,
        "attn_implementation": model_args.attn_implementation,
        "use_safetensors": True,
    }
    init_kwargs = {**given, **(getattr(config, "model_init_kwargs", None) or {})}
    config.model_init_kwargs = {key: value for key, value in init_kwargs.items() if value is not None}
    return get_quantization_config(model_args), get_peft_config(model_args)


def use_float32_adapters(trainer: Trainer) -> None:
    """Cast trainable parameters to float32, in place, unless training is in bf16, and keep 4-bit gradients right.

    TRL casts the adapters of a quantized model to bf16, whatever the machine computes in. The gradient scaler of fp16
    training (a T4) crashes on those, a reward head in bf16 does not take float32 hidden states (a CPU), and without
    autocast small updates are lost to bf16's 8 bits.
    """
    model: Any = trainer.model
    keep_4bit_gradients(model)  # the measures before training are forward passes in eval mode
    if not trainer.args.bf16:
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()


def refuse_lora_settings(plan: RunPlan, model_args: ModelConfig) -> None:
    """For a stage that goes on with the adapters of earlier ones: their shape cannot be chosen any more.

    Raises:
        ValueError: A setting of LoRA was given, or `--use_peft False`.
    """
    names = (f.name for f in fields(ModelConfig) if f.name.startswith(("lora_", "use_rslora", "use_dora")))
    given = [f"--{name}" for name in names if name in plan.given]
    if not model_args.use_peft:
        given.append("--use_peft False")
    if given:
        raise InputError(
            f"{', '.join(given)} would have no effect: {plan.recipe} trains on the adapters of stages 1 and 2 as they "
            "are. Give such flags to sft_kochatgpt and reward_kochatgpt."
        )


def announce(
    plan: RunPlan, arguments: RecipeArguments, model_args: ModelConfig, *, adapters: str | None = None
) -> None:
    """Print the first line of a run: what is taken and why; `adapters` names those that it goes on with."""
    tuning = adapters or (f"LoRA r {model_args.lora_r}" if model_args.use_peft else "all parameters")
    bits = "4-bit " if model_args.load_in_4bit else "8-bit " if model_args.load_in_8bit else ""
    say(
        f"{plan.recipe}: preset {plan.preset} ({plan.reason}), {Path(str(model_args.model_name_or_path)).name}, "
        f"{bits}{tuning} in {model_args.dtype}, rows of {', '.join(Path(name).name for name in arguments.dataset_name)}"
    )


def load_raw_rows(arguments: RecipeArguments) -> Any:
    """The raw rows of every `--dataset_name`, one after the other (see [`load_rows`])."""
    sources = [load_rows(name, split=arguments.dataset_train_split) for name in arguments.dataset_name]
    return sources[0] if len(sources) == 1 else chain.from_iterable(sources)


def find_stage(recipe: str, given: str | None, preset: str) -> str:
    """The adapter of an earlier stage: the one given, that in `runs/<recipe>`, or on the cpu preset the embedded one.

    Raises:
        ValueError: There is none, with the command that makes one.
    """
    folder = Path(given or f"runs/{recipe}")
    if (folder / "adapter_config.json").is_file():
        say(f"Stage {recipe}: {folder}")
        return str(folder)
    embedded = SAMPLE_DIR / f"tiny-ko-{recipe.partition('_')[0]}"
    if given is None and preset == "cpu" and embedded.is_dir():
        say(f"Stage {recipe}: the embedded adapter (there is none in {folder})")
        return str(embedded)
    raise InputError(f"No adapter in {folder}. Make it first: trl-kochat {recipe} --preset {preset}")


def cut_prompts(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> Dataset:
    """Cut the last user text of each prompt whose rendered form is over `max_length` tokens, and print how many were.

    The template's own tokens are kept, so a cut prompt still asks for an answer. No syllable is cut in half.

    Raises:
        ValueError: `max_length` leaves no room beside the template.
    """
    if max_length is None:
        return dataset

    def num_tokens(messages: list[dict[str, str]]) -> int:
        encoding: Any = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
        return len(encoding["input_ids"])

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


def tokenize(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, plan: RunPlan, config: SFTConfig | RewardConfig
) -> Dataset:
    """Rows as ids for a trainer that takes them (see [`tokenize_dataset`]), which is faster than its own way.

    Where a setting asks the trainer for other ids, the rows are left to it.
    """
    if plan.given & CHANGES_IDS:
        return dataset
    return tokenize_dataset(dataset, tokenizer, num_proc=config.dataset_num_proc)


def row_summary(counts: RowCounts, train: Dataset, evaluation: Dataset, trainer: Any) -> dict[str, Any]:
    """The counts of a run's rows for its report, with those that the trainer left out or cut for their length."""
    summary = counts.as_dict()
    max_length = getattr(trainer.args, "max_length", None)  # PPO has other limits
    sides = {"train": (train, trainer.train_dataset), "eval": (evaluation, trainer.eval_dataset)}
    too_long = sum(len(given) - len(kept) for given, kept in sides.values())
    cut = sum(_count_cut(kept, max_length, trainer.processing_class.eos_token_id) for _, kept in sides.values())
    if too_long:
        summary["dropped"]["too_long"] = too_long
        say(f"{too_long} rows left out: too long to learn from within --max_length {max_length} tokens.")
    if cut:
        say(f"{cut} rows cut at --max_length {max_length} tokens; a cut answer does not teach where to end.")
    for side, (_, kept) in sides.items():
        if not len(kept):
            raise InputError(f"No {side} row is left within --max_length {max_length} tokens; raise it.")
    return {
        **summary,
        "made": summary["made"] - too_long,
        "cut": cut,
        **{side: len(kept) for side, (_, kept) in sides.items()},
    }


def _count_cut(rows: Dataset, max_length: int | None, eos_token_id: int) -> int:
    """How many of a trainer's tokenized rows do not fit whole into `max_length`."""
    if max_length is None:
        return 0
    if "prompt_ids" in rows.column_names:  # DPO cuts when it makes a batch
        columns = (rows["prompt_ids"], rows["chosen_ids"], rows["rejected_ids"])
        return sum(len(p) + max(len(c), len(r)) > max_length for p, c, r in zip(*columns, strict=True))
    if "input_ids" in rows.column_names:  # SFT has cut already; every answer ended in EOS before
        return sum(len(ids) == max_length and eos_token_id not in ids[-2:] for ids in rows["input_ids"])
    return 0  # the reward trainer leaves such rows out


def describe(
    trainer: Any, tokenizer: PreTrainedTokenizerBase, rows: Mapping[str, Any], train: Dataset, num_examples: int = 2
) -> None:
    """Print what `--dry_run` shows: rows with counts, rendered examples and trainable parameters."""
    dropped = ", ".join(f"{reason} {count}" for reason, count in rows["dropped"].items()) or "none"
    say(
        f"rows: {rows['read']:,} read, {rows['made']:,} made, dropped: {dropped}; "
        f"{rows['train']:,} to train on, {rows['eval']:,} held out"
    )
    for number, row in enumerate(train.select(range(min(num_examples, len(train))))):
        start = str(tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True))
        say(f"--- example {number + 1}, as the model sees it\n{start}", end="")
        for column in ("completion", "chosen", "rejected"):
            if column in row:
                whole = str(tokenizer.apply_chat_template(row["prompt"] + row[column], tokenize=False))
                say(f"\n[{column}] {whole.removeprefix(start)}", end="")
        say()
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    # A 4-bit layer stores two weights in one element; PEFT's own count knows.
    every = trainer.model.get_nb_trainable_parameters()[1] if hasattr(trainer.model, "peft_config") else None
    every = every or sum(p.numel() for p in trainer.model.parameters())
    say(f"trainable parameters: {trainable:,} of {every:,} ({trainable / every:.2%})")
    say(f"output: {trainer.args.output_dir}")
    say("--dry_run: stopped before the first step.")
