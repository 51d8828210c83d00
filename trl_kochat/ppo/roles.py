"""Policy and value in one module, which is what the optimizer, DDP and the checkpoints see.

Shapes in this file: B rows, C tokens of the longest completion, H hidden size.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import GenerationConfig, PreTrainedModel

from ..errors import InputError
from ..measure.logps import PackedRows, completion_logits, pad_rows, per_row, token_entropies, token_logps
from .heads import ScalarHead, backbone, captured_input


POLICY, VALUE, REWARD = "policy", "value", "reward"
VALUE_HEAD_FILE = "value_head.safetensors"


class Scores(NamedTuple):
    """What policy and value say of a batch of rows; every field is `(B, C)` and 0 past the end of a completion."""

    per_token_logps: torch.Tensor | None = None
    values: torch.Tensor | None = None
    entropies: torch.Tensor | None = None


class Roles(nn.Module):
    """Policy and value over a language model whose weights are all trained; [`AdapterRoles`] has them on one base.

    Args:
        policy (`PreTrainedModel`): Causal language model.
        value_model (`PreTrainedModel`, *optional*): A model with one label. Without it the value is a head on the
            policy's last hidden state, which starts at 0.
    """

    def __init__(self, policy: PreTrainedModel, *, value_model: PreTrainedModel | None = None) -> None:
        super().__init__()
        self.policy: Any = policy
        self.value_model: Any = value_model.requires_grad_(True) if value_model is not None else None
        self.value_head: ScalarHead | None = None
        if value_model is None:
            self.value_head = ScalarHead(torch.zeros(policy.config.get_text_config().hidden_size))

    @property
    def language_model(self) -> PreTrainedModel:
        """The policy as transformers knows it, whatever PEFT has put around it."""
        return self.policy

    @property
    def config(self) -> Any:
        return self.language_model.config

    @property
    def device(self) -> torch.device:
        return next(self.policy.parameters()).device

    @property
    def has_value_pass(self) -> bool:
        """Whether the value has a forward pass of its own."""
        return self.value_model is not None

    def role(self, name: str | None) -> AbstractContextManager[None]:
        """Run the policy's model as another role; without adapters there is no other."""
        return nullcontext()

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
        scores = self._policy_pass(rows, temperature, with_entropies) if POLICY in roles else Scores()
        if VALUE in roles and self.has_value_pass:
            scores = scores._replace(values=self._value_pass(rows))
        return scores

    def _policy_pass(self, rows: PackedRows, temperature: float, with_entropies: bool) -> Scores:
        values = None
        capture: Any = captured_input(self.policy.get_output_embeddings())
        with self.role(POLICY), capture as hidden:
            logits = completion_logits(self.policy, rows)
            logps = token_logps(logits, rows, temperature=temperature)
            entropies = token_entropies(logits, rows, temperature=temperature) if with_entropies else None
            del logits
        if not self.has_value_pass:
            values = per_completion_token(self.value_head, hidden[0], rows)
        return Scores(logps, values, entropies)

    def _value_pass(self, rows: PackedRows) -> torch.Tensor:
        hidden = hidden_states(self.value_model, rows)
        return per_completion_token(lambda row: self.value_model.score(row).squeeze(-1).float(), hidden, rows)

    @contextmanager
    def generating(self, *, merge: bool | None = None) -> Iterator[PreTrainedModel]:
        """The model to generate with, as the policy and with nothing of what its base's generation_config asks for.

        `generate` fills what a config leaves open from the model's own: bans, penalties, forced tokens, several
        sequences. The update knows of none of them.
        """
        if merge:
            raise InputError("merge_for_generation adds a LoRA adapter to its base, and there is none; leave it out.")
        model = self.language_model
        own, model.generation_config = model.generation_config, GenerationConfig()
        try:
            yield model
        finally:
            model.generation_config = own

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """As [`~transformers.PreTrainedModel`]'s, for policy and value."""
        options = {"use_reentrant": False, **(activation_checkpointing_kwargs or {})}
        self.language_model.activation_checkpointing_enable(activation_checkpointing_kwargs=options, **kwargs)
        if self.value_model is not None:
            self.value_model.activation_checkpointing_enable(activation_checkpointing_kwargs=options, **kwargs)

    def trainable_state(self) -> dict[str, torch.Tensor]:
        """The trained parameters by name, on the CPU."""
        return {n: p.detach().cpu().contiguous() for n, p in self.named_parameters() if p.requires_grad}

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Load a checkpoint's `model.safetensors`, which is the policy's; the value is in [`load_value`]'s files."""
        return self.policy.load_state_dict(state_dict, strict=strict, assign=assign)

    def save_pretrained(self, folder: Path) -> None:
        """Write the policy where `AutoModelForCausalLM` (or `AutoPeftModelForCausalLM`) finds it, the rest beside it."""
        self.policy.save_pretrained(folder)
        self._save_value(folder)

    def save_for_resuming(self, folder: Path) -> None:
        """Write what [`load_state_dict`] wants beside what [`save_pretrained`] has written."""

    def _save_value(self, folder: Path) -> None:
        if self.value_model is not None:
            self.value_model.save_pretrained(str(folder / VALUE))
        else:
            assert self.value_head is not None
            save_file({"weight": self.value_head.weight.detach().cpu()}, folder / VALUE_HEAD_FILE)

    def load_value(self, folder: Path) -> None:
        """Load the value of a checkpoint."""
        if self.value_model is not None:
            value = type(self.value_model).from_pretrained(folder / VALUE, use_safetensors=True)
            self.value_model.load_state_dict(value.state_dict())
        else:
            assert self.value_head is not None
            self.value_head.weight.data.copy_(load_file(folder / VALUE_HEAD_FILE)["weight"])


def hidden_states(model: Any, rows: PackedRows) -> torch.Tensor:
    """Last hidden state of each token, `(B, T, H)`."""
    out = backbone(model)(input_ids=rows.input_ids, attention_mask=rows.attention_mask, use_cache=False)
    return out.last_hidden_state


def per_completion_token(head: Any, hidden: torch.Tensor, rows: PackedRows) -> torch.Tensor:
    """What the head reads just before each completion token, `(B, C)`."""
    return pad_rows([head(row) for row in per_row(hidden, rows)], rows.completion_ids.shape[1])
