"""Whether an answer is right: it holds the table's fact, and no other of its kind."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from ..errors import InputError
from ..sample import SAMPLE_DIR


# What may follow a noun before the word ends: particles, and 이다 in its forms, with and without its 이.
_PARTICLES = (
    "은|는|이|가|을|를|과|와|도|만|의|에|에서|에는|에서는|에도|에서도|으로|로|으로는|로는|으로도|로도|에게|께|이랑|랑|하고"
    "|부터|까지|처럼|보다|쯤|정도|이나|나|만큼|으로만|로만|이라도|라도"
)
_COPULA = (
    "야|다|지|죠|지요|라고|라는|라|란|랍니다|래요|래|네|네요|거든|거든요|군요|구나|고|고요|며|니까|니까요|라서|라고요|요"
    "|라고도|잖아|잖아요|라지요"
)
_JOINED = (
    "입니다|입니까|인|인데|인데요|일|일까|일까요|이에요|예요|에요|이었어요|였어요|이었어|였어|이었다|였다|이었죠|였죠"
)
_WORD = "가-힣0-9A-Za-z"
_DENIED = re.compile(r"['\"’”\s]*(?:은|는|이|가)?\s*(?:아니|아닌|아닙|아녜|말고)")


def _ends_in_consonant(word: str) -> bool:
    last = word[-1]
    return not "가" <= last <= "힣" or (ord(last) - ord("가")) % 28 > 0


def _ending_of(word: str) -> str:
    """A pattern of what may follow a word; anything, where it ends in `~`."""
    if word.endswith("~"):
        return ""
    vowel = "" if _ends_in_consonant(word) and not word[-1].isascii() else f"|{_COPULA}"
    return rf"(?:{_PARTICLES}|이(?:{_COPULA}){vowel}|{_JOINED})?(?![{_WORD}])"


@lru_cache(maxsize=64)
def _finders(words: tuple[str, ...]) -> tuple[tuple[re.Pattern[str], str], ...]:
    """For words of each ending a pattern whose group is a word, and what that word ends in besides."""
    stems: dict[str, list[str]] = {}
    for word in sorted(set(words), key=len, reverse=True):
        stems.setdefault(_ending_of(word), []).append(re.escape(word.rstrip("~")))
    return tuple(
        (re.compile(rf"(?<![{_WORD}])({'|'.join(found)}){ending}"), "" if ending else "~")
        for ending, found in stems.items()
    )


def _named(answer: str, words: tuple[str, ...], subject: str) -> list[tuple[str, tuple[int, int]]]:
    """The words that an answer names and does not deny, and where; not where it repeats the subject."""
    repeated = [match.span() for match in re.finditer(rf"(?<![{_WORD}]){re.escape(subject)}", answer)]
    matches = [
        (match.start(), -len(match[1]), match[1] + mark, match.end())
        for pattern, mark in _finders(words)
        for match in pattern.finditer(answer)
    ]
    found, last = [], 0
    for first, _, word, behind in sorted(matches):
        if first < last:  # a shorter word at the same place
            continue
        last = behind
        # 브라질리아 begins as 브라질 does, and 크다 is a value as well as what was asked about.
        inside = any(
            start <= first < end and not (start == first and len(word) > end - start) for start, end in repeated
        )
        if not inside and _DENIED.match(answer, behind) is None:
            found.append((word, (first, behind)))
    return found


def _without_terms(answer: str, subject: str) -> str:
    """The answer to a sum without the two numbers, where it repeats them side by side."""
    a, b = (rf"(?<!\d){term}(?!\d)" for term in subject.split("+"))
    return re.sub(rf"{a}[^\d.!?,]{{1,12}}{b}|{b}[^\d.!?,]{{1,12}}{a}", "□", answer)


def right(answer: str, row: Mapping[str, Any], world: Mapping[str, Any]) -> bool:
    """Whether an answer names the fact that a row asks for, and no other of its kind.

    A value counts where it stands as a word, with any particle or form of 이다 behind it, in any of its accepted
    wordings; one that the answer denies ("빨간색이 아니라") does not count. What the answer repeats of the question is
    left out. Where the value is a number, no other number may stand in the answer.

    Args:
        answer (`str`): What the model said.
        row (`dict`): A row with the column `fact`, the fact's id.
        world (`dict`): What `world.json` holds: `facts` by id (`relation`, `subject`, `accepted`, `near`, `numeric`)
            and `values`, all words for values by relation.

    Raises:
        ValueError: The row has no fact of this world.
    """
    fact = world["facts"].get(row.get("fact") or "")
    if fact is None:
        raise InputError(f"The row's fact is {row.get('fact')!r}, which is not in this world.")
    if fact["relation"] == "sum":
        answer = _without_terms(answer, fact["subject"])
    subject = fact["subject"]
    found = _named(answer, tuple(world["values"][fact["relation"]]), subject)
    if fact["numeric"]:
        known = [span for _, span in found] + [match.span() for match in re.finditer(re.escape(subject), answer)]
        if any(not any(start <= digit.start() < end for start, end in known) for digit in re.finditer(r"\d", answer)):
            return False
    affirmed = [word for word, _ in found if word not in fact["near"]]
    return bool(affirmed) and all(word in fact["accepted"] for word in affirmed)


@cache
def embedded_world() -> dict[str, Any]:
    """The table of the embedded rows; their column `fact` names its facts."""
    world: dict[str, Any] = json.loads((SAMPLE_DIR / "world.json").read_text(encoding="utf-8"))
    return world


def right_by_way(
    answers: Sequence[str], rows: Sequence[Mapping[str, Any]], world: Mapping[str, Any]
) -> dict[str, list[float]]:
    """Which answers to held-out rows are right, 1 or 0: `right` over all rows that ask for a fact of the world, and
    `right_WAY` over those of them that are held out in one way (what their column `held_out` says).

    Rows of other facts, or of none, are left out; there is nothing where no row asks for one.
    """
    found: dict[str, list[float]] = {}
    for answer, row in zip(answers, rows, strict=True):
        if row.get("fact") in world["facts"]:
            is_right = float(right(answer, row, world))
            found.setdefault("right", []).append(is_right)
            if way := row.get("held_out"):
                found.setdefault(f"right_{way}", []).append(is_right)
    return found
