"""No word over and over."""

from ..text.diversity import drawn_out
from ..text.health import repetition
from ..text.normalize import is_blank
from .contract import Reward, of_text


def no_repetition() -> Reward:
    """1 less the share of an answer that stood in it before (see [`repetition`]), or that draws one character out.

    From 0 to 1; 0 for nothing to read.
    """

    def score(text: str) -> float:
        return 0.0 if is_blank(text) else 1 - max(repetition(text).share, drawn_out(text))

    return of_text("no_repetition", score)
