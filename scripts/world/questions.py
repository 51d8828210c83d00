"""Every question there is about the table, and which of them training never sees."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

from .particles import fill
from .table import LEVELS, Fact, Line, Relation, World


ONLY_READ = 0.08  # of the facts of each relation: stated in the text for the base, never asked in training
ASKED_OTHERWISE = 0.12  # of the ways to ask for each other fact
HELD_OUT = ("asked_otherwise", "new_way", "only_read")


@dataclass(frozen=True)
class Question:
    """One fact asked in one way, in 존댓말 or 반말."""

    fact: Fact
    way: int
    level: str
    text: str
    held_out: str = ""
    """Why training never sees it: one of `HELD_OUT`; empty for a training question.

    `asked_otherwise`: training asks for the fact in other ways. `new_way`: training never asks for anything in this
    way. `only_read`: the fact stands in the statements for the base and nowhere else.
    """
    is_request: bool = False
    """Whether an answer may begin with "네,": asked as "알려 주세요" or "아세요?"."""


def same_knowledge(fact: Fact) -> str:
    """What facts share that one who knows either knows both: 크다 and 작다, 3+4 and 4+3."""
    if fact.relation == "opposite":
        return f"opposite/{'/'.join(sorted((fact.subject, fact.value)))}"
    if fact.relation == "sum":
        return f"sum/{'+'.join(sorted(fact.subject.split('+')))}"
    return fact.id


def only_read_facts(world: World, seed: int) -> frozenset[str]:
    """Ids of the facts that a model may read as a statement and is never asked in training."""
    chosen: set[str] = set()
    for relation in world.relations.values():
        keys = sorted({same_knowledge(fact) for fact in relation.facts})
        count = max(2, round(ONLY_READ * len(keys)))
        kept = set(random.Random(f"{seed}/only read/{relation.name}").sample(keys, count))
        chosen |= {fact.id for fact in relation.facts if same_knowledge(fact) in kept}
    return frozenset(chosen)


def questions_of(fact: Fact, relation: Relation, only_read: frozenset[str], seed: int) -> list[Question]:
    """All questions about one fact, each with the reason for which it is held out."""
    ways: list[tuple[Line, bool]] = [(line, False) for line in relation.ask]
    ways += [(line, True) for line in relation.ask_held_out]
    made = []
    for way, (line, is_new) in enumerate(ways):
        if fact.id in only_read:
            if is_new:
                continue  # one reason at a time
            held_out = "only_read"
        elif is_new:
            held_out = "new_way"
        else:
            drawn = random.Random(f"{seed}/asked otherwise/{fact.id}/{way}").random()
            held_out = "asked_otherwise" if drawn < ASKED_OTHERWISE else ""
        is_request = line.polite.endswith(("주세요.", "주시겠어요?", "있어요?", "아세요?"))
        for level in LEVELS:
            made.append(Question(fact, way, level, fill(line.at(level), fact.words), held_out, is_request))
    return made


def all_questions(world: World, seed: int) -> list[Question]:
    """Every question of the world, in the order of the table."""
    only_read = only_read_facts(world, seed)
    return [
        question
        for relation in world.relations.values()
        for fact in relation.facts
        for question in questions_of(fact, relation, only_read, seed)
    ]


def draw_evenly(
    questions: list[Question], count: int, rng: random.Random, key: Callable[[Question], str]
) -> list[Question]:
    """`count` questions, as many of each `key` as there are to be had, in random order."""
    ordered = sorted(questions, key=lambda question: (key(question), question.way, question.level, question.text))
    groups = [rng.sample(group, len(group)) for group in (list(g) for _, g in groupby(ordered, key))]
    rng.shuffle(groups)
    drawn: list[Question] = []
    for turn in range(max(map(len, groups), default=0)):
        drawn += [group[turn] for group in groups if turn < len(group)]
        if len(drawn) >= count:
            break
    drawn = drawn[:count]
    rng.shuffle(drawn)
    return drawn
