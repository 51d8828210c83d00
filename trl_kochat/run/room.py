"""The output folder: whether it can be written, and the room that a run will need there."""

import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import Trainer

from ..errors import InputError
from ..processes import say


# Tokenizer files, configs and logs of a checkpoint, in bytes: generous (ours).
_SMALL_FILES = 16 * 2**20


def check_output_dir(output_dir: str) -> None:
    """Write a file where the run will; a folder that is not there yet is not made.

    Raises:
        InputError: It cannot be written.
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
        steps = count_steps(trainer)
        every = args.save_steps if args.save_steps >= 1 else max(1, math.ceil(steps * args.save_steps))
        saves = math.ceil(steps / every)
    else:
        saves = math.ceil(args.num_train_epochs)
    return model_bytes, checkpoint_bytes, min(args.save_total_limit or saves, saves)


def count_steps(trainer: Trainer) -> int:
    """Optimizer steps of a run, whether its length is given in steps or in epochs."""
    args: Any = trainer.args
    if args.max_steps > 0:
        return args.max_steps
    rows = len(trainer.train_dataset) * getattr(args, "num_ppo_epochs", 1)  # type: ignore[arg-type]
    return math.ceil(
        args.num_train_epochs * rows / (args.train_batch_size * args.world_size * args.gradient_accumulation_steps)
    )


def check_room(trainer: Trainer) -> None:
    """Print that not all checkpoints will fit on the disk.

    Raises:
        InputError: Not even the model and two checkpoints will; a new one is written before an old one is deleted.
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
