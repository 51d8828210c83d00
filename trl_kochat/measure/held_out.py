"""Held-out rows as training would take them: how many, what is left out or cut, and their log-probabilities."""

from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..encode import TokenizedRow, fate, tokenize_rows
from ..errors import InputError
from ..models import eval_mode, max_positions
from .answers import Measured
from .logps import sequence_logps


Model = PreTrainedModel | PeftModel
Rows = Iterable[Mapping[str, Any]]

# A share of 256 rows is exact to 6 points at the most (two standard errors), and 11,000 rows would take hours (ours).
MAX_ROWS = 256


def some_numbers(count: int, max_rows: int) -> Sequence[int]:
    """Numbers of at most `max_rows` of `count` rows, always the same."""
    return range(count) if count <= max_rows else sorted(Random(0).sample(range(count), max_rows))


def some_rows(rows: Any, max_rows: int) -> list[Any]:
    return [rows[number] for number in some_numbers(len(rows), max_rows)]


def longest(model: Model, max_length: int | None) -> int | None:
    """Tokens of a row at the most, where training or the model's positions set a limit."""
    return min((limit for limit in (max_length, max_positions(model)) if limit is not None), default=None)


def fitting(
    model: Model, tokenizer: PreTrainedTokenizerBase, rows: Rows, trainer: str, max_length: int | None
) -> tuple[list[Mapping[str, Any]], list[TokenizedRow], int | None, Measured]:
    """The rows that a trainer keeps, as they are and as ids, where it cuts them, and how many there are of each kind."""
    rows = list(rows)
    limit = longest(model, max_length)
    tokenized = tokenize_rows(tokenizer, rows)
    fates = [fate(row, limit, trainer) for row in tokenized]
    kept = [number for number, what in enumerate(fates) if what != "dropped"]
    if not kept:
        raise InputError(f"None of {len(rows)} held-out rows fits into {limit} tokens: there is nothing to measure.")
    counts = {"n": len(kept), "left_out": fates.count("dropped"), "cut": fates.count("cut")}
    told = {name: count for name, count in counts.items() if count}
    return [rows[number] for number in kept], [tokenized[number] for number in kept], limit, told


def answers_of(
    rows: Iterable[TokenizedRow], columns: Iterable[str], limit: int | None
) -> list[tuple[Sequence[int], int]]:
    """The answers of all rows in one column after the other, as [`logps_of`] takes them, cut where training cuts them."""
    return [(row.sequences[column][:limit], max(row.completion_start, 1)) for column in columns for row in rows]


@torch.no_grad()
def logps_of(
    model: Model, tokenizer: PreTrainedTokenizerBase, sequences: Sequence[tuple[Sequence[int], int]]
) -> list[torch.Tensor]:
    with eval_mode(model):
        return sequence_logps(model, sequences, pad_token_id=tokenizer.pad_token_id)
