"""The page of a run, and the page that compares several: one HTML file each, with nothing to fetch."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .curves import Plot, Series, plots_of
from .lengths import DRAWN
from .measures import format_measure, format_number, judged, measure, sign
from .next_steps import next_steps
from .record import RunRecord, write_atomically
from .samples import Sample, prompt_text, read_samples


if TYPE_CHECKING:
    from matplotlib.figure import Figure


PAGE_FILE = "index.html"
METHOD_NAMES = {
    "sft": "supervised fine-tuning",
    "reward": "reward model",
    "dpo": "direct preference optimization",
    "ppo": "proximal policy optimization",
    "grpo": "group relative policy optimization",
    "rloo": "REINFORCE leave-one-out",
    "kto": "Kahneman-Tversky optimization",
}
STATUS_WORDS = {
    "running": "not finished: still running, or killed",
    "finished": "finished",
    "stopped": "stopped before its last step",
    "interrupted": "interrupted",
    "failed": "failed",
}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("trl_kochat.report"),
        autoescape=True,  # every string comes from data or a model
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": format_number,
        "measured": lambda value, key: format_measure(key, value),
        "label": lambda key: measure(key).label,
        "duration": duration,
        "memory": lambda size: f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB",
        "percent": lambda share: f"{share:.0%}",
    }
    environment.globals |= {"judged": judged, "sign": sign}
    return environment


# Characters that HTML does not have, and in whose place a browser would show U+FFFD, which nobody wrote.
_NOT_IN_HTML = re.compile(
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)


def _visible(value: Any) -> Any:
    """What a page shows for a value: its text, with `\\x1b` and the like for what HTML cannot hold."""
    if isinstance(value, Markup):
        return value
    return _NOT_IN_HTML.sub(lambda found: ascii(found[0])[1:-1], str(value))


def duration(seconds: float) -> str:
    """
    >>> duration(71.2), duration(3725)
    ('1 min 11 s', '1 h 2 min')
    """
    minutes, rest = divmod(int(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def write_page(folder: Path, *, png: bool = True) -> Path:
    """Make plots and `index.html` of a report from its `metrics.json` and `samples.jsonl`.

    Args:
        png (`bool`, *optional*, defaults to `True`): Whether to draw the PNG files too; the page has plots of its own.

    Raises:
        ValueError: The folder holds no report.
    """
    from . import plots  # matplotlib takes half a second to load, which a command's --help should not wait for

    record = RunRecord.load(folder)
    samples = read_samples(folder)
    figures = _figures(record)
    for name, _, figure in figures if png else ():
        (folder / f"{name}.png").write_bytes(plots.to_png(figure))
    page = (
        _environment()
        .get_template("run.html.jinja")
        .render(
            title=f"{record.recipe} ({record.preset})",
            record=record,
            method_name=METHOD_NAMES.get(record.method, record.method),
            status=STATUS_WORDS.get(record.run["status"], record.run["status"]),
            figures={name: (plot, _svg(figure, name, plot.title)) for name, plot, figure in figures},
            warnings=record.warnings,
            guarded=any("health/warnings" in entry for entry in record.history),
            rounds=side_by_side(samples),
            next_steps=next_steps(record) if record.run["status"] in ("finished", "stopped") else [],
        )
    )
    write_atomically(folder / PAGE_FILE, page)
    return folder / PAGE_FILE


def _figures(record: RunRecord) -> list[tuple[str, Plot, "Figure"]]:
    """File name, what it shows and the figure, in the order of the page."""
    from . import plots

    figures = []
    chosen = [
        value
        for lists in (record.distributions.get(moment, {}) for moment in ("before", "after"))
        for name, values in lists.items()
        if name.startswith("chosen")
        for value in values
    ]
    if any(value is not None for value in chosen):  # a diverged model has none
        plot = Plot(
            "scores", "Rewards of held-out answers", (), "The less the two overlap, the better they are told apart."
        )
        figures.append((plot.name, plot, plots.score_histograms(record.distributions)))
    for plot in plots_of(record.history):
        figures.append((plot.name, plot, plots.curves(plot, record.history)))
    lengths = {name: one for name, one in record.rows.get("lengths", {}).items() if name in DRAWN}
    if lengths:
        plot = Plot("lengths", "Length of the training rows", ())
        figures.append((plot.name, plot, plots.length_histogram(lengths)))
    return figures


def _svg(figure: "Figure", name: str, title: str) -> Markup:
    from . import plots

    # Ours from the first to the last character: labels are constants, data are numbers.
    return Markup(plots.to_svg(figure, name, title))


def side_by_side(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """One entry for each prompt with its answers: one that is generated again and again, or those of its row.

    Returns:
        `prompt` and `answers`, a list of `side` and `samples` (in the order of their steps).
    """
    prompts: dict[str, dict[tuple[str, str], list[Sample]]] = {}
    for sample in samples:
        # The text of a row tells its answers apart; a generated answer is another one every time.
        name = (sample.side, sample.answer if sample.side else "")
        prompts.setdefault(prompt_text(sample.prompt), {}).setdefault(name, []).append(sample)
    return [
        {
            "prompt": prompt,
            "answers": [
                {"side": side, "samples": sorted(group, key=lambda sample: sample.step)}
                for (side, _), group in answers.items()
            ],
        }
        for prompt, answers in prompts.items()
    ]


def write_comparison(folders: Sequence[Path], path: Path) -> None:
    """Write one page on several runs: what differs, measures, curves on one axis, answers to the same prompts.

    Raises:
        ValueError: A folder holds no report.
    """
    records = [RunRecord.load(folder) for folder in folders]
    letters = [chr(ord("A") + index) if index < 26 else f"R{index + 1}" for index in range(len(records))]
    columns = [side_by_side(read_samples(folder)) for folder in folders]
    page = (
        _environment()
        .get_template("comparison.html.jinja")
        .render(
            title=f"{len(records)} runs compared",
            runs=list(zip(letters, records, [folder.parent for folder in folders], strict=True)),
            differences=_differences(records),
            measures=_measures(records),
            figures=_shared_curves(letters, records),
            answers=_answers(columns),
        )
    )
    write_atomically(path, page)


def _shared_curves(letters: Sequence[str], records: Sequence[RunRecord]) -> list[tuple[str, str, Markup]]:
    """Title, hint and drawing of each series, with the runs that share its axes.

    Losses of two methods measure two things: what is a method's own is laid together within that method only.
    """
    from . import plots

    shared: dict[tuple[str, Plot, Series], list[int]] = {}
    for index, record in enumerate(records):
        for plot in plots_of(record.history):
            for series in plot.series:
                key = ("" if plot.shared else record.method, plot._replace(series=()), series)
                shared.setdefault(key, []).append(index)
    figures = []
    for number, ((_, plot, series), indices) in enumerate(shared.items()):
        runs = [(letters[index], records[index].history) for index in indices]
        title = f"{plot.title}: {series.label}" if series.label.lower() not in plot.title.lower() else plot.title
        title += f" ({', '.join(label for label, _ in runs)})"
        drawing = _svg(plots.compared_curves(plot, series, runs), f"{plot.name}-{number}", title)
        # What runs share comes first, whatever the order of the runs.
        figures.append((len(indices) == 1, number, (title, plot.hint, drawing)))
    return [figure for *_, figure in sorted(figures, key=lambda entry: entry[:2])]


def _differences(records: Sequence[RunRecord]) -> list[tuple[str, list[Any]]]:
    """Settings and versions that are not the same in all runs: name and one value per run."""
    flat = [
        {
            "model": record.model,
            "preset": record.preset,
            "seed": record.run["seed"],
            "device": record.run["device"],
            **{f"rows {key}": value for key, value in record.rows.items() if isinstance(value, int)},
            **record.run["settings"],
            **{f"{package} version": version for package, version in record.versions.items()},
        }
        for record in records
    ]
    names = dict.fromkeys(name for one in flat for name in one)
    table = [(name, [one.get(name) for one in flat]) for name in names]
    return [(name, values) for name, values in table if any(value != values[0] for value in values)]


def _measures(records: Sequence[RunRecord]) -> list[str]:
    return list(dict.fromkeys(key for record in records for key in record.before | record.after))


def _answers(columns: Sequence[Sequence[dict[str, Any]]]) -> list[tuple[str, list[tuple[int, list[Sample]]]]]:
    """Prompts with the runs that answered them and their samples; if two runs share a prompt, the shared ones only."""
    by_prompt: dict[str, list[tuple[int, list[Sample]]]] = {}
    for index, entries in enumerate(columns):
        for entry in entries:
            for answer in entry["answers"]:
                if not answer["side"]:
                    by_prompt.setdefault(entry["prompt"], []).append((index, answer["samples"]))
    shared = {prompt: row for prompt, row in by_prompt.items() if len(row) > 1}
    return list((shared or by_prompt).items())
