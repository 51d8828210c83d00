"""PPO's four roles in as little memory as they need: with LoRA, adapters on one base.

Shapes in this file: B rows, T tokens of the longest row, C tokens of the longest completion, H hidden size.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import (
    PeftConfig,
    PeftModel,
    TaskType,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from ..errors import InputError
from ..measure.logps import PackedRows, completion_logits, pad_rows, per_row, token_entropies, token_logps
from ..models import adapter_folder, keep_4bit_gradients
from .heads import SCORE_KEY, ScalarHead, backbone, captured_input, reward_head, scored_hidden
from .merging import can_merge, merged


POLICY, VALUE, REWARD = "policy", "value", "reward"
VALUE_HEAD_FILE = "value_head.safetensors"


class Scores(NamedTuple):
    """What policy and value say of a batch of rows; every field is `(B, C)` and 0 past the end of a completion."""

    per_token_logps: torch.Tensor | None = None
    values: torch.Tensor | None = None
    entropies: torch.Tensor | None = None


class LoadResult(NamedTuple):
    missing_keys: list[str]
    unexpected_keys: list[str]


class ActorCritic(nn.Module):
    """Policy and value in one module, which is what the optimizer, DDP and the checkpoints see.

    With LoRA it also holds the frozen adapters: reward, and reference when that is not simply the adapter-off base.

    Args:
        policy (`PreTrainedModel` or `PeftModel`): Causal language model. Changed in place: an adapter it comes with
            is copied to a trainable adapter named `policy`.
        peft_config (`PeftConfig`, *optional*): A new adapter for a policy without one.
        reference (`str`): `"sft"` or `"base"`, see [`PPOConfig`].
        value_trunk (`str`): `"adapter"` or `"policy"`, see [`PPOConfig`].
        reward_adapters (`list[str]`): Folders of reward adapters trained on the policy's base.
        value_source (`str` or `PreTrainedModel`, *optional*): An adapter folder, or a model with one label.
    """

    def __init__(
        self,
        policy: PreTrainedModel | PeftModel,
        *,
        peft_config: PeftConfig | None = None,
        reference: str = "sft",
        value_trunk: str = "adapter",
        reward_adapters: list[str] | None = None,
        value_source: str | PreTrainedModel | None = None,
    ) -> None:
        super().__init__()
        self.reference: str | None = None  # an adapter's name; None: adapters off
        self.value_model: nn.Module | None = None
        self.value_head: ScalarHead | None = None
        self.reward_heads = nn.ModuleDict()
        self._active: str | None = None
        self._trainable: list[nn.Parameter] = []
        self._frozen: list[nn.Parameter] = []
        self.value_trunk = value_trunk
        hidden_size = policy.config.get_text_config().hidden_size

        reward_names = [REWARD, *(f"{REWARD}_{i + 1}" for i in range(1, len(reward_adapters or [])))]

        keep_4bit_gradients(policy)
        self.policy: Any  # a union of PeftModel and PreTrainedModel would be asked at every use which one it is
        if peft_config is not None or isinstance(policy, PeftModel):
            self.policy = self._with_policy_adapter(policy, peft_config, reference, reward_names)
        else:
            self.policy = policy
        for name, path in zip(reward_names, reward_adapters or [], strict=False):  # the first name is never free
            self._load_adapter(path, name, trainable=False)
            self.reward_heads[name] = ScalarHead(reward_head(path))
        self.reward_heads.requires_grad_(False)

        if value_trunk == "policy":
            self.value_head = ScalarHead(torch.zeros(hidden_size))
        elif isinstance(value_source, PeftModel):
            raise InputError("A value adapter is given as its folder (save_pretrained), so that it shares the base.")
        elif isinstance(value_source, nn.Module):
            self.value_model = value_source.requires_grad_(True)
        elif self.has_adapters:
            source = value_source or (reward_adapters[0] if reward_adapters else None)
            if source is not None:
                self._load_adapter(source, VALUE, trainable=True)
                self.value_head = ScalarHead(reward_head(source))
            else:
                self.policy.add_adapter(VALUE, copy.deepcopy(self.policy.peft_config[POLICY]))
                self.value_head = ScalarHead(torch.zeros(hidden_size))
        else:
            raise InputError("Without LoRA a value of its own is a model: pass value_model, or value_trunk='policy'.")
        self._settle_gradients()

    def _with_policy_adapter(
        self,
        model: PreTrainedModel | PeftModel,
        peft_config: PeftConfig | None,
        reference: str,
        reward_names: list[str],
    ) -> PeftModel:
        """The model with a trainable adapter named `policy`; an adapter it had stays as the reference, or goes."""
        if not isinstance(model, PeftModel):
            assert peft_config is not None
            if peft_config.is_prompt_learning:
                raise InputError(f"{type(peft_config).__name__} cannot share a base between roles; use a LoraConfig.")
            return get_peft_model(model, peft_config, adapter_name=POLICY)
        if peft_config is not None:
            raise InputError(
                "The model has an adapter already, and peft_config asks for another: pass the adapter alone to "
                "train on from it, or merge it first (merge_and_unload) and pass the merged model with peft_config."
            )
        tuner: Any = model.base_model
        given: str = tuner.active_adapter if isinstance(tuner.active_adapter, str) else tuner.active_adapter[0]
        clash = sorted({POLICY, VALUE, *reward_names} & model.peft_config.keys())
        if clash:
            raise InputError(
                f"The model has an adapter named {clash[0]!r}, a name that PPO gives to its own; load it under "
                f"another: PeftModel.from_pretrained(base, path, adapter_name='default')."
            )
        config = copy.deepcopy(model.peft_config[given])
        if config.is_prompt_learning:
            raise InputError(f"{type(config).__name__} cannot share a base between roles; use a LoRA adapter.")
        config.inference_mode = False
        weights = get_peft_model_state_dict(model, adapter_name=given)
        model.add_adapter(POLICY, config)
        set_peft_model_state_dict(model, weights, adapter_name=POLICY)
        if reference == "sft":
            self.reference = given
        else:
            tuner.set_adapter(POLICY)
            model.delete_adapter(given)
        return model

    def _load_adapter(self, path: str, name: str, *, trainable: bool) -> None:
        if not self.has_adapters:
            raise InputError(
                f"The adapter {path!r} shares its base with a LoRA policy; give the policy an adapter (peft_config=) "
                "or pass the reward model as a model."
            )
        folder = str(adapter_folder(path))  # PEFT would read a pickle where there are no safetensors
        result = self.policy.load_adapter(folder, adapter_name=name, is_trainable=trainable)
        odd = [*result.missing_keys, *(key for key in result.unexpected_keys if "score" not in key.split("."))]
        if odd:
            raise InputError(
                f"The adapter {path!r} does not belong to the policy's base: {len(odd)} tensors are on one side only, "
                f"{odd[0]} for one."
            )

    def _settle_gradients(self) -> None:
        """Note which parameters train: switching adapters in PEFT turns gradients on and off."""
        if self.has_adapters:
            for parameter in self.policy.parameters():
                parameter.requires_grad_(False)
            trained = []
            for name in (POLICY, VALUE):
                if name in self.policy.peft_config:
                    self.policy.base_model.set_adapter(name)
                    trained += [p for p in self.policy.parameters() if p.requires_grad]
            every = {id(p): p for name in self.policy.peft_config for p in self._adapter_parameters(name)}
            self._trainable = trained
            self._frozen = [p for key, p in every.items() if key not in set(map(id, trained))]
            self.policy.set_adapter(POLICY)
            self._active = POLICY
            self._restore_gradients()
        else:
            self.policy.requires_grad_(True)

    def _adapter_parameters(self, name: str) -> list[nn.Parameter]:
        self.policy.base_model.set_adapter(name)
        return [p for p in self.policy.parameters() if p.requires_grad]

    def _restore_gradients(self) -> None:
        for parameter in self._frozen:
            parameter.requires_grad_(False)
        for parameter in self._trainable:
            parameter.requires_grad_(True)

    @property
    def has_adapters(self) -> bool:
        return isinstance(self.policy, PeftModel)

    @property
    def config(self) -> Any:
        return self.policy.config

    @property
    def generation_config(self) -> Any:
        return self.policy.generation_config

    @property
    def device(self) -> torch.device:
        return next(self.policy.parameters()).device

    def _switch(self, name: str | None) -> None:
        if not self.has_adapters or name == self._active:
            return
        tuner = self.policy.base_model
        if name is None:
            tuner.disable_adapter_layers()
        else:
            if self._active is None:
                tuner.enable_adapter_layers()
            tuner.set_adapter(name)
        self._active = name
        self._restore_gradients()

    @contextmanager
    def role(self, name: str | None) -> Iterator[None]:
        """Run the shared base under an adapter, `None` for none of them; gradients stay as they are."""
        before = self._active
        self._switch(name)
        try:
            yield
        finally:
            self._switch(before)

    @contextmanager
    def generating(self, *, merge: bool | None = None) -> Iterator[None]:
        """Let `self.policy.generate` speak as the policy; see `merge_for_generation` of [`PPOConfig`]."""
        mergeable = self.has_adapters and can_merge(self.policy, POLICY)
        if merge and self.has_adapters and not mergeable:
            raise InputError(
                "merge_for_generation adds the policy's adapter to copies of its base's matrices, which 4-bit "
                "weights, DoRA, biases or saved modules do not allow; leave it out."
            )
        if mergeable and (merge if merge is not None else self.device.type == "cpu"):
            with merged(self.policy, POLICY), self.role(None):
                yield
        else:
            with self.role(POLICY):
                yield

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """As [`~transformers.PreTrainedModel`]'s, but each recomputation runs under the adapter of its forward pass.

        Without that, the backward pass would recompute every layer under the adapter that was active last.
        """
        options = {"use_reentrant": False, **(activation_checkpointing_kwargs or {})}
        if options["use_reentrant"] and self.has_adapters:
            raise InputError("Adapters on one base need activation checkpointing with use_reentrant=False.")
        inner = self.policy.get_base_model() if self.has_adapters else self.policy
        shared = {**options, "context_fn": self._recompute_contexts} if self.has_adapters else options
        inner.activation_checkpointing_enable(activation_checkpointing_kwargs=shared, **kwargs)
        if isinstance(self.value_model, PreTrainedModel):
            self.value_model.activation_checkpointing_enable(activation_checkpointing_kwargs=options, **kwargs)

    def _recompute_contexts(self) -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), self.role(self._active)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        completion_ids: torch.Tensor,
        completion_mask: torch.Tensor,
        prompt_lengths: tuple[int, ...],
        temperature: float = 1.0,
        with_entropies: bool = False,
        roles: tuple[str, ...] = (POLICY, VALUE),
    ) -> Scores:
        """Log-probability and value of each completion token; the first arguments are a [`PackedRows`]' fields.

        With one of the `roles` only, the other's fields are `None`. A value on the policy's trunk has no pass of its
        own and comes with the policy.
        """
        rows = PackedRows(input_ids, attention_mask, completion_ids, completion_mask, tuple(prompt_lengths))
        scores = self._policy_scores(rows, temperature, with_entropies) if POLICY in roles else Scores()
        if VALUE in roles and self.has_value_pass:
            scores = scores._replace(values=self._value_pass(rows))
        return scores

    @property
    def has_value_pass(self) -> bool:
        """Whether the value has a forward pass of its own."""
        return self.value_trunk != "policy"

    def _policy_scores(self, rows: PackedRows, temperature: float, with_entropies: bool) -> Scores:
        lm_head = self.policy.get_output_embeddings()
        capture: Any = captured_input(lm_head) if self.value_trunk == "policy" else nullcontext([])
        with self.role(POLICY if self.has_adapters else None), capture as captured:
            logits = completion_logits(self.policy, rows)
            logps = token_logps(logits, rows, temperature=temperature)
            entropies = token_entropies(logits, rows, temperature=temperature) if with_entropies else None
            del logits
        values = None if self.has_value_pass else self._values(self.value_head, captured[0], rows)
        return Scores(logps, values, entropies)

    def _value_pass(self, rows: PackedRows) -> torch.Tensor:
        with self.role(VALUE if self.value_model is None else self._active):
            model = backbone(self.policy if self.value_model is None else self.value_model)
            out = model(input_ids=rows.input_ids, attention_mask=rows.attention_mask, use_cache=False)
        head = self.value_head if self.value_model is None else self._value_model_head
        return self._values(head, out.last_hidden_state, rows)

    def _value_model_head(self, hidden: torch.Tensor) -> torch.Tensor:
        model: Any = self.value_model
        return model.score(hidden).squeeze(-1).float()

    @staticmethod
    def _values(head: Any, hidden: torch.Tensor, rows: PackedRows) -> torch.Tensor:
        values = [head(row) for row in per_row(hidden, rows)]
        return pad_rows(values, rows.completion_ids.shape[1])

    @torch.no_grad()
    def ref_logps(self, rows: PackedRows, *, temperature: float = 1.0) -> torch.Tensor:
        """Log-probabilities under the reference, `(B, C)`; only with adapters, where it lives on the same base."""
        assert self.has_adapters
        with self.role(self.reference):
            return token_logps(completion_logits(self.policy, rows), rows, temperature=temperature)

    @torch.no_grad()
    def adapter_rewards(self, name: str, rows: PackedRows) -> torch.Tensor:
        """Score of each row by the reward adapter `name`, read at the last real token, `(B,)`."""
        with self.role(name):
            return self.reward_heads[name](scored_hidden(self.policy, rows))

    def trainable_state(self) -> dict[str, torch.Tensor]:
        """The trained parameters by name, on the CPU."""
        return {n: p.detach().cpu().contiguous() for n, p in self.named_parameters() if p.requires_grad}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a checkpoint's `model.safetensors`: the trained parameters with LoRA, else the policy's weights."""
        if not self.has_adapters:
            return self.policy.load_state_dict(state_dict, strict=strict, assign=assign)
        wanted = {n for n, p in self.named_parameters() if p.requires_grad}
        if wanted != set(state_dict):
            raise InputError(
                f"The checkpoint was written by a run with other adapters or value_trunk; it lacks "
                f"{sorted(wanted - set(state_dict))[:3]} and has {sorted(set(state_dict) - wanted)[:3]} besides."
            )
        super().load_state_dict(state_dict, strict=False, assign=assign)
        return LoadResult([], [])

    def save_pretrained(self, folder: Path) -> None:
        """Write the policy where `AutoPeftModel` or `AutoModelForCausalLM` finds it, and the rest beside it.

        `value/` and `reward/` are adapters (or a model) that `AutoPeftModelForSequenceClassification` loads, and that
        [`PPOTrainer`] takes as `value_model=` and in `reward_funcs`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if not self.has_adapters:
            self.policy.save_pretrained(folder)
        else:
            self._save_adapter(POLICY, folder, None)
            for name, head in self.reward_heads.items():
                self._save_adapter(name, folder / name, head)
        if self.value_trunk == "policy":
            assert self.value_head is not None
            save_file({"weight": self.value_head.weight.detach().cpu()}, folder / VALUE_HEAD_FILE)
        elif isinstance(self.value_model, PreTrainedModel):
            self.value_model.save_pretrained(str(folder / VALUE))
        else:
            self._save_adapter(VALUE, folder / VALUE, self.value_head)

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

    def load_value(self, folder: Path) -> None:
        """Load the value of a checkpoint written without LoRA; with LoRA, `load_state_dict` has it."""
        if self.has_adapters:
            return
        if self.value_head is not None:
            self.value_head.weight.data.copy_(load_file(folder / VALUE_HEAD_FILE)["weight"])
        elif isinstance(self.value_model, PreTrainedModel):
            value = type(self.value_model).from_pretrained(folder / VALUE, use_safetensors=True)
            self.value_model.load_state_dict(value.state_dict())
