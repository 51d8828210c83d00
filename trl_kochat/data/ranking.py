"""From ranks to pairwise comparisons."""

import math
from collections.abc import Iterable, Sequence
from itertools import combinations
from numbers import Real

from ..errors import InputError
from ..text.prompts import prompt_id
from ..text.shown import shown
from .messages import Messages, has_nothing
from .rows import Rows


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


def ranked_rows(
    prompt: Messages,
    answers: Sequence[Messages],
    ranks: Sequence[float],
    *,
    least_difference: float = 0.0,
    kinds: Sequence[str] | None = None,
    cleaned: Iterable[str] = (),
) -> Rows:
    """A preference row for each pair of answers of different rank, the smaller rank being the better one.

    Each has a `margin` (the distance of the two ranks), a `prompt_id` shared by all pairs of the prompt and, where `kinds`
    says what is wrong with each answer, the `kind` of the rejected one. A pair is dropped when the prompt (`empty_prompt`)
    or an answer (`empty_completion`) says nothing, the ranks are equal (`tie`) or nearer to each other than
    `least_difference` (`too_close`), or the answers are the same (`identical`).
    """
    made = Rows(cleaned=cleaned)
    for pair in combinations(range(len(answers)), 2):
        chosen, rejected = sorted(pair, key=lambda answer: ranks[answer])
        margin = ranks[rejected] - ranks[chosen]
        if has_nothing(prompt):
            made.dropped["empty_prompt"] += 1
        elif has_nothing(answers[chosen]) or has_nothing(answers[rejected]):
            made.dropped["empty_completion"] += 1
        elif not margin or margin < least_difference:
            made.dropped["too_close" if margin else "tie"] += 1
        elif answers[chosen] == answers[rejected]:
            made.dropped["identical"] += 1
        else:
            row = {"prompt": prompt, "chosen": answers[chosen], "rejected": answers[rejected]}
            about = {"margin": margin, "prompt_id": prompt_id(prompt)}
            made.append({**row, **about, **({"kind": kinds[rejected]} if kinds else {})})
    return made
