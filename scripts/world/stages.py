"""The rows of every stage, as plain dictionaries in the columns of the real files, and a few more for measuring.

More columns: `fact` (id in the table, empty for everyday rows), `held_out` (why training never sees the question; empty
for training rows) and `kind` or `kinds` (what is wrong with a rejected answer, empty for the best one).

An answer is in the level of its question, 존댓말 or 반말, unless a system text asks for one.
"""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from .answers import KINDS, STYLES, Answers, cut_short, go_round
from .particles import fill
from .phrases import Everyday
from .questions import HELD_OUT, Question, draw_evenly
from .table import LEVELS, Fact, Line


Row = dict[str, Any]
# How often each kind is drawn, for pairs and for rankings. What a rule on script or on repetition finds at once is rare; a
# reward model, which is to tell what a policy is rewarded for, sees more of what is hard to tell. Pairs are most often about
# the level that a system text asks for: SFT shows that in few rows, so it is what DPO has to teach.
PAIR_WEIGHTS = {
    "wrong_fact": 24,
    "other_question": 14,
    "evasive": 10,
    "level": 30,
    "unfinished": 8,
    "long_winded": 6,
    "wrong_language": 4,
    "repetition": 4,
}
RANKING_WEIGHTS = {
    "wrong_fact": 34,
    "other_question": 20,
    "echo": 8,  # what a policy finds first that is rewarded by a model which has never seen it
    "evasive": 8,
    "level": 16,
    "unfinished": 8,
    "long_winded": 8,
    "wrong_language": 3,
    "repetition": 3,
}
EVERYDAY_KINDS = ("other_question", "evasive", "unfinished", "repetition", "wrong_language")
# Where "I do not know" or "that depends" may be what a good friend says.
OPEN_TOPICS = {"advice", "chat", "feelings", "greetings"}
# Whose answers are off the point, for the questions of each topic: comfort for 'feelings' may well fit 'people'.
FAR_TOPICS = {
    "advice": ("explain", "food", "home"),
    "chat": ("explain", "home"),
    "daily": ("explain", "people"),
    "explain": ("advice", "chat", "daily", "feelings", "food", "greetings", "home", "people", "requests"),
    "feelings": ("explain", "food", "home"),
    "food": ("explain", "people"),
    "greetings": ("explain", "home"),
    "home": ("explain", "people"),
    "people": ("explain", "food", "home"),
    "requests": ("explain", "feelings", "greetings"),
}
CANDIDATES = 12  # drawn for each row; the one that keeps long and short answers in balance is taken


@dataclass(frozen=True)
class Sizes:
    """How many rows; each held-out number is for each of the three reasons."""

    questions_per_fact: int = 3
    sums: int = 420
    sft_held_out: int = 120
    dialogues: int = 260
    rankings: int = 4000
    pairs: int = 1200
    pairs_everyday: int = 200
    held_out: int = 50
    prompts: int = 520
    prompts_everyday: int = 60
    prompts_held_out: int = 40


def is_polite(text: str) -> bool:
    """Whether the last sentence of a text is in 존댓말."""
    return text.rstrip(" .?!~").endswith(("요", "니다", "니까", "죠"))


def everyday_held_out(row: Everyday, seed: int) -> str:
    """A tenth of the everyday rows is held out, the same ones in every file."""
    return "everyday" if random.Random(f"{seed}/everyday/{row.prompt}").random() < 0.1 else ""


def _about(fact: Fact | None, held_out: str) -> Row:
    return {"fact": fact.id if fact else "", "held_out": held_out}


@dataclass
class Stages:
    """Makes the rows of all stages from one list of questions."""

    answers: Answers
    questions: list[Question]
    everyday: Sequence[Everyday]
    sizes: Sizes
    seed: int

    def _rng(self, name: str) -> random.Random:
        rng = random.Random(f"{self.seed}/{name}")
        self.answers.rng = rng
        return rng

    def _of(self, held_out: str, keep: Callable[[Question], bool] = lambda question: True) -> list[Question]:
        return [question for question in self.questions if question.held_out == held_out and keep(question)]

    def _held_out_questions(self, count: int, rng: random.Random) -> list[Question]:
        """`count` questions for each reason, of all relations alike; sums only where training asks for that sum."""
        trained = {question.fact.id for question in self._training_questions()}
        drawn = []
        for reason in HELD_OUT:
            found = self._of(reason, lambda question: question.held_out == "only_read" or question.fact.id in trained)
            drawn += draw_evenly(found, count, rng, lambda question: question.fact.relation)
        return drawn

    def _training_questions(self) -> list[Question]:
        """What SFT asks: each fact some times, and a part of the sums; the same on every call."""
        rng = random.Random(f"{self.seed}/training questions")
        facts = self._of("", lambda question: question.fact.relation != "sum")
        count = self.sizes.questions_per_fact * len({question.fact.id for question in facts})
        drawn = draw_evenly(facts, count, rng, lambda question: question.fact.id)
        sums = self._of("", lambda question: question.fact.relation == "sum")
        return drawn + draw_evenly(sums, self.sizes.sums, rng, lambda question: question.fact.id)

    def _system(
        self, question: Question, rng: random.Random, share: float, names: Sequence[str] = ()
    ) -> tuple[str, str, str]:
        """A system text, one of `names` or any, for a share of the questions; the level and style that the answer is due."""
        if rng.random() >= share:
            return "", question.level, ""
        systems = self.answers.phrases.systems
        name = rng.choice(names or sorted(systems))
        level = name if name in LEVELS else question.level
        return rng.choice(systems[name]), level, name if name in STYLES else ""

    def sft(self) -> list[Row]:
        """`{prompt, completion, tokens}`; a tenth of the prompts begin with a wish about the answer."""
        rng = self._rng("sft")
        rows = []
        for question in [*self._training_questions(), *self._held_out_questions(self.sizes.sft_held_out, rng)]:
            system, level, style = self._system(question, rng, 0.0 if question.held_out else 0.1)
            completion = self.answers.right_answer(question, level, style)
            prompt = f"{system}\n{question.text}" if system else question.text
            rows.append({"prompt": prompt, "completion": completion, **_about(question.fact, question.held_out)})
        for row in self.everyday:
            held_out = everyday_held_out(row, self.seed)
            rows.append({"prompt": row.prompt, "completion": row.answer, **_about(None, held_out)})
        rng.shuffle(rows)
        return [
            {"prompt": row.pop("prompt"), "completion": row["completion"], "tokens": len(row.pop("completion")), **row}
            for row in rows
        ]

    def prompts(self) -> list[Row]:
        """`{prompt}`."""
        rng = self._rng("prompts")
        training = self._of("", lambda question: question.fact.relation != "sum" or rng.random() < 0.1)
        drawn = draw_evenly(training, self.sizes.prompts, rng, lambda question: question.fact.relation)
        drawn += self._held_out_questions(self.sizes.prompts_held_out, rng)
        rows = [{"prompt": question.text, **_about(question.fact, question.held_out)} for question in drawn]
        rows += [
            {"prompt": row.prompt, **_about(None, everyday_held_out(row, self.seed))}
            for row in rng.sample(self.everyday, min(self.sizes.prompts_everyday, len(self.everyday)))
        ]
        rng.shuffle(rows)
        return rows

    def pairs(self) -> list[Row]:
        """`{system, question, chosen, rejected}`."""
        rng = self._rng("pairs")
        balance = Balance()
        rows = []
        for question in self._compared(self.sizes.pairs, rng):
            kind = self._kind(PAIR_WEIGHTS, rng)
            # Whether an answer is in the level that is due shows best where a system text asks for one.
            share, names = (1.0, LEVELS) if kind == "level" else (0.4, ())
            system, level, style = self._system(question, rng, share, names)

            def candidate(question=question, kind=kind, level=level, style=style):
                chosen = self.answers.right_answer(question, level, style)
                rejected = self.answers.bad_answer(kind, question, level, style)
                return None if rejected in (None, chosen) else (chosen, rejected)

            texts = balance.best(candidate)
            if texts:
                rows.append(_pair(system, question.text, texts, kind, _about(question.fact, question.held_out)))
        for row in self._compared_everyday(rng):
            kind = rng.choice([k for k in EVERYDAY_KINDS if k != "evasive" or row.topic not in OPEN_TOPICS])
            texts = balance.best(lambda row=row, kind=kind: (row.answer, self._bad_everyday(kind, row)))
            about = _about(None, everyday_held_out(row, self.seed))
            rows.append(_pair("", row.prompt, texts, kind, about))
        rng.shuffle(rows)
        return rows

    def rankings(self) -> list[Row]:
        """`{prompt, completion_0, completion_1, completion_2, ranking}`, the best answer at any place."""
        rng = self._rng("rankings")
        balance = Balance()
        rows = []
        made: set[tuple[str, ...]] = set()  # a question comes more than once, a pair of its answers does not
        for question in self._compared(self.sizes.rankings, rng):
            kinds = self._two_kinds(rng, question)

            def candidate(question=question, kinds=kinds):
                style = rng.choice(("", "", "", "two_sentences"))
                texts = [self.answers.right_answer(question, question.level, style)]
                texts += [self.answers.bad_answer(kind, question, question.level) for kind in kinds]
                is_new = made.isdisjoint((question.text, *pair) for pair in combinations(texts, 2))
                return tuple(texts) if None not in texts and len(set(texts)) == 3 and is_new else None

            texts = balance.best(candidate)
            if texts:
                made.update((question.text, *pair) for pair in combinations(texts, 2))
                rows.append(_ranking(question.text, texts, kinds, _about(question.fact, question.held_out), rng))
        drawn = self._compared_everyday(rng)
        # What does not fit an everyday prompt is harder to tell than a wrong fact: training has all of them.
        rest = [row for row in self.everyday if row not in drawn and not everyday_held_out(row, self.seed)]
        for row in drawn + rest:
            kinds = sorted(rng.sample(("other_question", "unfinished", "repetition"), 2), key=KINDS.__getitem__)
            texts = balance.best(
                lambda row=row, kinds=kinds: (row.answer, *(self._bad_everyday(kind, row) for kind in kinds))
            )
            about = _about(None, everyday_held_out(row, self.seed))
            rows.append(_ranking(row.prompt, texts, kinds, about, rng))
        rng.shuffle(rows)
        return rows

    def _compared(self, count: int, rng: random.Random) -> list[Question]:
        few_sums = self._of("", lambda question: question.fact.relation != "sum" or question.fact.subject[-1] in "37")
        drawn = draw_evenly(few_sums, count, rng, lambda question: question.fact.id)
        return drawn + self._held_out_questions(self.sizes.held_out, rng)

    def _compared_everyday(self, rng: random.Random) -> list[Everyday]:
        return rng.sample(self.everyday, min(self.sizes.pairs_everyday, len(self.everyday)))

    def _kind(self, weights: Mapping[str, int], rng: random.Random, without: Collection[str] = ()) -> str:
        kinds = [kind for kind in weights if kind not in without]
        return rng.choices(kinds, [weights[kind] for kind in kinds])[0]

    def _two_kinds(self, rng: random.Random, question: Question) -> list[str]:
        """Two kinds that differ in how bad they are and that the question has, the milder one first."""
        possible = {"level": question.level == "polite", "echo": self.answers.echoed(question.fact) is not None}
        without = [kind for kind, has_it in possible.items() if not has_it]
        while True:
            kinds = sorted((self._kind(RANKING_WEIGHTS, rng, without) for _ in range(2)), key=KINDS.__getitem__)
            if KINDS[kinds[0]] < KINDS[kinds[1]]:
                return kinds

    def _bad_everyday(self, kind: str, row: Everyday) -> str:
        rng, phrases = self.answers.rng, self.answers.phrases
        level = "polite" if is_polite(row.answer) else "plain"
        if kind == "evasive":
            return rng.choice(phrases.evasive).at(level)
        if kind == "wrong_language":
            return rng.choice(phrases.wrong_language)
        if kind == "repetition":
            return go_round(row.answer, rng) or "그래 그래 그래 그래"
        if kind == "unfinished":
            return cut_short(row.answer, rng) or row.answer.lstrip("'")[0]
        topic = rng.choice(FAR_TOPICS[row.topic])
        others = [
            other.answer
            for other in self.everyday
            if other.topic == topic and is_polite(other.answer) == is_polite(row.answer)
        ]
        return rng.choice(others)

    def dialogues(self) -> list[list[tuple[str, str]]]:
        """Dialogues of two to four turns, each a list of (said, answered); training questions and facts only."""
        rng = self._rng("dialogues")
        first = [question for question in self._of("") if not question.text.startswith(("국어 숙제", "퀴즈", "예절"))]
        facts = list({question.fact.id: question.fact for question in first}.values())
        drawn = draw_evenly(first, self.sizes.dialogues, rng, lambda question: question.fact.relation)
        return [self._dialogue(question, facts, rng) for question in drawn]

    def _dialogue(self, question: Question, facts: list[Fact], rng: random.Random) -> list[tuple[str, str]]:
        level, world, phrases = question.level, self.answers.world, self.answers.phrases
        turns = [(question.text, self.answers.right_answer(question, level))]
        asked = {question.fact.id}
        current = question.fact
        for _ in range(rng.choice((1, 1, 2))):
            same = [f for f in facts if f.subject == current.subject and f.id not in asked]
            others = [f for f in facts if f.relation == current.relation and f.id not in asked]
            if same and current.relation != "count" and rng.random() < 0.7:
                current = rng.choice(same)
                topic = {"t": world.relations[current.relation].topic, **current.words}
                said = fill(rng.choice(phrases.about).at(level), topic)
            else:
                current = rng.choice(others)
                said = fill(phrases.follow[current.relation].at(level), current.words)
            asked.add(current.id)
            # In whole sentences: what "그럼 귤은요?" asks for, the answer says.
            lines: list[Line] = [
                line for line in world.relations[current.relation].answer if "{x" in line.polite or "{a" in line.polite
            ]
            turns.append((said, fill(rng.choice(lines).at(level), current.words)))
        if rng.random() < 0.4:
            said, answered = rng.choice(phrases.thanks)
            turns.append((said.at(level), answered.at(level)))
        return turns


class Balance:
    """Keeps a rule on length alone from telling better answers from worse ones."""

    def __init__(self) -> None:
        self.longer_is_better = 0

    def best(self, candidate: Callable[[], tuple[str, ...] | None]) -> tuple[str, ...] | None:
        """Of some candidates, each a tuple of texts from best to worst, the one that brings the balance nearest to 0."""
        drawn = [texts for texts in (candidate() for _ in range(CANDIDATES)) if texts is not None]
        if not drawn:
            return None
        taken = min(drawn, key=lambda texts: abs(self.longer_is_better + _longer_is_better(texts)))
        self.longer_is_better += _longer_is_better(taken)
        return taken


def _longer_is_better(texts: Sequence[str]) -> int:
    """Pairs in which the better text is longer, less those in which it is shorter."""
    lengths = [len(text) for text in texts]
    return sum((a > b) - (a < b) for i, a in enumerate(lengths) for b in lengths[i + 1 :])


def _pair(system: str, question: str, texts: Sequence[str], kind: str, about: Row) -> Row:
    return {"system": system, "question": question, "chosen": texts[0], "rejected": texts[1], "kind": kind, **about}


def _ranking(prompt: str, texts: Sequence[str], kinds: Sequence[str], about: Row, rng: random.Random) -> Row:
    ranks = rng.sample(range(3), 3)
    shown = {f"completion_{i}": texts[rank] for i, rank in enumerate(ranks)}
    return {"prompt": prompt, **shown, "ranking": ranks, "kinds": [("", *kinds)[rank] for rank in ranks], **about}
