"""Which curves a trainer's log holds: a plot is a title and the keys of the log that share its axes.

What TRL's trainers log has a title and a hint; whatever else was logged is drawn under its own name.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

from .record import is_number
from .words import template_data


# Numbers from here on are not drawn: the distance between two of them may be more than a float holds (ours).
NOT_DRAWN = 1e150


class Series(NamedTuple):
    key: str
    label: str


class Plot(NamedTuple):
    """One pair of axes. `name` is the file name; a plot none of whose keys was logged is left out."""

    name: str
    title: str
    series: tuple[Series, ...]
    # What to look for, in one sentence under the plot.
    hint: str = ""
    log_scale: bool = False
    # Measured alike by every method, so that runs of two methods may be compared.
    shared: bool = False


@cache
def known_plots() -> dict[str, list[Plot]]:
    """Those of TRL's trainers (`methods`) and those that any run may have (`every_run`), from `templates/curves.yaml`."""
    return {group: [_plot(**one) for one in plots] for group, plots in template_data("curves.yaml").items()}


def _plot(name: str, title: str, key: str = "", series: Mapping[str, str] | None = None, **settings: Any) -> Plot:
    series = series or {key: "training", f"eval_{key}": "held-out"}
    return Plot(name, title, tuple(Series(*one) for one in series.items()), **settings)


# A key of this form may become text of a drawing; a log that was edited may hold any other.
_KEY = re.compile(r"[A-Za-z0-9_.@-]{1,40}(/[A-Za-z0-9_.@-]{1,40}){0,3}")
# The mean of one reward among several: all of them share their axes.
_OF_REWARD = re.compile(r"(eval_)?rewards/.+/mean")
# Counters and clocks.
_NOT_CURVES = re.compile(r"epoch|step|num_tokens|total_flos|(eval_)?(runtime|num_tokens|\w+_per_second)|health/.*")


def plots_of(history: Iterable[Mapping[str, Any]]) -> list[Plot]:
    """The plots that have something to show, their series reduced to the keys that were logged."""
    times = Counter(key for entry in history for key, value in entry.items() if is_number(value))
    methods, every_run = known_plots()["methods"], known_plots()["every_run"]
    known = {series.key for plot in (*methods, *every_run) for series in plot.series}
    others: dict[str, list[Series]] = {}
    for key in sorted(times.keys() - known):
        if times[key] > 1 and _KEY.fullmatch(key) and not _NOT_CURVES.fullmatch(key):
            *above, last = key.removeprefix("eval_").split("/")
            group = above if len(above) > 1 else [*above, last]  # what has a name in common thrice is one family
            if _OF_REWARD.fullmatch(key):
                group, last = ["each_reward"], above[-1]
            label = last.replace("_", " ").strip() + (", held-out" if key.startswith("eval_") else "")
            others.setdefault("_".join(re.sub(r"\W", "_", part) for part in group), []).append(Series(key, label))
    named = [Plot(f"log_{name}", name.replace("_", " ").strip(), tuple(series)) for name, series in others.items()]
    plots = []
    for plot in (*methods, *named, *every_run):
        series = tuple(one for one in plot.series if times[one.key])
        if series:
            plots.append(plot._replace(series=series))
    return plots


def points(history: Iterable[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Steps and values of one key; a value that no axis can hold is left out. The last entry of a step counts."""
    by_step = {
        entry["step"]: entry[key] for entry in history if is_number(entry.get(key)) and abs(entry[key]) < NOT_DRAWN
    }
    steps = sorted(by_step)
    return [float(step) for step in steps], [float(by_step[step]) for step in steps]
