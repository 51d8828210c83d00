"""The before/after table for a terminal."""

from rich import box, get_console
from rich.table import Table
from rich.text import Text

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


def print_table(table: Table) -> None:
    """Print through rich's own console, with no blanks at the ends of lines to fill a log with."""
    console = get_console()
    with console.capture() as printed:
        console.print(table)
    print("\n".join(line.rstrip() for line in printed.get().splitlines()), flush=True)
