"""From a recipe's arguments to the model, its quantization and its adapter."""

import importlib.util
from collections.abc import Collection
from dataclasses import fields
from typing import Any

from peft import LoraConfig, PeftConfig
from transformers import BitsAndBytesConfig
from trl import ModelConfig, get_peft_config, get_quantization_config

from ..errors import InputError
from ..processes import say


def model_arguments(model_args: ModelConfig, config: Any) -> tuple[BitsAndBytesConfig | None, PeftConfig | None]:
    """What a TRL trainer takes as `quantization_config` and `peft_config`; sets `config.model_init_kwargs` in place.

    Without bitsandbytes (macOS) it says so in one line, and LoRA trains without 4-bit.
    """
    if (model_args.load_in_4bit or model_args.load_in_8bit) and importlib.util.find_spec("bitsandbytes") is None:
        say("bitsandbytes is not installed here: training LoRA without 4-bit.")
        model_args.load_in_4bit = model_args.load_in_8bit = False
    # `ModelConfig` reaches a model loaded by the trainer through `model_init_kwargs` only.
    given = {
        "dtype": model_args.dtype,
        "revision": model_args.model_revision,
        "attn_implementation": model_args.attn_implementation,
        "use_safetensors": True,
    }
    init_kwargs = {**given, **(getattr(config, "model_init_kwargs", None) or {})}
    config.model_init_kwargs = {key: value for key, value in init_kwargs.items() if value is not None}
    peft_config = get_peft_config(model_args)
    if isinstance(peft_config, LoraConfig):
        targets = peft_config.target_modules
        if isinstance(targets, str) and targets.isidentifier():  # TRL's text of one name: PEFT takes it for a pattern
            peft_config.target_modules = [targets]
    return get_quantization_config(model_args), peft_config


def refuse_lora_settings(given: Collection[str], model_args: ModelConfig, adapters: str) -> None:
    """For a run that trains on adapters that are there: their shape cannot be chosen any more.

    Raises:
        InputError: A setting of LoRA was given, or `--use_peft False`.
    """
    names = (f.name for f in fields(ModelConfig) if f.name.startswith(("lora_", "use_rslora", "use_dora")))
    without_effect = [f"--{name}" for name in names if name in given]
    if not model_args.use_peft:
        without_effect.append("--use_peft False")
    if without_effect:
        raise InputError(
            f"{', '.join(without_effect)} would have no effect: this trains on the {adapters} as they are. Give such "
            "flags to the recipes that make those."
        )
