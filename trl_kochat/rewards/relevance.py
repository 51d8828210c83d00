"""Answers to what was asked, by a reference."""

import re
from collections.abc import Sequence
from typing import Any

from ..errors import InputError
from .contract import Reward, answer_text


_NOT_WORD = re.compile(r"[\W_]+")


def relevance(column: str = "reference") -> Reward:
    """How much nearer an answer is to its row's reference than to the nearest reference of another row in the batch.

    Nearness is F1 over the kinds of pairs of neighbouring characters. From -1 to 1; what would suit any question gets about 0.

    Args:
        column (`str`, *optional*, defaults to `"reference"`): Of the dataset, with a text or messages in each row; a row
            with `None` gets `None`. Trainers keep `prompt` and `completion` to themselves: name yours otherwise.
    """

    def reward(prompts: Any, completions: Sequence[Any], completion_ids: Any = None, **columns: Any) -> Any:
        if column not in columns:
            raise InputError(f"relevance needs a column {column!r} in the dataset, with a reference in each row.")
        references = [None if given is None else _pairs(answer_text(given)) for given in columns[column]]
        distinct = {pairs for pairs in references if pairs is not None}
        scores: list[float | None] = []
        for completion, own in zip(completions, references, strict=True):
            pairs = _pairs(answer_text(completion))
            others = [_f1(pairs, other) for other in distinct if other != own]
            scores.append(None if own is None else _f1(pairs, own) - max(others, default=0.0))
        return scores

    reward.__name__ = "relevance"
    return reward


def _pairs(text: str) -> frozenset[str]:
    letters = _NOT_WORD.sub("", text.casefold())
    return frozenset(letters[i : i + 2] for i in range(max(1, len(letters) - 1)))


def _f1(a: frozenset[str], b: frozenset[str]) -> float:
    return 2 * len(a & b) / (len(a) + len(b))
