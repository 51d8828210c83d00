"""Whether answers depend on what was asked: measures over the answers to many prompts, and how sure a share is.

A measure is a mean over rows: what each row adds to it is what its interval is drawn from.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence


# A run of one character up to this long is how people write: "ㅋㅋㅋㅋ", "...." (ours).
USUAL_RUN = 4
_RUN = re.compile(r"(\S)\1*")


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def diversity_by_row(texts: Sequence[str]) -> dict[str, list[float]]:
    """What each answer to another prompt adds to three measures, which are the means of these lists; white space makes no
    difference.

    `distinct`: share of different answers; one that is given five times is a fifth of a different answer each time.
    `most_common`: share of the answers that are the most common one. `distinct_2`: different pairs of neighbouring words,
    over all answers, as a share of all such pairs (distinct-2 of Li et al., https://huggingface.co/papers/1510.03055); 0
    where no answer has two words.

    >>> by_row = diversity_by_row(["저는 밥을 먹어요", "저는 밥을 해요", "네.", "네. "])
    >>> by_row["distinct"], by_row["most_common"], sum(by_row["distinct_2"]) / 4
    ([1.0, 1.0, 0.5, 0.5], [0.0, 0.0, 1.0, 1.0], 0.75)
    """
    plain = list(map(_plain, texts))
    times = Counter(plain)
    ((most, _),) = times.most_common(1)
    words = [text.split() for text in plain]
    pairs = [list(zip(answer, answer[1:], strict=False)) for answer in words]
    pair_times = Counter(pair for of_answer in pairs for pair in of_answer)
    new_pairs = [sum(1 / pair_times[pair] for pair in of_answer) for of_answer in pairs]
    return {
        "distinct": [1 / times[text] for text in plain],
        "most_common": [float(text == most) for text in plain],
        "distinct_2": ratio_by_row(new_pairs, list(map(len, pairs))),
    }


def ratio_by_row(parts: Sequence[float], wholes: Sequence[float]) -> list[float]:
    """What each row adds to `sum(parts) / sum(wholes)`, which is the mean of the list, to first order (delta method,
    Cochran, Sampling Techniques, 1977, 6.4); zeros where there is no whole.

    >>> ratio_by_row([1, 2], [2, 2])
    [0.5, 1.0]
    """
    whole = sum(wholes)
    if not whole:
        return [0.0] * len(wholes)
    ratio = sum(parts) / whole
    return [ratio + (a - ratio * b) * len(wholes) / whole for a, b in zip(parts, wholes, strict=True)]


def drawn_out(text: str) -> float:
    """Share of the characters, spaces left out, that draw a run of one character out beyond [`USUAL_RUN`].

    >>> drawn_out("ㅋ" * 16), drawn_out("네,,,,,,,,"), drawn_out("ㅋㅋㅋㅋ 네!!!")
    (0.75, 0.4444444444444444, 0.0)
    """
    lengths = [len(run[0]) for run in _RUN.finditer(unicodedata.normalize("NFC", text))]
    return sum(max(length - USUAL_RUN, 0) for length in lengths) / sum(lengths) if lengths else 0.0


def bootstrap_interval(values: Sequence[float], *, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Where the mean of these values lies with 95 % confidence, by the percentile bootstrap (Efron and Tibshirani 1993).

    The same values give the same interval. That of the differences of two models on the same rows is the paired one.
    """
    import numpy as np  # not where only texts are read

    drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    low, high = np.quantile(np.asarray(values, float)[drawn].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)
