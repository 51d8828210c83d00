"""What the `dpo_orca` gpu preset takes of a GPU, computed from the shapes that the models' authors publish."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from trl_kochat.run.presets import preset_values


_LLAMA = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size")


def _llama(*shape: int, vocab_size: int, **kwargs: Any) -> dict[str, Any]:
    return dict(zip(_LLAMA, shape, strict=True)) | {"vocab_size": vocab_size, **kwargs}


# Family -> a model of it, its architecture and its config.json.
PUBLISHED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "EXAONE 3.5": (
        "EXAONE-3.5-2.4B-Instruct",
        "exaone",
        _llama(2560, 30, 32, 8, 7168, vocab_size=102400, head_dim=80, tie_word_embeddings=True),
    ),
    "EXAONE 4": (
        "EXAONE-4.0-1.2B",
        "exaone4",
        _llama(2048, 30, 32, 8, 4096, vocab_size=102400, tie_word_embeddings=True),
    ),
    "HyperCLOVA X SEED": (
        "HyperCLOVAX-SEED-Text-Instruct-1.5B",
        "hyperclovax",
        _llama(2048, 24, 16, 8, 7168, vocab_size=110592, tie_word_embeddings=True),
    ),
    # Experts that are one tensor stay at 16 bits: they are no linear layer.
    "Solar Open": (
        "Solar-Open-100B",
        "solar_open",
        {
            "hidden_size": 4096,
            "num_hidden_layers": 48,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "moe_intermediate_size": 1280,
            "n_routed_experts": 128,
            "n_shared_experts": 1,
            "vocab_size": 196608,
        },
    ),
    "Kanana 1.5": ("kanana-1.5-8b-instruct-2505", "llama", _llama(4096, 32, 32, 8, 14336, vocab_size=128256)),
    "Mi:dm 2": (
        "Midm-2.0-Mini-Instruct",
        "llama",
        _llama(1792, 48, 32, 8, 4608, vocab_size=131384, head_dim=128, tie_word_embeddings=True),
    ),
    "SOLAR 10.7B": ("SOLAR-10.7B-Instruct-v1.0", "llama", _llama(4096, 48, 32, 8, 14336, vocab_size=32000)),
    "KULLM 3": ("KULLM3", "llama", _llama(4096, 48, 32, 8, 14336, vocab_size=32000)),
    "A.X 4": ("A.X-4.0-Light", "qwen2", _llama(3584, 28, 28, 4, 18944, vocab_size=102400)),
    "Qwen 3": (
        "Qwen3-4B",
        "qwen3",
        _llama(2560, 36, 32, 8, 9728, vocab_size=151936, head_dim=128, tie_word_embeddings=True),
    ),
    "Gemma 3": ("gemma-3-1b-it", "gemma3_text", _llama(1152, 26, 4, 1, 6912, vocab_size=262144, head_dim=256)),
    "Polyglot-Ko, KoAlpaca, KULLM 2": (
        "polyglot-ko-5.8b",
        "gpt_neox",
        {
            "hidden_size": 4096,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "intermediate_size": 16384,
            "vocab_size": 30080,
        },
    ),
    "KoGPT2": ("kogpt2-base-v2", "gpt2", {"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 51200}),
}


@dataclass(frozen=True)
class Memory:
    """Parameters, and bytes of a GPU: of what stays, and of a batch as long as the preset allows beside it."""

    parameters: int
    weights: float
    batch: float


def memory_of(name: str) -> Memory:
    _, model_type, shape = PUBLISHED[name]
    preset = preset_values("dpo_orca", "gpu")
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(CONFIG_MAPPING[model_type](**shape))
    config, every = model.config, sum(p.numel() for p in model.parameters())
    layers = {n: m.weight for n, m in model.base_model.named_modules() if isinstance(m, nn.Linear | Conv1D)}
    quantized = sum(weight.numel() for weight in layers.values())
    # Beside experts in one tensor, adapters are on the attention alone.
    adapted = (weight.shape for name, weight in layers.items() if ".shared_experts." not in name)
    adapter = preset["lora_r"] * sum(map(sum, adapted))
    # NF4 with nested quantization, 4.127 bits (QLoRA, section 3); embeddings and norms in bf16; of the adapter weights,
    # gradients and AdamW's two moments in float32.
    weights = quantized * 4.127 / 8 + (every - quantized) * 2 + adapter * 16
    tokens = 2 * preset["per_device_train_batch_size"] * preset["max_length"]  # chosen and rejected
    # In bf16 what enters each layer, and of the output rows logits, log-probabilities and gradients.
    batch = tokens * 2 * (config.num_hidden_layers * config.hidden_size + 3 * config.vocab_size)
    return Memory(every, weights, batch)


def memory_row(name: str) -> str:
    """A line of the READMEs' table."""
    memory = memory_of(name)
    sizes = " | ".join(f"{size / 1e9:.1f} GB" for size in (memory.weights, memory.batch))
    return f"| {name} | {PUBLISHED[name][0]} | {memory.parameters / 1e9:.2f} B | {sizes} |"
