"""One prompt with several answers that are scored or ranked, as a pair for every two of them."""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ...errors import InputError
from ...text.shown import shown
from ..messages import first_columns, turns_of, with_system
from ..ranking import check_ranks, ranked_rows
from ..rows import Row, Rows
from .registry import formatter


PROMPTS = [("prompt",), ("instruction",), ("question",), ("query",)]
# A list of answers beside a list of their scores: argilla, LogicKor, and what people write themselves.
LISTS = [("responses", "scores"), ("generations", "ratings"), ("outputs", "scores"), ("answers", "scores")]
# A list of answers that hold their score or rank: UltraFeedback, Nectar, and what people write themselves.
NESTED = [("completions",), ("answers",), ("responses",), ("candidates",)]
NUMBERED = ("response1", "scores1", "response2", "scores2")
_TEXT, _SCORE = ("response", "text", "answer", "content"), ("overall_score", "score", "rating")


@formatter(
    "rankings",
    type="preference",
    columns=[(*prompt, *rest) for prompt in PROMPTS for rest in (*LISTS, *NESTED, NUMBERED)],
)
def to_preference(row: Row, *, least_difference: float = 0.0) -> Rows:
    """N answers with scores (the higher the better) or ranks (0 or 1 the best) as a row for each pair.

    The answers are two lists, a list of `{response, score}` or `{answer, rank}`, or `response1`, `scores1`, `response2`,
    ...; a list of scores for one answer counts as its mean. Each row has the difference as its `margin` and a `prompt_id`.
    A pair is dropped when an answer is blank (`empty_completion`), the scores are equal (`tie`), they differ by less than
    `least_difference` (`too_close`) or the answers are the same (`identical`).
    """
    if not 0 <= least_difference < math.inf:
        raise InputError(f"least_difference is {least_difference}; give a number of 0 or more")
    (name,) = first_columns(row, PROMPTS)
    answers, ranks = _answers_and_ranks(row)
    if len(answers) < 2:
        raise InputError(f"{len(answers)} answers; a pair needs two")
    prompt = with_system(row, turns_of(row, name, "user"))
    turns = [turns_of({"answer": answer}, "answer", "assistant") for answer in answers]
    return ranked_rows(prompt, turns, check_ranks(ranks, len(answers)), least_difference=least_difference)


def _answers_and_ranks(row: Row) -> tuple[list[Any], list[Any]]:
    """The answers, and a number for each, the smaller the better."""
    if row.get(NUMBERED[0]) is not None:
        numbers = [found[1] for column in row if (found := re.fullmatch(r"response(\d+)", str(column)))]
        there = [number for number in numbers if row[f"response{number}"] not in (None, "")]
        return [row[f"response{number}"] for number in there], [
            _minus(_number(row.get(f"scores{number}", row.get(f"score{number}")))) for number in there
        ]
    for answers, scores in LISTS:
        if isinstance(row.get(answers), list) and isinstance(row.get(scores), list):
            return row[answers], [_minus(score) for score in row[scores]]
    (column,) = first_columns(row, NESTED)
    given = row.get(column)
    if not isinstance(given, list) or not all(isinstance(answer, Mapping) for answer in given):
        raise InputError(f"column {column!r} holds {shown(given)}, not a list of answers {{response, score}}")
    return [_first(answer, _TEXT) for answer in given], [
        answer["rank"] if answer.get("rank") is not None else _minus(_first(answer, _SCORE)) for answer in given
    ]


def _first(answer: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((answer[name] for name in names if answer.get(name) is not None), None)


def _number(cell: Any) -> Any:
    """A cell of a table, where numbers are texts, as a number if it is one."""
    if isinstance(cell, str):
        with suppress(ValueError):
            return float(cell)
    return cell


def _minus(score: Any) -> Any:
    """A score as a rank; what is no number is left for the check to name."""
    if isinstance(score, list) and score:
        score = sum(check_ranks(score, len(score))) / len(score)
    return -score if isinstance(score, int | float) and not isinstance(score, bool) else score
