"""What the rewards of a GRPOTrainer or RLOOTrainer say of answers that it did not sample itself."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import nn
from transformers import Trainer

from ..encode import as_turns, encode_texts, end_token_ids
from ..errors import InputError
from ..text.shown import unique_names


def score(trainer: Trainer) -> Callable[[Sequence[Any], Sequence[str]], list[float | None]]:
    """`KoreanSamplesCallback(score=...)` of a GRPOTrainer or RLOOTrainer: the weighted sum of its rewards.

    Answers count as ended, and the dataset's columns hold `None` for reward functions.
    """
    tokenizer: Any = trainer.processing_class
    end = end_token_ids(tokenizer)[:1]
    train_rows: Any = trainer.train_dataset

    def score_answers(prompts: Sequence[Any], answers: Sequence[str]) -> list[float | None]:
        columns = dict.fromkeys(train_rows.column_names or ())
        rows = [columns | {"prompt": as_turns(prompt, "user")} for prompt in prompts]
        ids = [[*row, *end] for row in encode_texts(tokenizer, answers, add_special_tokens=False)]
        return rewards_of(trainer, rows, answers, ids)["reward"]

    return score_answers


def rewards_of(
    trainer: Any, rows: Sequence[Mapping[str, Any]], answers: Sequence[str], completion_ids: Sequence[Sequence[int]]
) -> dict[str, list[float | None]]:
    """What each reward function gives, by its name, and their weighted sum, `reward`.

    `None` stands where a function says nothing, and in the sum where none says anything.

    Raises:
        InputError: A reward is a model and no function, or gives something else than a number or `None` for each answer.
    """
    functions = dict(zip(unique_names(trainer.reward_func_names), trainer.reward_funcs, strict=True))
    for name, function in functions.items():
        if isinstance(function, nn.Module):
            raise InputError(
                f"The reward {name} is a model: give it as a function, trl_kochat.rewards.reward_model(folder)."
            )
    by_name = scores_by_reward(functions, rows, answers, completion_ids, trainer_state=trainer.state)
    weights = dict(zip(by_name, trainer.reward_weights.tolist(), strict=True))
    sums: list[float | None] = []
    for scores in zip(*by_name.values(), strict=True):
        parts = [weights[name] * one for name, one in zip(by_name, scores, strict=True) if one is not None]
        sums.append(sum(parts) if parts else None)
    return {"reward": sums, **by_name}


def scores_by_reward(
    functions: Mapping[str, Callable[..., Any]],
    rows: Sequence[Mapping[str, Any]],
    answers: Sequence[str],
    completion_ids: Sequence[Sequence[int]],
    **given: Any,
) -> dict[str, list[float | None]]:
    """What each function of TRL's contract gives each answer; `given` is what it gets beside the columns of the rows."""
    turns = [not isinstance(row["prompt"], str) for row in rows]
    given |= {
        **{key: [row.get(key) for row in rows] for key in rows[0] if key not in ("prompt", "completion")},
        "prompts": [row["prompt"] for row in rows],
        "completions": [
            as_turns(text, "assistant") if in_turns else text for text, in_turns in zip(answers, turns, strict=True)
        ],
        "completion_ids": completion_ids,
    }
    return {name: checked_rewards(name, function(**given), answers) for name, function in functions.items()}


def checked_rewards(name: str, given: Any, completions: Sequence[Any]) -> list[float | None]:
    """What a reward function gave, as numbers.

    Raises:
        InputError: It is something else than a finite number, or `None`, for each completion.
    """
    if not isinstance(given, Iterable):
        raise InputError(
            f"The reward function {name!r} returned {given!r}; return a list with one number, or None, for each "
            "completion."
        )
    rewards: list[Any] = list(given)
    if len(rewards) != len(completions):
        raise InputError(
            f"The reward function {name!r} returned {len(rewards)} rewards for {len(completions)} "
            "completions; return one for each, None where there is nothing to say."
        )
    for i, reward in enumerate(rewards):
        number = reward.item() if isinstance(reward, torch.Tensor) and reward.numel() == 1 else reward
        if number is not None and not (isinstance(number, Real) and math.isfinite(number)):
            raise InputError(
                f"The reward function {name!r} returned {reward!r} for completion {i} "
                f"({completions[i]!r}); return a finite number, or None to leave the completion out."
            )
        rewards[i] = None if number is None else float(number)
    return rewards
