"""Measure a model in the middle of training without leaving a trace in that training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..models import eval_mode


@contextmanager
def measuring(model: torch.nn.Module) -> Iterator[None]:
    """No gradients, no dropout, and the random numbers of training untouched."""
    device = next(model.parameters()).device
    devices = [device] if device.type == "cuda" else []
    with eval_mode(model), torch.random.fork_rng(devices), torch.no_grad():
        yield


def policy_of(model: Any) -> Any:
    """The language model in what a trainer trains: PPO trains a module that holds it beside the value."""
    return getattr(model, "policy", model)
