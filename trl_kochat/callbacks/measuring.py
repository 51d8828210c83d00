"""Measure a model in the middle of training without leaving a trace in that training."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def measuring(model: torch.nn.Module) -> Iterator[None]:
    """No gradients, no dropout, and the random numbers of training untouched.

    Every submodule gets back the mode it had: trainers keep some parts (a frozen reward model) in evaluation mode.
    """
    modes = [(module, module.training) for module in model.modules()]
    device = next(model.parameters()).device
    model.eval()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
