"""The texts around the facts, as `phrases.yaml` and the folder `everyday` hold them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from .table import Line, line


HERE = Path(__file__).parent


@dataclass(frozen=True)
class Phrases:
    """Wordings by what they are for."""

    systems: dict[str, tuple[str, ...]]
    evasive: tuple[Line, ...]
    echo: tuple[Line, ...]
    wrong_language: tuple[str, ...]
    long_winded: tuple[Line, ...]
    follow: dict[str, Line]
    about: tuple[Line, ...]
    thanks: tuple[tuple[Line, Line], ...]


@cache
def load_phrases() -> Phrases:
    """Read `phrases.yaml`."""
    raw: dict[str, Any] = yaml.safe_load((HERE / "phrases.yaml").read_text(encoding="utf-8"))
    return Phrases(
        systems={name: tuple(texts) for name, texts in raw["systems"].items()},
        evasive=tuple(map(line, raw["evasive"])),
        echo=tuple(map(line, raw["echo"])),
        wrong_language=tuple(raw["wrong_language"]),
        long_winded=tuple(map(line, raw["long_winded"])),
        follow={relation: line(text) for relation, text in raw["follow"].items()},
        about=tuple(map(line, raw["about"])),
        thanks=tuple((line(said), line(answered)) for said, answered in raw["thanks"]),
    )


@dataclass(frozen=True)
class Everyday:
    """A question or remark of everyday life, and the answer that somebody wrote to it."""

    prompt: str
    answer: str
    topic: str


@cache
def load_everyday() -> tuple[Everyday, ...]:
    """The rows in `everyday/*.txt`, one a line: `prompt | answer`.

    Raises:
        ValueError: A line is something else (with its file and number).
    """
    rows = []
    for path in sorted((HERE / "everyday").glob("*.txt")):
        for number, text in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
            if not text or text.startswith("#"):
                continue
            parts = [part.strip() for part in text.split("|")]
            if len(parts) != 2 or not all(parts):
                raise ValueError(f"{path.name}, line {number}: {text!r} is not 'prompt | answer'.")
            rows.append(Everyday(*parts, topic=path.stem))
    return tuple(rows)
