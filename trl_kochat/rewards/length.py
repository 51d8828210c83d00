"""Answers of the length that was asked for."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

from ..errors import InputError
from .contract import Reward, answer_text


Unit = Literal["characters", "words", "tokens"]


def length(least: int, most: int, unit: Unit = "characters") -> Reward:
    """1 from `least` to `most`; below it falls straight to 0 at nothing, above it straight to 0 at twice `most`.

    Args:
        least (`int`): Shortest answer that gets all of it.
        most (`int`): Longest one.
        unit (`str`, *optional*, defaults to `"characters"`): `"characters"`, spaces left out, `"words"` between spaces, or
            `"tokens"`, with the end.
    """
    if unit not in get_args(Unit):
        raise InputError(f"No unit {unit!r}; there are {', '.join(get_args(Unit))}.")
    if not 0 <= least <= most or most < 1:
        raise InputError(f"A length from {least} to {most}: give 0 <= least <= most, and most at least 1.")

    def score(size: int) -> float:
        return size / least if size < least else max(0.0, min(1.0, 2 - size / most))

    def reward(
        prompts: Any, completions: Sequence[Any], completion_ids: Sequence[Any] | None = None, **columns: Any
    ) -> list[float | None]:
        if unit == "tokens":
            if completion_ids is None:
                raise InputError("A length in tokens needs completion_ids; take characters or words.")
            return [score(len(ids)) for ids in completion_ids]
        words = [answer_text(completion).split() for completion in completions]
        return [score(len(answer) if unit == "words" else len("".join(answer))) for answer in words]

    reward.__name__ = "length"
    return reward
