"""Look at a model in the middle of training: without a trace in that training, and without ending it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerState, TrainingArguments

from ..errors import InputError
from ..models import eval_mode
from ..report.record import what_is_wrong
from ..text.shown import cut, printable


logger = logging.getLogger(__name__)

FAILED = "look_failed"


@contextmanager
def looking(what: str, state: TrainerState) -> Iterator[None]:
    """Around what only looks: a failure becomes a line of the Python log and an entry of the trainer's log.

    Each failure is counted by an entry with `health/code` and `health/message`; the same sentence is said once. Any
    error is one, since what looks calls chat templates, rewards and trackers of anybody's making; signals and exits are
    none.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, StrictDataclassError):
            said = what_is_wrong(error)
        else:
            said = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        message = f"{what} failed, and training goes on: {cut(printable(' '.join(said.split())), 400)}"
        is_new = all(entry.get("health/message") != message for entry in state.log_history)
        state.log_history.append(
            {"epoch": state.epoch, "health/code": FAILED, "health/message": message, "step": state.global_step}  # type: ignore[dict-item]
        )
        if is_new and state.is_world_process_zero:
            logger.warning("Step %d: %s", state.global_step, message)


@contextmanager
def measuring(model: torch.nn.Module) -> Iterator[None]:
    """No gradients, no dropout, and the random numbers of training untouched."""
    device = next(model.parameters()).device
    devices = [device] if device.type == "cuda" else []
    with eval_mode(model), torch.random.fork_rng(devices), torch.no_grad():
        yield


def model_in(trained: torch.nn.Module) -> Any:
    """The model in what is trained: itself, or the first one in a module that holds it beside a value or a head."""
    models = (module for module in trained.modules() if isinstance(module, (PreTrainedModel, PeftModel)))
    return next(models, trained)


def tokenizer_of(processing_class: Any) -> PreTrainedTokenizerBase:
    """The tokenizer in a trainer's `processing_class`, which may be a processor of images and text.

    Raises:
        ValueError: There is none.
    """
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        given = "no processing_class" if processing_class is None else f"a {type(processing_class).__name__}"
        raise InputError(f"The trainer has {given} and so no tokenizer; give the callback one: tokenizer=...")
    return tokenizer


def method_of(args: TrainingArguments) -> str:
    """What a trainer does, by the name that TRL gave its arguments: `sft` of `SFTConfig`, also where it was extended.

    >>> method_of(TrainingArguments())
    'training'
    """
    for kind in type(args).__mro__:
        name = kind.__name__.removesuffix("Config")
        if name != kind.__name__ and kind.__module__.partition(".")[0] in ("trl", __name__.partition(".")[0]):
            return name.lower()
    return "training"
