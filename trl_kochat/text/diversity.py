"""Whether answers depend on what was asked: measures over the answers to many prompts, and how sure a share is."""

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from statistics import fmean


# A run of one character up to this long is how people write: "ㅋㅋㅋㅋ", "...." (ours).
USUAL_RUN = 4
_RUN = re.compile(r"(\S)\1*")


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def distinct(texts: Sequence[str]) -> float:
    """Share of different answers among the answers to different prompts; white space does not make a difference.

    >>> distinct(["네.", "네. ", "아니요.", "몰라요."])
    0.75
    """
    return len({_plain(text) for text in texts}) / len(texts)


def most_common(texts: Sequence[str]) -> float:
    """Share of the answers that are the most common one.

    >>> most_common(["네.", "네. ", "아니요.", "몰라요."])
    0.5
    """
    return Counter(map(_plain, texts)).most_common(1)[0][1] / len(texts)


def distinct_2(texts: Sequence[str]) -> float:
    """Different pairs of neighbouring words, over all answers, as a share of all such pairs (distinct-2 of Li et al.,
    https://huggingface.co/papers/1510.03055); 0 where no answer has two words.

    >>> distinct_2(["저는 밥을 먹어요", "저는 밥을 해요"])
    0.75
    """
    words = [_plain(text).split() for text in texts]
    pairs = [pair for answer in words for pair in zip(answer, answer[1:], strict=False)]
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def drawn_out(text: str) -> float:
    """Share of the characters, spaces left out, that draw a run of one character out beyond [`USUAL_RUN`].

    >>> drawn_out("ㅋ" * 16), drawn_out("네,,,,,,,,"), drawn_out("ㅋㅋㅋㅋ 네!!!")
    (0.75, 0.4444444444444444, 0.0)
    """
    lengths = [len(run[0]) for run in _RUN.finditer(unicodedata.normalize("NFC", text))]
    return sum(max(length - USUAL_RUN, 0) for length in lengths) / sum(lengths) if lengths else 0.0


def bootstrap_interval(values: Sequence[float], *, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Where the mean of these values lies with 95 % confidence, by the percentile bootstrap (Efron and Tibshirani 1993).

    The same values give the same interval.
    """
    draw = random.Random(seed)
    means = sorted(fmean(draw.choices(values, k=len(values))) for _ in range(resamples))
    return means[int(0.025 * resamples)], means[int(0.975 * resamples) - 1]
