"""Charts as PNG files, to put into a note or a talk; the page has drawings of its own.

Their text is English and ASCII: a machine without Korean fonts would draw boxes.
"""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from .charts import MIN_SMOOTHED, Chart
from .measures import format_number


# Okabe and Ito's colours, told apart by colour-blind readers, shifted to be legible on white and on near-black.
COLOURS = ("#2f7fc1", "#dd6b20", "#2a9d76", "#b565a7", "#b08d0f", "#7a7a7a")
SIZE = (3.9, 2.3)  # inches; small, so that text stays legible when the picture is scaled down

_STYLE: Any = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib, so every machine draws the same
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.12,
    "legend.frameon": False,
    # Fixed, since a layout that is computed draws everything twice.
    "figure.subplot.left": 0.19,
    "figure.subplot.right": 0.97,
    "figure.subplot.bottom": 0.19,
    "figure.subplot.top": 0.89,
}


def write_pngs(folder: Path, charts: Iterable[Chart]) -> None:
    for chart in charts:
        (folder / f"{chart.name}.png").write_bytes(to_png(chart))


def to_png(chart: Chart) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=SIZE)
        axes = figure.add_subplot()
        for index, line in enumerate(chart.lines):
            colour, label = COLOURS[index % len(COLOURS)], line.name.en
            if chart.edges:
                axes.stairs(line.values, chart.edges, color=colour, fill=True, alpha=0.6, label=label)
                continue
            if len(line.steps) >= MIN_SMOOTHED:
                axes.plot(line.steps, line.values, color=colour, linewidth=0.8, alpha=0.3)
            marker = "o" if len(line.steps) <= 12 else None
            axes.plot(line.steps, line.smooth, color=colour, label=label, marker=marker, markersize=3.5, linewidth=1.6)
        if chart.log_scale:
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_number(value)))
        if not chart.edges:
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        axes.set_xlabel(chart.axis.en)
        axes.set_title(chart.title.en, fontsize=8.5, loc="left")
        axes.grid(True)
        if len(chart.lines) > 1:
            axes.legend(fontsize=7.5)
        figure.savefig(buffer, format="png", dpi=180, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
