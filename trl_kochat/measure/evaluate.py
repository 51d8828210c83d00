"""What a stage is judged by, before and after: the same measures on the same held-out rows.

[`pairs`], [`answers`], [`scores`], [`policy`] and [`rewarded`] make of a trainer and held-out rows what
`RunReportCallback(evaluate=...)` takes, a function of the model; the `evaluate_...` functions are those measures by
themselves. Numbers go into the report's table, lists into its histograms; a list `NAME_by_row` is what each row adds to
the measure `NAME`, its mean, by which the report knows how sure it is.

What training leaves out or cuts for its length, measuring leaves out or cuts in the same way: `n` is the number of rows
measured, `left_out` and `cut` stand beside it where there are any.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import pstdev
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, Trainer

from ..encode import fate, tokenize_rows
from ..text.diversity import ratio_by_row
from .answers import Measured, evaluate_answers, means_of
from .generate import encode_prompts, generate_answers
from .held_out import MAX_ROWS, Model, Rows, answers_of, fitting, logps_of, longest, some_numbers, some_rows
from .preferences import as_reference, evaluate_dpo, evaluate_reward
from .rewarded import rewards_of


# Prompts, each with this many references to choose from, for `own_answer`: 300 answers to score (ours).
OWN_PROMPTS, REFERENCES = 30, 10


def answers(trainer: Trainer, held_out: Any, *, max_rows: int = MAX_ROWS) -> Callable[[Model], Measured]:
    """Measure SFT: [`evaluate_sft`] on at most `max_rows` rows of `held_out`, always the same, and their answers."""
    return _with_answers(trainer, some_rows(held_out, max_rows), "completion", evaluate_sft)


def pairs(trainer: Trainer, held_out: Any, *, max_rows: int = MAX_ROWS) -> Callable[[Model], Measured]:
    """Measure DPO: [`evaluate_dpo`] on at most `max_rows` pairs of `held_out`, always the same, and their answers.

    `beta` and the reference are the trainer's.
    """
    beta, ref_model = trainer.args.beta, getattr(trainer, "ref_model", None)  # type: ignore[attr-defined]
    evaluate = partial(evaluate_dpo, beta=beta, ref_model=ref_model)
    return _with_answers(trainer, some_rows(held_out, max_rows), "chosen", evaluate)


def scores(trainer: Trainer, held_out: Any, *, max_rows: int = MAX_ROWS) -> Callable[[Model], Measured]:
    """Measure a reward model: [`evaluate_reward`] on at most `max_rows` pairs of `held_out`, always the same."""
    tokenizer, max_length = _tokenizer_and_length(trainer)
    rows = some_rows(held_out, max_rows)
    return lambda model: evaluate_reward(model, tokenizer, rows, max_length=max_length)


def policy(trainer: Trainer, *, max_rows: int = MAX_ROWS) -> Callable[[Model], Measured]:
    """Measure a [`PPOTrainer`]: [`evaluate_ppo`] on at most `max_rows` of its held-out prompts, always the same, and
    greedy answers to them."""
    tokenizer, _ = _tokenizer_and_length(trainer)
    prompts: Any = trainer.eval_dataset
    prompts = prompts.select(some_numbers(len(prompts), max_rows))
    return lambda model: evaluate_ppo(trainer, prompts) | evaluate_answers(model, tokenizer, list(prompts))


def rewarded(trainer: Trainer, *, max_rows: int = MAX_ROWS) -> Callable[[Model], Measured]:
    """Measure a GRPOTrainer or RLOOTrainer: [`evaluate_rewards`] on at most `max_rows` of its held-out prompts, always the
    same, and greedy answers to them."""
    tokenizer, _ = _tokenizer_and_length(trainer)
    rows = some_rows(trainer.eval_dataset, max_rows)
    return lambda model: evaluate_rewards(trainer, model, rows) | evaluate_answers(model, tokenizer, rows)


def _tokenizer_and_length(trainer: Trainer) -> tuple[PreTrainedTokenizerBase, int | None]:
    tokenizer: Any = trainer.processing_class
    return getattr(tokenizer, "tokenizer", tokenizer), getattr(trainer.args, "max_length", None)


def _with_answers(
    trainer: Trainer, rows: list[Any], column: str, evaluate: Callable[..., Measured]
) -> Callable[[Model], Measured]:
    """What `evaluate` says of rows, and what the answers to their prompts are like beside those in `column`."""
    tokenizer, max_length = _tokenizer_and_length(trainer)
    asked = [row for row in rows if "prompt" in row]

    def measure(model: Model) -> Measured:
        measured = evaluate(model, tokenizer, rows, max_length=max_length)
        measured |= own_answer(model, tokenizer, rows, column, max_length=max_length)
        return measured | evaluate_answers(model, tokenizer, asked, reference=column)

    return measure


def evaluate_sft(
    model: Model, tokenizer: PreTrainedTokenizerBase, rows: Rows, *, max_length: int | None = None
) -> Measured:
    """`eval_loss`: mean negative log-probability of an answer token, its end included, over all held-out answers."""
    _, kept, limit, counts = fitting(model, tokenizer, rows, "SFTTrainer", max_length)
    logps = logps_of(model, tokenizer, answers_of(kept, kept[0].sequences, limit))
    nats = [-of_row.sum().item() for of_row in logps]
    return means_of({"eval_loss": ratio_by_row(nats, [len(of_row) for of_row in logps])}) | counts


def own_answer(
    model: Model, tokenizer: PreTrainedTokenizerBase, rows: Rows, column: str, *, max_length: int | None = None
) -> Measured:
    """`own_answer`: how often, out of ten references, the one that belongs to the prompt gains the most by it.

    A reference gains by a prompt what its log-probability per token is there above its mean over all ten prompts. The
    likeliest one would be a stock phrase, which is likely after any prompt (Holtzman et al. 2021, arXiv 2104.08315).

    Chance is 0.1: a model that gives everybody the same answer has that. At most thirty prompts are asked, in tens; of
    fewer than ten different ones with different references nothing is said.
    """
    limit = longest(model, max_length)
    tens = _tens(tokenizer, rows, column, limit)
    pairs = [{"prompt": row["prompt"], "completion": other[column]} for ten in tens for row in ten for other in ten]
    if not pairs:
        return {}
    sequences = answers_of(tokenize_rows(tokenizer, pairs), ["completion"], limit)
    means = [logps.mean().item() for logps in logps_of(model, tokenizer, sequences)]
    logps = torch.tensor(means).view(len(tens), REFERENCES, REFERENCES)  # ten, prompt, reference
    gains = logps - logps.mean(dim=1, keepdim=True)
    is_most = gains == gains.amax(dim=2, keepdim=True)
    # Of references that gain alike each counts as a part.
    own = torch.diagonal(is_most, dim1=1, dim2=2) / is_most.sum(dim=2)
    return means_of({"own_answer": own.flatten().tolist()})


def _tens(
    tokenizer: PreTrainedTokenizerBase, rows: Rows, column: str, limit: int | None
) -> list[list[Mapping[str, Any]]]:
    """Rows in tens, of different prompts and references, whose prompts leave room for an answer."""
    kept: list[Mapping[str, Any]] = []
    for row in rows:
        if len(kept) == OWN_PROMPTS:
            break
        if "prompt" not in row or column not in row:
            continue
        if any(row["prompt"] == other["prompt"] or row[column] == other[column] for other in kept):
            continue
        tokenized = tokenize_rows(tokenizer, [{"prompt": row["prompt"], "completion": row[column]}])
        if fate(tokenized[0], limit, "SFTTrainer") != "dropped":
            kept.append(row)
    return [kept[start : start + REFERENCES] for start in range(0, len(kept) - REFERENCES + 1, REFERENCES)]


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
        policy_logps = logps_of(model, tokenizer, pairs)
        with as_reference(model):
            ref_logps = logps_of(model, tokenizer, pairs)
        by_row["kl"] = [(p - r).sum().item() for p, r in zip(policy_logps, ref_logps, strict=True)]
    measured = means_of({name: values for name, values in by_row.items() if name and values})
    spread = {"reward_std": pstdev(by_row["reward"])} if by_row["reward"] else {}
    return measured | spread | {"n": len(rows)}
