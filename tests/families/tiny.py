"""Tiny models with random weights, by each family's real config class."""

from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel


_LLAMA = {
    "hidden_size": 64,  # 4-bit on a CPU computes no less
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
_EXPERTS = {"moe_intermediate_size": 32, "num_experts_per_tok": 2, "n_routed_experts": 4, "n_shared_experts": 1}
SHAPES: dict[str, dict[str, Any]] = {
    "exaone": _LLAMA,
    "exaone4": _LLAMA,
    "hyperclovax": _LLAMA | {"attention_multiplier": 0.2, "embedding_multiplier": 10.0, "logits_scaling": 0.25},
    "solar_open": _LLAMA | _EXPERTS,
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA | {"head_dim": 16},
    "gemma3_text": _LLAMA | {"head_dim": 16, "sliding_window": 32},
    "phi": _LLAMA | {"num_key_value_heads": 4},
    "phi3": _LLAMA,
    "gpt_neox": {key: value for key, value in _LLAMA.items() if key != "num_key_value_heads"},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512},
    "gpt_bigcode": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512, "multi_query": True},
}


def tiny_config(model_type: str, *, vocab_size: int = 300, **kwargs: Any) -> PreTrainedConfig:
    ids = {"pad_token_id": 1, "eos_token_id": 0, "bos_token_id": 2}
    # Far wider than usual, so that an untrained model has opinions.
    wide = {"initializer_range": 0.2}
    return CONFIG_MAPPING[model_type](vocab_size=vocab_size, **{**SHAPES[model_type], **wide, **ids, **kwargs})


def tiny_model(model_type: str, seed: int = 0, **kwargs: Any) -> PreTrainedModel:
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(tiny_config(model_type, **kwargs)).eval()
