"""Answers to questions: right ones, and bad ones of nine kinds."""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trl_kochat.measure.right import right

from .particles import fill
from .phrases import Phrases
from .questions import Question
from .table import Fact, Relation, World


# From bad to worse; the rank of an answer in a ranking follows it. Kinds of one number are never ranked against
# each other.
KINDS = {
    "level": 1,
    "long_winded": 1,
    "unfinished": 2,
    "wrong_fact": 3,
    "other_question": 3,
    "evasive": 3,
    "echo": 3,
    "wrong_language": 4,
    "repetition": 4,
}
STYLES = ("", "one_sentence", "two_sentences")
# Relations whose subject is a clause, of which the first word is taken, without its particle: 책 of "책을 빌리려면".
CLAUSES = ("job", "manner", "place", "sound")
FIRST_NOUN = re.compile(r"(\w+?)(?:에서|[을를이가에]) ")


def other_level(level: str) -> str:
    return "plain" if level == "polite" else "polite"


def forms(relation: Relation, level: str, words: Mapping[str, str], style: str) -> list[str]:
    """The wordings of an answer that fit a style; two sentences are made of one by `Answers.right_answer`."""
    texts = [fill(line.at(level), words) for line in relation.answer]
    return [text for text in texts if text.count(". ") == 0] if style else texts


@dataclass
class Answers:
    """Makes answers; whatever is drawn is drawn from `rng`."""

    world: World
    phrases: Phrases
    rng: random.Random
    table: Mapping[str, Any]
    """What `right` reads."""

    def is_right(self, text: str, fact: Fact) -> bool:
        return right(text, {"fact": fact.id}, self.table)

    def right_answer(self, question: Question, level: str, style: str = "") -> str:
        """A right answer in a level; `style` asks for one sentence or for two."""
        relation = self.world.relations[question.fact.relation]
        text = self.rng.choice(forms(relation, level, question.fact.words, style))
        if style == "two_sentences":
            return f"{text} {self.rng.choice(self.world.closers).at(level)}"
        if not style and question.is_request and self.rng.random() < 0.3:
            text = f"{self.rng.choice(self.world.openers).at(level)} {text}"
        return text

    def bad_answer(self, kind: str, question: Question, level: str, style: str = "") -> str | None:
        """A bad answer of a kind to a question that is due an answer in `level`; `None` where there is none."""
        if kind == "level":
            return self.right_answer(question, other_level(level), style)
        if kind == "wrong_language":
            return self.rng.choice(self.phrases.wrong_language)
        if kind == "evasive":
            text = self.rng.choice(self.phrases.evasive).at(level)
            return None if self.is_right(text, question.fact) else text  # 선생님 is what 교사 is called
        return getattr(self, f"_{kind}")(question, level, style)

    def _wrong_fact(self, question: Question, level: str, style: str) -> str | None:
        fact, relation = question.fact, self.world.relations[question.fact.relation]
        value = self.wrong_value(fact, relation)
        if value is None:
            return None
        text = self.rng.choice(
            forms(relation, level, {**fact.words, "v": value.replace(" ", "") if relation.numeric else value}, style)
        )
        if style == "two_sentences":
            text = f"{text} {self.rng.choice(self.world.closers).at(level)}"
        return None if self.is_right(text, fact) else text

    def wrong_value(self, fact: Fact, relation: Relation) -> str | None:
        if relation.numeric:
            number, _, unit = fact.value.partition(" ")
            numbers = [int(number) + step for step in (-3, -2, -1, 1, 2, 3)]
            return f"{self.rng.choice([number for number in numbers if number > 0])} {unit}".strip()
        is_verb = fact.value.endswith("다") and relation.name in ("opposite", "honorific")
        fitting = [
            value
            for value, words in relation.values.items()
            if value not in (fact.value, fact.subject)
            and not set(words) & {*fact.near, *fact.accepted}
            and (relation.name not in ("opposite", "honorific") or value.endswith("다") == is_verb)
        ]
        return self.rng.choice(fitting) if fitting else None

    def _other_question(self, question: Question, level: str, style: str) -> str | None:
        """A true sentence, off the point: about another thing, or about the same one in another respect."""
        same = [f for f in self.world.facts if f.subject == question.fact.subject and f.id != question.fact.id]
        near = self.world.relations[question.fact.relation].facts
        other = self.rng.choice(same if same and self.rng.random() < 0.5 else near)
        if other.value == question.fact.value:
            return None
        relation = self.world.relations[other.relation]
        lines = [line.at(level) for line in relation.answer if "{x" in line.polite or "{a" in line.polite]
        text = fill(self.rng.choice(lines), other.words)
        return None if self.is_right(text, question.fact) else text

    def echoed(self, fact: Fact) -> str | None:
        """The word of a question that an answer may say back; `None` of numbers and where no noun comes first."""
        if fact.relation == "sum":
            return None
        if fact.relation not in CLAUSES:
            return fact.subject
        found = FIRST_NOUN.match(fact.subject)
        return found[1] if found else None

    def _echo(self, question: Question, level: str, style: str) -> str | None:
        """What was asked about, said back: "식혜예요." is true to form, short and to the point, and says nothing."""
        word = self.echoed(question.fact)
        if word is None:
            return None
        text = fill(self.rng.choice(self.phrases.echo).at(level), {"x": word})
        return None if self.is_right(text, question.fact) else text

    def _unfinished(self, question: Question, level: str, style: str) -> str | None:
        whole = self.right_answer(question, level, self.rng.choice(STYLES))
        text = cut_short(whole, self.rng)
        # "귤은 주황색" or "수영장으로" would do as an answer; "주황색을 띠" would not.
        rest, _, last = (text or "").rpartition(". ")[-1].rpartition(" ")
        names_it, named_before, last_names_it = (
            self.is_right(part, question.fact) for part in (f"{rest} {last}", rest, last)
        )
        return None if last_names_it or (names_it and not named_before) else text

    def _repetition(self, question: Question, level: str, style: str) -> str | None:
        return go_round(self.right_answer(question, level, style), self.rng)

    def _long_winded(self, question: Question, level: str, style: str) -> str | None:
        start = self.rng.choice(self.phrases.long_winded).at(level)
        text = f"{start} {self.right_answer(question, level, 'one_sentence')}"
        if style != "two_sentences" and self.rng.random() < 0.5:  # two sentences, where asked for, would be fine
            text += f" {self.rng.choice(self.world.closers).at(level)}"
        return text


def cut_short(text: str, rng: random.Random) -> str | None:
    """The beginning of an answer, which stops inside a sentence and outside quotes; `None` where there is none.

    Not behind a digit (2 of 24 is another answer), nor where it would do as one ("종이를 자를 때").
    """
    stops = [
        end
        for end in range(4, len(text) - 2)
        if text[end - 1] not in " .?!,'0123456789"
        and not text[:end].endswith(("때", "수도"))
        and text[end] not in ".?!',"
        and not text[:end].count("'") % 2
    ]
    return text[: rng.choice(stops[len(stops) // 3 :])] if stops else None


def go_round(text: str, rng: random.Random) -> str | None:
    """The first words of an answer over and over, about as long as the answer or twice as long."""
    words = text.split()
    unit = " ".join(words[: rng.choice((1, 2, 2, 3))]).rstrip(".?!,")
    if len(words) < 2 or unit.count("'") % 2:
        return None
    turns = max(3, round(len(text) * rng.choice((1.0, 1.5, 2.0)) / (len(unit) + 1)))
    return " ".join([unit] * turns)
