"""How likely the words of an answer are."""

from ..errors import InputError
from ..text.korean import analyser, need_analyser
from .contract import Reward, of_text


def fluency(*, worst: float = -10.0, best: float = -2.5) -> Reward:
    """The mean log-probability of a morpheme, in nats, under the analyser's language model; needs the extra `korean`.

    From 0 (`worst` or less) to 1 (`best` or more), straight between; good short answers get 0.5 to 0.9 (docs/rewards.md). It
    does not punish repetition.
    """
    if not worst < best:
        raise InputError(f"worst is {worst} and best {best}; give worst < best, both below 0.")
    need_analyser()

    def score(text: str) -> float:
        tokens, log_probability = analyser().analyze(text)[0]
        if not tokens:
            return 0.0
        return min(1.0, max(0.0, (log_probability / len(tokens) - worst) / (best - worst)))

    return of_text("fluency", score)
