"""From what a user passes (objects, paths, adapter folders, functions) to the models PPO runs."""

import copy
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import find_adapter_config_file

from ..errors import InputError
from ..measure.score import load_reward_model
from ..models import adapter_folder, read_adapter_config, saying_which_model
from ..sample import embedded
from ..score_head import give_score_head
from ..text.shown import unique_names
from ..tokenizer import load_tokenizer
from ..tokenizer.load import load_as_auto
from .adapters import AdapterRoles
from .config import PPOConfig, mapping
from .heads import check_labels
from .rewards import FunctionReward, ModelReward, Reward
from .roles import Roles
from .sharing import check_sharing


logger = logging.getLogger(__name__)


@dataclass
class Loader:
    """Loads what is given as a path, as the settings say: safetensors only, and no code unless it is trusted."""

    args: PPOConfig
    quantization_config: BitsAndBytesConfig | None = None

    def causal(self, model: str | PreTrainedModel | PeftModel) -> PreTrainedModel | PeftModel:
        """A policy or reference from a path, hub id, adapter folder or object."""
        if not isinstance(model, str):
            if self.quantization_config is not None or self.args.model_init_kwargs:
                logger.warning("The model is an object, so quantization_config and model_init_kwargs are not used.")
            return model
        model = embedded(model)
        if is_adapter_of(model):
            return self._on_its_base(model)
        kwargs = {"use_safetensors": True, **mapping(self.args.model_init_kwargs)}
        if self.quantization_config is not None:
            kwargs["quantization_config"] = self.quantization_config
        trust: dict[str, Any] = {"trust_remote_code": self.args.trust_remote_code}
        with saying_which_model(model, **trust):
            return AutoModelForCausalLM.from_pretrained(model, **trust | kwargs)

    def scorer(self, path: str) -> PreTrainedModel | PeftModel:
        """A reward or value model of its own, with one label."""
        kwargs = {
            k: v for k, v in mapping(self.args.model_init_kwargs).items() if k not in ("revision", "use_safetensors")
        }
        return load_reward_model(path, trust_remote_code=self.args.trust_remote_code, **kwargs)

    def _on_its_base(self, path: str) -> PeftModel:
        """An adapter on the base that it names."""
        folder = str(adapter_folder(path))
        config = read_adapter_config(folder)
        check_sharing(config, f"The adapter {path!r}")  # others change the base as soon as they are loaded
        if not config.base_model_name_or_path:
            raise InputError(f"The adapter {path!r} names no base: load the base, and pass PeftModel.from_pretrained.")
        config.base_model_name_or_path = embedded(config.base_model_name_or_path)
        base: Any = self.causal(config.base_model_name_or_path)
        return PeftModel.from_pretrained(base, folder, is_trainable=True, config=config)


def is_adapter_of(path: str) -> bool:
    """Whether a folder or a repository holds an adapter and not a whole model."""
    return find_adapter_config_file(path) is not None


def shares_base(path: str, policy: PreTrainedModel | PeftModel) -> bool:
    """Whether the adapter in `path` was trained on the policy's base, by the name that both of them recorded."""
    inner: Any = policy.get_base_model() if isinstance(policy, PeftModel) else policy
    base, ours = embedded(PeftConfig.from_pretrained(path).base_model_name_or_path or ""), inner.name_or_path
    # An adapter of a model made in memory names no base; nothing else than the policy's can be meant.
    shared = not base or base == ours
    shared = shared or (os.path.isdir(base) and os.path.isdir(ours) and os.path.samefile(base, ours))
    if not shared:
        logger.warning(
            f"The adapter {path} was trained on {base}, the policy stands on {ours or 'no named model'}: "
            "it gets a base of its own in memory. If they are one model, load the policy from that same path."
        )
    return shared


def _name(source: Any) -> str:
    if isinstance(source, nn.Module):
        source = source.config.name_or_path or type(source).__name__  # type: ignore[union-attr]
    if isinstance(source, str):
        return os.path.basename(os.path.normpath(source))
    return getattr(source, "__name__", type(source).__name__)


def _reward_tokenizer(
    model: Any, given: PreTrainedTokenizerBase | None, tokenizer: PreTrainedTokenizerBase, args: PPOConfig
) -> PreTrainedTokenizerBase | None:
    """The reward model's tokenizer, `None` if it is the policy's, so that ids can be passed as they are."""
    name = model.config.name_or_path
    if given is None and name:
        files = ("tokenizer_config.json", "tokenizer.json")
        beside = any(os.path.isfile(os.path.join(name, file)) for file in files)
        if beside or not os.path.isdir(name):
            try:
                given = load_tokenizer(name, trust_remote_code=args.trust_remote_code)
            except InputError:  # an encoder has no token that ends an answer, and its score does not wait for one
                given = load_as_auto(name, trust_remote_code=args.trust_remote_code)
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
    reward_funcs: Sequence[Any],
    *,
    loader: Loader,
    tokenizer: PreTrainedTokenizerBase,
    value_model: str | PreTrainedModel | None,
    reward_processing_classes: Sequence[PreTrainedTokenizerBase | None],
    peft_config: PeftConfig | None,
) -> tuple[Roles, list[Reward]]:
    """Policy and value in one module, and the rewards, sharing the policy's base where they can."""
    args = loader.args
    with_adapters = peft_config is not None or isinstance(policy, PeftModel)
    if not with_adapters and getattr(policy, "quantization_method", None) is not None:
        raise InputError(
            "A quantized model cannot be trained itself; train an adapter on it: peft_config=LoraConfig(...)."
        )
    if args.value_trunk == "policy" and value_model is not None:
        raise InputError("value_model is a model of its own and value_trunk='policy' wants none; drop one of them")

    def on_base(source: Any) -> bool:
        return with_adapters and isinstance(source, str) and is_adapter_of(source) and shares_base(source, policy)

    sources = [embedded(source) if isinstance(source, str) else source for source in reward_funcs]
    names = unique_names([_name(source) for source in sources])
    adapters = {name: source for name, source in zip(names, sources, strict=True) if on_base(source)}
    rewards: list[Reward | None] = []  # None until the roles are made
    for source, name, given in zip(sources, names, reward_processing_classes, strict=True):
        if name in adapters:
            rewards.append(None)
        elif isinstance(source, str | nn.Module):
            rewards.append(_own_reward(source, name, given, tokenizer, loader))
        else:
            rewards.append(FunctionReward(source, name))
    if isinstance(value_model, str) and not on_base(value_model):
        value_model = loader.scorer(value_model)  # type: ignore[assignment]
    if isinstance(value_model, PeftModel):
        raise InputError("A value adapter is given as its folder (save_pretrained), so that it shares the base.")
    if isinstance(value_model, nn.Module):
        check_labels(value_model.config.num_labels or 0, _name(value_model))

    if not with_adapters:
        if args.value_trunk == "adapter" and value_model is None:
            value_model = _new_value_model(policy, rewards)
        return Roles(policy.requires_grad_(True), value_model=value_model), rewards  # type: ignore[arg-type, return-value]
    roles = AdapterRoles(
        policy,
        peft_config=peft_config,
        reference=args.reference,
        value_trunk=args.value_trunk,
        reward_adapters=list(adapters.values()),
        value_source=value_model,
    )
    pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    options: dict[str, Any] = {"batch_size": args.per_device_train_batch_size, "pad_token_id": pad_token_id}
    heads = dict(zip(adapters, roles.reward_heads, strict=True))
    shared = {name: ModelReward(roles, name, adapter=adapter, **options) for name, adapter in heads.items()}
    return roles, [reward or shared[name] for reward, name in zip(rewards, names, strict=True)]


def _own_reward(
    source: Any,
    name: str,
    given: PreTrainedTokenizerBase | None,
    tokenizer: PreTrainedTokenizerBase,
    loader: Loader,
) -> ModelReward:
    model: Any = loader.scorer(source) if isinstance(source, str) else source
    reads_with = _reward_tokenizer(model, given, tokenizer, loader.args)
    reading = reads_with or tokenizer
    # The model's own comes first: RewardTrainer has written down the one that it trained with.
    pads = (model.config.get_text_config().pad_token_id, reading.pad_token_id, reading.eos_token_id, 0)
    return ModelReward(
        model,
        name,
        batch_size=loader.args.per_device_train_batch_size,
        pad_token_id=next(i for i in pads if i is not None),
        tokenizer=reads_with,
    )


def disable_dropout(module: nn.Module) -> None:
    """Turn dropout off in place: in modules, and where a layer keeps its probability as a number, or one by adapter."""
    for part in module.modules():
        for name, value in list(vars(part).items()):
            if "drop" in name or (name == "p" and "Dropout" in type(part).__name__):
                if isinstance(value, float):
                    setattr(part, name, 0.0)
                elif isinstance(value, dict):
                    value.update({key: 0.0 for key, one in value.items() if isinstance(one, float)})


def _new_value_model(policy: Any, rewards: Sequence[Reward | None]) -> PreTrainedModel:
    """A copy of the first reward model that reads the policy's ids, else the policy's weights with a head of 0."""
    for reward in rewards:
        model = getattr(reward, "model", None)
        if isinstance(model, PreTrainedModel) and reward.tokenizer is None and hasattr(model, "score"):  # type: ignore[union-attr]
            return copy.deepcopy(model)
    config = copy.deepcopy(policy.config)
    config.num_labels = 1
    give_score_head(config)
    value = AutoModelForSequenceClassification.from_config(config, dtype=policy.dtype)
    value.base_model.load_state_dict(policy.base_model.state_dict())
    with torch.no_grad():
        value.score.weight.zero_()
    return value
