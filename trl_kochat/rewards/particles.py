"""Particles that fit the sound before them."""

import re
from functools import lru_cache

from ..text.korean import analyser, need_analyser
from .contract import Reward, of_text


_OTHER = dict(zip("은이을과는가를와", "는가를와은이을과", strict=True))
_AFTER_CONSONANT = "은이을과"
_PARTICLE = re.compile(r"(?<=[가-힣A-Z0-9])([은는이가을를과와])(?![가-힣A-Za-z0-9])")
# Read aloud, they end in a consonant: 영 or 십, 일, 삼, 육, 칠, 팔; 엘, 엠, 엔, 알.
_CONSONANTS = "013678LMNR"
# By how many nats the fitting form is likelier where a particle is wrong. Ours: 8.8 and more for 22 of 23 wrong ones
# tried, at most 4.7 for 46 right words that look like one (작가, 차이, 나은).
_LIKELIER = 6.0
# The eojeol and its neighbours decide, of what has no spaces so many characters to either side: whole answers would take
# time that grows with the square of their length.
_AROUND = 40


def particles() -> Reward:
    """Share of 은/는, 이/가, 을/를, 과/와 that fit the sound before them; needs the extra `korean`.

    From 0 to 1; 1 where none is wrong. Hangul, digits and capitals read aloud (AI는, 3을) are judged; words in small Latin
    letters are not, since their sound is not in their spelling.
    """
    need_analyser()

    def score(text: str) -> float:
        candidates = list(_PARTICLE.finditer(text))
        misfits = [
            found
            for found in candidates
            if _ends_in_consonant(text[found.start() - 1]) != (found[1] in _AFTER_CONSONANT)
        ]
        wrong = sum(_is_wrong(text, found) for found in misfits)
        return 1 - wrong / (len(candidates) - len(misfits) + wrong) if wrong else 1.0

    return of_text("particles", score)


def _ends_in_consonant(char: str) -> bool:
    return (ord(char) - ord("가")) % 28 > 0 if "가" <= char <= "힣" else char in _CONSONANTS


def _is_wrong(text: str, found: re.Match[str]) -> bool:
    """Whether a syllable that does not fit is a particle, and no part of a word (나이) or ending (먹는)."""
    before, after = text[max(found.start() - _AROUND, 0) : found.start()], text[found.end() : found.end() + _AROUND]
    if not "가" <= before[-1] <= "힣":
        return True
    return _is_particle(" ".join(before.split(" ")[-2:]), found[1], " ".join(after.split(" ")[:3]))


@lru_cache(maxsize=1024)  # a policy that repeats itself repeats its mistakes
def _is_particle(start: str, form: str, end: str) -> bool:
    (_, written), (tokens, mended) = (analyser().analyze(start + one + end)[0] for one in (form, _OTHER[form]))
    is_particle = any(token.start == len(start) and token.tag.startswith("J") for token in tokens)
    return is_particle and mended - written > _LIKELIER
