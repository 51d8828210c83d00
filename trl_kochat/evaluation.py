"""What a stage is judged by, before and after: the same measures on the same held-out rows.

Each function is given to `RunReportCallback(evaluate=...)`; numbers go into the table, lists into the histograms.
"""

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from statistics import fmean
from typing import Any

import torch
from peft import PeftModel
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .logps import response_logps


def better_share(first: Iterable[float], second: Iterable[float]) -> float:
    """Share of pairs whose first number is the larger one; a tie counts half, so that no difference at all is 0.5.

    >>> better_share([1, 2, 0], [0, 2, 1])
    0.5
    """
    return fmean(0.5 * (a > b) + 0.5 * (a >= b) for a, b in zip(first, second, strict=True))


@torch.no_grad()
def evaluate_dpo(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Iterable[Mapping[str, Any]],
    *,
    beta: float,
    ref_model: PreTrainedModel | None = None,
) -> dict[str, float | list[float]]:
    """Implicit rewards of held-out pairs, `beta * (log p_policy - log p_ref)` (https://huggingface.co/papers/2305.18290).

    Args:
        model ([`~transformers.PreTrainedModel`] or `PeftModel`): The policy.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Its tokenizer, with a chat template.
        rows (iterable of `Mapping`): Conversational preference rows.
        beta (`float`): As in training.
        ref_model ([`~transformers.PreTrainedModel`], *optional*): Reference; without it the policy's base, adapter off.

    Returns:
        `accuracy` (share of pairs whose chosen answer has the higher reward, a tie counting half, so that a policy
        equal to its reference has 0.5), `margin` (mean difference of the rewards), `preferred` (share of pairs whose
        chosen answer has the higher log-probability per token under the policy), `logps_chosen` (mean, in nats), and
        the lists `chosen_rewards` and `rejected_rewards`.
    """
    if ref_model is None and not isinstance(model, PeftModel):
        raise ValueError("A model without adapters is its own reference: pass ref_model.")
    sums: dict[str, list[list[float]]] = {"policy": [], "reference": []}
    means: list[list[float]] = []
    for row in tqdm(list(rows), desc="Measuring held-out pairs", leave=False):
        answers = [row[column][-1]["content"] for column in ("chosen", "rejected")]
        per_token = response_logps(model, tokenizer, row["prompt"], answers, per_token=True)
        sums["policy"].append([logps.sum().item() for logps in per_token])
        means.append([logps.mean().item() for logps in per_token])
        with model.disable_adapter() if isinstance(model, PeftModel) and ref_model is None else nullcontext():
            reference = response_logps(ref_model or model, tokenizer, row["prompt"], answers)
        sums["reference"].append(reference.tolist())
    chosen, rejected = (
        [beta * (policy[side] - ref[side]) for policy, ref in zip(sums["policy"], sums["reference"], strict=True)]
        for side in (0, 1)
    )
    return {
        "accuracy": better_share(chosen, rejected),
        "margin": fmean(a - b for a, b in zip(chosen, rejected, strict=True)),
        "preferred": better_share(*zip(*means, strict=True)),
        "logps_chosen": fmean(logps[0] for logps in sums["policy"]),
        "chosen_rewards": chosen,
        "rejected_rewards": rejected,
    }
