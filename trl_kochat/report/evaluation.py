"""Several models on the same rows: one page, and the same numbers as lines and as JSON.

Each model is a record whose `after` is its own and whose `before` is the first model's.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .comparison import measures_of, shared_answers
from .measures import format_number, judged, measured_keys
from .page import side_by_side, write_html
from .record import RunRecord
from .samples import Sample
from .words import Both, both


def write_evaluation(
    path: Path,
    records: Sequence[RunRecord],
    samples: Sequence[Sequence[Sample]],
    *,
    facts: Sequence[str | Both],
    n: int,
) -> None:
    """Write a page: measures with one column for each model, and the models' answers to the same prompts.

    Args:
        samples: The answers of each model.
        facts: What else there is to say, in short.
        n: The number of rows.
    """
    answers = shared_answers([side_by_side(of_model) for of_model in samples])
    sections = {"measures": ("Measures", True), "answers": ("Answers", answers)}
    write_html(
        path,
        "evaluation.html.jinja",
        sections,
        title=f"{', '.join(record.model for record in records)}: {n}",
        names=[record.model for record in records],
        facts=facts,
        n=n,
        measures=measures_of(records),
        answers=answers,
    )


def judged_words(label: str, against: str, *, rate: float, low: float, high: float, **times: int) -> Both:
    """What a judge said of a model's answers against another's."""
    counts = (times[name] for name in ("wins", "losses", "ties", "disagreements"))
    shares = (f"{share:.1%}" for share in (rate, low, high))
    return both(
        "{} against {}: {} ({} to {}); wins {}, losses {}, ties {}, another verdict when swapped {}",
        *(label, against, *shares, *counts),
    )


def lines_of(records: Sequence[RunRecord]) -> Iterator[list[str]]:
    """A head and one line of cells for each measure of each model."""
    yield ["measure", "model", "value", "low", "high", "n", "against the first"]
    for key in measured_keys(records):
        for record in records:
            if key in record.after:
                ends = record.intervals.get("after", {}).get(key, ["", ""])
                cells = [value if value == "" else format_number(value) for value in (record.after[key], *ends)]
                change = judged(record, key) if key in record.before else ""
                yield [key, record.model, *cells, str(record.n.get(key, "")), change]


def measures_as_json(record: RunRecord) -> dict[str, Any]:
    """A model's `measures`, how they differ from the first model's (`change`), and what was left out and cut (`rows`)."""
    intervals = record.intervals
    return {
        "measures": {
            key: {"value": value, "interval": intervals.get("after", {}).get(key), "n": record.n.get(key)}
            for key, value in record.after.items()
        },
        "change": {
            key: {"interval": intervals.get("change", {}).get(key), "judged": judged(record, key)}
            for key in record.after
            if key in record.before
        },
        "rows": record.rows.get("measured", {}),
    }
