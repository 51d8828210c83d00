"""The settings of a run that someone chose: those that are not the defaults."""

import dataclasses
from typing import Any

from .record import plain


# Where things go and what to call them: no setting of the training itself.
_NOT_SETTINGS = {"output_dir", "run_name", "logging_dir", "report_to", "disable_tqdm", "push_to_hub", "hub_model_id"}


def settings_of(args: Any, model: Any = None) -> dict[str, Any]:
    """Training arguments that differ from their defaults, and the LoRA configuration of the model if it has one.

    Credentials are left out, as are paths.
    """
    given = args.to_dict()  # transformers hides the values of its token fields here
    settings = {}
    for field in dataclasses.fields(args):
        if field.name.startswith("_") or field.name in _NOT_SETTINGS or field.name.endswith(("token", "_config")):
            continue
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        value, default = plain(given.get(field.name)), plain(default)
        if value != default:
            settings[field.name] = value
    peft_config = getattr(model, "peft_config", None)
    if peft_config:
        lora = next(iter(peft_config.values())).to_dict()
        shown = ("r", "lora_alpha", "lora_dropout", "target_modules", "task_type", "modules_to_save")
        settings["lora"] = {name: plain(lora[name]) for name in shown if lora.get(name)}
        if isinstance(settings["lora"].get("target_modules"), list):
            settings["lora"]["target_modules"].sort()  # PEFT keeps a set
    return settings
