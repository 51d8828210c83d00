"""What the numbers of a report mean: their names for a reader and which direction is the better one."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from .record import RunRecord, is_number


Verdict = Literal["better", "worse", "same", "changed"]


class Measure(NamedTuple):
    """How one key of `before` and `after` is read."""

    label: str
    # None: neither direction is better by itself (a longer answer, a larger KL).
    better: Literal["higher", "lower"] | None
    # A share is shown as per cent.
    share: bool = False


MEASURES = {
    "right": Measure("right answers", "higher", True),
    "right_asked_otherwise": Measure("right answers, facts that training asks otherwise", "higher", True),
    "right_new_way": Measure("right answers, ways of asking never seen", "higher", True),
    "right_only_read": Measure("right answers, facts only read as a statement", "higher", True),
    "eval_loss": Measure("loss on held-out rows", "lower"),
    "preferred": Measure("chosen likelier than rejected, per token", "higher", True),
    "accuracy": Measure("pairs in the right order", "higher", True),
    "margin": Measure("reward margin, chosen over rejected", "higher"),
    "logps_chosen": Measure("log-probability of chosen (nats)", "higher"),
    "reward": Measure("mean reward", "higher"),
    "reward_std": Measure("standard deviation of the reward", None),
    "kl": Measure("KL to the reference (nats a completion)", None),
    "own_answer": Measure("own answer found among ten", "higher", True),
    "distinct": Measure("different answers to different prompts", "higher", True),
    "most_common": Measure("share of the most common answer", "lower", True),
    "distinct_2": Measure("different pairs of words (distinct-2)", "higher", True),
    "speech_level": Measure("answers in the speech level of their reference", "higher", True),
    "eos_rate": Measure("answers that end by themselves", "higher", True),
    "mean_length": Measure("answer length (tokens)", None),
    "repetition": Measure("repetition in answers", "lower", True),
    "hanja": Measure("Chinese characters in answers", "lower", True),
    "latin": Measure("Latin letters in answers", "lower", True),
}
# What records of version 1 have among the measures and counts rows.
COUNTS = ("n", "left_out", "cut", "n_answers", "n_own_answer")
# Fewer rows than these show no change, whatever the numbers say (ours): two coins may well fall alike.
FEWEST_ROWS = 8


def measure(key: str) -> Measure:
    """The measure of this name; one we do not know is shown under its own key and judged by nobody."""
    if key in MEASURES:
        return MEASURES[key]
    if key.startswith("accuracy_rank_distance_"):
        return Measure(f"pairs in the right order, {key.rpartition('_')[2]} ranks apart", "higher", True)
    if key.startswith("accuracy_kind_"):
        return Measure(f"pairs in the right order, rejected: {_words(key, 'accuracy_kind_')}", "higher", True)
    if key.startswith("preferred_kind_"):
        kind = _words(key, "preferred_kind_")
        return Measure(f"chosen likelier, rejected: {kind}", "higher", True)
    if key.startswith("reward_"):
        return Measure(f"mean reward: {key.removeprefix('reward_')}", "higher")
    if key.startswith("right_"):
        return Measure(f"right answers, held out: {_words(key, 'right_')}", "higher", True)
    return Measure(key, None)


def _words(key: str, prefix: str) -> str:
    return key.removeprefix(prefix).replace("_", " ")


def measured_keys(records: Iterable[RunRecord]) -> list[str]:
    """The measures of some runs; counts, which records of version 1 have among them, are none."""
    keys = dict.fromkeys(key for record in records for key in record.before | record.after)
    return [key for key in keys if key not in COUNTS]


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


def format_measure(key: str, value: float | None) -> str:
    """The value of a measure as a table has it: a share as per cent.

    >>> format_measure("distinct", 0.8125), format_measure("eval_loss", 2.0)
    ('81.2%', '2')
    """
    return f"{value:.1%}" if measure(key).share and value is not None and is_number(value) else format_number(value)


def judged(record: RunRecord, key: str) -> Verdict:
    """Whether a measure of a run, with its values before and after, has become better.

    No change is larger than chance where its interval holds 0 or it is taken over fewer than [`FEWEST_ROWS`] rows.
    """
    low, high = record.intervals.get("change", {}).get(key, (None, None))
    if low is not None and high is not None and (low <= 0 <= high or record.n.get(key, FEWEST_ROWS) < FEWEST_ROWS):
        return "same"
    return verdict(key, record.before[key], record.after[key])


def sign(record: RunRecord, key: str) -> str:
    """The direction in which a measure went, `↑` or `↓`, and `=` where it did not go further than chance."""
    before, after = record.before[key], record.after[key]
    if judged(record, key) == "same" or before is None or after is None:
        return "="
    return "↑" if after > before else "↓"


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
