"""Heads that read one number from a hidden state."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel, load_peft_weights
from torch import nn

from ..errors import InputError
from ..models import adapter_folder


# The head's name in an adapter that was trained for sequence classification.
SCORE_KEY = "base_model.model.score.weight"


class ScalarHead(nn.Module):
    """One number for each hidden state, in float32 whatever the model's precision: `(..., H)` to `(...)`."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone().float().reshape(-1))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        # A product and a sum, not a linear layer, which autocast would round to half precision.
        return (hidden.float() * self.weight).sum(-1)


@contextmanager
def captured_input(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collect what `module` is called with while the context is open."""
    inputs: list[torch.Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    try:
        yield inputs
    finally:
        handle.remove()


def backbone(model: Any) -> Any:
    """The decoder under a model's head, whose `last_hidden_state` the head reads."""
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    return inner.base_model


def reward_head(path: str) -> torch.Tensor:
    """Weight `(1, H)` of the head in an adapter folder; an error where it is missing or has several labels."""
    weights = load_peft_weights(str(adapter_folder(path)), device="cpu")
    if SCORE_KEY not in weights:
        raise InputError(
            f"The adapter {path!r} holds no reward head (no 'score.weight'); train it with RewardTrainer and a "
            f"LoraConfig of task_type='SEQ_CLS'."
        )
    check_labels(weights[SCORE_KEY].shape[0], path)
    return weights[SCORE_KEY]


def check_labels(labels: int, name: str) -> None:
    if labels != 1:
        raise InputError(f"The reward model {name!r} has {labels} labels; a reward is one number (num_labels=1).")
