"""Reading one file of rows: JSON arrays and lines, CSV, Excel, the course's dialogues, parquet; told by its content."""

import csv
import io
import json
import logging
import re
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from ..errors import InputError
from ..text.shown import cut, listed, shown
from .source import WORKBOOK, Source


logger = logging.getLogger(__name__)

Row = dict[str, Any]

CONVERSATION_START = "<<start conversation>>"
# In either Unicode form: a file that went through macOS may be decomposed.
_SPEAKERS = "|".join(unicodedata.normalize(form, name) for name in ("사람", "챗봇") for form in ("NFC", "NFD"))
_TURN = re.compile(rf"^<({_SPEAKERS})>:", flags=re.MULTILINE)
# What may part the fields of a table, by its ending; the first that its header has.
_SEPARATORS = {".csv": ",\t;|", ".tsv": "\t,;|"}
# Under which key a file that is one object holds its rows.
_TABLES = ("data", "rows", "train", "items", "examples", "records", "instances", "samples", "dataset")


def read_file(source: Source) -> Iterator[Row]:
    """The rows of a file that is no parquet file, one after the other; the ending of its name tells CSV alone.

    Raises:
        ValueError: At once, where its beginning is that of none of these kinds; later, where something is broken.
    """
    if source.begins_with(WORKBOOK):
        return _read_workbook(source)
    head = source.head()
    if not head:
        raise InputError(f"{source.name} is empty.")
    if head.startswith("["):
        return _read_array(_parse(source.read(), source.name), source.name)
    if head.startswith("{"):
        return _read_lines(source)
    if head.startswith(CONVERSATION_START):
        return _read_dialogues(source)
    if source.suffix in _SEPARATORS:
        return _read_csv(source)
    source.read()  # says so when it is of another encoding
    raise InputError(
        f"{source.name} starts with {head[:40]!r}: neither a JSON array, nor JSON lines, nor dialogues "
        f"({CONVERSATION_START}); a table must be named .csv or .tsv."
    )


def _parse(text: str, name: str, *, line: int = 1) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line += error.lineno - 1
        raise InputError(f"{name}, line {line}, column {error.colno}: broken JSON: {error.msg}.") from error
    except ValueError as error:  # a number of more than 4,300 digits
        raise InputError(f"{name}, line {line} or later: broken JSON: {error}.") from error
    except RecursionError as error:
        raise InputError(f"{name}, line {line}: JSON nested too deeply to be rows.") from error


def _read_array(rows: list[Any], name: str) -> Iterator[Row]:
    if not rows:
        raise InputError(f"{name} is an array with no rows.")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InputError(f"{name}: element {number} (counted from 0) is {shown(row)}, not an object with columns.")
        yield row


def _read_lines(source: Source) -> Iterator[Row]:
    with source.text() as stream:
        for number, line in enumerate(stream, start=1):
            line = (line.removeprefix("\ufeff") if number == 1 else line).strip()
            if not line:
                continue
            if number == 1 and (table := _table(source)) is not None:
                yield from table
                return
            row = _parse(line, source.name, line=number)
            if not isinstance(row, dict):
                raise InputError(f"{source.name}, line {number}: {shown(row)} is not an object with columns.")
            yield row


def _table(source: Source) -> Iterator[Row] | None:
    """The rows of a file that is one JSON object and holds them under a key; none of a file with an object a line.

    Raises:
        ValueError: It is one object, over several lines or with lists of objects, and where its rows are is not told.
    """
    with source.text() as stream:
        on_one_line, rest = stream.readline().strip().endswith("}"), stream.read(1)
    if on_one_line and rest:
        return None  # the first of several objects, one a line
    value = _parse(source.read(), source.name)
    # Objects in a list are rows, unless they are the turns of one conversation.
    tables = [
        key
        for key, rows in value.items()
        if isinstance(rows, list)
        and rows
        and isinstance(rows[0], dict)
        and not {"role", "speaker", "from"} & rows[0].keys()
    ]
    if len(tables) == 1 and (tables[0] in _TABLES or len(value) == 1):
        logger.info("%s: rows are read from its %r, one of its keys %s.", source.name, tables[0], listed(value))
        return _read_array(value[tables[0]], f"{source.name}, {tables[0]!r}")
    if on_one_line and len(tables) < len(value):
        return None  # one row with a list of objects, as answers with their scores are
    raise InputError(
        f"{source.name} is one JSON object with the keys {listed(value)}; expected an array of rows or one object a line."
        + (f" If its {shown(tables[0])} holds the rows, save that array." if tables else "")
    )


def _read_dialogues(source: Source) -> Iterator[Row]:
    for text in source.read().split(CONVERSATION_START)[1:]:
        before, *rest = _TURN.split(text)
        if before.strip():
            raise InputError(
                f"{source.name}: a dialogue starts with {before.strip()[:40]!r}, not with <사람>: or <챗봇>:."
            )
        turns = [
            {"speaker": unicodedata.normalize("NFC", speaker), "text": turn.strip("\n").removeprefix(" ")}
            for speaker, turn in zip(rest[::2], rest[1::2], strict=True)
        ]
        yield {"conversation": turns}


def _separator(source: Source) -> str:
    """What parts the header into more than one column."""
    signs = _SEPARATORS[source.suffix]
    for sign in signs:
        with source.text(newline="") as stream, suppress(csv.Error):
            if len(next(csv.reader(stream, strict=True, delimiter=sign), [])) > 1:
                return sign
    return signs[0]


def _read_csv(source: Source) -> Iterator[Row]:
    name = source.name
    separator = _separator(source)
    with source.text(newline="") as stream:
        reader = csv.reader(stream, strict=True, delimiter=separator)
        row, begins = None, 1
        try:
            header = next(reader, [])
            header[:1] = [name.removeprefix("\ufeff") for name in header[:1]]
            _check_header(header, name)
            begins = reader.line_num + 1
            for row in filter(None, reader):  # a blank line is no row
                if len(row) != len(header):
                    raise InputError(
                        f"{name}, line {reader.line_num}: {len(row)} fields where the header has {len(header)} "
                        f"({listed(header)}), parted by {separator!r}."
                    )
                yield dict(zip(header, row, strict=True))
                begins = reader.line_num + 1
        except csv.Error as error:
            # The row may begin there and go on: a quotation mark that nothing closes takes in the rest of the file.
            raise InputError(f"{name}, in the row that begins on line {begins}: {error}.") from error
        if row is None:
            raise InputError(f"{name} has a header and no rows.")


def _check_header(header: Sequence[str], name: str) -> None:
    if twice := [column for column in dict.fromkeys(header) if header.count(column) > 1]:
        raise InputError(f"{name}, line 1: the header has {listed(twice)} more than once.")


def _read_workbook(source: Source) -> Iterator[Row]:
    """The rows of the first sheet as a CSV file of it would have them: every cell is a text, an empty one too."""
    name = source.name
    if find_spec("openpyxl") is None:
        raise InputError(
            f"{name} is an Excel workbook, and openpyxl, which reads it, is not installed: pip install "
            '"trl_kochat[excel]", or save its sheet as a CSV file in UTF-8.'
        )
    import openpyxl
    from openpyxl.utils.escape import unescape

    with source.opened() as stream:
        content = io.BytesIO(stream.read())
    try:
        first, *others = openpyxl.load_workbook(content, data_only=True).worksheets
    # No workbook, or a broken one.
    except (zipfile.BadZipFile, LookupError, ValueError, TypeError, SyntaxError) as error:
        raise InputError(f"{name} is no workbook that can be read: {cut(str(error), 300)}.") from error
    if others:
        logger.warning("%s: rows are read from its first sheet, %r, alone.", name, first.title)
    cells = [["" if cell is None else unescape(str(cell)) for cell in row] for row in first.values]
    columns = filter(any, zip(*cells, strict=True))  # what is formatted and empty is part of a sheet, too
    header, *rows = [row for row in zip(*columns, strict=True) if any(row)] or [()]
    _check_header(header, f"{name}, sheet {first.title!r}")
    if not rows:
        raise InputError(f"{name}: its sheet {first.title!r} has no rows below a header.")
    yield from (dict(zip(header, row, strict=True)) for row in rows)


def check_parquet(sources: Sequence[Source]) -> None:
    """Raise for what reading would only say in the words of a library: no parquet after all, no rows, other columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first: dict[str, Any] = {}
    for source in sources:
        try:
            metadata = pq.read_metadata(source.path)
            types = {field.name: field.type for field in metadata.schema.to_arrow_schema()}
        except (OSError, ValueError, pa.ArrowException) as error:
            raise InputError(broken_parquet(source.name, error)) from error
        if not metadata.num_rows:
            raise InputError(f"{source.name} has columns and no rows.")
        first = first or types
        if types != first:
            told = (
                listed(f"{column} ({kind})" for column, kind in sorted(columns.items())) for columns in (first, types)
            )
            raise InputError(
                f"{sources[0].name} and {source.name} have different columns and cannot be read together: {' and '.join(told)}."
            )


def broken_parquet(name: str, error: BaseException) -> str:
    return f"{name} is a broken parquet file: {cut(' '.join(str(error).split()), 300)}"
