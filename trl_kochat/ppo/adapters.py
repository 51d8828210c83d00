"""PPO's roles as adapters on one base: policy, value, rewards, and the reference.

Shapes in this file: B rows, C tokens of the longest completion.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import (
    PeftConfig,
    PeftModel,
    TaskType,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from ..errors import InputError
from ..measure.logps import PackedRows, completion_logits, token_logps
from ..models import adapter_folder, keep_4bit_gradients
from .heads import SCORE_KEY, ScalarHead, reward_head
from .roles import POLICY, REWARD, VALUE, Roles, hidden_states, per_completion_token
from .sharing import can_merge, check_sharing, merged


class AdapterRoles(Roles):
    """All roles on the policy's base: the trained adapters, and the frozen ones of rewards and reference.

    Args:
        policy (`PreTrainedModel` or `PeftModel`): Causal language model. Changed in place: an adapter it comes with
            is copied to a trainable adapter named `policy`.
        peft_config (`PeftConfig`, *optional*): A new adapter for a policy without one.
        reference (`str`): `"sft"` or `"base"`, see [`PPOConfig`].
        value_trunk (`str`): `"adapter"` or `"policy"`, see [`PPOConfig`].
        reward_adapters (`list[str]`): Folders of reward adapters trained on the policy's base.
        value_source (`str` or `PreTrainedModel`, *optional*): An adapter folder, or a model with one label. By default
            the first reward adapter, else an adapter like the policy's with a head of 0.
    """

    def __init__(
        self,
        policy: PreTrainedModel | PeftModel,
        *,
        peft_config: PeftConfig | None = None,
        reference: str = "sft",
        value_trunk: str = "adapter",
        reward_adapters: Sequence[str] = (),
        value_source: str | PreTrainedModel | None = None,
    ) -> None:
        reward_names = [REWARD if i == 0 else f"{REWARD}_{i + 1}" for i in range(len(reward_adapters))]
        keep_4bit_gradients(policy)
        self_reference, model = _with_policy_adapter(policy, peft_config, reference, {POLICY, VALUE, *reward_names})
        has_model = isinstance(value_source, nn.Module)
        super().__init__(model, value_model=value_source if has_model else None)  # type: ignore[arg-type]
        self.reference = self_reference  # an adapter's name; None: adapters off
        self.reward_heads = nn.ModuleDict()
        for name, path in zip(reward_names, reward_adapters, strict=True):
            self.reward_heads[name] = self._load_adapter(path, name)
        self.reward_heads.requires_grad_(False)
        self.has_value_adapter = value_trunk == "adapter" and not has_model
        if self.has_value_adapter:
            source = value_source or next(iter(reward_adapters), None)
            if source is not None:
                self.value_head = self._load_adapter(str(source), VALUE)
            else:
                self.policy.add_adapter(VALUE, copy.deepcopy(self.policy.peft_config[POLICY]))
        self._settle_gradients()

    def _load_adapter(self, path: str, name: str) -> ScalarHead:
        """Put the adapter of a reward model on the base, and return its head."""
        folder = str(adapter_folder(path))  # PEFT would read a pickle where there are no safetensors
        config = PeftConfig.from_pretrained(folder)
        check_sharing(config, f"The adapter {path!r}")
        ours = self.policy.peft_config[POLICY].peft_type
        if config.peft_type != ours:
            raise InputError(
                f"The adapter {path!r} is of the kind {config.peft_type.value}, the policy's of {ours.value}: on one "
                "base they are of one kind. Pass the reward model as a model, or give the policy such an adapter."
            )
        result = self.policy.load_adapter(folder, adapter_name=name)
        # The same base, perhaps at another place by now.
        self.policy.peft_config[name].base_model_name_or_path = self.language_model.name_or_path
        # PEFT gives those of every adapter where a module holds the name in its own: "query_key_value".
        missing = [key for key in result.missing_keys if name in key.split(".")]
        odd = [*missing, *(key for key in result.unexpected_keys if "score" not in key.split("."))]
        if odd:
            raise InputError(
                f"The adapter {path!r} does not belong to the policy's base: {len(odd)} tensors are on one side only, "
                f"{odd[0]} for one."
            )
        return ScalarHead(reward_head(path))

    def _settle_gradients(self) -> None:
        """Note which parameters train: switching adapters in PEFT turns gradients on and off."""
        self.policy.requires_grad_(False)
        trained: set[int] = set()
        for name in (POLICY, VALUE):
            if name in self.policy.peft_config:
                self.policy.set_adapter(name)
                trained |= {id(p) for p in self.policy.parameters() if p.requires_grad}
        self._gradients = [(p, id(p) in trained) for p in self.policy.parameters()]
        self.policy.set_adapter(POLICY)
        self._active: str | None = POLICY
        self._restore_gradients()

    def _restore_gradients(self) -> None:
        for parameter, is_trained in self._gradients:
            if parameter.requires_grad != is_trained:
                parameter.requires_grad_(is_trained)

    @property
    def language_model(self) -> PreTrainedModel:
        return self.policy.get_base_model()

    @property
    def has_value_pass(self) -> bool:
        return self.has_value_adapter or self.value_model is not None

    @contextmanager
    def role(self, name: str | None) -> Iterator[None]:
        """Run the shared base under an adapter, `None` for none of them; gradients stay as they are."""
        before = self._active
        self._switch(name)
        try:
            yield
        finally:
            self._switch(before)

    def _switch(self, name: str | None) -> None:
        if name == self._active:
            return
        tuner = self.policy.base_model
        if name is None:
            tuner.disable_adapter_layers()
        else:
            if self._active is None:
                tuner.enable_adapter_layers()
            self.policy.set_adapter(name)
        self._active = name
        self._restore_gradients()

    def _value_pass(self, rows: PackedRows) -> torch.Tensor:
        if not self.has_value_adapter:
            return super()._value_pass(rows)
        with self.role(VALUE):
            hidden = hidden_states(self.policy, rows)
        return per_completion_token(self.value_head, hidden, rows)

    @torch.no_grad()
    def ref_logps(self, rows: PackedRows, *, temperature: float = 1.0) -> torch.Tensor:
        """Log-probabilities under the reference on the same base, `(B, C)`."""
        with self.role(self.reference):
            return token_logps(completion_logits(self.policy, rows), rows, temperature=temperature)

    def adapter_rewards(self, name: str, rows: PackedRows, positions: Sequence[int]) -> torch.Tensor:
        """Score of each row by the reward adapter `name`, read at its position, `(B,)`."""
        with self.role(name):
            hidden = hidden_states(self.policy, rows)
        return self.reward_heads[name](hidden[range(len(positions)), positions])

    @contextmanager
    def generating(self, *, merge: bool | None = None) -> Iterator[PreTrainedModel]:
        """As [`Roles.generating`]; see `merge_for_generation` of [`PPOConfig`]."""
        mergeable = can_merge(self.policy, POLICY)
        if merge and not mergeable:
            raise InputError(
                "merge_for_generation adds a plain LoRA adapter to copies of its base's matrices. That is not the same "
                "model with 4-bit weights, DoRA, biases, saved modules, or a matrix that stands in two places (a tied "
                "lm_head); leave it out."
            )
        merges = mergeable and (merge if merge is not None else self.device.type == "cpu")
        with merged(self.policy, POLICY) if merges else nullcontext(), self.role(None if merges else POLICY):
            with super().generating() as model:
                yield model

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """As [`Roles`]'s, but each recomputation runs under the adapter of its forward pass.

        Without that, the backward pass would recompute every layer under the adapter that was active last.
        """
        options = dict(activation_checkpointing_kwargs or {})
        if options.get("use_reentrant"):
            raise InputError("Adapters on one base need activation checkpointing with use_reentrant=False.")
        super().activation_checkpointing_enable(options | {"context_fn": self._recompute_contexts}, **kwargs)

    def _recompute_contexts(self) -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), self.role(self._active)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Load a checkpoint's `model.safetensors`, the trained parameters."""
        wanted = {n for n, p in self.named_parameters() if p.requires_grad}
        if wanted != set(state_dict):
            raise InputError(
                f"The checkpoint was written by a run with other adapters or value_trunk; it lacks "
                f"{sorted(wanted - set(state_dict))[:3]} and has {sorted(set(state_dict) - wanted)[:3]} besides."
            )
        loaded = nn.Module.load_state_dict(self, state_dict, strict=False, assign=assign)
        loaded.missing_keys.clear()  # what is not trained was not saved
        return loaded

    def load_value(self, folder: Path) -> None:
        """Nothing is left to load: `load_state_dict` had it."""

    def save_for_resuming(self, folder: Path) -> None:
        # Trainer looks for this file; it reaches load_state_dict.
        save_file(self.trainable_state(), folder / "model.safetensors", metadata={"format": "pt"})

    def save_pretrained(self, folder: Path) -> None:
        """Write the policy where `AutoPeftModelForCausalLM` finds it, and the rest beside it.

        `value/` and `reward/` are adapters (or a model) that `AutoPeftModelForSequenceClassification` loads, and that
        [`PPOTrainer`] takes as `value_model=` and in `reward_funcs`.
        """
        self._save_adapter(POLICY, folder, None)
        for name, head in self.reward_heads.items():
            self._save_adapter(name, folder / name, head)
        if self.has_value_adapter:
            self._save_adapter(VALUE, folder / VALUE, self.value_head)
        else:
            self._save_value(folder)

    def _save_adapter(self, name: str, folder: Path, head: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        weights = get_peft_model_state_dict(self.policy, adapter_name=name)
        config = copy.deepcopy(self.policy.peft_config[name])
        config.inference_mode = True
        if head is not None:
            config.task_type = TaskType.SEQ_CLS
            config.modules_to_save = ["score"]
            weights[SCORE_KEY] = head.weight.detach().reshape(1, -1)
        weights = {key: tensor.detach().cpu().contiguous() for key, tensor in weights.items()}
        save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(str(folder))


def _with_policy_adapter(
    model: PreTrainedModel | PeftModel, peft_config: PeftConfig | None, reference: str, names: set[str]
) -> tuple[str | None, PeftModel]:
    """The reference, and the model with a trainable adapter named `policy`.

    An adapter that the model came with stays as the reference, or goes.
    """
    if not isinstance(model, PeftModel):
        assert peft_config is not None
        check_sharing(peft_config)
        return None, get_peft_model(model, peft_config, adapter_name=POLICY)  # type: ignore[return-value]
    if peft_config is not None:
        raise InputError(
            "The model has an adapter already, and peft_config asks for another: pass the adapter alone to "
            "train on from it, or merge it first (merge_and_unload) and pass the merged model with peft_config."
        )
    active = list(model.active_adapters)
    if len(active) != 1:
        raise InputError(
            f"The model has {len(active)} active adapters, {', '.join(active)}; the policy starts from one: set_adapter, "
            "or add_weighted_adapter to make one of them."
        )
    (given,) = active
    clash = sorted(names & model.peft_config.keys())
    if clash:
        raise InputError(
            f"The model has an adapter named {clash[0]!r}, a name that PPO gives to its own; load it under "
            f"another: PeftModel.from_pretrained(base, path, adapter_name='default')."
        )
    config = copy.deepcopy(model.peft_config[given])
    check_sharing(config, "The model's adapter")
    config.inference_mode = False
    weights = get_peft_model_state_dict(model, adapter_name=given)
    model.add_adapter(POLICY, config)
    set_peft_model_state_dict(model, weights, adapter_name=POLICY)
    model.set_adapter(POLICY)
    if reference == "base":
        model.delete_adapter(given)
    return given if reference == "sft" else None, model
