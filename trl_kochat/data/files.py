"""Reading one file of rows: JSON arrays and lines, CSV, the course's dialogues, parquet; told by its content."""

import csv
import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import InputError
from ..text.shown import cut, listed, shown


Row = dict[str, Any]

CONVERSATION_START = "<<start conversation>>"
# In either Unicode form: a file that went through macOS may be decomposed.
_SPEAKERS = "|".join(unicodedata.normalize(form, name) for name in ("사람", "챗봇") for form in ("NFC", "NFD"))
_TURN = re.compile(rf"^<({_SPEAKERS})>:", flags=re.MULTILINE)
_BOM = b"\xef\xbb\xbf"


def is_parquet(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(4) == b"PAR1"


def read_file(file: Path, name: str) -> Iterator[Row]:
    """The rows of a file that is no parquet file, one after the other.

    Args:
        file (`Path`): Where its bytes lie.
        name (`str`): What the user calls it, for errors to name; its ending tells CSV.

    Raises:
        ValueError: At once, where its beginning is that of none of these kinds; later, where something is broken.
    """
    with file.open("rb") as stream:
        head = stream.read(4096).removeprefix(_BOM).lstrip()
        while not head and (more := stream.read(4096)):
            head = more.lstrip()
    if not head:
        raise InputError(f"{name} is empty.")
    if head.startswith(b"["):
        return _read_array(file, name)
    if head.startswith(b"{"):
        return _read_lines(file, name)
    if head.startswith(CONVERSATION_START.encode()):
        return _read_dialogues(file, name)
    if (urlsplit(name).path if "://" in name else name).lower().endswith(".csv"):
        return _read_csv(file, name)
    _read_whole(file, name)  # says so when it is not UTF-8
    raise InputError(
        f"{name} starts with {head[:40].decode(errors='replace')!r}: neither a JSON array, nor JSON lines, nor "
        f"dialogues ({CONVERSATION_START}); a CSV file must be named .csv."
    )


def _decode(data: bytes, name: str, *, line: int | None = None) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = line or data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{name}, line {line}: byte {data[error.start]:#04x} is not UTF-8. Save the file as UTF-8, "
            f"e.g. `iconv -f cp949 -t utf-8 FILE`."
        ) from error


def _read_whole(file: Path, name: str) -> str:
    return _decode(file.read_bytes().removeprefix(_BOM), name)


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


def _read_array(file: Path, name: str) -> Iterator[Row]:
    rows = _parse(_read_whole(file, name), name)
    if not rows:
        raise InputError(f"{name} is an array with no rows.")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InputError(f"{name}: element {number} (counted from 0) is {shown(row)}, not an object with columns.")
        yield row


def _read_lines(file: Path, name: str) -> Iterator[Row]:
    with file.open("rb") as stream:
        # Lines of a binary file end at "\n" alone; text mode would also cut at U+2028 inside a string.
        for number, data in enumerate(stream, start=1):
            line = _decode(data.removeprefix(_BOM) if number == 1 else data, name, line=number).strip()
            if not line:
                continue
            if number == 1:
                _refuse_object(file, name)
            row = _parse(line, name, line=number)
            if not isinstance(row, dict):
                raise InputError(f"{name}, line {number}: {shown(row)} is not an object with columns.")
            yield row


def _refuse_object(file: Path, name: str) -> None:
    """Raise when the whole file is one JSON object, spread over lines or holding the rows under a key."""
    with file.open("rb") as stream:
        first, rest = stream.readline(), stream.read(1)
    on_one_line = first.strip().endswith(b"}")
    if on_one_line and rest:
        return  # the first of several objects, one a line
    value = _parse(_read_whole(file, name), name)
    # Objects in a list are rows, unless they are the turns of one conversation.
    tables = [
        key
        for key, rows in value.items()
        if isinstance(rows, list) and rows and isinstance(rows[0], dict) and not {"role", "speaker"} & rows[0].keys()
    ]
    if not on_one_line or tables:
        raise InputError(
            f"{name} is one JSON object with the keys {listed(value)}; expected an array of rows or one object a line."
            + (f" If its {shown(tables[0])} holds the rows, save that array." if tables else "")
        )


def _read_dialogues(file: Path, name: str) -> Iterator[Row]:
    for text in _read_whole(file, name).split(CONVERSATION_START)[1:]:
        before, *rest = _TURN.split(text)
        if before.strip():
            raise InputError(f"{name}: a dialogue starts with {before.strip()[:40]!r}, not with <사람>: or <챗봇>:.")
        turns = [
            {"speaker": unicodedata.normalize("NFC", speaker), "text": turn.strip("\n").removeprefix(" ")}
            for speaker, turn in zip(rest[::2], rest[1::2], strict=True)
        ]
        yield {"conversation": turns}


def _read_csv(file: Path, name: str) -> Iterator[Row]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            _decode(line, name, line=number)
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        row, begins = None, 1
        try:
            header = next(reader, [])
            if twice := [column for column in dict.fromkeys(header) if header.count(column) > 1]:
                raise InputError(f"{name}, line 1: the header has {listed(twice)} more than once.")
            begins = reader.line_num + 1
            for row in filter(None, reader):  # a blank line is no row
                if len(row) != len(header):
                    raise InputError(
                        f"{name}, line {reader.line_num}: {len(row)} fields where the header has {len(header)} "
                        f"({listed(header)})."
                    )
                yield dict(zip(header, row, strict=True))
                begins = reader.line_num + 1
        except csv.Error as error:
            # The row may begin there and go on: a quotation mark that nothing closes takes in the rest of the file.
            raise InputError(f"{name}, in the row that begins on line {begins}: {error}.") from error
        if row is None:
            raise InputError(f"{name} has a header and no rows.")


def check_parquet(files: list[Path], names: list[str]) -> None:
    """Raise for what reading would only say in the words of a library: no parquet after all, no rows, other columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first: dict[str, Any] = {}
    for file, name in zip(files, names, strict=True):
        try:
            metadata = pq.read_metadata(file)
            types = {field.name: field.type for field in metadata.schema.to_arrow_schema()}
        except (OSError, ValueError, pa.ArrowException) as error:
            raise InputError(broken_parquet(name, error)) from error
        if not metadata.num_rows:
            raise InputError(f"{name} has columns and no rows.")
        first = first or types
        if types != first:
            told = (listed(f"{name} ({kind})" for name, kind in sorted(columns.items())) for columns in (first, types))
            raise InputError(
                f"{names[0]} and {name} have different columns and cannot be read together: {' and '.join(told)}."
            )


def broken_parquet(name: str, error: BaseException) -> str:
    return f"{name} is a broken parquet file: {cut(' '.join(str(error).split()), 300)}"
