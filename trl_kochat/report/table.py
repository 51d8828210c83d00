"""Tables for a terminal: a run before and after, and several models beside each other."""

from collections.abc import Sequence

from rich import box, get_console
from rich.table import Table
from rich.text import Text

from ..text.shown import printable
from .measures import format_measure, judged, measure, measured_keys, sign
from .record import RunRecord


STYLES = {"better": "green", "worse": "red", "same": "dim", "changed": ""}


def before_after_table(record: RunRecord) -> Table:
    """One row for each measure; a measure without its other half shows a dash."""
    # Text, not markup: a model name may hold square brackets.
    table = Table(
        title=Text(f"{record.recipe} ({record.preset}): {record.model}"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("held-out rows")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    table.add_column("")
    table.add_column("n", justify="right")
    for key in measured_keys([record]):
        cells = [format_measure(key, side[key]) if key in side else "-" for side in (record.before, record.after)]
        outcome = Text("")
        if key in record.before and key in record.after:
            word = judged(record, key)
            outcome = Text(sign(record, key) + (f" {word}" if word in ("better", "worse") else ""), style=STYLES[word])
        table.add_row(Text(measure(key).label), *cells, outcome, str(record.n.get(key, "")))
    return table


def evaluation_table(records: Sequence[RunRecord]) -> Table:
    """One row for each measure, one column for each model; a range below each value, and a sign where a model differs
    from the first by more than chance."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=False)
    table.add_column("")
    for record in records:
        table.add_column(Text(printable(record.model)), justify="right")
    table.add_column("n", justify="right")
    for key in measured_keys(records):
        counted = next((record.n[key] for record in records if key in record.n), "")
        table.add_row(Text(measure(key).label), *(_cell(record, key) for record in records), str(counted))
    return table


def _cell(record: RunRecord, key: str) -> Text:
    if key not in record.after:
        return Text("-")
    cell = Text(format_measure(key, record.after[key]))
    if key in record.before:
        cell.append(f" {sign(record, key)}", style=STYLES[judged(record, key)])
    if ends := record.intervals.get("after", {}).get(key):
        cell.append("\n" + " – ".join(format_measure(key, end) for end in ends), style="dim")
    return cell


def print_table(table: Table) -> None:
    """Print through rich's own console, with no blanks at the ends of lines to fill a log with."""
    console = get_console()
    with console.capture() as printed:
        console.print(table)
    print("\n".join(line.rstrip() for line in printed.get().splitlines()), flush=True)
