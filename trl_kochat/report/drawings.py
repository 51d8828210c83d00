"""Drawings of the page: SVG made of numbers alone, which the page's script reads out under the pointer.

Every text in them is a number; names of series and axes stand beside them, in the page's language.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from .charts import MIN_SMOOTHED, Chart, span
from .measures import format_number


# Units of the drawing, at least as many pixels: its text stays above 12 px on a phone.
WIDTH, HEIGHT, TEXT = 320, 190, 12.5
TOP, RIGHT, BOTTOM = 8, 12, 22
# Fewer points are marked one by one (ours).
MAX_MARKED = 25


def draw(chart: Chart) -> Markup:
    """A chart in the page's colours, its numbers beside it for the page's script."""
    values = np.concatenate([line.values for line in chart.lines])
    if chart.edges:
        frame = _Frame(np.array(chart.edges), np.append(values, 0), whole_y=True)
        parts = [_bars(frame, chart.edges, line.values, f"c{n % 6}") for n, line in enumerate(chart.lines)]
        steps: list[Any] = [(np.array(chart.edges[:-1]) + np.array(chart.edges[1:])) / 2] * len(chart.lines)
    else:
        steps = [line.steps for line in chart.lines]
        frame = _Frame(np.concatenate(steps), values, log_scale=chart.log_scale, whole_x=True)
        parts = [
            _curve(frame, line.steps, line.values, line.smooth, f"c{n % 6}") for n, line in enumerate(chart.lines)
        ]
    series = [
        {"name": line.name, "x": _short(x), "y": _short(line.values)}
        for line, x in zip(chart.lines, steps, strict=True)
    ]
    return _svg([frame.axes(), *parts], {"axis": chart.axis, **frame.data, "series": series})


def _curve(frame: "_Frame", x: Any, y: Any, smooth: Any, colour: str) -> str:
    if len(x) >= MIN_SMOOTHED:
        return _path(frame, x, y, f"{colour} faint") + _path(frame, x, smooth, colour)
    marks = [
        f'<circle class="{colour}" cx="{px:.1f}" cy="{py:.1f}" r="2.5"/>'
        for px, py in zip(frame.x(x), frame.y(y), strict=True)
    ]
    return _path(frame, x, y, colour) + "".join(marks if len(x) <= MAX_MARKED else [])


def _bars(frame: "_Frame", edges: Sequence[float], counts: Any, colour: str) -> str:
    left, right = frame.x(np.array(edges[:-1])), frame.x(np.array(edges[1:]))
    return "".join(
        f'<rect class="{colour}" x="{a:.1f}" y="{top:.1f}" width="{max(b - a - 0.5, 0.5):.1f}" '
        f'height="{HEIGHT - BOTTOM - top:.1f}"/>'
        for a, b, top, count in zip(left, right, frame.y(counts), counts, strict=True)
        if count
    )


class _Frame:
    """Two axes: where a number lies in the drawing, and the ticks."""

    def __init__(self, x: Any, y: Any, *, log_scale: bool = False, whole_x: bool = False, whole_y: bool = False):
        self.log_scale = log_scale
        self.x0, self.x1 = span(x.min(), x.max())
        self.x_ticks = _ticks(self.x0, self.x1, 6, whole=whole_x)
        if log_scale:
            self.y0, self.y1 = span(np.log10(y).min(), np.log10(y).max(), 0.05)
            self.y_ticks = _log_ticks(self.y0, self.y1)
        else:
            self.y0, self.y1 = span(y.min(), y.max(), 0.0 if whole_y else 0.05)
            self.y_ticks = _ticks(self.y0, self.y1, 6, whole=whole_y)
        self.left = 12 + 7.2 * max((len(format_number(tick)) for tick in self.y_ticks), default=1)

    @property
    def data(self) -> dict[str, Any]:
        return {"left": self.left, "right": WIDTH - RIGHT, "width": WIDTH, "x": _short([self.x0, self.x1])}

    def x(self, values: Any) -> Any:
        return self.left + (values - self.x0) / (self.x1 - self.x0) * (WIDTH - RIGHT - self.left)

    def y(self, values: Any) -> Any:
        values = np.log10(values) if self.log_scale else values
        return HEIGHT - BOTTOM - (values - self.y0) / (self.y1 - self.y0) * (HEIGHT - BOTTOM - TOP)

    def axes(self) -> str:
        parts = []
        for tick in self.y_ticks:
            y = float(self.y(np.float64(tick)))
            parts.append(f'<line class="grid" x1="{self.left:.1f}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(
                f'<text x="{self.left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{format_number(tick)}</text>'
            )
        for tick in self.x_ticks:
            x = float(self.x(np.float64(tick)))
            # A number in the corner would stand half outside.
            anchor = "end" if x > WIDTH - 20 else "middle"
            parts.append(
                f'<text x="{x if anchor == "middle" else WIDTH - 2:.1f}" y="{HEIGHT - 4}" text-anchor="{anchor}">'
                f"{format_number(tick)}</text>"
            )
        return "".join(parts)


def _ticks(low: float, high: float, count: int, *, whole: bool) -> list[float]:
    found = MaxNLocator(count, steps=[1, 2, 5, 10], integer=whole, min_n_ticks=1).tick_values(low, high)
    slack = 1e-9 * (high - low)
    return [float(round(tick, 12)) for tick in found if low - slack <= tick <= high + slack]


def _log_ticks(low: float, high: float) -> list[float]:
    """Where the axis has room 1, 2 and 5 of each power of ten, else the powers alone, every n-th of many; on a short
    axis round numbers.
    """
    if high - low < 0.7:
        return _ticks(10**low, 10**high, 5, whole=False)
    powers = range(math.floor(low), math.ceil(high) + 1)
    for digits in ((1, 2, 5), (1,)):
        ticks = [float(f"{digit}e{power}") for power in powers for digit in digits]
        ticks = [tick for tick in ticks if tick and low <= math.log10(tick) <= high]
        if 2 <= len(ticks) <= 6:
            return ticks
    return ticks[:: max(1, len(ticks) // 5)]


def _path(frame: _Frame, x: Any, y: Any, kind: str) -> str:
    points = " ".join(f"{px:.1f},{py:.1f}" for px, py in zip(frame.x(x), frame.y(y), strict=True))
    return f'<polyline class="{kind}" points="{points}"/>'


def _short(values: Sequence[float] | Any) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _svg(parts: Sequence[str], data: Mapping[str, Any]) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" font-size="{}" data-chart="{}">{}</svg>').format(
        WIDTH, HEIGHT, TEXT, json.dumps(data, ensure_ascii=False, separators=(",", ":")), Markup("".join(parts))
    )
