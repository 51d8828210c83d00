"""The page of a run, one HTML file with nothing to fetch; `comparison.py` lays several runs on one."""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from .charts import Chart, charts_of
from .machine import without_folders
from .measures import Verdict, format_measure, format_number, judged, measure, measured_keys, sign
from .next_steps import next_steps
from .record import RunRecord, write_atomically
from .samples import Sample, prompt_text, read_samples
from .tables import tables_of
from .verdict import warning_in
from .words import Both, both, both_or_same, language


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
# Why training never saw a prompt, as the rows of the embedded world say it.
WAYS = {
    "asked_otherwise": "Held out: facts that training asks otherwise",
    "new_way": "Held out: ways of asking never seen",
    "only_read": "Held out: facts only read as a statement",
    "everyday": "Held out: everyday talk",
}
# Longer answers are folded to a head of this many characters and lines (ours).
LONG, LONG_LINES, HEAD, HEAD_LINES = 320, 7, 220, 4
# Rounds of samples between the first and the last that a page has (ours).
MAX_BETWEEN = 8


class Piece(NamedTuple):
    """A script or a style of the page, and the name by which the page's policy lets it in."""

    text: Markup
    hash: str


class Reading(NamedTuple):
    """A measure at one moment, and the range of its interval."""

    text: str
    range: str


class Change(NamedTuple):
    word: Verdict
    text: Both


class MeasureRow(NamedTuple):
    label: Both
    before: Reading | None
    after: Reading | None
    change: Change | None
    n: int | None


def _piece(name: str) -> Piece:
    text = (files(__package__) / "templates" / name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Piece(Markup(text), f"sha256-{digest}")


@cache
def environment() -> Environment:
    made = Environment(
        loader=PackageLoader("trl_kochat.report"),
        autoescape=True,  # every string comes from data or a model
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": format_number,
        "words": both_or_same,
        "language": language,
        "duration": duration,
        "head": head_of,
        "memory": lambda size: f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB",
        "percent": lambda share: f"{share:.0%}",
    }
    made.globals |= {"t": both, "css": _piece("page.css"), "script": _piece("page.js")}
    return made


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
    if isinstance(value, Both):
        return escape(Both(*map(_visible, value)))
    return _NOT_IN_HTML.sub(lambda found: ascii(found[0])[1:-1], str(value))


def duration(seconds: float) -> Both:
    """
    >>> duration(71.2), duration(3725)
    (Both(en='1 min 11 s', ko='1분 11초'), Both(en='1 h 2 min', ko='1시간 2분'))
    """
    minutes, rest = divmod(int(seconds), 60)
    if minutes >= 60:
        return both("{} h {} min", minutes // 60, minutes % 60)
    return both("{} min {} s", minutes, rest) if minutes else both("{} s", f"{seconds:.1f}")


def write_page(folder: Path, *, png: bool = True) -> Path:
    """Make plots and `index.html` of a report from its `metrics.json` and `samples.jsonl`.

    Args:
        png (`bool`, *optional*, defaults to `True`): Whether to draw the PNG files too; the page has drawings of its own.

    Raises:
        ValueError: The folder holds no report.
    """
    record = RunRecord.load(folder)
    charts = charts_of(record)
    if png:
        from .plots import write_pngs  # matplotlib takes half a second to load, which --help should not wait for

        write_pngs(folder, charts)
    rounds = side_by_side(read_samples(folder))
    keys = measured_keys([record])
    of_rows = [chart for chart in charts if chart.name.startswith("lengths_")]
    figures = [chart for chart in charts if chart not in of_rows]
    steps = next_steps(record) if record.run["status"] in ("finished", "stopped") else []
    sections = {
        "measures": ("Before and after", keys),
        "curves": ("Curves", figures),
        "answers": ("Answers", rounds),
        "rows": ("Rows and tokenizer", record.rows or record.tokenizer),
        "ran": ("What ran", True),
        "next": ("Go on from here", steps),
    }
    write_html(
        folder / PAGE_FILE,
        "run.html.jinja",
        sections,
        title=f"{record.recipe} ({record.preset})",
        record=record,
        method=both_or_same(METHOD_NAMES.get(record.method, record.method)),
        status=status_words(record),
        reason=without_folders(record.run["reason"] or ""),
        verdict=said_of(record),
        warnings=[_warning(one) for one in record.warnings],
        guarded=any("health/warnings" in entry for entry in record.history),
        measures=measure_rows(record, keys),
        ranges=any(record.intervals.values()),
        figures=figures_of(figures),
        row_figures=figures_of(of_rows),
        groups=_by_way(rounds),
        command=without_folders(record.run["command"] or ""),
        settings=plain_settings(record.run["settings"]),
        tables=tables_of(record, keys),
        next_steps=steps,
    )
    return folder / PAGE_FILE


def write_html(path: Path, template: str, sections: Mapping[str, tuple[str, Any]], **values: Any) -> None:
    """Fill a template in; `sections` are the title of each anchor and whether, or of what, the page has it."""
    contents = [(anchor, text) for anchor, (text, shown) in sections.items() if shown]
    write_atomically(path, environment().get_template(template).render(contents=contents, **values))


def status_words(record: RunRecord) -> Both:
    return both_or_same(STATUS_WORDS.get(record.run["status"], record.run["status"]))


def said_of(record: RunRecord) -> Both | None:
    """The record's verdict; of a language that it lacks the other one stands in."""
    said = [record.verdict.get(name) for name in ("en", "ko")]
    found = next(filter(None, said), None)
    return Both(said[0] or found, said[1] or found) if found else None


def _warning(one: Mapping[str, Any]) -> dict[str, Any]:
    """With a heading in both languages, where the code is one of the guard's; the message is English."""
    english, ko = (warning_in(one["code"], language) for language in ("en", "ko"))
    heading = Both(english, ko) if english and ko else None
    return {"steps": one["steps"], "heading": heading, "message": without_folders(one["message"])}


def measure_rows(record: RunRecord, keys: Iterable[str]) -> list[MeasureRow]:
    return [
        MeasureRow(
            both_or_same(measure(key).label),
            _reading(record, "before", key),
            _reading(record, "after", key),
            _change(record, key) if key in record.before and key in record.after else None,
            record.n.get(key),
        )
        for key in keys
    ]


def _reading(record: RunRecord, moment: str, key: str) -> Reading | None:
    values = record.before if moment == "before" else record.after
    if key not in values:
        return None
    ends = record.intervals.get(moment, {}).get(key)
    return Reading(
        format_measure(key, values[key]), "–".join(format_measure(key, end) for end in ends) if ends else ""
    )


def _change(record: RunRecord, key: str) -> Change:
    word = judged(record, key)
    if word == "same":
        looks_alike = format_measure(key, record.before[key]) == format_measure(key, record.after[key])
        return Change(word, both("same") if looks_alike else both("no clear change"))
    arrow = sign(record, key)
    return Change(word, Both(arrow, arrow) if word == "changed" else both(f"{arrow} {{}}", both(word)))


def plain_settings(settings: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Settings as a YAML file would have them, one name for each value; of a path on this machine the last part.

    >>> plain_settings({"bf16": False, "lora": {"r": 8, "target_modules": ["q", "k"]}})
    {'bf16': 'false', 'lora.r': '8', 'lora.target_modules': 'q, k'}
    """
    plain: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            plain |= plain_settings(value, f"{above}{name}.")
        else:
            plain[f"{above}{name}"] = _plain(value)
    return plain


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "–"}[value]
    return format_number(value) if isinstance(value, float) else without_folders(str(value))


def head_of(text: str) -> str:
    """The first lines of a long answer; empty for one that is shown whole."""
    lines = text.splitlines()
    return "\n".join(lines[:HEAD_LINES])[:HEAD].rstrip() if len(text) > LONG or len(lines) > LONG_LINES else ""


def figures_of(charts: Iterable[Chart]) -> list[tuple[Chart, Markup]]:
    from .drawings import draw  # matplotlib's ticks take half a second to load, which --help should not wait for

    return [(chart, draw(chart)) for chart in charts]


def side_by_side(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """One entry for each prompt with its answers: one that is generated again and again, or those of its row.

    Returns:
        `prompt`, `way` (why the prompt is held out, where its samples say so), `answers`, a list of `side` and `samples`
        (in the order of their steps), and `between`, the generated ones between the first and the last.
    """
    prompts: dict[str, dict[tuple[str, str], list[Sample]]] = {}
    for sample in samples:
        # The text of a row tells its answers apart; a generated answer is another one every time.
        name = (sample.side, sample.answer if sample.side else "")
        prompts.setdefault(prompt_text(sample.prompt), {}).setdefault(name, []).append(sample)
    return [_entry(prompt, answers) for prompt, answers in prompts.items()]


def _entry(prompt: str, answers: Mapping[tuple[str, str], list[Sample]]) -> dict[str, Any]:
    ordered = {name: sorted(group, key=lambda sample: sample.step) for name, group in answers.items()}
    first = next(iter(ordered.values()))
    places = {round(place) for place in np.linspace(1, len(first) - 2, MAX_BETWEEN)} if len(first) > 2 else set()
    return {
        "prompt": prompt,
        "way": first[0].held_out,
        "answers": [{"side": side, "samples": group} for (side, _), group in ordered.items()],
        "between": [first[place] for place in sorted(places)],
    }


def _by_way(rounds: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Prompts in groups, told apart by why training never saw them; one group without a title where none says."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in rounds:
        groups.setdefault(one["way"], []).append(one)
    if len(groups) < 2 and "" in groups:
        return [{"title": None, "rounds": rounds}]
    titles = {"": both("The course's prompts")} | {way: both(title) for way, title in WAYS.items()}
    return [
        {"title": titles.get(way) or both("Held out: {}", way.replace("_", " ")), "rounds": of_way}
        for way, of_way in groups.items()
    ]
