"""Words apart where they are apart."""

from ..text.korean import analyser, need_analyser
from .contract import Reward, of_text


def spacing() -> Reward:
    """Agreement with the analyser on where spaces stand, as F1; needs the extra `korean`. From 0 to 1.

    A rough one: the analyser joins what may be apart (해 주세요 and 해주세요 are both right). 1 for one word that is one.
    """
    need_analyser()

    def score(text: str) -> float:
        words = text.split()
        if not words:
            return 0.0
        written = _places(words)
        spaced = analyser().space(" ".join(words), reset_whitespace=True).split()
        expected = _places(spaced)
        if not written and not expected:
            return 1.0
        return 2 * len(written & expected) / (len(written) + len(expected))

    return of_text("spacing", score)


def _places(words: list[str]) -> set[int]:
    """Number of characters before each space."""
    places, end = set(), 0
    for word in words[:-1]:
        end += len(word)
        places.add(end)
    return places
