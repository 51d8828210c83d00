"""Names of raw columns: given anew before a formatter reads them, and those that it leaves unread."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from ..errors import InputError
from ..text.shown import listed, shown
from .rows import Row


# Columns that change what a row means: where they are not read, that is told as a warning.
TELLING = frozenset({"label", "kto_tag", "system", "system_prompt", "history", "tools", "context"})
# Types whose rows hold one answer to be learned, whatever a label says of it.
ANSWERS_ALONE = ("prompt_completion", "language_modeling")
# What is seen or heard, and what no text model learns from.
MEDIA = ("image", "images", "video", "videos", "audio", "audios")
_LABELS = ("true", "false", "0", "1")


class TrackedRow(dict[Any, Any]):
    """A raw row that remembers which of its columns were read; a copy of it has read them all."""

    def __init__(self, row: Row) -> None:
        super().__init__(row)
        self.read: set[Any] = set()

    def __getitem__(self, column: Any) -> Any:
        self.read.add(column)
        return super().__getitem__(column)

    def get(self, column: Any, default: Any = None) -> Any:
        self.read.add(column)
        return super().get(column, default)

    # Besides what it does by its name: a dict that has one of its own is copied by `keys` and `__getitem__`.
    def __iter__(self) -> Any:
        return super().__iter__()

    def items(self) -> Any:
        self.read.update(super().keys())
        return super().items()

    def values(self) -> Any:
        self.read.update(super().keys())
        return super().values()

    def copy(self) -> dict[Any, Any]:
        return dict(self.items())

    def unread(self) -> dict[Any, Any]:
        """Columns that hold something and were not read."""
        return {name: value for name, value in super().items() if name not in self.read and not _is_empty(value)}


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | dict) and not value)


def parse_columns(words: Sequence[str] | None) -> dict[str, str]:
    """What a command line says of columns: `NAME=NEW` calls the column NAME by another name, `NAME=` leaves it out.

    >>> parse_columns(["질문=prompt", "label="])
    {'질문': 'prompt', 'label': ''}

    Raises:
        ValueError: A word is of another form, or names a column twice.
    """
    columns: dict[str, str] = {}
    for word in words or ():
        name, equals, new = word.rpartition("=")
        if not equals or not name:
            raise InputError(f"--columns takes NAME=NEW, or NAME= to leave a column out, not {shown(word)}.")
        if name in columns:
            raise InputError(f"--columns names {shown(name)} twice: {columns[name]} and {new}.")
        columns[name] = new
    return columns


def check_columns(columns: Mapping[str, str], row: Row) -> None:
    """Raise `ValueError` for new names that cannot be meant, with the first row for what there is."""
    if not isinstance(columns, Mapping) or not all(isinstance(new, str) for new in columns.values()):
        raise InputError(f"columns is {shown(columns)}; give a dict of names and new names, '' to leave a column out.")
    missing = [name for name in columns if name not in row]
    if missing:
        near = get_close_matches(str(missing[0]), map(str, row), n=1)
        raise InputError(
            f"There is no column {shown(missing[0])} to call {columns[missing[0]] or 'left out'}; there are {listed(row)}."
            + (f" Is {near[0]} meant?" if near else "")
        )


def first_row(rows: Iterable[Row], columns: Mapping[str, str]) -> Row:
    """The first of the rows by its new names; an empty row where there is none."""
    first = next(iter(rows), None)
    if first is None:
        return {}
    check_columns(columns, first)
    return renamed(first, columns)


def renamed(row: Row, columns: Mapping[str, str]) -> Row:
    """The row with its columns by their new names, without those whose new name is empty.

    Raises:
        ValueError: Two columns would have one name.
    """
    if not columns:
        return row
    kept = [(columns.get(name, name), name) for name in row if columns.get(name, name) != ""]
    made = {new: row[name] for new, name in kept}
    if len(made) < len(kept):
        twice, _ = Counter(new for new, _ in kept).most_common(1)[0]
        olds = [name for new, name in kept if new == twice]
        raise InputError(
            f"columns {listed(olds)} would all be {shown(twice)}; give each a name of its own, or none to leave it out"
        )
    return made


def refuse_media(row: Row, unread: Iterable[Any]) -> None:
    """Raise `ValueError` for a row that asks about a picture or a sound."""
    for name in MEDIA:
        if name in unread:
            raise InputError(
                f"column {name!r} is {shown(row[name])}, and only text can be trained on here: leave rows with pictures and "
                f"sounds out, or the column, where the texts stand without it: --columns {name}="
            )


def refuse_unread_label(row: Row, unread: Iterable[Any]) -> None:
    """Raise `ValueError` for the label of an answer, good or bad, that nothing reads: bad answers would be learned.

    A label of a prompt and its completion is one in any spelling, elsewhere only `true` and `false` are: datasets number
    topics in a column of that name, too.
    """
    for name in ("label", "kto_tag"):
        value = row[name] if name in unread else None
        pair = {"prompt", "completion"} <= row.keys()
        if isinstance(value, bool) or (pair or name == "kto_tag") and str(value).lower() in _LABELS:
            raise InputError(
                f"column {name!r} is {shown(value)}: answers marked as bad would be learned like good ones. Train on the "
                "labels (trl-kochat kto with --formatter unpaired_preference), keep the good rows alone, or leave the column "
                f"out: --columns {name}=, columns={{{name!r}: ''}}"
            )
