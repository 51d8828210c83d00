"""Checkpoints of a run: which of them are whole, where to go on from, and what is left of an earlier run.

`transformers` writes `trainer_state.json` last, and deletes old checkpoints (`save_total_limit`) only after it. So a
checkpoint without it was never finished, and the one before it is still there.
"""

import json
import logging
import re
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..errors import InputError
from ..processes import say
from ..report import report_folder


logger = logging.getLogger(__name__)

STATE = "trainer_state.json"
# Folder, inside the output folder, for checkpoints that the run at hand does not go on from.
EARLIER = "earlier"
# FSDP and DeepSpeed keep weights and optimizer in folders of their own making.
_SHARDED = ("pytorch_model_fsdp", "optimizer", "global_step")


class Checkpoint(NamedTuple):
    step: int
    folder: Path


def list_checkpoints(output_dir: str | PathLike[str]) -> list[Checkpoint]:
    """The folders `checkpoint-<step>` in `output_dir`, whole or not, the latest step first."""
    found = []
    for folder in Path(output_dir).glob("checkpoint-*"):
        match = re.fullmatch(r"checkpoint-(\d+)", folder.name)
        if match and folder.is_dir():
            found.append(Checkpoint(int(match[1]), folder))
    return sorted(found, reverse=True)


def checkpoint_problem(folder: str | PathLike[str]) -> str | None:
    """Why training cannot go on from a checkpoint, in words that name the file; `None` if all of it is there.

    Nothing is unpickled: safetensors say themselves how long they are, PyTorch's files are ZIP archives with a
    checksum for each part, and the rest is JSON. A state file of a trainer may list the `files` beside it.
    """
    folder = Path(folder)
    if not (folder / STATE).is_file():
        return f"{STATE} is missing: it was not written to its end"
    needed: set[str] = set()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(file.relative_to(folder))
        problem = _broken_file(file)
        if problem:
            return f"{name} {problem}"
        if file.suffix == ".json":
            needed |= _named_files(file, folder)
    missing = sorted(name for name in needed if not (folder / name).is_file())
    if missing:
        return f"{missing[0]} is missing"
    if any(path.is_dir() and path.name.startswith(_SHARDED) for path in folder.iterdir()):
        return None
    # Without these, transformers goes on all the same: from random numbers and an optimizer that know nothing.
    for pattern in ("*.safetensors", "optimizer.pt", "scheduler.pt", "rng_state*.pth"):
        if not list(folder.glob(pattern)):
            only_model = "; --save_only_model leaves it out" if pattern == "optimizer.pt" else ""
            return f"{pattern} is missing{only_model}"
    return None


def _broken_file(file: Path) -> str | None:
    kind = file.suffix
    if kind not in (".json", ".safetensors", ".pt", ".pth", ".bin"):
        return None
    if not file.stat().st_size:
        return "is empty"
    try:
        if kind == ".json":
            json.loads(file.read_text(encoding="utf-8"))
        elif kind == ".safetensors":
            with safe_open(file, framework="pt"):
                pass
        else:
            with zipfile.ZipFile(file) as archive:
                if archive.testzip() is not None:
                    return "is damaged"
    except (SafetensorError, zipfile.BadZipFile, ValueError, EOFError):
        return f"is cut short or damaged ({file.stat().st_size:,} bytes)"
    return None


def _named_files(file: Path, folder: Path) -> set[str]:
    """Files that must be there because a JSON file of the checkpoint says so, relative to `folder`."""
    within = file.parent.relative_to(folder)
    if file.name == "adapter_config.json":
        return {str(within / "adapter_model.safetensors")}
    content = json.loads(file.read_text(encoding="utf-8"))
    if file.name.endswith(".safetensors.index.json"):
        return {str(within / name) for name in content["weight_map"].values()}
    if file.name.endswith("_state.json") and isinstance(content, dict):
        return {str(within / name) for name in content.get("files", ())}
    return set()


def find_checkpoint(output_dir: str | PathLike[str], asked: str | bool | None) -> Path | None:
    """The checkpoint that `--resume_from_checkpoint` means, or the one before it if that one is broken.

    Args:
        output_dir (`str`): Where the run keeps its checkpoints.
        asked (`str` or `bool`, *optional*): `"true"` (or `True`) for the last whole checkpoint in `output_dir`; a
            checkpoint's folder; the output folder of a run; `None` or `"false"` to start from the beginning. A broken
            checkpoint is named in a warning, and the last whole one before it is taken.

    Returns:
        The folder, or `None` to start from the beginning.

    Raises:
        InputError: There is no such folder, it holds no checkpoint, or none of them is whole.
    """
    word = str(asked).strip()
    if asked is None or word.lower() in ("", "false", "none"):
        return None
    folder = Path(output_dir) if word.lower() == "true" else Path(word)
    how_else = "Leave --resume_from_checkpoint out to start from the beginning."
    if re.fullmatch(r"checkpoint-\d+", folder.name):
        if not folder.is_dir():
            names = ", ".join(checkpoint.folder.name for checkpoint in list_checkpoints(folder.parent))
            raise InputError(f"There is no checkpoint {folder}{names and f'; there are {names}'}.")
        step = int(folder.name.rpartition("-")[2])
        candidates = [checkpoint for checkpoint in list_checkpoints(folder.parent) if checkpoint.step <= step]
    elif (folder / STATE).is_file():  # a checkpoint under another name
        candidates = [Checkpoint(0, folder)]
    else:
        candidates = list_checkpoints(folder)
    if not candidates:
        raise InputError(f"There is no checkpoint to go on from in {folder}. {how_else}")
    reasons: list[str] = []
    for checkpoint in candidates:
        problem = checkpoint_problem(checkpoint.folder)
        if problem is None:
            for reason in reasons:
                logger.warning("%s. Going on from %s instead.", reason, checkpoint.folder)
            return checkpoint.folder
        reasons.append(f"{checkpoint.folder} cannot be resumed: {problem}")
    raise InputError(f"{'; '.join(reasons)}. No whole checkpoint is left. {how_else}")


def other_checkpoints(output_dir: str | PathLike[str], start: Path | None) -> list[Checkpoint]:
    """Checkpoints in `output_dir` that a run starting from `start` (`None`: from the beginning) does not come from."""
    there = list_checkpoints(output_dir)
    if start is None or start.resolve().parent != Path(output_dir).resolve():
        return there
    step = int(start.name.rpartition("-")[2])
    return [checkpoint for checkpoint in there if checkpoint.step > step]


def set_aside(checkpoints: Sequence[Checkpoint]) -> Path:
    """Move checkpoints into `earlier/<time>/` beside them, so that no later run goes on from them or deletes them."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    place = checkpoints[0].folder.parent / EARLIER / stamp
    place.mkdir(parents=True)
    for checkpoint in checkpoints:
        checkpoint.folder.rename(place / checkpoint.folder.name)
    return place


def leave_earlier_run(args: TrainingArguments, checkpoint: Path | None, *, dry_run: bool = False) -> None:
    """Say which checkpoints in the output folder this run does not come from, and move them aside with their report.

    Left where they are, `--resume_from_checkpoint true` could go on from the wrong run later, and `--save_total_limit`
    would delete them. The report of the run that the checkpoint is of is copied to where this one's will be, for its
    measures from before training and its samples.
    """
    others = other_checkpoints(str(args.output_dir), checkpoint)
    report = report_folder(str(args.output_dir))
    source = None if checkpoint is None else report_folder(checkpoint.parent)
    is_its_own = source is not None and source.resolve() == report.resolve()
    if checkpoint is not None:
        say(f"Going on from {checkpoint}.")
    if others:
        names = ", ".join(other.folder.name for other in reversed(others))
        which = "of an earlier run" if checkpoint is None else f"that {checkpoint.name} does not come from"
        moved, folder = "they would be moved aside", "true"
        if not dry_run:
            place = set_aside(others)
            moved, folder = f"moved to {place}", str(place)
            if report.is_dir() and not is_its_own:
                report.rename(place / report.name)
        goes_on = f"; --resume_from_checkpoint {folder} goes on with that run" if checkpoint is None else ""
        say(f"{args.output_dir} holds checkpoints {which} ({names}): {moved}{goes_on}.")
    if source is not None and source.is_dir() and not (is_its_own or dry_run or report.exists()):
        shutil.copytree(source, report)


class _AllStepsDone(Exception):
    """Training was asked to go on from its last step."""


class _NoFurtherStep(TrainerCallback):
    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        if state.global_step >= state.max_steps:
            raise _AllStepsDone


@contextmanager
def no_step_too_many(trainer: Trainer) -> Iterator[None]:
    """Around `trainer.train()`: resuming after the last step measures and reports, and does not take one step more.

    A run can be killed after its last checkpoint, while it measures. In the middle of an epoch, transformers (5.23)
    looks at `max_steps` only after a step.
    """
    callback = _NoFurtherStep()
    trainer.add_callback(callback)
    try:
        yield
    except _AllStepsDone:
        say(f"Step {trainer.state.global_step} of {trainer.state.max_steps}: nothing is left to train.")
        trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
    finally:
        trainer.remove_callback(callback)
