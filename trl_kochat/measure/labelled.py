"""On a CPU, TRL's fused output layer over labelled positions alone."""

from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, Trainer


def score_labelled_positions(trainer: Trainer) -> None:
    """Let the loss of a trainer of TRL be computed from labelled positions alone on a CPU, as on a GPU, in place.

    SFT, DPO, KTO, GRPO and RLOO take log-probabilities, entropies and the like of each token from one output layer
    (`model(..., labels=labels, fused_lm_head=True)`). With Triton it leaves out what has no label, prompts and padding;
    on a CPU it scores these as well and sets the result to 0, which is most of a step's time where the vocabulary is
    large. Here it is given the others alone, already shifted (its `shift_labels`), and what it returns is put back in
    place: the same loss, gradients and metrics, to rounding. All else remains TRL's, every loss type included.

    On other devices nothing is changed, nor with prompt tuning, whose virtual tokens shift the positions.

    Args:
        trainer ([`~transformers.Trainer`]): Before `train()`.
    """
    if trainer.args.device.type != "cpu":
        return
    for model in (trainer.model, getattr(trainer, "ref_model", None)):
        if isinstance(model, PeftModel) and not model.active_peft_config.is_prompt_learning:
            _Labelled().watch(model, model.get_base_model())
        elif isinstance(model, PreTrainedModel):
            _Labelled().watch(model, model)


class _Labelled:
    """Hooks of one model; B rows, T tokens, N of the B * (T - 1) that follow another one have a label."""

    _mask: torch.Tensor | None = None  # (B, T - 1), during a pass with labels through the fused layer

    def watch(self, model: nn.Module, causal: Any) -> None:
        model.register_forward_pre_hook(self._before, with_kwargs=True)
        causal.base_model.register_forward_hook(self._after_backbone)
        model.register_forward_hook(self._after, with_kwargs=True)

    def _before(self, model: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        self._mask = None
        return (args, self._shifted(**kwargs)) if kwargs.get("fused_lm_head") else None

    def _shifted(self, labels: torch.Tensor | None = None, **others: Any) -> dict[str, Any]:
        if labels is None:
            return others
        labels = labels[:, 1:]
        self._mask = labels != -100
        return dict(others, shift_labels=labels[self._mask][None])  # (1, N)

    def _after_backbone(self, backbone: nn.Module, args: Any, output: Any) -> None:
        if self._mask is not None:
            output.last_hidden_state = output.last_hidden_state[:, :-1][self._mask][None]  # (1, N, hidden size)

    def _after(self, model: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if self._mask is None:
            return
        for name, values in output.items():
            if values.dim() == 2:  # of each token: (1, N)
                output[name] = values.new_zeros(self._mask.shape).masked_scatter(self._mask, values)
        self._mask = None
