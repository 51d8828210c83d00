"""What a stage is judged by, before and after: the same measures on the same held-out rows.

[`pairs`], [`answers`], [`scores`], [`policy`] and [`rewarded`] make of a trainer and held-out rows what
`RunReportCallback(evaluate=...)` takes, a function of the model; the `evaluate_...` functions are those measures by
themselves. Numbers go into the report's table, lists into its histograms; a list `NAME_by_row` is what each row adds to
the measure `NAME`, its mean, by which the report knows how sure it is.

What training leaves out or cuts for its length, measuring leaves out or cuts in the same way: `n` is the number of rows
measured, `left_out` and `cut` stand beside it where there are any.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import compress
from random import Random
from statistics import pstdev
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from ..encode import TokenizedRow, fate, tokenize_rows
from ..errors import InputError
from ..models import eval_mode, max_positions
from ..text.diversity import ratio_by_row
from .answers import Measured, evaluate_answers, means_of
from .generate import encode_prompts, generate_answers
from .logps import sequence_logps
from .rewarded import rewards_of
from .score import score_ids


Model = PreTrainedModel | PeftModel
Rows = Iterable[Mapping[str, Any]]

# A share of 256 rows is exact to 6 points at the most (two standard errors), and 11,000 rows would take hours (ours).
MAX_ROWS = 256
# Prompts, each with this many references to choose from, for `own_answer`: 320 answers to score (ours).
OWN_PROMPTS, REFERENCES = 32, 10


def answers(trainer: Trainer, held_out: Any, *, max_rows: int = MAX_ROWS) -> Callable[[Model], Measured]:
    """Measure SFT: [`evaluate_sft`] on at most `max_rows` rows of `held_out`, always the same, and their answers."""
    tokenizer, max_length = _tokenizer_and_length(trainer)
    rows = _some(held_out, max_rows)

    def measure(model: Model) -> Measured:
        measured = evaluate_sft(model, tokenizer, rows, max_length=max_length)
        measured |= own_answer(model, tokenizer, rows, "completion", max_length=max_length)
        return measured | evaluate_answers(model, tokenizer, _with_prompt(rows), reference="completion")

    return measure


def pairs(trainer: Trainer, held_out: Any, *, max_rows: int = MAX_ROWS) -> Callable[[Model], Measured]:
    """Measure DPO: [`evaluate_dpo`] on at most `max_rows` pairs of `held_out`, always the same, and their answers.

    `beta` and the reference are the trainer's.
    """
    tokenizer, max_length = _tokenizer_and_length(trainer)
    rows = _some(held_out, max_rows)
    beta, ref_model = trainer.args.beta, getattr(trainer, "ref_model", None)  # type: ignore[attr-defined]

    def measure(model: Model) -> Measured:
        measured = evaluate_dpo(model, tokenizer, rows, beta=beta, ref_model=ref_model, max_length=max_length)
        measured |= own_answer(model, tokenizer, rows, "chosen", max_length=max_length)
        return measured | evaluate_answers(model, tokenizer, _with_prompt(rows), reference="chosen")

    return measure


def scores(trainer: Trainer, held_out: Any, *, max_rows: int = MAX_ROWS) -> Callable[[Model], Measured]:
    """Measure a reward model: [`evaluate_reward`] on at most `max_rows` pairs of `held_out`, always the same."""
    tokenizer, max_length = _tokenizer_and_length(trainer)
    rows = _some(held_out, max_rows)
    return lambda model: evaluate_reward(model, tokenizer, rows, max_length=max_length)


def policy(trainer: Trainer, *, max_rows: int = MAX_ROWS) -> Callable[[Model], Measured]:
    """Measure a [`PPOTrainer`]: [`evaluate_ppo`] on at most `max_rows` of its held-out prompts, always the same, and
    greedy answers to them."""
    tokenizer, _ = _tokenizer_and_length(trainer)
    prompts: Any = trainer.eval_dataset
    prompts = prompts.select(_chosen(len(prompts), max_rows))
    return lambda model: evaluate_ppo(trainer, prompts) | evaluate_answers(model, tokenizer, list(prompts))


def rewarded(trainer: Trainer, *, max_rows: int = MAX_ROWS) -> Callable[[Model], Measured]:
    """Measure a GRPOTrainer or RLOOTrainer: [`evaluate_rewards`] on at most `max_rows` of its held-out prompts, always the
    same, and greedy answers to them."""
    tokenizer, _ = _tokenizer_and_length(trainer)
    rows = _some(trainer.eval_dataset, max_rows)
    return lambda model: evaluate_rewards(trainer, model, rows) | evaluate_answers(model, tokenizer, rows)


def _tokenizer_and_length(trainer: Trainer) -> tuple[PreTrainedTokenizerBase, int | None]:
    tokenizer: Any = trainer.processing_class
    return getattr(tokenizer, "tokenizer", tokenizer), getattr(trainer.args, "max_length", None)


def _chosen(count: int, max_rows: int) -> Sequence[int]:
    return range(count) if count <= max_rows else sorted(Random(0).sample(range(count), max_rows))


def _some(rows: Any, max_rows: int) -> list[Any]:
    return [rows[number] for number in _chosen(len(rows), max_rows)]


def _with_prompt(rows: Iterable[Any]) -> list[Any]:
    return [row for row in rows if "prompt" in row]


def _fitting(
    model: Model, tokenizer: PreTrainedTokenizerBase, rows: Rows, trainer: str, max_length: int | None
) -> tuple[list[Mapping[str, Any]], list[TokenizedRow], int | None, Measured]:
    """The rows that a trainer keeps, as they are and as ids, where it cuts them, and how many there are of each kind."""
    rows = list(rows)
    limits = [limit for limit in (max_length, max_positions(model)) if limit is not None]
    limit = min(limits, default=None)
    tokenized = tokenize_rows(tokenizer, rows)
    fates = [fate(row, limit, trainer) for row in tokenized]
    kept = [number for number, what in enumerate(fates) if what != "dropped"]
    if not kept:
        raise InputError(f"None of {len(rows)} held-out rows fits into {limit} tokens: there is nothing to measure.")
    counts = {"n": len(kept), "left_out": fates.count("dropped"), "cut": fates.count("cut")}
    told = {name: count for name, count in counts.items() if count}
    return [rows[number] for number in kept], [tokenized[number] for number in kept], limit, told


def wins(first: Iterable[float], second: Iterable[float]) -> list[float]:
    """Whether the first number of each pair is the larger one; a tie counts half, so that no difference at all is 0.5.

    >>> wins([1, 2, 0], [0, 2, 1])
    [1.0, 0.5, 0.0]
    """
    return [0.5 * (a > b) + 0.5 * (a >= b) for a, b in zip(first, second, strict=True)]


def evaluate_sft(
    model: Model, tokenizer: PreTrainedTokenizerBase, rows: Rows, *, max_length: int | None = None
) -> Measured:
    """`eval_loss`: mean negative log-probability of an answer token, its end included, over all held-out answers."""
    _, kept, limit, counts = _fitting(model, tokenizer, rows, "SFTTrainer", max_length)
    sequences = [(ids[:limit], max(row.completion_start, 1)) for row in kept for ids in row.sequences.values()]
    logps = _logps(model, tokenizer, sequences)
    nats = [-of_row.sum().item() for of_row in logps]
    return means_of({"eval_loss": ratio_by_row(nats, [len(of_row) for of_row in logps])}) | counts


@torch.no_grad()
def _logps(
    model: Model, tokenizer: PreTrainedTokenizerBase, sequences: Sequence[tuple[Sequence[int], int]]
) -> list[torch.Tensor]:
    with eval_mode(model):
        return sequence_logps(model, sequences, pad_token_id=tokenizer.pad_token_id)


def own_answer(
    model: Model, tokenizer: PreTrainedTokenizerBase, rows: Rows, column: str, *, max_length: int | None = None
) -> Measured:
    """`own_answer`: how often, out of ten references, the one that belongs to the prompt is the likeliest per token.

    Chance is 0.1: a model that gives everybody the same answer has that. At most 32 prompts are asked; of fewer than ten
    different references nothing is said.
    """
    rows = [row for row in rows if "prompt" in row and column in row][:OWN_PROMPTS]
    different: list[Any] = []
    for row in rows:
        if row[column] not in different:
            different.append(row[column])
    if len(different) < REFERENCES:
        return {}
    draw = Random(0)
    candidates: list[Mapping[str, Any]] = []
    for row in rows:
        others = draw.sample([answer for answer in different if answer != row[column]], REFERENCES - 1)
        candidates += [{"prompt": row["prompt"], "completion": answer} for answer in (row[column], *others)]
    limits = [limit for limit in (max_length, max_positions(model)) if limit is not None]
    limit = min(limits, default=None)
    tokenized = tokenize_rows(tokenizer, candidates)
    fits = [all(fate(row, limit, "SFTTrainer") != "dropped" for row in group) for group in _groups(tokenized)]
    kept = [row for group, is_kept in zip(_groups(tokenized), fits, strict=True) if is_kept for row in group]
    if not kept:
        return {}
    sequences = [(row.sequences["completion"][:limit], max(row.completion_start, 1)) for row in kept]
    means = [logps.mean().item() for logps in _logps(model, tokenizer, sequences)]
    return means_of({"own_answer": [(max(group) == group[0]) / group.count(max(group)) for group in _groups(means)]})


def _groups(values: list[Any]) -> list[list[Any]]:
    return [values[start : start + REFERENCES] for start in range(0, len(values), REFERENCES)]


def evaluate_reward(
    model: Model, tokenizer: PreTrainedTokenizerBase, rows: Rows, *, max_length: int | None = None
) -> Measured:
    """How a reward model orders held-out pairs.

    Returns:
        `accuracy` (share of pairs whose chosen answer scores higher, a tie counting half), `margin` (mean difference),
        `accuracy_rank_distance_N` for each rank distance of the pairs when they have a `margin`, `accuracy_kind_NAME`
        for each `kind` of rejected answer where rows name it, and the lists `chosen_scores` and `rejected_scores`.
    """
    kept_rows, kept, _, counts = _fitting(model, tokenizer, rows, "RewardTrainer", max_length)
    chosen, rejected = (
        score_ids(model, tokenizer, [row.sequences[side] for row in kept]) for side in ("chosen", "rejected")
    )
    won = wins(chosen, rejected)
    groups = {
        f"accuracy_rank_distance_{distance:g}": [row.get("margin") == distance for row in kept_rows]
        for distance in sorted({row.get("margin") or 0.0 for row in kept_rows} - {0.0})
    } | {
        f"accuracy_kind_{kind}": [row.get("kind") == kind for row in kept_rows]
        for kind in sorted({row.get("kind") or "" for row in kept_rows} - {""})
    }
    by_row = {
        "accuracy": won,
        "margin": [a - b for a, b in zip(chosen, rejected, strict=True)],
        **{name: list(compress(won, is_in)) for name, is_in in groups.items()},
    }
    return {**means_of(by_row), **counts, "chosen_scores": chosen, "rejected_scores": rejected}


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
    _, kept, limit, counts = _fitting(model, tokenizer, rows, "DPOTrainer", max_length)
    sides = ("chosen", "rejected")
    sequences = [(row.sequences[side][:limit], max(row.completion_start, 1)) for side in sides for row in kept]
    policy_logps = _logps(model, tokenizer, sequences)
    if ref_model is not None:
        ref_logps = _logps(ref_model, tokenizer, sequences)
    else:
        with _as_reference(model):
            ref_logps = _logps(model, tokenizer, sequences)
    rewards = [beta * (p.sum() - r.sum()).item() for p, r in zip(policy_logps, ref_logps, strict=True)]
    per_token = [logps.mean().item() for logps in policy_logps]
    chosen, rejected = rewards[: len(kept)], rewards[len(kept) :]
    by_row = {
        "preferred": wins(per_token[: len(kept)], per_token[len(kept) :]),
        "accuracy": wins(chosen, rejected),
        "margin": [a - b for a, b in zip(chosen, rejected, strict=True)],
        "logps_chosen": [logps.sum().item() for logps in policy_logps[: len(kept)]],
    }
    return {**means_of(by_row), **counts, "chosen_rewards": chosen, "rejected_rewards": rejected}


@contextmanager
def _as_reference(model: Any) -> Iterator[None]:
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


def evaluate_ppo(trainer: Trainer, prompts: Any = None) -> Measured:
    """Sampled answers of a [`PPOTrainer`] to held-out prompts, its own if not given, with the same random numbers every
    time.

    Returns:
        `reward` and `reward_std` (over the prompts), `kl` (nats a completion).
    """
    metrics = trainer.evaluate(prompts)
    # There is no KL without a reference (kl_coef=0), and no reward where every source said `None`.
    measured: Measured = {"reward_std": metrics["eval_reward_std"]} if "eval_reward_std" in metrics else {}
    score, kept, kl = trainer.eval_measures[:, :3].T  # type: ignore[attr-defined]
    by_row = {"reward": score[kept.bool()].tolist(), "kl": kl.tolist() if "eval_kl" in metrics else []}
    return means_of({name: values for name, values in by_row.items() if values}) | measured | {"n": len(score)}


def evaluate_rewards(trainer: Any, model: Model, rows: Sequence[Mapping[str, Any]]) -> Measured:
    """Sampled answers to held-out prompts under the rewards of a GRPOTrainer or RLOOTrainer, with the same random numbers
    every time.

    Returns:
        `reward` (the weighted sum) and `reward_std` (over the prompts), `reward_NAME` for each of several functions, and
        `kl` (nats a completion) where `beta` gives the trainer a reference and the policy is an adapter.
    """
    args, tokenizer = trainer.args, trainer.processing_class
    answers = generate_answers(
        model,
        tokenizer,
        prompts := [row["prompt"] for row in rows],
        max_new_tokens=args.max_completion_length,
        batch_size=args.per_device_train_batch_size,
        seed=args.seed,
        do_sample=True,
        **{name: getattr(args, name) for name in ("temperature", "top_k", "top_p")},
    )
    given = rewards_of(trainer, rows, [answer.text for answer in answers], [answer.ids for answer in answers])
    names = {name: f"reward_{name}" for name in given} if len(given) > 2 else {}
    by_row = {
        (names | {"reward": "reward"}).get(name, ""): [score for score in scores if score is not None]
        for name, scores in given.items()
    }
    if args.beta and isinstance(model, PeftModel):
        asked = encode_prompts(tokenizer, prompts)
        pairs = [([*ids, *answer.ids], len(ids)) for ids, answer in zip(asked, answers, strict=True)]
        policy_logps = _logps(model, tokenizer, pairs)
        with _as_reference(model):
            ref_logps = _logps(model, tokenizer, pairs)
        by_row["kl"] = [(p - r).sum().item() for p, r in zip(policy_logps, ref_logps, strict=True)]
    measured = means_of({name: values for name, values in by_row.items() if name and values})
    spread = {"reward_std": pstdev(by_row["reward"])} if by_row["reward"] else {}
    return measured | spread | {"n": len(rows)}
