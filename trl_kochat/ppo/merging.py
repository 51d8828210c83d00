"""Generating from merged weights: without the small products of every adapted layer, at every token."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers.pytorch_utils import Conv1D


def can_merge(model: PeftModel, adapter: str) -> bool:
    """Whether the adapter is a plain sum with matrices in floating point: not so for 4-bit weights or DoRA."""
    config = model.peft_config[adapter]
    if not isinstance(config, LoraConfig) or config.use_dora or config.modules_to_save or config.bias != "none":
        return False
    bases = [module.get_base_layer() for module in model.modules() if isinstance(module, LoraLayer)]
    return all(isinstance(base, nn.Linear | Conv1D) and base.weight.is_floating_point() for base in bases)


@contextmanager
def merged(model: PeftModel, adapter: str) -> Iterator[None]:
    """Put sums of base and adapter in the base's place while the context is open; the base comes back bit for bit.

    It comes back because it was never touched: subtracting the adapter again, as unmerging does, would leave the
    rounding of both operations in the base that the other roles share. So there are two copies of the adapted
    matrices meanwhile.
    """
    bases: list[tuple[nn.Parameter, torch.Tensor]] = []
    try:
        for module in model.modules():
            if isinstance(module, LoraLayer) and adapter in module.lora_A:
                layer: Any = module
                weight = layer.get_base_layer().weight
                bases.append((weight, weight.data))
                weight.data = weight.data + layer.get_delta_weight(adapter).to(weight.dtype)
        yield
    finally:
        for weight, data in bases:
            weight.data = data
