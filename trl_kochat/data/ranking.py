"""From ranks to pairwise comparisons."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from numbers import Real

from ..errors import InputError
from ..text.shown import shown


def check_ranks(ranks: object, num_answers: int) -> list[float]:
    """Return the ranks as floats, or raise `ValueError` when they do not rank `num_answers` answers.

    Any real numbers do, equal ones being a tie: what counts is their order and, for a margin, their distance.
    """
    if not isinstance(ranks, Sequence) or isinstance(ranks, str | bytes):
        raise InputError(f"a ranking is a list with one rank per answer, not {shown(ranks)}")
    if len(ranks) != num_answers:
        raise InputError(
            f"{len(ranks)} ranks {shown(list(ranks))} for {num_answers} answers; give one rank per answer"
        )
    for rank in ranks:
        if not _is_finite(rank):
            raise InputError(
                f"rank {shown(rank)} in {shown(list(ranks))} is not a finite number; 0 is the best answer"
            )
    return [float(rank) for rank in ranks]


def _is_finite(rank: object) -> bool:
    try:
        return isinstance(rank, Real) and not isinstance(rank, bool) and math.isfinite(rank)
    except OverflowError:  # a whole number beyond every float
        return False


def ranked_pairs(ranks: Sequence[float]) -> Iterator[tuple[int, int]]:
    """Yield `(better, worse)` index pairs; the smaller rank is the better one, and a tie yields no pair.

    >>> list(ranked_pairs([2, 0, 1]))
    [(1, 0), (2, 0), (1, 2)]
    >>> list(ranked_pairs([0, 0, 1]))
    [(0, 2), (1, 2)]
    """
    for i, j in combinations(range(len(ranks)), 2):
        if ranks[i] != ranks[j]:
            yield (i, j) if ranks[i] < ranks[j] else (j, i)
