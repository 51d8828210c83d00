"""How a model orders pairs of a better and a worse answer: by its scores, by its likelihood, by its implicit rewards."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import compress
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError
from .answers import Measured, means_of
from .held_out import Model, Rows, answers_of, fitting, logps_of
from .score import score_ids


_SIDES = ("chosen", "rejected")


def wins(first: Iterable[float], second: Iterable[float]) -> list[float]:
    """Whether the first number of each pair is the larger one; a tie counts half, so that no difference at all is 0.5.

    >>> wins([1, 2, 0], [0, 2, 1])
    [1.0, 0.5, 0.0]
    """
    return [0.5 * (a > b) + 0.5 * (a >= b) for a, b in zip(first, second, strict=True)]


def by_kind(measure: str, values: Sequence[float], rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """The values of the rows of each `kind` of rejected answer, under `MEASURE_kind_NAME`, where rows name it.

    >>> by_kind("accuracy", [1.0, 0.0, 0.5], [{"kind": "evasive"}, {"kind": ""}, {}])
    {'accuracy_kind_evasive': [1.0]}
    """
    kinds = [row.get("kind") or "" for row in rows]
    return {
        f"{measure}_kind_{kind}": [value for value, of_row in zip(values, kinds, strict=True) if of_row == kind]
        for kind in sorted({*kinds} - {""})
    }


def evaluate_reward(
    model: Model, tokenizer: PreTrainedTokenizerBase, rows: Rows, *, max_length: int | None = None
) -> Measured:
    """How a reward model orders held-out pairs.

    Returns:
        `accuracy` (share of pairs whose chosen answer scores higher, a tie counting half), `margin` (mean difference),
        `accuracy_rank_distance_N` for each rank distance of the pairs when they have a `margin`, `accuracy_kind_NAME`
        for each `kind` of rejected answer where rows name it, and the lists `chosen_scores` and `rejected_scores`.
    """
    kept_rows, kept, _, counts = fitting(model, tokenizer, rows, "RewardTrainer", max_length)
    chosen, rejected = (score_ids(model, tokenizer, [row.sequences[side] for row in kept]) for side in _SIDES)
    won = wins(chosen, rejected)
    groups = {
        f"accuracy_rank_distance_{distance:g}": [row.get("margin") == distance for row in kept_rows]
        for distance in sorted({row.get("margin") or 0.0 for row in kept_rows} - {0.0})
    }
    by_row = {
        "accuracy": won,
        "margin": [a - b for a, b in zip(chosen, rejected, strict=True)],
        **{name: list(compress(won, is_in)) for name, is_in in groups.items()},
        **by_kind("accuracy", won, kept_rows),
    }
    return {**means_of(by_row), **counts, "chosen_scores": chosen, "rejected_scores": rejected}


def _preferred(logps: Sequence[torch.Tensor]) -> list[float]:
    """Whether the chosen answer has the higher log-probability per token; the chosen ones come first, then the others."""
    means = [of_answer.mean().item() for of_answer in logps]
    return wins(means[: len(means) // 2], means[len(means) // 2 :])


def evaluate_preferences(
    model: Model, tokenizer: PreTrainedTokenizerBase, rows: Rows, *, max_length: int | None = None
) -> Measured:
    """`preferred`, as [`evaluate_dpo`] has it, and `preferred_kind_NAME` for each `kind` of rejected answer where rows
    name it; no reference is needed, so models of any origin compare."""
    kept_rows, kept, limit, counts = fitting(model, tokenizer, rows, "DPOTrainer", max_length)
    won = _preferred(logps_of(model, tokenizer, answers_of(kept, _SIDES, limit)))
    return means_of({"preferred": won, **by_kind("preferred", won, kept_rows)}) | counts


def evaluate_dpo(
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    rows: Rows,
    *,
    beta: float,
    ref_model: PreTrainedModel | None = None,
    max_length: int | None = None,
) -> Measured:
    """Whether a policy prefers the chosen answers, and its implicit rewards, `beta * (log p_policy - log p_ref)`
    (https://huggingface.co/papers/2305.18290).

    Args:
        model ([`~transformers.PreTrainedModel`] or `PeftModel`): The policy.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Its tokenizer, with a chat template.
        rows (iterable of `Mapping`): Preference rows.
        beta (`float`): As in training.
        ref_model ([`~transformers.PreTrainedModel`], *optional*): Reference; without it the policy's adapter `"ref"`,
            which `DPOTrainer` makes of an adapter that it goes on with, or its base, adapter off.
        max_length (`int`, *optional*): As in training.

    Returns:
        `preferred` (share of pairs whose chosen answer has the higher log-probability per token under the policy),
        `accuracy` (share of pairs whose chosen answer has the higher reward, a tie counting half, so that a policy
        equal to its reference has 0.5), `margin` (mean difference of the rewards), `logps_chosen` (mean, in nats), and
        the lists `chosen_rewards` and `rejected_rewards`.
    """
    if ref_model is None and not isinstance(model, PeftModel):
        raise InputError("A model without adapters is its own reference: pass ref_model.")
    _, kept, limit, counts = fitting(model, tokenizer, rows, "DPOTrainer", max_length)
    sequences = answers_of(kept, _SIDES, limit)
    policy_logps = logps_of(model, tokenizer, sequences)
    if ref_model is not None:
        ref_logps = logps_of(ref_model, tokenizer, sequences)
    else:
        with as_reference(model):
            ref_logps = logps_of(model, tokenizer, sequences)
    rewards = [beta * (p.sum() - r.sum()).item() for p, r in zip(policy_logps, ref_logps, strict=True)]
    chosen, rejected = rewards[: len(kept)], rewards[len(kept) :]
    by_row = {
        "preferred": _preferred(policy_logps),
        "accuracy": wins(chosen, rejected),
        "margin": [a - b for a, b in zip(chosen, rejected, strict=True)],
        "logps_chosen": [logps.sum().item() for logps in policy_logps[: len(kept)]],
    }
    return {**means_of(by_row), **counts, "chosen_rewards": chosen, "rejected_rewards": rejected}


@contextmanager
def as_reference(model: Any) -> Iterator[None]:
    if "ref" not in model.peft_config:
        with model.disable_adapter():
            yield
        return
    # Switching adapters changes which of them are trained.
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    active = model.active_adapter
    model.set_adapter("ref")
    try:
        yield
    finally:
        model.set_adapter(active)
        for parameter, requires_grad in trained:
            parameter.requires_grad_(requires_grad)
