"""What a formatter is, and where formatters are found by name or by columns."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ...errors import InputError
from ...text.normalize import refuse_half_characters
from ...text.shown import listed, shown


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


@dataclass(frozen=True)
class Formatter:
    """A registered formatter: `function(row, **options) -> list[dict]` and what is known of it."""

    name: str
    type: RowType
    function: Callable[..., list[dict[str, Any]]]
    # Column sets that a raw row has at the least; any one of them will do.
    columns: tuple[frozenset[str], ...] = ()

    def __call__(self, row: Row, **options: Any) -> list[dict[str, Any]]:
        return self.function(row, **options)

    def expected(self) -> str:
        return " or ".join(f"({', '.join(sorted(columns))})" for columns in self.columns)


_FORMATTERS: dict[str, Formatter] = {}


def formatter(
    name: str, *, type: RowType, columns: Sequence[Collection[str]] = ()
) -> Callable[[Callable[..., list[dict[str, Any]]]], Callable[..., list[dict[str, Any]]]]:
    """Register `to_<type>(row, **options) -> list[dict]` under a name; the function itself is returned unchanged.

    Args:
        name (`str`): Name for `format_dataset` and the command line.
        type (`str`): TRL's name for the rows it makes: `"prompt_completion"`, `"preference"`, `"prompt_only"`, ...
        columns (sequence of collections of `str`, *optional*): Column sets by which `detect_formatter` knows a raw
            row, each enough by itself. Without them the formatter is reached by name only.

    Example:

    ```python
    @formatter("my_pairs", type="preference", columns=[{"q", "good", "bad"}])
    def to_preference(row):
        user = [{"role": "user", "content": row["q"]}]
        answer = lambda text: [{"role": "assistant", "content": text}]
        return [{"prompt": user, "chosen": answer(row["good"]), "rejected": answer(row["bad"])}]
    ```

    Raises:
        ValueError: The name is taken by another function.
    """

    def register(function: Callable[..., list[dict[str, Any]]]) -> Callable[..., list[dict[str, Any]]]:
        known = _FORMATTERS.get(name)
        # A notebook cell or a module run again defines the same function anew: that replaces it.
        if known and (known.function.__module__, known.function.__qualname__) != (
            function.__module__,
            function.__qualname__,
        ):
            raise InputError(f"The formatter name {name!r} is taken by {known.function.__module__}; choose another.")
        _FORMATTERS[name] = Formatter(name, type, function, tuple(frozenset(names) for names in columns))
        return function

    return register


def formatter_names() -> list[str]:
    """Names of all registered formatters, in alphabetical order."""
    return sorted(_FORMATTERS)


def get_formatter(name: str) -> Formatter:
    """The formatter of that name; raises `ValueError` with the names there are."""
    if name not in _FORMATTERS:
        raise InputError(f"No formatter {shown(name)}; there are {', '.join(formatter_names())}.")
    return _FORMATTERS[name]


def formatter_of(function: Callable[..., list[dict[str, Any]]]) -> Formatter:
    """The registered formatter of a function, or an unregistered one made of it."""
    if not callable(function):
        raise InputError(
            f"{shown(function)} is no formatter; give a name ({', '.join(formatter_names())}) or a function."
        )
    for known in _FORMATTERS.values():
        if known.function is function:
            return known
    return Formatter(getattr(function, "__name__", "formatter"), "language_modeling", function)


def detect_formatter(columns: Iterable[str]) -> str:
    """Name of the formatter for raw rows with these columns; of several that fit, the one that explains most of them.

    Raises:
        ValueError: No formatter knows the columns, two explain equally many, or a formatter that lacks a column would
            explain more of them (a ranking without its ranks is not a mere prompt).
    """
    found = set(map(str, columns))
    sizes = {
        known.name: max((len(names) for names in known.columns if names <= found), default=0)
        for known in _FORMATTERS.values()
    }
    best = max(sizes.values(), default=0)
    names = sorted(name for name, size in sizes.items() if size == best and size)
    nearest = max(
        ((len(wanted & found), known.name, wanted) for known in _FORMATTERS.values() for wanted in known.columns),
        key=lambda candidate: candidate[0],
        default=(0, "", frozenset[str]()),
    )
    if names and nearest[0] > best:
        _, name, wanted = nearest
        raise InputError(
            f"Columns {listed(sorted(found))} are nearest to {name}, which also needs "
            f"{', '.join(sorted(wanted - found))}. Mend the rows, or name the formatter you mean ({', '.join(names)})."
        )
    if len(names) == 1:
        return names[0]
    if names:
        raise InputError(f"Columns {listed(sorted(found))} fit {' and '.join(names)}; name the one you mean.")
    expected = "; ".join(f"{known.name}: {known.expected()}" for known in _FORMATTERS.values() if known.columns)
    raise InputError(f"No formatter knows the columns {listed(sorted(found)) or '(none)'}. Expected {expected}.")


def text_of(row: Row, column: str) -> str:
    """The text in a column, or `ValueError` saying what is there instead."""
    if row.get(column) is None:
        raise InputError(f"column {column!r} is {'None' if column in row else 'missing'}")
    text = row[column]
    if not isinstance(text, str):
        raise InputError(f"column {column!r} holds {shown(text)}, a {type(text).__name__}, not text")
    try:
        refuse_half_characters(text)
    except ValueError as error:
        raise InputError(f"column {column!r} holds {error}") from error
    return text
