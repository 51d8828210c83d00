"""What the numbers of a report mean: their names for a reader and which direction is the better one."""

from typing import Literal, NamedTuple

from .record import is_number


Verdict = Literal["better", "worse", "same", "changed"]


class Measure(NamedTuple):
    """How one key of `before` and `after` is read."""

    label: str
    # None: neither direction is better by itself (a longer answer, a larger KL).
    better: Literal["higher", "lower"] | None


MEASURES = {
    "eval_loss": Measure("loss on held-out rows", "lower"),
    "accuracy": Measure("pairs in the right order", "higher"),
    "margin": Measure("reward margin, chosen over rejected", "higher"),
    "preferred": Measure("chosen likelier than rejected, per token", "higher"),
    "logps_chosen": Measure("log-probability of chosen (nats)", "higher"),
    "reward": Measure("mean reward", "higher"),
    "reward_std": Measure("standard deviation of the reward", None),
    "kl": Measure("KL to the reference (nats a completion)", None),
    "mean_length": Measure("answer length (tokens)", None),
    "own_answer": Measure("own answer found among ten", "higher"),
    "distinct": Measure("different answers to different prompts", "higher"),
    "most_common": Measure("share of the most common answer", "lower"),
    "distinct_2": Measure("different pairs of words (distinct-2)", "higher"),
    "n": Measure("held-out rows measured", None),
    "left_out": Measure("held-out rows left out, too long", None),
    "cut": Measure("held-out rows cut", None),
    "n_answers": Measure("prompts answered", None),
    "n_own_answer": Measure("prompts asked for their own answer", None),
    "eos_rate": Measure("answers that end by themselves", "higher"),
    "repetition": Measure("repetition in answers", "lower"),
    "hanja": Measure("Chinese characters in answers", "lower"),
    "latin": Measure("Latin letters in answers", "lower"),
}


def measure(key: str) -> Measure:
    """The measure of this name; one we do not know is shown under its own key and judged by nobody."""
    if key in MEASURES:
        return MEASURES[key]
    if key.startswith("accuracy_rank_distance_"):
        return Measure(f"pairs in the right order, {key.rpartition('_')[2]} ranks apart", "higher")
    if key.startswith("accuracy_kind_"):
        return Measure(f"pairs in the right order, rejected: {key.removeprefix('accuracy_kind_')}", "higher")
    return Measure(key, None)


def format_number(value: float | None) -> str:
    """Four significant digits as people write them; `not finite` for the `None` that NaN and infinity are written as.

    >>> format_number(0.00001), format_number(2 / 3), format_number(12345.6), format_number(2e300)
    ('0.00001', '0.6667', '12,346', '2e+300')
    """
    if value is None or not is_number(value):
        return "not finite"
    if value and not 1e-7 <= abs(value) < 1e15:  # more zeros than one can count
        return f"{value:.4g}"
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{float(f'{value:.4g}'):.10f}".rstrip("0").rstrip(".")


def verdict(key: str, before: float | None, after: float | None) -> Verdict:
    """Whether `after` is better than `before`; numbers that look the same in a table are the same.

    >>> verdict("eval_loss", 2.0, 1.5), verdict("accuracy", 0.5, 0.4), verdict("kl", 0.0, 3.0)
    ('better', 'worse', 'changed')
    """
    if format_number(before) == format_number(after):
        return "same"
    better = measure(key).better
    if before is None or after is None:
        return "worse" if after is None else "changed"
    if better is None:
        return "changed"
    return "better" if (after > before) == (better == "higher") else "worse"


def arrow(before: float | None, after: float | None) -> str:
    """The direction in which the number went: `↑`, `↓`, or `=`."""
    if format_number(before) == format_number(after) or before is None or after is None:
        return "="
    return "↑" if after > before else "↓"
