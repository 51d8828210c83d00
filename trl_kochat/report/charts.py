"""What the report draws of a run, for the page (`drawings`) and for PNG files (`plots`)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .curves import NOT_DRAWN, Plot, Series, plots_of, points
from .lengths import DRAWN
from .record import RunRecord
from .words import Both, both, both_or_same


# More points than pixels only make a drawing large (ours).
MAX_POINTS = 300
# A log of more points gets a line of means through it (ours).
MIN_SMOOTHED = 40
BINS = 24


class Line(NamedTuple):
    """One series: its name and its points, or with `edges` in its chart its counts between them."""

    name: Both
    steps: Any
    values: Any

    @property
    def smooth(self) -> Any:
        """The values, or their means over a twentieth of a long run."""
        if len(self.values) < MIN_SMOOTHED:
            return self.values
        width = max(3, len(self.values) // 20) | 1
        return np.convolve(np.pad(self.values, width // 2, mode="edge"), np.ones(width) / width, "valid")


class Chart(NamedTuple):
    """One pair of axes: curves over steps, or histograms where there are `edges`."""

    name: str
    title: Both
    axis: Both
    lines: Sequence[Line]
    hint: Both | None = None
    log_scale: bool = False
    edges: Sequence[float] = ()


def charts_of(record: RunRecord) -> list[Chart]:
    """Scores of held-out answers, curves and lengths, as far as the run has them."""
    curves = [
        chart
        for plot in plots_of(record.history)
        if (chart := curve(plot, [(both_or_same(one.label), one, record.history) for one in plot.series]))
    ]
    return [*_scores(record.distributions), *curves, *_lengths(record)]


def curve(plot: Plot, series: Sequence[tuple[Both, Series, Sequence[Mapping[str, Any]]]]) -> Chart | None:
    """Series of logs, each by its name, on the axes of a plot; `None` where they hold nothing that can be drawn."""
    lines = []
    for name, one, history in series:
        steps, values = (np.array(side) for side in points(history, one.key))
        if plot.log_scale:
            steps, values = steps[values > 0], values[values > 0]
        if len(steps) > MAX_POINTS:  # each point the mean of its neighbours
            parts = np.array_split(np.arange(len(steps)), MAX_POINTS)
            steps, values = (np.array([side[part].mean() for part in parts]) for side in (steps, values))
        if len(steps):
            lines.append(Line(name, steps, values))
    hint = both(plot.hint) if plot.hint else None
    return Chart(plot.name, both_or_same(plot.title), both("step"), lines, hint, plot.log_scale) if lines else None


def _scores(distributions: Mapping[str, Mapping[str, Sequence[float | None]]]) -> list[Chart]:
    """Scores of chosen and rejected held-out answers before and after: what overlaps cannot be told apart."""
    found = {}
    for moment in ("before", "after"):
        lists = {name: v for name, v in distributions.get(moment, {}).items() if not name.endswith("_by_row")}
        sides = {
            side: [
                value
                for name, values in lists.items()
                if name.startswith(side)
                for value in values
                if value is not None and abs(value) < NOT_DRAWN
            ]
            for side in ("chosen", "rejected")
        }
        if sides["chosen"]:  # a diverged model has none
            found[moment] = sides
    every = [value for sides in found.values() for values in sides.values() for value in values]
    if not every:
        return []
    edges = np.linspace(*span(min(every), max(every)), BINS + 1)
    return [
        Chart(
            f"scores_{moment}",
            both("Scores of held-out answers, {}", both(moment)),
            both("score"),
            [Line(both(side), None, np.histogram(values, edges)[0]) for side, values in sides.items()],
            both("The less the two overlap, the better they are told apart."),
            edges=edges.tolist(),
        )
        for moment, sides in found.items()
    ]


def _lengths(record: RunRecord) -> list[Chart]:
    return [
        Chart(
            "lengths_" + name.replace(" ", "_"),
            both("Length of the training rows: {}", both(name)),
            both("tokens"),
            [Line(both("rows"), None, np.array(one["counts"]))],
            edges=one["edges"],
        )
        for name, one in record.rows.get("lengths", {}).items()
        if name in DRAWN
    ]


def span(low: float, high: float, margin: float = 0.0) -> tuple[float, float]:
    """A little more than the numbers take, and never nothing."""
    low, high = float(low), float(high)
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # as good as equal: no room for ticks or bins between them
        half = abs(low) / 4 or 0.5
        return low - half, high + half
    return low - margin * (high - low), high + margin * (high - low)
