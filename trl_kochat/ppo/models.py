"""From what a user passes (objects, paths, adapter folders, functions) to the models PPO runs."""

import copy
import logging
import os
from collections.abc import Sequence
from typing import Any

import torch
from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification, PeftConfig, PeftModel
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import find_adapter_config_file

from ..errors import InputError
from ..models import adapter_folder, refuse_what_runs_code, told_by_name
from .config import PPOConfig, mapping
from .heads import check_labels
from .rewards import AdapterReward, FunctionReward, ModelReward, Reward, RewardFunc
from .roles import ActorCritic


logger = logging.getLogger(__name__)


def is_adapter(path: str) -> bool:
    return find_adapter_config_file(path) is not None


def _init_kwargs(args: PPOConfig) -> dict[str, Any]:
    # Weights are read from safetensors only: the other format can run code.
    return {"use_safetensors": True, "trust_remote_code": args.trust_remote_code, **mapping(args.model_init_kwargs)}


def load_causal_model(
    model: str | PreTrainedModel | PeftModel, args: PPOConfig, quantization_config: BitsAndBytesConfig | None
) -> PreTrainedModel | PeftModel:
    """A policy or reference from a path, hub id, adapter folder or object."""
    if not isinstance(model, str):
        if quantization_config is not None or args.model_init_kwargs:
            logger.warning("The model is an object, so quantization_config and model_init_kwargs are not used.")
        return model
    kwargs = _init_kwargs(args)
    if quantization_config is not None:
        kwargs["quantization_config"] = quantization_config
    if is_adapter(model):
        model = _folder(model, args)
        return AutoPeftModelForCausalLM.from_pretrained(model, is_trainable=True, **kwargs)
    with told_by_name(model, trust_remote_code=args.trust_remote_code):
        return AutoModelForCausalLM.from_pretrained(model, **kwargs)


def load_scorer(path: str, args: PPOConfig) -> PreTrainedModel | PeftModel:
    """A reward or value model of its own, with one label."""
    kwargs = {k: v for k, v in _init_kwargs(args).items() if k != "revision"}  # a revision of the policy
    if is_adapter(path):
        path = _folder(path, args)
        return AutoPeftModelForSequenceClassification.from_pretrained(path, num_labels=1, **kwargs)
    with told_by_name(path, trust_remote_code=args.trust_remote_code):
        config = AutoConfig.from_pretrained(path, trust_remote_code=args.trust_remote_code)
        check_labels(config.num_labels, path)
        return AutoModelForSequenceClassification.from_pretrained(path, **kwargs)


def _folder(adapter: str, args: PPOConfig) -> str:
    """The adapter's folder, which holds safetensors, on a base that is loaded without code of its own."""
    folder = str(adapter_folder(adapter))
    base = PeftConfig.from_pretrained(folder).base_model_name_or_path
    if base:
        refuse_what_runs_code(base, trust_remote_code=args.trust_remote_code)
    return folder


def _same_place(one: str, other: str) -> bool:
    return one == other or (os.path.isdir(one) and os.path.isdir(other) and os.path.samefile(one, other))


def shares_base(path: str, policy: PreTrainedModel | PeftModel) -> bool:
    """Whether the adapter in `path` was trained on the policy's base, by the name that both of them recorded."""
    inner: Any = policy.get_base_model() if isinstance(policy, PeftModel) else policy
    base = PeftConfig.from_pretrained(path).base_model_name_or_path
    # An adapter of a model made in memory names no base; nothing else than the policy's can be meant.
    shared = not base or _same_place(base, inner.name_or_path)
    if not shared:
        logger.warning(
            f"The adapter {path} was trained on {base}, the policy stands on {inner.name_or_path or 'no named model'}: "
            "it gets a base of its own in memory. If they are one model, load the policy from that same path."
        )
    return shared


def _name(source: Any) -> str:
    if isinstance(source, str):
        return os.path.basename(os.path.normpath(source))
    if isinstance(source, nn.Module):
        config: Any = source.config
        return os.path.basename(os.path.normpath(config.name_or_path or type(source).__name__))
    return getattr(source, "__name__", type(source).__name__)


def _reward_tokenizer(
    model: Any,
    given: PreTrainedTokenizerBase | None,
    tokenizer: PreTrainedTokenizerBase,
    trust_remote_code: bool,
) -> PreTrainedTokenizerBase | None:
    """The reward model's tokenizer, `None` if it is the policy's, so that ids can be passed as they are."""
    name = model.config.name_or_path
    if given is None and name:
        beside = os.path.isfile(os.path.join(name, "tokenizer_config.json"))
        if beside or not os.path.isdir(name):
            given = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    if given is not None:
        same = given.get_vocab() == tokenizer.get_vocab() and given.eos_token_id == tokenizer.eos_token_id
        return None if same else given
    rows = model.get_input_embeddings().weight.shape[0]
    if rows < len(tokenizer):
        raise InputError(
            f"The reward model has {rows} embeddings and the policy's tokenizer {len(tokenizer)} tokens, so it reads "
            "with another tokenizer; pass that as reward_processing_classes."
        )
    return None


def build_roles(
    policy: PreTrainedModel | PeftModel,
    reward_funcs: Sequence[str | PreTrainedModel | PeftModel | RewardFunc],
    *,
    args: PPOConfig,
    tokenizer: PreTrainedTokenizerBase,
    value_model: str | PreTrainedModel | None,
    reward_processing_classes: Sequence[PreTrainedTokenizerBase | None],
    peft_config: PeftConfig | None,
) -> tuple[ActorCritic, list[Reward]]:
    """Policy and value in one module, and the rewards, sharing the policy's base where they can."""
    with_adapters = peft_config is not None or isinstance(policy, PeftModel)
    if not with_adapters and getattr(policy, "quantization_method", None) is not None:
        raise InputError(
            "A quantized model cannot be trained itself; train an adapter on it: peft_config=LoraConfig(...)."
        )
    shared = [
        source
        for source in reward_funcs
        if isinstance(source, str) and with_adapters and is_adapter(source) and shares_base(source, policy)
    ]
    names = _unique_names([_name(source) for source in reward_funcs])
    own: dict[str, ModelReward] = {}
    for source, name, given in zip(reward_funcs, names, reward_processing_classes, strict=True):
        if isinstance(source, nn.Module) or (isinstance(source, str) and source not in shared):
            model: Any = load_scorer(source, args) if isinstance(source, str) else source
            reads_with = _reward_tokenizer(model, given, tokenizer, args.trust_remote_code)
            own[name] = ModelReward(model, name, reads_with, args.per_device_train_batch_size)
    actor_critic = ActorCritic(
        policy,
        peft_config=peft_config,
        reference=args.reference,
        value_trunk=args.value_trunk,
        reward_adapters=shared,
        value_source=_value_source(value_model, list(own.values()), policy, args, with_adapters),
    )
    rewards: list[Reward] = []
    adapters = iter(actor_critic.reward_heads)
    for source, name in zip(reward_funcs, names, strict=True):
        if name in own:
            rewards.append(own[name])
        elif isinstance(source, str):
            rewards.append(AdapterReward(actor_critic, next(adapters), name))
        else:
            rewards.append(FunctionReward(source, name))  # type: ignore[arg-type]
    return actor_critic, rewards


def disable_dropout(module: nn.Module) -> None:
    """Turn dropout off in place, in modules and where an attention layer keeps it as a number."""
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(getattr(part, "attention_dropout", None), float):
            part.attention_dropout = 0.0  # type: ignore[assignment]


def _unique_names(names: list[str]) -> list[str]:
    """Add a number to names that come again: each is a column of the log.

    >>> _unique_names(["length", "reward", "length"])
    ['length', 'reward', 'length_2']
    """
    return [name if (n := names[: i + 1].count(name)) == 1 else f"{name}_{n}" for i, name in enumerate(names)]


def _value_source(
    value_model: str | PreTrainedModel | None,
    rewards: list[ModelReward],
    policy: PreTrainedModel | PeftModel,
    args: PPOConfig,
    with_adapters: bool,
) -> str | PreTrainedModel | None:
    """What the value starts from: what was asked for, else the reward model, else the policy's own weights."""
    if args.value_trunk == "policy":
        if value_model is not None:
            raise InputError("value_model is a model of its own and value_trunk='policy' wants none; drop one of them")
        return None
    if isinstance(value_model, str):
        if with_adapters and is_adapter(value_model) and shares_base(value_model, policy):
            return value_model
        value_model = load_scorer(value_model, args)  # type: ignore[assignment]
    if value_model is not None:
        given: Any = value_model
        check_labels(given.config.num_labels, _name(given))
        return value_model
    if with_adapters:
        return None  # an adapter: the reward's, or a new one
    for reward in rewards:
        if reward.tokenizer is None and isinstance(reward.model, PreTrainedModel) and hasattr(reward.model, "score"):
            return copy.deepcopy(reward.model)
    config = copy.deepcopy(policy.config)
    config.num_labels = 1
    value = AutoModelForSequenceClassification.from_config(config, dtype=policy.dtype)
    value.base_model.load_state_dict(policy.base_model.state_dict())
    with torch.no_grad():
        value.score.weight.zero_()
    return value
