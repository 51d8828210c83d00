"""Formatting whole datasets, with exact counts of what was read, made, dropped and cleaned."""

import copy
import inspect
import json
import logging
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..errors import InputError
from ..text.shown import cut, listed, shown
from .columns import ANSWERS_ALONE, TELLING, TrackedRow, check_columns, refuse_media, refuse_unread_label, renamed
from .formatters.registry import Formatter, detect_formatter, formatter_of
from .rows import Row, RowCounts, Rows
from .split import HELD_OUT


if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset, IterableDataset

logger = logging.getLogger(__name__)
_AnyDataset = TypeVar("_AnyDataset", "Dataset", "IterableDataset")

# Rows formatted at a time: large enough that Arrow conversion is cheap, small enough that memory stays flat.
CHUNK_ROWS = 2_000


def _check_is_row(number: int, row: object) -> None:
    if not isinstance(row, Mapping):
        raise InputError(f"Row {number} (counted from 0) is {shown(row)}, not a row with named columns.")


# What a raw row says of itself goes on to each row made of it: the fact that it asks for, what is wrong with its
# rejected answer, why it is held out. Of the first two only texts are meant; what else a `held_out` is, the split tells.
_CARRIED = ("fact", "kind", HELD_OUT)


def _with_carried(rows: list[dict[str, Any]], row: Row) -> list[dict[str, Any]]:
    said = {name: row[name] for name in _CARRIED if isinstance(row.get(name), str)}
    if row.get(HELD_OUT) is not None:
        said[HELD_OUT] = row[HELD_OUT]
    if not said or not rows:
        return rows
    carried = [{**made, **{name: value for name, value in said.items() if name not in made}} for made in rows]
    return Rows(carried, dropped=rows.dropped, cleaned=rows.cleaned) if isinstance(rows, Rows) else carried


class _Work(NamedTuple):
    """What is done to each raw row."""

    formatter: Formatter
    options: Mapping[str, Any]
    columns: Mapping[str, str]


def _format_row(work: _Work, number: int, raw_row: Row, counts: RowCounts) -> list[dict[str, Any]]:
    """The rows made of a raw one, counted in place."""
    _check_is_row(number, raw_row)
    formatter, row = work.formatter, raw_row
    try:
        row = renamed(raw_row, work.columns)
        tracked = TrackedRow(row)
        rows = formatter(tracked, **work.options)
        if not isinstance(rows, list) or not all(isinstance(made, dict) for made in rows):
            raise InputError(f"{formatter.name} made {shown(rows)} of it, not a list of rows")
        for column in chain.from_iterable(rows):
            if not isinstance(column, str):
                raise InputError(f"{formatter.name} made a column {shown(column)} of it; columns are named by texts")
        rows = _with_carried(rows, row)
        unread = tracked.unread().keys() - {column for made in rows for column in made}
        refuse_media(row, unread)
        if formatter.type in ANSWERS_ALONE:
            refuse_unread_label(row, unread)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        problem = f"no column {error}" if isinstance(error, KeyError) else cut(str(error), 600)
        expected = f"; {formatter.name} expects {formatter.expected()}" if formatter.columns else ""
        raise InputError(
            f"Row {number} (counted from 0): {problem}. Its columns are {listed(row)}{expected}."
        ) from error
    counts.add(rows, unread)
    return rows


def _storable(value: Any) -> Any:
    """Messages with their calls of tools as JSON: in a table each call would have the arguments of all others as `None`."""
    if not isinstance(value, list) or not any(isinstance(turn, dict) and "tool_calls" in turn for turn in value):
        return value
    return [
        {**turn, "tool_calls": [json.dumps(call, ensure_ascii=False) for call in turn.get("tool_calls") or ()] or None}
        for turn in value
    ]


def _with_calls(made: "Dataset") -> "Dataset":
    """Calls that were stored as JSON, to be read as what they are."""
    from datasets import Json, List

    features = made.features.copy()
    for feature in features.values():
        turn = getattr(feature, "feature", None)
        if isinstance(turn, dict) and "tool_calls" in turn:
            turn["tool_calls"] = List(Json())
    return made if features == made.features else made.cast(features)


def _format_chunk(work: _Work, chunk: list[tuple[int, Row]]) -> tuple["pa.Table", RowCounts]:
    """A table of the rows made of raw rows with their numbers, and what became of these."""
    import pyarrow as pa

    counts = RowCounts()
    made: list[dict[str, Any]] = []
    for number, raw_row in chunk:
        made += _format_row(work, number, raw_row, counts)
    # `from_pylist` would leave out the columns that the first row lacks.
    columns = dict.fromkeys(column for row in made for column in row)
    try:
        return pa.table({column: [_storable(row.get(column)) for row in made] for column in columns}), counts
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise InputError(
            f"The rows that {work.formatter.name} made of rows {chunk[0][0]} to {chunk[-1][0]} (counted from 0) do "
            f"not fit one table: {cut(str(error), 300)}. A column holds one type, and text without half characters."
        ) from error


def _format_stream(rows: Iterable[Row], work: _Work, counts: RowCounts, before: RowCounts) -> Iterator[dict[str, Any]]:
    _check_workers(rows)
    counts.restart(before)
    for number, raw_row in enumerate(rows):
        yield from _format_row(work, number, raw_row, counts)
    _say(work.formatter, counts)


def _check_workers(rows: Iterable[Row]) -> None:
    """Raise where a `DataLoader` would lose rows: in each of its processes the stream inside gives out a part only."""
    from torch.utils.data import get_worker_info

    info, num_shards = get_worker_info(), getattr(rows, "num_shards", 1)
    if info is not None and info.num_workers > 1 and num_shards > 1:
        raise InputError(
            f"A stream of {num_shards} shards is formatted in one process, and the DataLoader has {info.num_workers}: "
            "set dataloader_num_workers to 0 or 1."
        )


def _say(formatter: Formatter, counts: RowCounts) -> None:
    odd = counts.dropped or counts.unread.keys() & TELLING or (formatter.type == "prompt_only" and counts.unread)
    logger.log(logging.WARNING if odd else logging.INFO, "%s: %s", formatter.name, counts)
    if not counts.made:
        raise InputError(f"{formatter.name} made no row: {counts}.")


def format_dataset(
    rows: "Dataset | IterableDataset | Iterable[Row]",
    formatter: str | Callable[..., list[dict[str, Any]]] | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    num_proc: int | None = None,
    counts: RowCounts | None = None,
    check: bool | None = None,
    **options: Any,
) -> "Dataset | IterableDataset":
    """Turn raw rows into a dataset of TRL rows; log how many were read, made, dropped (why) and mended, and which columns
    were not read.

    Args:
        rows ([`datasets.Dataset`], [`datasets.IterableDataset`] or iterable of `dict`): Raw rows, e.g. of `load_rows`.
        formatter (`str` or callable, *optional*): Name of a registered formatter, or `to_<type>(row) -> list[dict]`
            itself. Without it the columns of the first row decide (see `detect_formatter`).
        columns (`dict[str, str]`, *optional*): Other names for columns, `{"질문": "prompt", "답변": "completion"}`; an
            empty one leaves the column out.
        num_proc (`int`, *optional*): Number of processes. Worth it from some 100,000 rows on; a stream takes one.
        counts ([`RowCounts`], *optional*): Filled in place; for a stream, by the pass that is being read, unless a
            `DataLoader` reads it in processes of its own.
        check (`bool`, *optional*): Whether [`check_rows`] reads the rows made: what it finds is counted, and logged from
            a warning on. By default it does, and not for a stream, which would be read once for it.
        options: Passed on to the formatter, e.g. `clean=False` for the KoChatGPT ones.

    Returns:
        A [`datasets.Dataset`], or a [`datasets.IterableDataset`] for one (read row by row, in flat memory). Where raw
        rows have texts in the columns `fact`, `kind` or `held_out`, the rows made of them have them too.

    Raises:
        ValueError: A row is not what the formatter expects (with its number, its columns and those expected), there
            is no row, no row can be learned from, or an option or `num_proc` does not fit the formatter.
    """
    import datasets
    import pyarrow as pa

    if isinstance(rows, datasets.DatasetDict | datasets.IterableDatasetDict):
        raise InputError(f"format_dataset takes one split; there are {listed(rows)}: rows['...'].")
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable) or hasattr(rows, "iterrows"):
        raise InputError(
            f"{shown(rows)} is not a list of rows; load_rows reads a file, one row is [row], and a DataFrame gives them as "
            "datasets.Dataset.from_pandas(frame)."
        )
    counts = RowCounts() if counts is None else counts
    if isinstance(rows, datasets.IterableDataset):
        rows = rows.with_format(None)  # rows, not the tensors or tables that a format makes of them
    raw_rows = iter(rows)
    if isinstance(rows, datasets.Dataset):
        raw_rows = chain.from_iterable(batch.to_pylist() for batch in rows.with_format("arrow").iter(CHUNK_ROWS))
    first = next(raw_rows, None)
    if first is None:
        raise InputError("There are no rows to format.")
    _check_is_row(0, first)
    columns = {} if columns is None else columns
    check_columns(columns, first)
    found = formatter_of(detect_formatter(renamed(first, columns)) if formatter is None else formatter)
    _check_options(found, first, options)
    work = _Work(found, options, columns)

    if isinstance(rows, datasets.IterableDataset):
        if num_proc not in (None, 1):
            raise InputError(f"num_proc={num_proc}: a stream is formatted by one process; leave num_proc out.")
        given = (rows, work, counts, copy.deepcopy(counts))
        stream = datasets.IterableDataset.from_generator(partial(_format_stream, *given))
        return _checked(stream, counts) if check else stream

    results = _format_all(work, chain([first], raw_rows), num_proc)
    for _, chunk_counts in results:
        counts.update(chunk_counts)
    _say(found, counts)
    tables = [table for table, _ in results if table.num_rows]
    try:
        made = _with_calls(datasets.Dataset(pa.concat_tables(tables, promote_options="permissive")))
    except pa.ArrowException as error:
        raise InputError(f"The rows that {found.name} made do not fit one table: {cut(str(error), 300)}.") from error
    return made if check is False else _checked(made, counts)


def _checked(made: _AnyDataset, counts: RowCounts) -> _AnyDataset:
    from .health import check_rows

    try:
        findings = check_rows(made)
    except InputError as error:  # a formatter may make rows for something else than a trainer of TRL
        logger.info("Rows not checked: %s", error)
        return made
    counts.note(findings)
    for finding in findings:
        if finding.severity != "info":
            logger.warning("%s", finding)
    return made


def _format_all(work: _Work, rows: Iterator[Row], num_proc: int | None) -> list[tuple["pa.Table", RowCounts]]:
    format_chunk, numbered = partial(_format_chunk, work), enumerate(rows)
    chunks = iter(lambda: list(islice(numbered, CHUNK_ROWS)), [])  # until one is empty
    if num_proc in (None, 1):
        return list(map(format_chunk, chunks))
    _check_processes(num_proc, work.formatter, format_chunk)
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(num_proc) as pool:
        return list(pool.map(format_chunk, chunks))


def _check_options(formatter: Formatter, row: Row, options: Mapping[str, Any]) -> None:
    if not options:
        return
    signature = inspect.signature(formatter.function)
    try:
        signature.bind(row, **options)
    except TypeError as error:
        taken = ", ".join(list(signature.parameters)[1:]) or "none"
        raise InputError(f"{formatter.name}: {error}; its options: {taken}.") from error


def _check_processes(num_proc: object, formatter: Formatter, work: object) -> None:
    if not isinstance(num_proc, int) or num_proc < 1:
        raise InputError(f"num_proc is {num_proc!r}; it must be a number of processes, 1 or more.")
    try:
        pickle.dumps(work)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise InputError(
            f"num_proc={num_proc}: {formatter.name} cannot be sent to another process ({error}). Define it at the top "
            "of a module, or leave num_proc out."
        ) from error
