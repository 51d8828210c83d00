"""The datasets of ids that a TRL trainer makes of its rows and keeps: how long rows are, and what was cut."""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from datasets import Dataset
from pyarrow.compute import list_value_length
from transformers import PreTrainedTokenizerBase

from .ends import answer_end, end_token_ids


# TRL's columns of ids, and what a reader calls them.
_COLUMNS = {
    "input_ids": "prompt and completion",
    "prompt_ids": "prompt",
    "completion_ids": "completion",
    "chosen_ids": "chosen",
    "rejected_ids": "rejected",
}


def column_lengths(rows: Any) -> dict[str, list[int]]:
    """Tokens in each row, by what a reader calls the column; empty where rows are no ids.

    Args:
        rows ([`~datasets.Dataset`] or `dict`): A trainer's dataset, or columns of it as `Dataset.map` hands them on.
    """
    columns = getattr(rows, "column_names", None) or list(rows)
    names = [name for name in _COLUMNS if name in columns]
    if isinstance(rows, Dataset) and names:  # lists of Python's would take seconds for some thousand rows
        table = rows.select_columns(names).with_format("arrow")[:]
        return {_COLUMNS[name]: list_value_length(table[name]).to_pylist() for name in names}
    return {_COLUMNS[name]: [len(ids) for ids in rows[name]] for name in names}


def row_lengths(rows: Any) -> list[int]:
    """Tokens of each row's longest sequence, its prompt included, before any cut that is made batch by batch."""
    lengths = column_lengths(rows)
    if "prompt and completion" in lengths:
        return lengths["prompt and completion"]
    answers = [lengths[name] for name in ("completion", "chosen", "rejected") if name in lengths]
    if not answers:
        return lengths.get("prompt", [])
    longest = [max(row) for row in zip(*answers, strict=True)]
    prompts = lengths.get("prompt", [0] * len(longest))  # a reward model's pairs hold their prompt
    return [prompt + answer for prompt, answer in zip(prompts, longest, strict=True)]


def answer_lengths(rows: Any) -> list[int]:
    """Tokens of each row that carry a loss; of pairs those of the chosen answer."""
    names = getattr(rows, "column_names", None) or list(rows)
    if "labels" in names:
        return [sum(label != -100 for label in labels) for labels in rows["labels"]]
    lengths = column_lengths(rows)
    return next((lengths[name] for name in ("chosen", "completion", "prompt and completion") if name in lengths), [])


def count_rows(dataset: Any) -> int:
    """Rows that went into a dataset, of which packing joins several into one.

    The packing strategy `"wrapped"` keeps no borders: for it this is the number of joined rows.
    """
    if "seq_lengths" not in dataset.column_names:
        return len(dataset)
    return sum(len(lengths) for lengths in dataset["seq_lengths"])


def count_cut(dataset: Any, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> int:
    """How many rows of a trainer's dataset lose their end to `max_length`.

    `SFTTrainer` has cut already, also what it packs: a row of that length without an end is one. `DPOTrainer` cuts when
    it makes a batch. `RewardTrainer` leaves such rows out.
    """
    if max_length is None:
        return 0
    if "input_ids" not in dataset.column_names:
        return sum(length > max_length for length in row_lengths(dataset))
    ends, tail = set(end_token_ids(tokenizer)), len(answer_end(tokenizer).tail_ids)
    return sum(len(ids) >= max_length and ends.isdisjoint(ids[-1 - tail :]) for ids in _rows_of_ids(dataset))


def _rows_of_ids(dataset: Any) -> Iterator[list[int]]:
    """The ids of each row, those of packed rows apart."""
    if "seq_lengths" not in dataset.column_names:
        yield from dataset["input_ids"]
        return
    for ids, lengths in zip(dataset["input_ids"], dataset["seq_lengths"], strict=True):
        for length, end in zip(lengths, accumulate(lengths), strict=True):
            yield ids[end - length : end]
