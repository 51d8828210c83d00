"""What a recipe looks at before the first step, so that nothing fails late that could have failed early.

Errors are [`InputError`]s in a sentence or two; what may go well all the same is printed.
"""

import copy
import importlib
import importlib.util
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, get_peft_model
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    Trainer,
    TrainingArguments,
)
from transformers.pytorch_utils import Conv1D
from trl import ModelConfig, RewardConfig

from ..errors import InputError
from ..findings import Finding
from ..models import saying_which_model
from ..processes import say
from ..score_head import give_score_head
from ..versions import check_torchao
from .arguments import RecipeArguments
from .checkpoints import find_checkpoint, leave_earlier_run
from .room import check_output_dir, check_room


# bitsandbytes' 4-bit kernels begin with Pascal (https://huggingface.co/docs/bitsandbytes/main/en/installation).
LEAST_COMPUTE_CAPABILITY = (6, 0)


def check_before_loading(
    config: TrainingArguments, model_args: ModelConfig, peft_config: PeftConfig | None, given: Collection[str] = ()
) -> str | None:
    """What can be told before the model is loaded; gives the checkpoint to go on from (see [`find_checkpoint`]).

    Where the preset, and not the user (`given`), names modules to adapt that are another family's, `peft_config` takes
    all linear layers instead, in place.

    Raises:
        InputError: The output folder cannot be written, the model has pickled weights or code of its own or none of the
            modules to adapt, peft or 4-bit is not possible here, or no checkpoint is whole.
    """
    check_output_dir(str(config.output_dir))
    trust_remote_code = bool(getattr(config, "trust_remote_code", False))
    name = str(model_args.model_name_or_path)
    if model_args.use_peft:
        check_torchao()
    with saying_which_model(name, trust_remote_code=trust_remote_code):
        model_config = AutoConfig.from_pretrained(
            name, revision=model_args.model_revision, trust_remote_code=trust_remote_code
        )
    if isinstance(config, RewardConfig):
        give_score_head(model_config)
    if peft_config is not None:
        check_target_modules(peft_config, model_args, model_config, given)
    if model_args.load_in_4bit or model_args.load_in_8bit:
        check_bitsandbytes()
    checkpoint = find_checkpoint(str(config.output_dir), config.resume_from_checkpoint)
    return None if checkpoint is None else str(checkpoint)


def check_before_training(
    trainer: Trainer, arguments: RecipeArguments, findings: Iterable[Finding], checkpoint: str | None
) -> None:
    """What can be told once the trainer is built. Checkpoints that the run does not go on from are moved aside.

    Raises:
        InputError: The tokenizer has a fault, a 4-bit layer does not compute, or the disk is full.
    """
    check_findings(findings, arguments.accept_findings)
    check_quantized_layers(trainer.model)
    check_room(trainer)
    if trainer.args.should_save:
        start = None if checkpoint is None else Path(checkpoint)
        leave_earlier_run(trainer.args, start, dry_run=arguments.dry_run)


def check_target_modules(
    peft_config: PeftConfig, model_args: ModelConfig, config: PreTrainedConfig, given: Collection[str] = ()
) -> None:
    """Put the adapter on an empty shell of the model, so that modules of another family are told before loading.

    Of those the user asked for, the ones that are not there while others are, which PEFT passes over in silence, are
    printed. A model that is no causal language model is left to PEFT.

    Raises:
        InputError: The model has none of the modules that LoRA was asked for, or experts that take no dropout.
    """
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
    layers = {path for path, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D))}
    names = {path.rpartition(".")[2] for path in layers}
    modules = {path.rpartition(".")[2] for path, _ in model.named_modules()}
    targets: Any = peft_config
    name = Path(str(model_args.model_name_or_path)).name
    asked = targets.target_modules or ()
    absent = [] if isinstance(asked, str) else [one for one in sorted(asked) if one.rpartition(".")[2] not in modules]
    chosen = "lora_target_modules" in given
    if absent and not chosen:
        targets.target_modules, model_args.lora_target_modules = "all-linear", ["all-linear"]
        say(f"LoRA: {name} has no {', '.join(absent)}, which the preset adapts: all linear layers instead.")
    try:
        experts = _expert_parameters(model, targets)
    except ValueError as error:
        if "not found in the base model" not in str(error):
            raise
        given_modules = asked if isinstance(asked, str) else " ".join(sorted(asked))
        raise InputError(
            f"--lora_target_modules {given_modules}: {name} has no such modules; it has {', '.join(sorted(names))}, and "
            "all-linear takes every one but the output layer."
        ) from error
    if absent and chosen:
        say(
            f"LoRA: {name} has no {', '.join(absent)}; the others are trained "
            "(--lora_target_modules all-linear takes every linear layer)."
        )
    if not experts:
        return
    blocks = tuple({path.rpartition(".")[0].rpartition(".")[0] + "." for path in experts})
    outside = {path for path in layers if "." in path and not path.startswith(blocks)}  # and not the output layer
    beside = sorted({path.rpartition(".")[2] for path in outside})
    if not chosen:
        targets.target_modules, model_args.lora_target_modules = set(beside), beside
        say(f"LoRA: {name} keeps its experts in one tensor: adapters on {', '.join(beside)} only.")
    elif targets.lora_dropout:
        raise InputError(
            f"{name} keeps its experts in one tensor, which takes no dropout: --lora_dropout 0, or adapters on the other "
            f"layers, --lora_target_modules {' '.join(beside)}"
        )


def _expert_parameters(model: Any, targets: Any) -> list[str]:
    """Names of the parameters (not modules) that PEFT would adapt, those of experts; `model`, on meta, is changed."""
    targets = copy.deepcopy(targets)
    targets.task_type, targets.modules_to_save, targets.lora_dropout = None, None, 0.0  # of the trainer's own model
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(get_peft_model(model, targets).targeted_parameter_names)


def check_bitsandbytes() -> None:
    """
    Raises:
        InputError: bitsandbytes does not load, or the GPU is older than its 4-bit kernels.
    """
    no_quantization = "Train without it: --load_in_4bit false"
    try:
        importlib.import_module("bitsandbytes")
    except (ImportError, OSError, RuntimeError) as error:
        raise InputError(f"bitsandbytes does not load, and 4-bit needs it ({error}). {no_quantization}") from error
    if torch.cuda.is_available():
        capability = torch.cuda.get_device_capability()
        if capability < LEAST_COMPUTE_CAPABILITY:
            raise InputError(
                f"{torch.cuda.get_device_name()} has compute capability {capability[0]}.{capability[1]}; 4-bit needs "
                f"{LEAST_COMPUTE_CAPABILITY[0]}.{LEAST_COMPUTE_CAPABILITY[1]}. {no_quantization}"
            )


def check_quantized_layers(model: Any) -> None:
    """Compute a zero with one 4-bit layer of each shape: not every kernel takes every width.

    Raises:
        InputError: A layer does not compute; bitsandbytes says so with errors of many kinds.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        return
    from bitsandbytes.nn import Linear4bit

    tried = set()
    for name, module in model.named_modules():
        if not isinstance(module, Linear4bit) or (module.in_features, module.out_features) in tried:
            continue
        tried.add((module.in_features, module.out_features))
        zeros = torch.zeros(1, module.in_features, device=module.weight.device, dtype=module.compute_dtype)
        try:
            with torch.no_grad():
                module(zeros)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise InputError(
                f"bitsandbytes cannot compute the 4-bit layer {name} ({module.in_features} to {module.out_features}) "
                f"on {zeros.device}: {error}. Train without it: --load_in_4bit false"
            ) from error


def check_findings(findings: Iterable[Finding], accept: Collection[str] = (), *, of: str = "tokenizer has") -> None:
    """
    Raises:
        InputError: A finding of severity `error` could not be repaired, and its code is not in `accept`.
    """
    faults = [found for found in findings if found.severity == "error" and not found.fixed]
    left = [found for found in faults if found.code not in accept]
    if left:
        codes = " ".join(found.code for found in left)
        raise InputError(
            f"The {of} a fault that training would go wrong with: {left[0].code}: {left[0].message} To train "
            f"all the same: --accept_findings {codes}"
        )
