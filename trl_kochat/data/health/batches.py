"""Rows in batches as columns of plain texts, and rows of one kind counted."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from ...encode import Row, checked_rows, row_type
from ...errors import InputError
from ...findings import Finding, Severity
from ...text.shown import listed, shown


if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

# Rows looked at together: one search over all their texts costs less than one for each.
BATCH_ROWS = 2_000
# Above this share a fault is worth a warning, below it a remark; where half of all rows have it, training teaches it (ours).
NOTABLE, MOST = 0.01, 0.5
# Row numbers that a message and that `measured` hold.
TOLD_NUMBERS, KEPT_NUMBERS = 5, 20


@dataclass
class Batch:
    """Some rows of a dataset, each column of which is one text a row.

    Args:
        first (`int`): Number of the first row.
        texts (`dict[str, list[str]]`): Column to texts; the messages of a row are joined by line feeds. The column
            `messages` is told apart into `prompt` and `completion`, the last answer.
        answers (`tuple[str, ...]`): The columns that hold answers.
        conversational (`bool`): Whether a chat template writes what begins and ends them.
        rows (`dict[str, list]`): The columns as they are.
    """

    first: int
    texts: dict[str, list[str]]
    answers: tuple[str, ...]
    conversational: bool
    rows: Mapping[str, list[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.texts.values())))

    def row(self, index: int) -> Row:
        return {column: values[index] for column, values in self.rows.items()}


def batches(dataset: "Dataset | IterableDataset | Iterable[Row]") -> Iterator[Batch]:
    """
    Raises:
        ValueError: The rows are of no TRL type, or one of them holds no text; with its number.
    """
    import datasets

    if isinstance(dataset, datasets.DatasetDict | datasets.IterableDatasetDict):
        raise InputError(f"check_rows takes one split; there are {listed(dataset)}: dataset['...'].")
    if isinstance(dataset, str | bytes | Mapping):
        raise InputError(f"{shown(dataset)} is not a list of rows; load_rows reads a file, and one row is [row].")
    first = 0
    if isinstance(dataset, datasets.Dataset | datasets.IterableDataset):
        raw: Iterator[Any] = dataset.with_format(None).iter(BATCH_ROWS)
    else:
        raw = _columns_of(iter(dataset))
    for columns in raw:
        batch = _batch(first, columns)
        yield batch
        first += len(batch)


def _columns_of(rows: Iterator[Row]) -> Iterator[dict[str, list[Any]]]:
    first = 0
    while chunk := checked_rows(islice(rows, BATCH_ROWS), first=first):
        yield {
            column: [row.get(column) for row in chunk]
            for column in dict.fromkeys(name for row in chunk for name in row)
        }
        first += len(chunk)


def _batch(first: int, columns: Mapping[str, list[Any]]) -> Batch:
    _, answers = row_type(set(columns))
    read = {column: columns[column] for column in dict.fromkeys(("prompt", *answers)) if column in columns}
    try:
        if "messages" in read:
            turns = [_split_last_answer(messages) for messages in read["messages"]]
            texts = {"prompt": [prompt for prompt, _ in turns], "completion": [answer for _, answer in turns]}
            return Batch(first, texts, ("completion",), True, columns)
        texts = {column: list(map(_joined, values)) for column, values in read.items()}
    except (TypeError, LookupError, AttributeError):
        count = len(next(iter(read.values())))
        checked_rows([{name: values[i] for name, values in read.items()} for i in range(count)], first=first)
        raise
    conversational = any(not isinstance(values[0], str) for values in read.values())
    return Batch(first, texts, () if answers == ("text",) else answers, conversational, columns)


def _joined(value: Any) -> str:
    return value if isinstance(value, str) else "\n".join(map(_said, value))


def _said(message: Mapping[str, Any]) -> str:
    """The text of a message, and the tools that it calls."""
    calls = message.get("tool_calls")
    return (message["content"] or "") + (json.dumps(calls, ensure_ascii=False, default=str) if calls else "")


def _split_last_answer(messages: Any) -> tuple[str, str]:
    if messages and messages[-1]["role"] == "assistant":
        return _joined(messages[:-1]), _said(messages[-1])
    return _joined(messages), ""


@dataclass
class Tally:
    """The rows that have one fault: how many, the first of them by number, an example, and what kinds of it."""

    rows: int = 0
    numbers: list[int] = field(default_factory=list)
    example: str = ""
    kinds: Counter[str] = field(default_factory=Counter)
    last: int = -1

    def add(self, number: int, example: str, kind: str = "") -> None:
        """Count a row, in place; a row with several such faults is one."""
        self.kinds[kind] += 1
        if number == self.last:
            return
        self.last = number
        self.rows += 1
        self.example = self.example or example
        if len(self.numbers) < KEPT_NUMBERS:
            self.numbers.append(number)

    def finding(
        self, code: str, total: int, what: str, *, way_out: str = "", least: Severity = "info", grave: bool = False
    ) -> Finding:
        """
        Args:
            what (`str`): What the rows do, after "3 of 200 rows (1.5%)".
            least (`str`): The severity of a single row.
            grave (`bool`): Whether it is an error where most rows have it.
        """
        share = self.rows / total
        severity: Severity = "error" if grave and share >= MOST else "warning" if share >= NOTABLE else least
        told = ", ".join(map(str, self.numbers[:TOLD_NUMBERS])) + (", ..." if self.rows > TOLD_NUMBERS else "")
        return Finding(
            code,
            severity,
            f"{self.rows:,} of {total:,} rows ({share:.1%}) {what} (row{'s' if self.rows > 1 else ''} {told}, counted from "
            f"0): {shown(self.example)}.{' ' if way_out else ''}{way_out}",
            measured={
                "rows": self.rows,
                "share": round(share, 4),
                "numbers": self.numbers,
                "example": self.example,
                **({"kinds": dict(self.kinds.most_common(20))} if self.kinds.keys() - {""} else {}),
            },
        )
