"""Which adapters can stand beside others on one base, and when base and adapter may be added up."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, PeftType
from peft.tuners.lora import Linear, LoraLayer
from torch import nn
from transformers.pytorch_utils import Conv1D

from ..errors import InputError


# Adapters that stand apart from the base and from each other, as the tests of this file show kind by kind.
SHARING = tuple(
    PeftType[kind]
    for kind in (
        "LORA LOHA LOKR IA3 OFT BOFT VERA HRA MISS LN_TUNING FOURIERFT TRAINABLE_TOKENS SHIRA DELORA HIRA C3A"
    ).split()
)
# Settings of LoRA that leave it so. Others change the base, give layers away, or want more than a forward pass.
_LORA_SETTINGS = frozenset(
    "task_type peft_type auto_mapping peft_version base_model_name_or_path revision inference_mode r target_modules "
    "exclude_modules lora_alpha lora_dropout fan_in_fan_out use_rslora use_dora lora_bias modules_to_save "
    "init_lora_weights layers_to_transform layers_pattern rank_pattern alpha_pattern trainable_token_indices "
    "eva_config ensure_weight_tying runtime_config megatron_core qalora_group_size".split()
)


def check_sharing(config: PeftConfig, name: str = "peft_config") -> None:
    """Raise for an adapter beside which the base is not what it was, or which cannot stand beside others."""
    if config.peft_type not in SHARING:
        raise InputError(
            f"{name}: an adapter of the kind {getattr(config.peft_type, 'value', config.peft_type)} is not known to share "
            f"a base with PPO's other roles; there are {', '.join(kind.value for kind in SHARING)}. Use a LoraConfig."
        )
    odd = ["bias"] if getattr(config, "bias", "none") != "none" else []
    if isinstance(config, LoraConfig):
        plain = LoraConfig()
        settings = [f.name for f in fields(config) if f.name not in _LORA_SETTINGS]
        # PEFT writes an empty list of a family's expert parameters, which is none of them.
        odd += [name for name in settings if (getattr(config, name) or None) != (getattr(plain, name) or None)]
        if str(config.init_lora_weights).lower().startswith(("pissa", "olora", "corda", "loftq", "lora_ga")):
            odd.append("init_lora_weights")
    if odd:
        raise InputError(
            f"{name}: {odd[0]}={getattr(config, odd[0])!r} changes the base that PPO's roles share, or cannot stand "
            "beside other adapters. Leave it out; merge such an adapter into its base (merge_and_unload) and train a "
            "plain LoRA on that."
        )


def can_merge(model: PeftModel, adapter: str) -> bool:
    """Whether the adapter is nothing but products of two matrices, each added to a matrix that nothing else uses.

    Then base and adapter added up are the same model, to rounding. It is asked of the modules that are there, not of
    the config: whatever the adapter has beside such products (biases, magnitudes, embeddings, saved modules) counts.
    """
    uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    summed: set[int] = set()
    for layer in model.modules():
        if not isinstance(layer, LoraLayer) or adapter not in layer.lora_A:
            continue
        base: Any = layer.get_base_layer()
        is_plain = type(layer) is Linear and adapter not in layer.lora_variant and type(base) in (nn.Linear, Conv1D)
        if not is_plain or not base.weight.is_floating_point() or uses[id(base.weight)] > 1:
            return False
        summed |= {id(layer.lora_A[adapter].weight), id(layer.lora_B[adapter].weight)}
    own = {id(p) for name, p in model.named_parameters() if adapter in name.split(".")}
    return bool(summed) and own == summed


@contextmanager
def merged(model: PeftModel, adapter: str) -> Iterator[None]:
    """Put sums of base and adapter in the base's place while the context is open; the base comes back bit for bit.

    It comes back because it was never touched: subtracting the adapter again, as unmerging does, would leave the
    rounding of both operations in the base that the other roles share. So there are two copies of the adapted
    matrices meanwhile.
    """
    bases: list[tuple[nn.Parameter, torch.Tensor]] = []
    try:
        for layer in model.modules():
            if isinstance(layer, Linear) and adapter in layer.lora_A:
                weight: Any = layer.get_base_layer().weight
                bases.append((weight, weight.data))
                weight.data = weight.data + layer.get_delta_weight(adapter).to(weight.dtype)
        yield
    finally:
        for weight, data in bases:
            weight.data = data
