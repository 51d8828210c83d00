"""Several rewards as one."""

from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from ..text.shown import shown
from .contract import Reward


def combine(weights: Mapping[Reward, float]) -> Reward:
    """The weighted sum of rewards; one that says `None` of an answer is left out of its sum.

    Each is in the log under its own name (`log_metric`), where the trainer takes metrics.

    ```python
    combine({speech_level("해요체"): 1.0, no_repetition(): 0.5})
    ```
    """
    if not weights or not isinstance(weights, Mapping) or not all(map(callable, weights)):
        raise InputError(f"combine takes functions and their weights, {{no_repetition(): 0.5}}, not {shown(weights)}.")

    def reward(*args: Any, log_metric: Any = None, **columns: Any) -> list[float | None]:
        parts = {one: one(*args, log_metric=log_metric, **columns) for one in weights}
        for one, scores in parts.items():
            given = [score for score in scores if score is not None]
            if log_metric is not None and given:
                log_metric(_name(one), sum(given) / len(given))
        return [
            sum(weights[one] * score for one, score in zip(parts, scores, strict=True) if score is not None)
            if any(score is not None for score in scores)
            else None
            for scores in zip(*parts.values(), strict=True)
        ]

    reward.__name__ = "combine"
    return reward


def gate(condition: Reward, reward: Reward, *, least: float = 1.0) -> Reward:
    """`reward` where `condition` gives at least `least`, and 0 elsewhere: the usual cure for hacking one of them.

    A `None` of the condition lets the reward through.

    ```python
    gate(ends(tokenizer), speech_level("해요체"))
    ```
    """

    def gated(*args: Any, **columns: Any) -> list[float | None]:
        conditions, scores = condition(*args, **columns), reward(*args, **columns)
        return [
            score if given is None or given >= least else 0.0 for given, score in zip(conditions, scores, strict=True)
        ]

    gated.__name__ = _name(reward)
    return gated


def _name(reward: Reward) -> str:
    return getattr(reward, "__name__", type(reward).__name__)
