"""The numbers of a page as CSV, in addresses that hold them whole."""

import base64
import csv
import io
from collections.abc import Iterable
from typing import Any

from .measures import judged
from .record import RunRecord, is_number


# A page stays small (ours); `metrics.json` beside it has all.
MAX_STEPS = 2000


def tables_of(record: RunRecord, keys: Iterable[str]) -> list[tuple[str, str]]:
    """Name and address of a file for the measures and one for the log; of a long log evenly chosen steps."""
    measures: list[list[Any]] = [
        ["measure", "before", "after", "before_low", "before_high", "after_low", "after_high", "n", "judged"]
    ]
    for key in keys:
        ends = [end for moment in ("before", "after") for end in record.intervals.get(moment, {}).get(key, ("", ""))]
        word = judged(record, key) if key in record.before and key in record.after else ""
        measures.append(
            [key, record.before.get(key), record.after.get(key), *ends, record.n.get(key), word],
        )
    numbers = [{key: value for key, value in entry.items() if is_number(value)} for entry in record.history]
    by_step: dict[Any, dict[str, Any]] = {}
    for entry in numbers:
        by_step.setdefault(entry["step"], {}).update(entry)
    steps = sorted(by_step)
    steps = steps[:: -(-len(steps) // MAX_STEPS)] if steps else []
    names = list(dict.fromkeys(["step", *(key for entry in numbers for key in entry)]))
    curves: list[list[Any]] = [names, *([by_step[step].get(name) for name in names] for step in steps)]
    tables = {"measures.csv": measures, "curves.csv": curves}
    return [(name, _address(rows)) for name, rows in tables.items() if len(rows) > 1]


def _address(rows: Iterable[Iterable[Any]]) -> str:
    """A table as an address that holds it whole."""
    text = io.StringIO()
    csv.writer(text).writerows([[_cell(value) for value in row] for row in rows])
    return "data:text/csv;base64," + base64.b64encode(text.getvalue().encode("utf-8", "backslashreplace")).decode()


def _cell(value: Any) -> Any:
    # A name that a spreadsheet would take for a formula is text there by its apostrophe.
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") and value else value
