"""What is looked at before training: sources of rewards, prompts."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset, IterableDataset
from peft import PeftConfig
from transformers import PreTrainedConfig, PreTrainedTokenizerBase, Trainer

from ..errors import InputError
from ..versions import check_torchao
from .config import PPOConfig
from .experience import ExperienceMaker
from .rewards import OWN_ARGUMENTS, FunctionReward


def checked_sources(
    reward_funcs: Any, tokenizers: Any, args: PPOConfig, peft_config: PeftConfig | None
) -> tuple[list[Any], list[Any]]:
    """Sources of rewards and their tokenizers, one given or several, as lists of one length."""
    reward_funcs = list(reward_funcs) if isinstance(reward_funcs, list | tuple) else [reward_funcs]
    tokenizers = tokenizers or [None] * len(reward_funcs)
    tokenizers = list(tokenizers) if isinstance(tokenizers, list | tuple) else [tokenizers]
    if not reward_funcs:
        raise InputError("No reward: pass a function, a reward model or a path as reward_funcs.")
    for name, given in {"reward_weights": args.reward_weights, "reward_processing_classes": tokenizers}.items():
        if given is not None and len(given) != len(reward_funcs):
            raise InputError(f"{len(given)} {name} for {len(reward_funcs)} reward_funcs; give one for each.")
    if peft_config is not None:
        check_torchao()
    return reward_funcs, tokenizers


def check_models(model: Any, ref_model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    if tokenizer.eos_token_id is None:
        raise InputError("The tokenizer has no eos_token, so no completion could end; set tokenizer.eos_token.")
    if ref_model is model and not isinstance(model, str):
        raise InputError("ref_model is the model itself and would move with it; leave it out, or pass a copy.")


def check_launch(trainer: Trainer) -> None:
    """Raise where weights would be sharded, or one process would drive several GPUs."""
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise InputError("PPOTrainer runs on one device or with DDP, not with FSDP or DeepSpeed.")
    if trainer.args.n_gpu > 1:
        raise InputError("Several GPUs need a process each: start with `accelerate launch`, or show one GPU only.")


def check_datasets(
    train_dataset: Any, eval_dataset: Any, maker: ExperienceMaker, args: PPOConfig, config: PreTrainedConfig
) -> None:
    """Raise where a dataset holds no prompts, too few of them, an empty one or one that is too long."""
    evals = eval_dataset if isinstance(eval_dataset, dict) else {"eval_dataset": eval_dataset}
    for name, dataset in ({"train_dataset": train_dataset} | evals).items():
        if dataset is None and name == "eval_dataset":
            continue
        if isinstance(dataset, IterableDataset):
            raise InputError(f"{name} is a stream; PPOTrainer needs a Dataset, whose order it can resume.")
        if not isinstance(dataset, Dataset) or len(dataset) == 0 or "prompt" not in dataset.column_names:
            raise InputError(f"{name} has no prompts; pass a Dataset with a column 'prompt' and at least one row.")
        clash = sorted({*OWN_ARGUMENTS} & {*dataset.column_names} - {"completion_ids"})
        if clash and any(isinstance(reward, FunctionReward) for reward in maker.rewards):
            raise InputError(
                f"{name} has a column {clash[0]!r}, and reward functions get an argument of that name: rename the column."
            )
        _check_lengths(name, dataset["prompt"][:], maker, args, config)
    if len(train_dataset) < args.episodes_per_rollout:
        raise InputError(
            f"{len(train_dataset)} prompts do not fill one rollout of {args.episodes_per_rollout}; lower "
            "per_device_train_batch_size, gradient_accumulation_steps or steps_per_generation."
        )


def _check_lengths(
    name: str, prompts: Sequence[Any], maker: ExperienceMaker, args: PPOConfig, config: PreTrainedConfig
) -> None:
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    room = positions - args.max_completion_length if positions else None
    if room is not None and room < 1:
        raise InputError(
            f"max_completion_length is {args.max_completion_length}, and the model has {positions} positions for prompt and "
            "answer together; lower it."
        )
    limits = [limit for limit in (args.max_prompt_length, room) if limit is not None]
    kind: type = list if isinstance(prompts[0], list) else str
    for row, prompt in enumerate(prompts):
        if not isinstance(prompt, kind) or (kind is list and not prompt):
            raise InputError(
                f"The prompt in row {row} of {name} is {prompt!r}; it is a text, or a conversation with a message at least."
            )
    for row, ids in enumerate(maker.prompt_ids(prompts)):
        if not ids:
            raise InputError(f"The prompt in row {row} of {name} is empty: it has no token to continue from.")
        if limits and len(ids) > min(limits):
            raise InputError(
                f"The prompt in row {row} of {name} has {len(ids)} tokens; the limit is {min(limits)} "
                f"(max_prompt_length {args.max_prompt_length}; the model's {positions} positions less "
                f"max_completion_length {args.max_completion_length}). Shorten or drop it beforehand."
            )
