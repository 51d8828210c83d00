"""How sure the measures of a run are: over how many rows each is taken, and between which bounds it lies."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..text.diversity import bootstrap_interval
from .measures import COUNTS
from .record import Number, RunRecord, plain


BY_ROW = "_by_row"


def add_measures(record: RunRecord, moment: str, measured: Mapping[str, Any]) -> None:
    """Take what was measured `before` or `after` into a record, in place, with how sure it is."""
    measured = plain(measured)
    lists = {name: value for name, value in measured.items() if isinstance(value, list)}
    counts = {name: measured[name] for name in COUNTS if name in measured}
    setattr(record, moment, {name: value for name, value in measured.items() if name not in lists | counts})
    if counts:
        record.rows["measured"] = counts
    if lists:
        record.distributions[moment] = lists
    add_intervals(record)


def add_intervals(record: RunRecord) -> None:
    """Fill in `n` and `intervals`, in place, of the lists that hold what each row adds to a measure.

    The change is that of the same rows, the paired bootstrap, where there are as many of them after as before.
    """
    rows = {moment: _finite(record.distributions.get(moment, {})) for moment in ("before", "after")}
    rows["change"] = {
        name: [b - a for a, b in zip(values, rows["after"][name], strict=True)]
        for name, values in rows["before"].items()
        if len(values) == len(rows["after"].get(name, ()))
    }
    record.n = {name: len(values) for moment in ("before", "after") for name, values in rows[moment].items()}
    record.intervals = {
        moment: {name: list(bootstrap_interval(values)) for name, values in lists.items()}
        for moment, lists in rows.items()
        if lists
    }


def _finite(lists: Mapping[str, Sequence[Number | None]]) -> dict[str, list[float]]:
    """The rows of each measure; none of a measure that was not finite on one of them."""
    return {
        name.removesuffix(BY_ROW): [float(value) for value in values if value is not None]
        for name, values in lists.items()
        if name.endswith(BY_ROW) and values and None not in values
    }
