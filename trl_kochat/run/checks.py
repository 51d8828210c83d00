"""What a recipe looks at before the first step, so that nothing fails late that could have failed early.

Errors are `ValueError`s in a sentence or two; what may go well all the same is printed.
"""

import importlib
import importlib.util
import json
import math
import netrc
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import PeftModel
from transformers import Trainer, TrainingArguments
from trl import ModelConfig

from ..errors import InputError
from ..models import refuse_what_runs_code
from ..processes import say
from ..report import report_folder
from ..tokenizer.findings import Finding
from ..versions import check_torchao
from .checkpoints import beyond, find_checkpoint, set_aside


# bitsandbytes' 4-bit kernels begin with Pascal (https://huggingface.co/docs/bitsandbytes/main/en/installation).
LEAST_COMPUTE_CAPABILITY = (6, 0)
# Tokenizer files, configs and logs of a checkpoint, in bytes: generous (ours).
_SMALL_FILES = 16 * 2**20


class Asked(Protocol):
    """What the checks read of a recipe's arguments."""

    accept_findings: list[str]
    dry_run: bool


def check_before_loading(config: TrainingArguments, model_args: ModelConfig) -> str | None:
    """What can be told before the model is loaded; gives the checkpoint to go on from (see [`find_checkpoint`]).

    Raises:
        ValueError: The output folder cannot be written, the model has pickled weights or code of its own, peft or 4-bit
            is not possible here, or no checkpoint is whole.
    """
    check_output_dir(str(config.output_dir))
    refuse_what_runs_code(
        str(model_args.model_name_or_path), trust_remote_code=getattr(config, "trust_remote_code", False)
    )
    if model_args.use_peft:
        check_torchao()
    if model_args.load_in_4bit or model_args.load_in_8bit:
        check_bitsandbytes()
    checkpoint = find_checkpoint(str(config.output_dir), config.resume_from_checkpoint)
    return None if checkpoint is None else str(checkpoint)


def check_before_training(
    trainer: Trainer, arguments: Asked, findings: Iterable[Finding], checkpoint: str | None
) -> None:
    """What can be told once the trainer is built. Checkpoints that the run does not go on from are moved aside.

    Raises:
        ValueError: The tokenizer has a fault, a 4-bit layer does not compute, the checkpoint was made with another
            LoRA, or the disk is full.
    """
    check_tokenizer_findings(findings, arguments.accept_findings)
    check_lora_targets(trainer.model)
    check_quantized_layers(trainer.model)
    start = None if checkpoint is None else Path(checkpoint)
    if start is not None:
        check_same_lora(trainer.model, start)
    check_room(trainer)
    if trainer.args.should_save:
        leave_earlier_run(trainer.args, start, dry_run=arguments.dry_run)


def check_output_dir(output_dir: str) -> None:
    """Write a file where the run will; a folder that is not there yet is not made.

    Raises:
        ValueError: It cannot be written.
    """
    place = _nearest_folder(output_dir)
    if not place.is_dir():
        raise InputError(f"--output_dir {output_dir}: {place} is a file. Give another folder.")
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"0" * 4096)
    except OSError as error:
        raise InputError(
            f"--output_dir {output_dir}: {place} cannot be written ({error.strerror}). Give another folder."
        ) from error


def _nearest_folder(output_dir: str) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    path = Path(output_dir).absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def check_bitsandbytes() -> None:
    """
    Raises:
        ValueError: bitsandbytes does not load, or the GPU is older than its 4-bit kernels.
    """
    no_quantization = "Train without it: --load_in_4bit false"
    try:
        importlib.import_module("bitsandbytes")
    except (ImportError, OSError, RuntimeError) as error:
        raise InputError(f"bitsandbytes does not load, and 4-bit needs it ({error}). {no_quantization}") from error
    if torch.cuda.is_available():
        capability = torch.cuda.get_device_capability()
        if capability < LEAST_COMPUTE_CAPABILITY:
            raise InputError(
                f"{torch.cuda.get_device_name()} has compute capability {capability[0]}.{capability[1]}; 4-bit needs "
                f"{LEAST_COMPUTE_CAPABILITY[0]}.{LEAST_COMPUTE_CAPABILITY[1]}. {no_quantization}"
            )


def check_quantized_layers(model: Any) -> None:
    """Compute a zero with one 4-bit layer of each shape: not every kernel takes every width.

    Raises:
        ValueError: A layer does not compute; bitsandbytes says so with errors of many kinds.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        return
    from bitsandbytes.nn import Linear4bit

    tried = set()
    for name, module in model.named_modules():
        if not isinstance(module, Linear4bit) or (module.in_features, module.out_features) in tried:
            continue
        tried.add((module.in_features, module.out_features))
        zeros = torch.zeros(1, module.in_features, device=module.weight.device, dtype=module.compute_dtype)
        try:
            with torch.no_grad():
                module(zeros)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise InputError(
                f"bitsandbytes cannot compute the 4-bit layer {name} ({module.in_features} to {module.out_features}) "
                f"on {zeros.device}: {error}. Train without it: --load_in_4bit false"
            ) from error


def check_tokenizer_findings(findings: Iterable[Finding], accept: Collection[str] = ()) -> None:
    """
    Raises:
        ValueError: A finding of severity `error` could not be repaired, and its code is not in `accept`.
    """
    faults = [found for found in findings if found.severity == "error" and not found.fixed]
    left = [found for found in faults if found.code not in accept]
    if left:
        codes = " ".join(found.code for found in left)
        raise InputError(
            f"The tokenizer has a fault that training would go wrong with: {left[0].code}: {left[0].message} To train "
            f"all the same: --accept_findings {codes}"
        )


def check_lora_targets(model: Any) -> None:
    """Print which of the modules that LoRA was asked for the model does not have.

    PEFT itself refuses when none of them is there, and says nothing when some are not.
    """
    if not isinstance(model, PeftModel):
        return
    config: Any = model.peft_config[model.active_adapter]  # type: ignore[index]
    asked = config.target_modules
    if asked is None or isinstance(asked, str):  # a pattern
        return
    trained = model.targeted_module_names
    absent = sorted(name for name in asked if not any(f".{one}".endswith(f".{name}") for one in trained))
    if absent:
        names = sorted({one.rpartition(".")[2] for one in trained})
        say(
            f"LoRA: the model has no module {', '.join(absent)}; trained are {', '.join(names)} "
            "(--lora_target_modules all-linear takes every linear layer)."
        )


def check_same_lora(model: Any, checkpoint: Path) -> None:
    """
    Raises:
        ValueError: The adapter of the checkpoint has other settings than the one to train, or another base.
    """
    file = checkpoint / "adapter_config.json"
    policy = getattr(model, "policy", model)  # PPO trains a module that holds it beside the value
    if not isinstance(policy, PeftModel) or not file.is_file():
        return
    saved = json.loads(file.read_text(encoding="utf-8"))
    config: Any = policy.peft_config[policy.active_adapter]  # type: ignore[index]
    for name in ("r", "lora_alpha", "task_type", "target_modules"):
        before, now = _comparable(saved.get(name)), _comparable(getattr(config, name, None))
        if before != now:
            raise InputError(
                f"{checkpoint} was trained with LoRA {name} {before}, and this run has {now}: give the arguments of "
                "that run, or leave --resume_from_checkpoint out."
            )
    base, own = saved.get("base_model_name_or_path"), config.base_model_name_or_path
    if base and own and Path(base).name != Path(own).name:
        raise InputError(f"{checkpoint} was trained on {base}, and this run has {own}: give --model_name_or_path.")


def _comparable(value: Any) -> Any:
    if isinstance(value, (list, set, tuple)):
        return sorted(value)
    return str(getattr(value, "value", value))


def bytes_to_save(trainer: Trainer) -> tuple[int, int, int]:
    """About how much a run writes: bytes of the model, bytes of a checkpoint, and how many checkpoints are kept.

    Counted are the weights that are saved and two float32 numbers for each one that is trained (Adam).
    """
    args, model = trainer.args, trainer.model
    assert model is not None
    is_peft = isinstance(getattr(model, "policy", model), PeftModel)
    weights = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad or not is_peft)
    moments = sum(8 * p.numel() for p in model.parameters() if p.requires_grad)
    copies = 2 if hasattr(model, "policy") else 1  # PPO keeps roles in their own files, and together for resuming
    model_bytes = weights + _SMALL_FILES
    checkpoint_bytes = 0 if args.save_only_model else moments
    checkpoint_bytes += copies * weights + _SMALL_FILES
    strategy = str(getattr(args.save_strategy, "value", args.save_strategy))
    if strategy == "no":
        saves = 0
    elif strategy == "steps":
        steps = args.max_steps if args.max_steps > 0 else _steps(trainer)
        every = args.save_steps if args.save_steps >= 1 else max(1, math.ceil(steps * args.save_steps))
        saves = math.ceil(steps / every)
    else:
        saves = math.ceil(args.num_train_epochs)
    return model_bytes, checkpoint_bytes, min(args.save_total_limit or saves, saves)


def _steps(trainer: Trainer) -> int:
    args: Any = trainer.args
    rows = len(trainer.train_dataset) * getattr(args, "num_ppo_epochs", 1)  # type: ignore[arg-type]
    return math.ceil(
        args.num_train_epochs * rows / (args.train_batch_size * args.world_size * args.gradient_accumulation_steps)
    )


def check_room(trainer: Trainer) -> None:
    """Print that not all checkpoints will fit on the disk.

    Raises:
        ValueError: Not even the model and two checkpoints will; a new one is written before an old one is deleted.
    """
    model_bytes, checkpoint_bytes, kept = bytes_to_save(trainer)
    output_dir = str(trainer.args.output_dir)
    free = shutil.disk_usage(_nearest_folder(output_dir)).free
    least = model_bytes + min(kept, 2) * checkpoint_bytes
    every = model_bytes + (kept + 1 if kept > 1 else kept) * checkpoint_bytes
    if free < least:
        raise InputError(
            f"--output_dir {output_dir}: {_size(free)} free, and the model with {min(kept, 2)} checkpoints takes about "
            f"{_size(least)}. Make room, give another folder, or save none: --save_strategy no"
        )
    if free < every:
        say(
            f"{output_dir}: {_size(free)} free, and {kept} checkpoints of about {_size(checkpoint_bytes)} will not fit: "
            "--save_total_limit 2 keeps the last two."
        )


def _size(number: float) -> str:
    """
    >>> _size(300 * 2**20), _size(5 * 2**30)
    ('300 MiB', '5.0 GiB')
    """
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"


def leave_earlier_run(args: TrainingArguments, checkpoint: Path | None, *, dry_run: bool = False) -> None:
    """Say which checkpoints in the output folder this run does not come from, and move them aside.

    The report goes with them. Left where they are, `--resume_from_checkpoint true` could go on from the wrong run later, and `--save_total_limit`
    would delete them.
    """
    others = beyond(str(args.output_dir), checkpoint)
    report = report_folder(str(args.output_dir))
    if checkpoint is not None:
        say(f"Going on from {checkpoint}.")
    if not others:
        if not dry_run:
            _take_report_along(checkpoint, report)
        return
    names = ", ".join(other.folder.name for other in reversed(others))
    which = "of an earlier run" if checkpoint is None else f"that {checkpoint.name} does not come from"
    there = f"{args.output_dir} holds checkpoints {which} ({names})"
    if dry_run:
        goes_on = "; --resume_from_checkpoint true goes on with that run" if checkpoint is None else ""
        say(f"{there}: they would be moved aside{goes_on}.")
        return
    place = set_aside(others)
    assert place is not None
    if report.is_dir() and (checkpoint is None or checkpoint.parent.resolve() != report.parent.resolve()):
        report.rename(place / report.name)  # it tells of that run
    _take_report_along(checkpoint, report)
    goes_on = f"; --resume_from_checkpoint {place} goes on with that run" if checkpoint is None else ""
    say(f"{there}: moved to {place}{goes_on}.")


def _take_report_along(checkpoint: Path | None, report: Path) -> None:
    """Copy the report of the run that the checkpoint is of, with its measures from before training and its samples."""
    if checkpoint is None:
        return
    source = report_folder(checkpoint.parent)
    if source.is_dir() and source.resolve() != report.resolve() and not report.exists():
        shutil.copytree(source, report)


def set_up_wandb(config: TrainingArguments) -> None:
    """Make `report_to="wandb"` safe to leave alone, in place: no prompt, and no run lost for want of a key."""
    reported_to = [config.report_to] if isinstance(config.report_to, str) else list(config.report_to or ())
    if "wandb" not in reported_to:
        return
    if importlib.util.find_spec("wandb") is None:
        say("wandb is not installed (pip install 'trl_kochat[wandb]'): logging to the terminal and the report only.")
        config.report_to = [name for name in reported_to if name != "wandb"]
    elif "WANDB_MODE" not in os.environ and not _has_wandb_key():
        os.environ["WANDB_MODE"] = "offline"
        say("No wandb key found: wandb logs offline; `wandb sync wandb/offline-run-*` uploads the runs later.")


def _has_wandb_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("://")[-1].strip("/")
    try:
        return netrc.netrc().authenticators(host) is not None
    except (FileNotFoundError, netrc.NetrcParseError):
        return False
