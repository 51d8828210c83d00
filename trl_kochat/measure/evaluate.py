"""What a stage is judged by, before and after: the same measures on the same held-out rows.

Each function is given to `RunReportCallback(evaluate=...)`; numbers go into the table, lists into the histograms.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from itertools import groupby
from statistics import fmean
from typing import Any

import torch
from peft import PeftModel
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from ..errors import InputError
from ..processes import is_main_process
from ..text.health import summarize_health
from .generate import generate_answers
from .logps import response_logps
from .score import score_completions


def better_share(first: Iterable[float], second: Iterable[float]) -> float:
    """Share of pairs whose first number is the larger one; a tie counts half, so that no difference at all is 0.5.

    >>> better_share([1, 2, 0], [0, 2, 1])
    0.5
    """
    return fmean(0.5 * (a > b) + 0.5 * (a >= b) for a, b in zip(first, second, strict=True))


@torch.no_grad()
def evaluate_sft(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, rows: Iterable[Mapping[str, Any]]
) -> dict[str, float]:
    """`eval_loss`: mean negative log-probability of an answer token, EOS included, over all held-out answers."""
    logps: list[torch.Tensor] = []
    for row in tqdm(list(rows), desc="Measuring held-out answers", leave=False, disable=not is_main_process()):
        answer = row["completion"][-1]["content"]
        logps += response_logps(model, tokenizer, row["prompt"], [answer], per_token=True)
    return {"eval_loss": -torch.cat(logps).mean().item()}


def evaluate_reward(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, rows: Iterable[Mapping[str, Any]]
) -> dict[str, float | list[float]]:
    """How a reward model orders held-out pairs.

    Returns:
        `accuracy` (share of pairs whose chosen answer scores higher, a tie counting half), `margin` (mean difference),
        `accuracy_rank_distance_N` for each rank distance of the pairs when they have a `margin`, and the lists
        `chosen_scores` and `rejected_scores`.
    """
    pairs = list(rows)
    prompts = [pair["prompt"] for pair in pairs]
    chosen, rejected = (
        score_completions(model, tokenizer, prompts, [pair[side] for pair in pairs]) for side in ("chosen", "rejected")
    )
    measured: dict[str, float | list[float]] = {
        "accuracy": better_share(chosen, rejected),
        "margin": fmean(a - b for a, b in zip(chosen, rejected, strict=True)),
    }
    scored = sorted(zip((pair.get("margin") or 0.0 for pair in pairs), chosen, rejected, strict=True))
    for distance, group in groupby(scored, key=lambda pair: pair[0]):
        if distance:
            _, better, worse = zip(*group, strict=True)
            measured[f"accuracy_rank_distance_{distance:g}"] = better_share(better, worse)
    return {**measured, "chosen_scores": chosen, "rejected_scores": rejected}


def evaluate_answers(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Any],
    *,
    max_new_tokens: int = 64,
    **generation_kwargs: Any,
) -> dict[str, float]:
    """Greedy answers to held-out prompts: `eos_rate` (share that the model ended itself within `max_new_tokens`),
    `mean_length` (tokens), and the shares `repetition`, `hanja` and `latin` of `summarize_health`.
    """
    answers = generate_answers(model, tokenizer, prompts, max_new_tokens=max_new_tokens, **generation_kwargs)
    return {
        "eos_rate": fmean(answer.ended for answer in answers),
        "mean_length": fmean(len(answer.ids) for answer in answers),
        **summarize_health([answer.text for answer in answers]),
    }


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
        raise InputError("A model without adapters is its own reference: pass ref_model.")
    sums: dict[str, list[list[float]]] = {"policy": [], "reference": []}
    means: list[list[float]] = []
    for row in tqdm(list(rows), desc="Measuring held-out pairs", leave=False, disable=not is_main_process()):
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


def evaluate_ppo(trainer: Trainer) -> dict[str, float]:
    """Sampled answers of a [`PPOTrainer`] to its held-out prompts, with the same random numbers every time.

    Returns:
        `reward` and `reward_std` (over the prompts), `kl` (nats a completion), `eos_rate`, `mean_length` (tokens), and
        the shares `repetition`, `hanja` and `latin` of `summarize_health`.
    """
    metrics = trainer.evaluate()
    names = ("reward", "reward_std", "kl", "eos_rate", "mean_length")
    completions = [row["completion"] for row in trainer.eval_completions]  # type: ignore[attr-defined]
    texts = [text if isinstance(text, str) else text[-1]["content"] for text in completions]
    # There is no KL without a reference (kl_coef=0), and no reward where every source said `None`.
    measured = {name: metrics[f"eval_{name}"] for name in names if f"eval_{name}" in metrics}
    return {**measured, **summarize_health(texts)}
