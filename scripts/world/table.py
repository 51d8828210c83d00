"""The table of facts, as the files in `facts/` hold it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from .numbers import counted, summed
from .particles import fill


FACTS = Path(__file__).parent / "facts"
LEVELS = ("polite", "plain")  # 존댓말, 반말
MAX_SUM = 40
MAX_TERM = 20


@dataclass(frozen=True)
class Line:
    """One wording in both levels."""

    polite: str
    plain: str

    def at(self, level: str) -> str:
        return self.polite if level == "polite" else self.plain


def line(text: str) -> Line:
    """Read "존댓말 | 반말"."""
    parts = [part.strip() for part in text.split("|")]
    if len(parts) != 2 or not all(parts):
        raise ValueError(f"{text!r} is not '존댓말 | 반말'.")
    return Line(*parts)


@dataclass(frozen=True)
class Fact:
    """One true statement: what `subject` has for its relation."""

    relation: str
    subject: str
    value: str
    accepted: tuple[str, ...]
    """Words by which an answer names the value; `~` at the end: any ending may follow."""
    near: tuple[str, ...] = ()
    """Words for other values that are true as well, or nearly so: neither right nor wrong."""
    words: Mapping[str, str] = field(default_factory=dict, compare=False)
    """What fills the slots of templates."""

    @property
    def id(self) -> str:
        return f"{self.relation}/{self.subject}"


@dataclass(frozen=True)
class Relation:
    """All facts of one kind and the ways to ask for them, answer and state them."""

    name: str
    topic: str
    ask: tuple[Line, ...]
    ask_held_out: tuple[Line, ...]
    answer: tuple[Line, ...]
    state: tuple[str, ...]
    facts: tuple[Fact, ...]
    values: Mapping[str, tuple[str, ...]]
    """Value to the words that name it."""
    numeric: bool = False


@dataclass(frozen=True)
class World:
    """Relations by name, and what may stand before an answer to a request and behind one."""

    relations: Mapping[str, Relation]
    openers: tuple[Line, ...]
    closers: tuple[Line, ...]

    @property
    def facts(self) -> list[Fact]:
        return [fact for relation in self.relations.values() for fact in relation.facts]


def _split(text: str) -> list[str]:
    return [part.strip() for part in str(text).split(",")]


def _facts_of(raw: Mapping[str, Any]) -> tuple[dict[str, tuple[str, ...]], list[Fact]]:
    name, numeric = raw["relation"], raw.get("numeric", False)
    pairs = [(str(value), subject) for value, listed in raw["facts"].items() for subject in _split(listed)]
    if raw.get("both_ways"):
        pairs += [(subject, value) for value, subject in pairs]
    forms, near = raw.get("forms", {}), raw.get("near", {})
    unknown = (forms.keys() | near.keys()) - {value for value, _ in pairs}
    if unknown:
        raise ValueError(f"{name}: forms or near of {', '.join(sorted(unknown))}, which is no value.")
    values = {
        value: counted(value) if numeric else (value, *map(str, forms.get(value, ())))
        for value in dict.fromkeys(value for value, _ in pairs)
    }
    facts = []
    for value, subject in pairs:
        words = {"x": subject, "v": value.replace(" ", "") if numeric else value}
        if numeric:
            unit = value.split()[1]
            words["q"] = "며칠" if unit == "일" else f"몇 {unit}"
        others = tuple(word for other in near.get(value, ()) for word in values[str(other)])
        facts.append(Fact(name, subject, value, values[value], others, words))
    return values, facts


def _sums() -> tuple[dict[str, tuple[str, ...]], list[Fact]]:
    facts = []
    for a in range(1, MAX_TERM + 1):
        for b in range(1, MAX_TERM + 1):
            words = {"a": str(a), "b": str(b), "v": str(a + b), "x": f"{a} 더하기 {b}"}
            facts.append(Fact("sum", f"{a}+{b}", str(a + b), summed(a + b), (), words))
    return {str(total): summed(total) for total in range(2, MAX_SUM + 1)}, facts


@cache
def load_world() -> World:
    """Read `facts/`: a file for each relation and `frames.yaml`, whose ways of asking fit them all."""
    frames = yaml.safe_load((FACTS / "frames.yaml").read_text(encoding="utf-8"))
    relations = {}
    for path in sorted(FACTS.glob("*.yaml")):
        if path.stem == "frames":
            continue
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        values, facts = _sums() if path.stem == "sum" else _facts_of(raw)
        asked = {
            key: tuple(
                [line(text) for text in raw[key]] + [line(text.replace("{c}", raw["clause"])) for text in frames[key]]
            )
            for key in ("ask", "ask_held_out")
        }
        relations[raw["relation"]] = Relation(
            name=raw["relation"],
            topic=raw["topic"],
            **asked,
            answer=tuple(map(line, raw["answer"])),
            state=tuple(raw["state"]),
            facts=tuple(facts),
            values=values,
            numeric=raw.get("numeric", False),
        )
    return World(relations, tuple(map(line, frames["openers"])), tuple(map(line, frames["closers"])))


def statements(fact: Fact, relation: Relation) -> list[str]:
    """The fact as plain sentences, for a base model to read."""
    return [fill(template, fact.words) for template in relation.state]


def as_json(world: World) -> dict[str, Any]:
    """What `right` reads: every fact by its id, and all words for values by relation."""
    return {
        "facts": {
            fact.id: {
                "relation": fact.relation,
                "subject": fact.subject,
                "accepted": list(fact.accepted),
                "near": list(fact.near),
                "numeric": world.relations[fact.relation].numeric,
            }
            for fact in world.facts
        },
        "values": {
            name: sorted({word for words in relation.values.values() for word in words})
            for name, relation in world.relations.items()
        },
    }
