"""A tiny model with random weights of each family, by its real config class, and a tokenizer with its special tokens."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tests.families import templates
from tests.tokenizers import byte_level


_LLAMA = {
    "hidden_size": 64,  # 4-bit on a CPU computes no less
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
_EXPERTS = {"moe_intermediate_size": 64, "num_experts_per_tok": 2, "n_routed_experts": 4, "n_shared_experts": 1}
_GPT = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512}
SHAPES: dict[str, dict[str, Any]] = {
    "exaone": _LLAMA,
    "exaone4": _LLAMA,
    "hyperclovax": _LLAMA | {"attention_multiplier": 0.2, "embedding_multiplier": 10.0, "logits_scaling": 0.25},
    "solar_open": _LLAMA | _EXPERTS,
    "llama": _LLAMA,
    "qwen2": _LLAMA | {"tie_word_embeddings": True},
    "qwen3": _LLAMA | {"head_dim": 16},
    "gemma3_text": _LLAMA | {"head_dim": 16, "sliding_window": 32, "num_key_value_heads": 1},  # tied, multi-query
    "phi3": _LLAMA,
    "gpt_neox": {key: value for key, value in _LLAMA.items() if key != "num_key_value_heads"},
    "gpt2": _GPT,  # tied, learned positions
    "gpt_bigcode": _GPT | {"multi_query": True},
}


@dataclass(frozen=True)
class Family:
    """What is published of a family.

    Args:
        model_type (`str`): transformers' name of its architecture.
        end (`str`): What the model writes at the end of an answer.
        eos (`str`): `eos_token` as its tokenizer_config.json declares it.
        pad (`str`, *optional*): As declared.
        specials (`tuple`): Its other special tokens.
        template (`str`, *optional*): Its chat template.
        compared (`str`): What the template was compared with.
    """

    model_type: str
    end: str
    eos: str
    pad: str | None
    specials: tuple[str, ...] = ()
    template: str | None = None
    compared: str = "a published description"
    more_ends: tuple[str, ...] = field(default=())

    @property
    def tokens(self) -> tuple[str, ...]:
        roles = [token for token in (self.eos, self.pad) if token]
        return tuple(dict.fromkeys([*roles, *self.specials, *self.more_ends]))


_EXAONE = ("[BOS]", "[UNK]", "[|system|]", "[|user|]", "[|assistant|]")
_LLAMA_3 = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>")
_CHATML = ("<|im_start|>", "<|im_end|>")
FAMILIES = {
    "EXAONE 3.5": Family(
        "exaone", "[|endofturn|]", "[|endofturn|]", "[PAD]", _EXAONE, templates.EXAONE_35, "a copy of its text"
    ),
    "EXAONE 4": Family(
        "exaone4", "[|endofturn|]", "[|endofturn|]", "[PAD]", _EXAONE, templates.EXAONE_4, "a copy of its file"
    ),
    "HyperCLOVA X SEED": Family(
        "hyperclovax", "<|im_end|><|endofturn|>", "<|endofturn|>", "<|endoftext|>", _CHATML, templates.HYPERCLOVAX
    ),
    "Solar Open": Family(
        "solar_open",
        "<|end|>",
        "<|endoftext|>",
        "<|endoftext|>",
        ("<|begin|>", "<|content|>", "<|end|>"),
        templates.SOLAR_OPEN,
        "a published description of its turns, without its own system text",
    ),
    "Kanana 1.5": Family("llama", "<|eot_id|>", "<|eot_id|>", "<|end_of_text|>", _LLAMA_3, templates.LLAMA_3),
    "Mi:dm 2": Family(
        "llama", "<|eot_id|>", "<|end_of_text|>", None, _LLAMA_3, templates.MIDM_2, more_ends=("<|eot_id|>",)
    ),
    "SOLAR 10.7B": Family("llama", "", "</s>", "<s>", ("<unk>",), templates.SOLAR_10, "a copy of its text"),
    "KULLM 3": Family("llama", " </s>", "</s>", "</s>", ("<s>", "<unk>"), templates.KULLM_3),
    "A.X 4": Family(
        "qwen2",
        "<|im_end|>",
        "<|im_end|>",
        "<|endoftext|>",
        (*_CHATML, "<|system|>", "<|user|>", "<|assistant|>"),
        templates.AX_4,
    ),
    "Qwen 3": Family(
        "qwen3", "<|im_end|>", "<|im_end|>", "<|endoftext|>", _CHATML, templates.QWEN_3, "TRL's copy of its file"
    ),
    "Gemma 3": Family(
        "gemma3_text",
        "<end_of_turn>",
        "<eos>",
        "<pad>",
        ("<bos>", "<start_of_turn>", "<end_of_turn>"),
        templates.GEMMA_3,
        "TRL's copy of its file",
        more_ends=("<end_of_turn>",),
    ),
    "Phi 3": Family(
        "phi3",
        "<|end|>",
        "<|endoftext|>",
        "<|endoftext|>",
        ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
        templates.PHI_3,
        "TRL's copy of its file",
        more_ends=("<|end|>",),
    ),
    "Polyglot-Ko, KoAlpaca, KULLM 2": Family(
        "gpt_neox", "<|endoftext|>", "<|endoftext|>", "<|endoftext|>", ("<|sep|>",)
    ),
    "KoGPT2": Family("gpt2", "</s>", "</s>", "<pad>", ("<s>", "<unk>")),
}


# EXAONE 3.5 came with transformers 5.24; the oldest that we allow knows the others.
ALL_KNOWN = all(family.model_type in CONFIG_MAPPING for family in FAMILIES.values())
FAMILIES = {name: family for name, family in FAMILIES.items() if family.model_type in CONFIG_MAPPING}


def tiny_config(model_type: str, *, vocab_size: int = 300, **kwargs: Any) -> PreTrainedConfig:
    ids = {"pad_token_id": 1, "eos_token_id": 0, "bos_token_id": 2}
    # Far wider than usual, so that an untrained model has opinions.
    wide = {"initializer_range": 0.2}
    return CONFIG_MAPPING[model_type](vocab_size=vocab_size, **{**SHAPES[model_type], **wide, **ids, **kwargs})


def tiny_model(model_type: str, seed: int = 0, **kwargs: Any) -> PreTrainedModel:
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(tiny_config(model_type, **kwargs)).eval()


def tokenizer_of(family: Family) -> PreTrainedTokenizerFast:
    """Byte-level BPE of a few sentences with the family's special tokens, as its files declare them."""
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_level(normalizer=None, specials=family.tokens),
        eos_token=family.eos,
        pad_token=family.pad,
        chat_template=family.template,
    )


def save_family(family: Family, folder: Path) -> Path:
    """The folder of a tiny model: more output rows than tokens, and a generation_config that knows every end."""
    tokenizer = tokenizer_of(family)
    ends = [tokenizer.convert_tokens_to_ids(token) for token in (family.eos, *family.more_ends)]
    pad = tokenizer.pad_token_id
    model = tiny_model(
        family.model_type, vocab_size=len(tokenizer) + 27, eos_token_id=ends[0], pad_token_id=pad, bos_token_id=None
    )
    assert model.generation_config is not None
    model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
