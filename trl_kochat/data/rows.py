"""Raw rows, the rows made of them, and the counts of both."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import InputError
from ..findings import Finding
from ..text.normalize import refuse_half_characters
from ..text.shown import listed, shown


Row = Mapping[str, Any]
# The dataset types of TRL that a formatter can make (https://huggingface.co/docs/trl/dataset_formats).
RowType = Literal["prompt_only", "prompt_completion", "preference", "language_modeling", "unpaired_preference"]


class Rows(list[dict[str, Any]]):
    """The TRL rows made of one raw row, with a count of what was dropped and what was cleaned on the way.

    A formatter may also return a plain list; an empty one then counts as one row dropped for `nothing_to_learn`.

    Args:
        rows (`Iterable[dict]`): The rows made.
        dropped (`Iterable[str]`): One reason for each row that could have been made and was not.
        cleaned (`Iterable[str]`): One kind for each change made to a text.
    """

    def __init__(
        self, rows: Iterable[dict[str, Any]] = (), *, dropped: Iterable[str] = (), cleaned: Iterable[str] = ()
    ) -> None:
        super().__init__(rows)
        self.dropped = Counter(dropped)
        self.cleaned = Counter(cleaned)


@dataclass
class RowCounts:
    """What became of raw rows: `made` plus all of `dropped` is what the rows read had to offer.

    A raw row offers one TRL row, a ranking of K answers `K * (K - 1) / 2`, a dialogue one for each answer.
    """

    read: int = 0
    made: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    cleaned: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    """Columns that the formatter did not read, with the number of rows that have something there."""
    found: dict[str, int] = field(default_factory=dict)
    """Codes of what [`check_rows`] found in the rows made, with the number of rows that have it."""

    def add(self, rows: list[dict[str, Any]], unread: Iterable[object] = ()) -> None:
        """Count one raw row, what was made of it, and the columns that were not read, in place."""
        self.read += 1
        self.unread.update(map(str, unread))
        self.made += len(rows)
        if isinstance(rows, Rows):
            self.dropped += rows.dropped
            self.cleaned += rows.cleaned
        elif not rows:
            self.dropped["nothing_to_learn"] += 1

    def update(self, other: "RowCounts") -> None:
        """Add another count to this one, in place."""
        self.read += other.read
        self.made += other.made
        self.dropped += other.dropped
        self.cleaned += other.cleaned
        self.unread += other.unread

    def restart(self, before: "RowCounts") -> None:
        """Go back to an earlier count, in place: a stream is read anew on each pass, and a trainer looks ahead."""
        self.read, self.made = before.read, before.made
        self.dropped, self.cleaned, self.unread = (
            counter.copy() for counter in (before.dropped, before.cleaned, before.unread)
        )

    def as_dict(self) -> dict[str, Any]:
        """The counts as the run report has them."""
        counts: dict[str, Any] = {
            "read": self.read,
            "made": self.made,
            "dropped": dict(self.dropped.most_common()),
            "cleaned": dict(self.cleaned.most_common()),
            "unread": dict(self.unread.most_common()),
        }
        return {**counts, "found": dict(self.found)} if self.found else counts

    def note(self, findings: Iterable[Finding]) -> None:
        """Take over, in place, what a check of the rows found, with how many rows have it."""
        self.found = {found.code: found.measured["rows"] for found in findings if "rows" in found.measured}

    def __str__(self) -> str:
        def told(kinds: Counter[str]) -> str:
            return (
                f" ({listed(f'{kind or repr(kind)} {count:,}' for kind, count in kinds.most_common())})"
                if kinds
                else ""
            )

        return (
            f"{self.read:,} rows read, {self.made:,} made, {self.dropped.total():,} dropped{told(self.dropped)}, "
            f"{self.cleaned.total():,} texts mended{told(self.cleaned)}"
            + (f", columns not read{told(self.unread)}" if self.unread else "")
            + (f", found{told(Counter(self.found))}" if self.found else "")
        )


def text_of(row: Row, column: str) -> str:
    """The text in a column, or `ValueError` saying what is there instead."""
    if row.get(column) is None:
        raise InputError(f"column {column!r} is {'None' if column in row else 'missing'}")
    text = row[column]
    if not isinstance(text, str):
        raise InputError(f"column {column!r} holds {shown(text)}, a {type(text).__name__}, not text")
    refuse_half_characters(text, column)
    return text
