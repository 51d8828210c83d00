"""What a formatter is, and where formatters are found by name or by columns."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from typing import Any, get_args

from ...errors import InputError
from ...plugins import as_annotated, entry_points_of, function_of_file, load_entry_point, names_function_of_file
from ...text.shown import listed, shown
from ..advice import answers_of, described, way_on
from ..rows import Row, RowType


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Formatter:
    """A formatter: `function(row, **options) -> list[dict]` and what is known of it.

    Args:
        name (`str`): Name by which `get_formatter` finds it, or that of the function.
        type (`str`): TRL's name for the rows it makes, `None` where nothing tells.
        function (callable): The function itself.
        columns (`tuple[frozenset[str], ...]`): Column sets that a raw row has at the least; any one of them will do.
    """

    name: str
    type: RowType | None
    function: Callable[..., list[dict[str, Any]]]
    columns: tuple[frozenset[str], ...] = ()

    def __call__(self, row: Row, **options: Any) -> list[dict[str, Any]]:
        return self.function(row, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        if names_function_of_file(self.name):  # no other process can import a file by the name of its module
            return get_formatter, (self.name,)
        return Formatter, (self.name, self.type, self.function, self.columns)

    def expected(self) -> str:
        """The column sets, some of them where there are many."""
        told = [f"({', '.join(sorted(columns))})" for columns in self.columns]
        return " or ".join(told[:4]) + (f" or one of {len(told) - 4} more sets" if len(told) > 4 else "")


_FORMATTERS: dict[str, Formatter] = {}


def formatter(
    name: str, *, type: RowType | None, columns: Sequence[Collection[str]] = ()
) -> Callable[[Callable[..., list[dict[str, Any]]]], Callable[..., list[dict[str, Any]]]]:
    """Register `to_<type>(row, **options) -> list[dict]` under a name; the function itself is returned unchanged.

    Args:
        name (`str`): Name for `format_dataset` and the command line.
        type (`str`): TRL's name for the rows it makes: `"prompt_completion"`, `"preference"`, `"prompt_only"`, ...;
            `None` where the row decides.
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
    """Names of all formatters, those of other packages too, in alphabetical order."""
    return sorted(_FORMATTERS.keys() | entry_points_of("formatters").keys())


def get_formatter(name: str) -> Formatter:
    """The formatter of that name, of this package or of another, or the function of a file, `"FILE.py:NAME"`.

    A name may have options behind it: `"rankings:least_difference=1"`, `"kochatgpt_sft:clean=false"`.

    Raises:
        ValueError: There is no such formatter (with the names there are), no such file, it has no such option, or the
            package that has the name cannot be imported.
    """
    if name in _FORMATTERS:
        return _FORMATTERS[name]
    if names_function_of_file(name):
        return replace(formatter_of(function_of_file(name)), name=name)
    name, colon, given = name.partition(":")
    if colon:
        return _with_options(get_formatter(name), given)
    entry = entry_points_of("formatters").get(name)
    if entry is None:
        names = ", ".join(formatter_names())
        raise InputError(f"No formatter {shown(name)}; there are {names}, and functions of files: FILE.py:NAME.")
    found = formatter_of(load_entry_point(entry))
    if found.name != name and found.function in {known.function for known in _FORMATTERS.values()}:
        raise InputError(f"The entry point {name!r} ({entry.value}) is the formatter {found.name!r}; name both alike.")
    return _FORMATTERS.setdefault(name, replace(found, name=name))


def _with_options(found: Formatter, given: str) -> Formatter:
    _, *parameters = signature(found.function).parameters.values()
    taken = {parameter.name: parameter for parameter in parameters}
    options = {}
    for word in given.split(","):
        name, _, value = word.partition("=")
        try:
            options[name] = as_annotated(taken[name], value)
        except (KeyError, ValueError) as error:
            raise InputError(
                f"{shown(word)} is no option of the formatter {found.name}; there are: "
                f"{', '.join(str(parameter) for parameter in parameters) or 'none'}."
            ) from error
    return replace(found, name=f"{found.name}:{given}", function=partial(found.function, **options))


def formatter_of(function: str | Callable[..., list[dict[str, Any]]]) -> Formatter:
    """The formatter of a name, the registered one of a function, or an unregistered one, whose type the name `to_<type>` tells."""
    if isinstance(function, str):
        return get_formatter(function)
    if isinstance(function, Formatter):
        return function
    if not callable(function):
        raise InputError(
            f"{shown(function)} is no formatter; give a name ({', '.join(formatter_names())}) or a function."
        )
    for known in _FORMATTERS.values():
        if known.function is function:
            return known
    name = getattr(function, "__name__", "formatter")
    row_type = name.removeprefix("to_") if name.startswith("to_") else ""
    return Formatter(name, row_type if row_type in get_args(RowType) else None, function)  # type: ignore[arg-type]


def _every_formatter() -> list[Formatter]:
    """All formatters; those of a package that cannot be imported are left out with a warning."""
    for name in entry_points_of("formatters"):
        try:
            get_formatter(name)
        except InputError as error:
            logger.warning("%s", error)
    return list(_FORMATTERS.values())


def detect_formatter(columns: Iterable[str]) -> str:
    """Name of the formatter for raw rows with these columns; of several that fit, the one that explains most of them.

    Args:
        columns (iterable of `str`): Names of columns; a row, for an error that knows what they hold.

    Raises:
        ValueError: No formatter knows the columns, two explain equally many, or a formatter that lacks a column would
            explain more of them (a ranking without its ranks is not a mere prompt). It says what to do.
    """
    row = columns if isinstance(columns, Mapping) else dict.fromkeys(columns, "")
    found = set(map(str, row))
    known = [(one.name, wanted) for one in _every_formatter() for wanted in one.columns]
    most = max((len(wanted & found) for _, wanted in known), default=0)
    nearest = [(name, wanted) for name, wanted in known if len(wanted & found) == most > 0]
    fitting = sorted({name for name, wanted in nearest if wanted <= found})
    # A prompt stands beside much.
    fitting = [name for name in fitting if _FORMATTERS[name].type != "prompt_only"] or fitting
    if len(fitting) == 1:
        if _FORMATTERS[fitting[0]].type == "prompt_only" and (answers := answers_of(row)):
            raise InputError(
                f"Columns {described(row)} are a prompt and {listed(answers)}, which no formatter knows. For the prompts alone say "
                f"--formatter {fitting[0]}. {way_on(row, detect_formatter)}"
            )
        return fitting[0]
    if fitting:
        raise InputError(
            f"Columns {described(row)} fit {' and '.join(fitting)}; name the one you mean (--formatter), or leave a column "
            "out (--columns NAME=)."
        )
    if any(wanted <= found for _, wanted in known):
        name, wanted = nearest[0]
        missing = sorted(wanted - found)
        raise InputError(
            f"Columns {described(row)} are nearest to {name}, which also needs {', '.join(missing)}. Mend the rows, or say "
            f"which column that is: --columns NAME={missing[0]}"
        )
    raise InputError(f"No formatter knows the columns {described(row)}. {way_on(row, detect_formatter)}")
