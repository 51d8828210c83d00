"""Words that an answer has to have, or must not have."""

from ..errors import InputError
from ..text.normalize import whole_text
from .contract import Reward, of_text


def keyword(*words: str) -> Reward:
    """Share of the words that stand in the answer, as parts of words too (한우 in 한우예요). From 0 to 1."""
    wanted = _folded(words)
    return of_text("keyword", lambda text: sum(word in text.casefold() for word in wanted) / len(wanted))


def no_keyword(*words: str) -> Reward:
    """1 less the share of the words that stand in the answer. From 0 to 1."""
    unwanted = _folded(words)
    return of_text("no_keyword", lambda text: 1 - sum(word in text.casefold() for word in unwanted) / len(unwanted))


def _folded(words: tuple[str, ...]) -> list[str]:
    if not words or not all(isinstance(word, str) and word for word in words):
        raise InputError("No word to look for; give at least one, as texts, and none that is empty.")
    return [whole_text(word).casefold() for word in words]
