"""One page on several runs: what differs, measures, curves on one axis, answers to the same prompts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .charts import Chart, curve
from .curves import Plot, Series, plots_of
from .measures import measured_keys
from .page import (
    MeasureRow,
    figures_of,
    measure_rows,
    plain_settings,
    said_of,
    side_by_side,
    status_words,
    write_html,
)
from .record import RunRecord
from .samples import Sample, read_samples
from .words import Both, both, both_or_same


def write_comparison(folders: Sequence[Path], path: Path) -> None:
    """Write one page on several runs: what differs, measures, curves on one axis, answers to the same prompts.

    Raises:
        ValueError: A folder holds no report.
    """
    records = [RunRecord.load(folder) for folder in folders]
    letters = [chr(ord("A") + index) if index < 26 else f"R{index + 1}" for index in range(len(records))]
    runs = [
        {
            "letter": letter,
            "record": record,
            "folder": folder.parent.name or str(folder.parent),
            "status": status_words(record),
            "verdict": said_of(record),
        }
        for letter, record, folder in zip(letters, records, folders, strict=True)
    ]
    figures = _shared_curves(letters, records)
    answers = shared_answers([side_by_side(read_samples(folder)) for folder in folders])
    differences = _differences(records)
    measures = measures_of(records)
    sections = {
        "runs": ("Runs", True),
        "measures": ("Before and after", measures),
        "curves": ("Curves", figures),
        "answers": ("Answers", answers),
        "differences": ("What differs", differences),
    }
    write_html(
        path,
        "comparison.html.jinja",
        sections,
        title=f"{len(records)} runs compared",
        runs=runs,
        measures=measures,
        figures=figures_of(figures),
        answers=answers,
        differences=differences,
    )


def _shared_curves(letters: Sequence[str], records: Sequence[RunRecord]) -> list[Chart]:
    """Each series with the runs that share its axes.

    Losses of two methods measure two things: what is a method's own is laid together within that method only.
    """
    shared: dict[tuple[str, Plot, Series], list[int]] = {}
    for index, record in enumerate(records):
        for plot in plots_of(record.history):
            for series in plot.series:
                key = ("" if plot.shared else record.method, plot._replace(series=()), series)
                shared.setdefault(key, []).append(index)
    charts = []
    for (_, plot, series), indices in shared.items():
        names = [Both(letters[index], letters[index]) for index in indices]
        runs = [(name, series, records[index].history) for name, index in zip(names, indices, strict=True)]
        chart = curve(plot, runs)
        if chart is None:
            continue
        title = chart.title
        if series.label.lower() not in plot.title.lower():
            title = both("{}: {}", title, both_or_same(series.label))
        title = both("{} ({})", title, ", ".join(letters[index] for index in indices))
        # What runs share comes first, whatever the order of the runs.
        charts.append((len(indices) == 1, chart._replace(title=title)))
    return [chart for _, chart in sorted(charts, key=lambda entry: entry[0])]


def _differences(records: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """Settings and versions that are not the same in all runs: name and one value per run."""
    flat = [
        plain_settings(
            {
                "model": record.model,
                "preset": record.preset,
                "seed": record.run["seed"],
                "device": record.run["device"],
                **{f"rows {key}": value for key, value in record.rows.items() if isinstance(value, int)},
                **record.run["settings"],
                **{f"{package} version": version for package, version in record.versions.items()},
            }
        )
        for record in records
    ]
    names = dict.fromkeys(name for one in flat for name in one)
    table = [(name, [one.get(name, "–") for one in flat]) for name in names]
    return [(name, values) for name, values in table if any(value != values[0] for value in values)]


def measures_of(records: Sequence[RunRecord]) -> list[tuple[Both, tuple[MeasureRow, ...]]]:
    """The label of each measure, with its row in every run, which is empty where a run does not have it."""
    keys = measured_keys(records)
    columns = [measure_rows(record, keys) for record in records]
    return [(cells[0].label, cells) for cells in zip(*columns, strict=True)]


def shared_answers(columns: Sequence[Sequence[dict[str, Any]]]) -> list[tuple[str, list[tuple[int, list[Sample]]]]]:
    """Prompts with the runs that answered them and their samples; if two runs share a prompt, the shared ones only."""
    by_prompt: dict[str, list[tuple[int, list[Sample]]]] = {}
    for index, entries in enumerate(columns):
        for entry in entries:
            for answer in entry["answers"]:
                if not answer["side"]:
                    by_prompt.setdefault(entry["prompt"], []).append((index, answer["samples"]))
    shared = {prompt: row for prompt, row in by_prompt.items() if len(row) > 1}
    return list((shared or by_prompt).items())
