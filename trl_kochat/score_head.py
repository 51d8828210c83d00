"""A score head, for rewards and values, on causal models that transformers has none for."""

from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_layers import GenericForSequenceClassification

from .errors import InputError


def give_score_head(config: PreTrainedConfig) -> None:
    """Let `AutoModelForSequenceClassification` take models of this config, if it does not already.

    transformers 5.24 knows causal models of EXAONE 3.5, HyperCLOVA X, Solar Open and some sixty more that it has no
    sequence classification for. They get transformers' own generic one, registered for this process: whoever loads such a
    model later calls this first, as our recipes, `load_reward_model` and [`PPOTrainer`] do.

    Args:
        config ([`~transformers.PreTrainedConfig`]): The model's, such as `AutoConfig.from_pretrained(name)`.

    Raises:
        ValueError: It is no decoder of text on whose tokens a head could read.
    """
    kind = type(config)
    brings_its_own = "AutoModelForSequenceClassification" in (getattr(config, "auto_map", None) or {})
    if kind in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING or brings_its_own:
        return
    reads_text_alone = config.get_text_config() is config and not config.is_encoder_decoder
    # Recurrent models (Mamba, RWKV) have no heads of attention, and outputs that the generic class cannot read.
    decodes = hasattr(config, "hidden_size") and hasattr(config, "num_attention_heads")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING or not (reads_text_alone and decodes):
        raise InputError(
            f"A model of type {config.model_type} cannot score: transformers has no sequence classification for it, and "
            "a head can be put only on a causal model of text with attention. Train the reward model on another base."
        )
    causal: Any = MODEL_FOR_CAUSAL_LM_MAPPING[kind]
    family = next(
        base for base in causal.__mro__[1:] if issubclass(base, PreTrainedModel) and "forward" not in vars(base)
    )
    attributes = {
        "config_class": kind,
        "base_model_prefix": causal.base_model_prefix,
        # Whether experts can be multiplied in groups is looked up in the source of a class's module.
        "__module__": causal.__module__,
    }
    name = kind.__name__.removesuffix("Config") + "ForSequenceClassification"
    head: Any = type(name, (GenericForSequenceClassification, family), attributes)
    AutoModelForSequenceClassification.register(kind, head, exist_ok=True)
