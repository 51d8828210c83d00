"""Plots of a run: PNG files for a folder, SVG for the page.

Their text is English and ASCII: a machine without Korean fonts would draw boxes. Korean stands in the page itself.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .curves import NOT_DRAWN, Plot, Series, points


# Okabe and Ito's colours, told apart by colour-blind readers, shifted to be legible on white and on near-black.
COLOURS = ("#2f7fc1", "#dd6b20", "#2a9d76", "#b565a7", "#c2a020", "#7a7a7a")
# Drawn in place of ink in the SVG and then turned into `currentColor`, so that the page's dark mode applies.
_INK = "#010203"
# More points than pixels only make a file large (ours).
MAX_POINTS = 400
SIZE = (3.9, 2.3)  # inches; small, so that text stays legible when the page scales the plot down

_STYLE: Any = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib, so every machine draws the same
    "font.size": 8.5,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "text.color": _INK,
    "grid.color": _INK,
    "grid.alpha": 0.12,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",
}


def curves(plot: Plot, history: Sequence[Mapping[str, Any]]) -> Figure:
    """The series of a plot in one run."""
    lines = [(series.label, points(history, series.key)) for series in plot.series]
    return _lines(lines, log_scale=plot.log_scale)


def compared_curves(plot: Plot, series: Series, runs: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> Figure:
    """One series of a plot in several runs, each given as its label and history."""
    return _lines([(label, points(history, series.key)) for label, history in runs], log_scale=plot.log_scale)


def _lines(lines: Sequence[tuple[str, tuple[list[float], list[float]]]], *, log_scale: bool) -> Figure:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=SIZE)
        axes = figure.add_subplot()
        for index, (label, (steps, values)) in enumerate(lines):
            if steps:
                _draw_line(axes, steps, values, colour=COLOURS[index % len(COLOURS)], label=label)
        if log_scale:
            axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.grid(True)
        axes.margins(x=0.02)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        if len(lines) > 1:
            _legend(axes, [label for label, (steps, _) in lines if steps])
        return figure


def _draw_line(axes: Any, steps: list[float], values: list[float], *, colour: str, label: str) -> None:
    x, y = _thin(np.array(steps), np.array(values))
    marker = "o" if len(x) <= 12 else None
    if len(x) < 40:
        axes.plot(x, y, color=colour, label=label, marker=marker, markersize=3.5, linewidth=1.6)
        return
    # Noisy logs: the line is a mean over a twentieth of the run, the log itself stays visible behind it.
    axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.3)
    width = max(3, len(y) // 20) | 1
    padded = np.pad(y, width // 2, mode="edge")
    axes.plot(x, np.convolve(padded, np.ones(width) / width, "valid"), color=colour, label=label, linewidth=1.6)


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most `MAX_POINTS` points, each the mean of its neighbours."""
    if len(x) <= MAX_POINTS:
        return x, y
    parts = np.array_split(np.arange(len(x)), MAX_POINTS)
    return np.array([x[part].mean() for part in parts]), np.array([y[part].mean() for part in parts])


def _legend(axes: Any, labels: Sequence[str]) -> None:
    # Above the axes and never wider than they are: the layout would shrink them.
    columns = max(1, min(len(labels), 40 // (max(map(len, labels)) + 6)))
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns,
        borderaxespad=0,
        fontsize=7.5,
        columnspacing=1.2,
        handlelength=1.6,
    )


def length_histogram(lengths: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Rows per number of tokens, one outline for each histogram, by its label."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=SIZE)
        axes = figure.add_subplot()
        for index, (label, one) in enumerate(lengths.items()):
            colour = COLOURS[index % len(COLOURS)]
            axes.stairs(one["counts"], one["edges"], color=colour, fill=len(lengths) == 1, alpha=0.8, label=label)
        axes.set_xlabel("tokens")
        axes.set_ylabel("rows")
        axes.grid(True, axis="y")
        if len(lengths) > 1:
            _legend(axes, list(lengths))
        return figure


def score_histograms(distributions: Mapping[str, Mapping[str, Sequence[float | None]]]) -> Figure:
    """Scores of chosen and rejected held-out answers before and after: what overlaps cannot be told apart.

    Args:
        distributions (`Mapping`): `before` and `after` -> lists of numbers, those that begin with `chosen_` and
            `rejected_` are drawn.
    """
    finite = {
        moment: {
            side: [
                value
                for name, values in lists.items()
                if name.startswith(side)
                for value in values
                if value is not None and abs(value) < NOT_DRAWN
            ]
            for side in ("chosen", "rejected")
        }
        for moment, lists in distributions.items()
    }
    moments = [moment for moment in ("before", "after") if any(finite.get(moment, {}).values())]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(SIZE[0], SIZE[1] if len(moments) == 1 else SIZE[1] * 1.25))
        every = [value for moment in moments for values in finite[moment].values() for value in values]
        low, high = (min(every), max(every)) if every else (0.0, 1.0)
        if high - low <= 1e-9 * max(abs(low), abs(high)):  # as good as equal: no room for bins between them
            low, high = low - max(0.5, 1e-6 * abs(low)), high + max(0.5, 1e-6 * abs(high))
        edges = np.linspace(low, high, 25)
        for row, axes in enumerate(np.atleast_1d(figure.subplots(max(1, len(moments)), sharex=True))[: len(moments)]):
            for index, (label, values) in enumerate(finite[moments[row]].items()):
                axes.hist(values, bins=edges, color=COLOURS[index], alpha=0.55, label=label)
            axes.set_ylabel(f"{moments[row]}\nrows")
            axes.grid(True, axis="y")
            if row == 0:
                _legend(axes, ["chosen", "rejected"])
        figure.axes[-1].set_xlabel("reward")
        return figure


def to_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):  # ticks are made while drawing
        figure.savefig(buffer, format="png", dpi=180, facecolor="white", metadata={"Software": None})
    figure.set_layout_engine("none")  # the layout just found serves the SVG too
    return buffer.getvalue()


def to_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an element of an HTML page, in the page's own ink and on its ground.

    `name` keeps ids of several figures on one page apart; `description` is read out by a screen reader. Both are ours
    and hold no text of data.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # matplotlib numbers its groups from 1 in every figure.
    svg = re.sub(r'(<g id=")', rf"\g<1>{name}-", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{description}"', 1).strip()
