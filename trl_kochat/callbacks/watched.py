"""Held-out questions that are answered while a model trains, to see whether its answers still depend on the question."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from random import Random
from statistics import fmean
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..measure.evaluate import own_answer
from ..measure.generate import encode_prompts
from ..report.samples import prompt_text
from ..text.diversity import diversity_by_row


# Answered in every round, and those of them that a reader is shown (ours): a share of 20 is exact to 11 points, two
# standard errors at 0.1, and one batch of short answers takes little more time than a single one.
WATCHED, SHOWN = 20, 6
# Of the watched ones, those that ask for no known fact, where others do (ours).
WITHOUT_FACT = 6
# In tokens; longer ones would take memory and time that training needs (ours).
LONGEST_PROMPT = 256
# Rows read to find them (ours): thousands more would be held-out rows of the same sort.
MOST_READ = 2000
# Fewer answers than these say nothing of how they differ (ours).
FEWEST_ANSWERS = 8


def watched_rows(rows: Any) -> list[Mapping[str, Any]]:
    """At most `WATCHED` rows of different prompts, always the same: all ways of holding out alike, known facts first."""
    by_way: dict[tuple[bool, str], dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for number in Random(0).sample(range(len(rows)), min(len(rows), MOST_READ)):
        row = rows[number]
        if row.get("prompt"):
            by_way[bool(row.get("fact")), row.get("held_out") or ""].setdefault(prompt_text(row["prompt"]), row)
    in_turn: dict[bool, list[Mapping[str, Any]]] = {}
    for has_fact in (True, False):
        ways = [list(by_way[way].values()) for way in sorted(by_way) if way[0] == has_fact]
        in_turn[has_fact] = [row for row in chain.from_iterable(zip_longest(*ways)) if row is not None]
    facts = in_turn[True][: WATCHED - min(WITHOUT_FACT, len(in_turn[False]))]
    return [*facts, *in_turn[False]][:WATCHED]


def short_enough(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Mapping[str, Any]], limit: int | None
) -> list[Mapping[str, Any]]:
    """The rows whose prompt is at most `limit` tokens, and at most `LONGEST_PROMPT`."""
    limit = LONGEST_PROMPT if limit is None else min(limit, LONGEST_PROMPT)
    encoded = encode_prompts(tokenizer, [row["prompt"] for row in rows])
    return [row for row, ids in zip(rows, encoded, strict=True) if len(ids) <= limit]


def how_answers_differ(texts: Sequence[str]) -> dict[str, float]:
    """`distinct` and `most_common` of the answers to different questions, for the log; nothing of a handful."""
    if len(texts) < FEWEST_ANSWERS:
        return {}
    by_row = diversity_by_row(texts)
    return {f"samples/{name}": fmean(by_row[name]) for name in ("distinct", "most_common")}


def own_answers(model: Any, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """`own_answer` of the rows that have a reference (see [`own_answer`]), for the log."""
    for column in ("completion", "chosen"):
        measured = own_answer(model, tokenizer, rows, column)
        if measured:
            return {"samples/own_answer": measured["own_answer"]}
    return {}
