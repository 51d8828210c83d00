"""Settings that do not fit together: a schedule longer than the run, lengths beyond the model, another run's checkpoint."""

import json
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import ModelConfig

from ..errors import InputError
from ..models import max_positions
from ..processes import say
from .arguments import RecipeArguments
from .room import count_steps


FILE = "run_settings.json"
# With another of these a resumed run would be neither the old run nor a new one.
_OF_ARGUMENTS = (
    "dataset_name",
    "formatter",
    "clean",
    "chat_template",
    "eval_fraction",
    "split_seed",
    "whole_rankings",
)
_OF_CONFIG = ("learning_rate", "lr_scheduler_type", "optim", "seed", "max_length")
_OF_LORA = ("r", "lora_alpha", "target_modules")


def check_schedule(trainer: Trainer) -> None:
    """Print that the learning rate will not get to where it was set."""
    args = trainer.args
    steps = count_steps(trainer)
    warmup = args.get_warmup_steps(steps)
    if warmup >= steps:
        say(
            f"--warmup_steps {warmup} is as long as the run of {steps} steps: the learning rate does not get beyond "
            f"{args.learning_rate * steps / warmup:.2g} of {args.learning_rate:g}. For less: "
            f"--warmup_steps {steps // 10}"
        )


def check_positions(trainer: Trainer) -> None:
    """Print that rows or answers may be longer than what the model was trained on.

    Raises:
        InputError: Its positions are a table, which has no more rows.
    """
    model: Any = trainer.model
    lengths = {name: getattr(trainer.args, name, None) or 0 for name in ("max_length", "max_completion_length")}
    name = max(lengths, key=lambda one: lengths[one])
    positions = max_positions(model)
    if positions is None or lengths[name] <= positions:
        return
    tokens = model.get_input_embeddings()
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding) and module is not tokens]
    if any(0 <= table.num_embeddings - positions <= 2 for table in tables):  # OPT has two rows more than positions
        raise InputError(f"--{name} {lengths[name]}: the model has {positions} positions. Take {positions} or less.")
    say(f"--{name} {lengths[name]}: the model was made for {positions} tokens, and longer rows go beyond that.")


def settings_of_run(
    arguments: RecipeArguments, config: TrainingArguments, model_args: ModelConfig, model: Any
) -> dict[str, Any]:
    """What a resumed run must have in common with the one before, the LoRA of what is trained among it."""
    policy = getattr(model, "policy", model)  # PPO trains a module that holds it beside the value
    lora = policy.peft_config[policy.active_adapter].to_dict() if isinstance(policy, PeftModel) else {}
    return {
        "model": Path(str(model_args.model_name_or_path)).name,
        **{name: getattr(arguments, name) for name in _OF_ARGUMENTS if hasattr(arguments, name)},
        **{name: _plain(getattr(config, name)) for name in _OF_CONFIG if hasattr(config, name)},
        **{f"LoRA {name}": _plain(lora[name]) for name in _OF_LORA if name in lora},
        "rows of a step": config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size,
    }


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else getattr(value, "value", value)


def check_same_settings(settings: dict[str, Any], checkpoint: Path) -> None:
    """
    Raises:
        InputError: The run of the checkpoint had other settings.
    """
    file = checkpoint / FILE
    if not file.is_file():  # of a trainer without `Run`
        return
    before = json.loads(file.read_text(encoding="utf-8"))
    for name, now in settings.items():
        if name in before and before[name] != now:
            raise InputError(
                f"{checkpoint} was trained with {name} {before[name]}, and this run has {now}: give the arguments of "
                "that run, or leave --resume_from_checkpoint out."
            )


class KeepSettings(TrainerCallback):
    """Write the settings of a run into each of its checkpoints, for [`check_same_settings`]."""

    def __init__(self, settings: dict[str, Any]):
        self._text = json.dumps(settings, ensure_ascii=False, indent=2) + "\n"

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            (folder / FILE).write_text(self._text, encoding="utf-8")
