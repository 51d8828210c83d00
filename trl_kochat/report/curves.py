"""Which curves a trainer's log holds: a plot is a title and the keys of the log that share its axes.

What TRL's trainers log has a title and a hint; whatever else was logged is drawn under its own name.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .record import is_number


# Numbers from here on are not drawn: the distance between two of them may be more than a float holds (ours).
NOT_DRAWN = 1e150


class Series(NamedTuple):
    key: str
    label: str


class Plot(NamedTuple):
    """One pair of axes. `name` is the file name; a plot none of whose keys was logged is left out."""

    name: str
    title: str
    series: tuple[Series, ...]
    # What to look for, in one sentence under the plot.
    hint: str = ""
    log_scale: bool = False
    # Measured alike by every method, so that runs of two methods may be compared.
    shared: bool = False


def _plot(name: str, title: str, key: str, hint: str = "", **settings: bool) -> Plot:
    """One key, on training and on held-out rows."""
    return Plot(name, title, (Series(key, "training"), Series(f"eval_{key}", "held-out")), hint, **settings)


_METHODS = (
    _plot("loss", "Loss", "loss", "Held-out loss that rises while training loss falls is overfitting."),
    _plot(
        "reward",
        "Reward",
        "reward",
        "A reward that rises while answers grow long or repeat themselves is the reward model being fooled.",
    ),
    _plot("kl", "KL to the reference (nats)", "kl"),
    _plot("token_accuracy", "Next-token accuracy", "mean_token_accuracy"),
    _plot(
        "accuracy",
        "Pairs in the right order",
        "accuracy",
        "0.5 is chance. 1.0 on training rows and less on held-out rows is overfitting.",
    ),
    _plot("margin", "Margin, chosen over rejected", "margin"),
    _plot("mean_reward", "Mean reward", "mean_reward"),
    Plot(
        "rewards",
        "Implicit rewards",
        (Series("rewards/chosen", "chosen"), Series("rewards/rejected", "rejected")),
        "Both falling together means that the model unlearns the chosen answers too.",
    ),
    _plot("margins", "Reward margin", "rewards/margins"),
    _plot("accuracies", "Pairs in the right order", "rewards/accuracies", "0.5 is chance."),
    Plot(
        "logps",
        "Log-probability of an answer (nats)",
        (Series("logps/chosen", "chosen"), Series("logps/rejected", "rejected")),
    ),
    _plot(
        "reward_zero_std",
        "Groups whose answers all get the same reward",
        "frac_reward_zero_std",
        "Nothing is learnt from such a group.",
    ),
    Plot(
        "clip_ratio",
        "Tokens beyond the clip range",
        (Series("clip_ratio/low_mean", "made rarer"), Series("clip_ratio/high_mean", "made likelier")),
        "Shares between 0 and 1. A large one says that a step goes too far: lower learning_rate or num_iterations.",
    ),
    _plot("entropy", "Entropy (nats a token)", "entropy", "Near 0 a model that samples its answers explores nothing."),
    _plot("completion_length", "Completion length (tokens)", "completions/mean_length"),
    _plot(
        "completion_ends", "Completions cut by length", "completions/clipped_ratio", "At 1 no answer ends by itself."
    ),
)
_ALL = (
    Plot(
        "answers_health",
        "Answers to the fixed prompts",
        (
            Series("samples/repetition", "repetition"),
            Series("samples/hanja", "Chinese characters"),
            Series("samples/latin", "Latin letters"),
            Series("samples/eos_rate", "ended by themselves"),
            Series("samples/distinct", "different"),
            Series("samples/most_common", "most common"),
            Series("samples/own_answer", "own answer found"),
        ),
        "Shares between 0 and 1. Repetition or foreign script that rises is damage, whatever the reward says.",
        shared=True,
    ),
    Plot(
        "answers_length",
        "Length of those answers (tokens)",
        (Series("samples/mean_length", "tokens"),),
        shared=True,
    ),
    Plot(
        "answers_score",
        "Score of those answers",
        (
            Series("samples/score", "score"),
            Series("samples/score_chosen", "chosen"),
            Series("samples/score_rejected", "rejected"),
        ),
        shared=True,
    ),
    Plot("grad_norm", "Gradient norm", (Series("grad_norm", "gradient norm"),), log_scale=True, shared=True),
    Plot("learning_rate", "Learning rate", (Series("learning_rate", "learning rate"),), shared=True),
)

# A key of this form may become text of a drawing; a log that was edited may hold any other.
_KEY = re.compile(r"[A-Za-z0-9_.@-]{1,40}(/[A-Za-z0-9_.@-]{1,40}){0,3}")
# The mean of one reward among several: all of them share their axes.
_OF_REWARD = re.compile(r"(eval_)?rewards/.+/mean")
# Counters and clocks.
_NOT_CURVES = re.compile(r"epoch|step|num_tokens|total_flos|(eval_)?(runtime|num_tokens|\w+_per_second)|health/.*")


def plots_of(history: Iterable[Mapping[str, Any]]) -> list[Plot]:
    """The plots that have something to show, their series reduced to the keys that were logged."""
    times = Counter(key for entry in history for key, value in entry.items() if is_number(value))
    known = {series.key for plot in (*_METHODS, *_ALL) for series in plot.series}
    others: dict[str, list[Series]] = {}
    for key in sorted(times.keys() - known):
        if times[key] > 1 and _KEY.fullmatch(key) and not _NOT_CURVES.fullmatch(key):
            *above, last = key.removeprefix("eval_").split("/")
            group = above if len(above) > 1 else [*above, last]  # what has a name in common thrice is one family
            if _OF_REWARD.fullmatch(key):
                group, last = ["each_reward"], above[-1]
            label = last.replace("_", " ").strip() + (", held-out" if key.startswith("eval_") else "")
            others.setdefault("_".join(re.sub(r"\W", "_", part) for part in group), []).append(Series(key, label))
    named = [Plot(f"log_{name}", name.replace("_", " ").strip(), tuple(series)) for name, series in others.items()]
    plots = []
    for plot in (*_METHODS, *named, *_ALL):
        series = tuple(one for one in plot.series if times[one.key])
        if series:
            plots.append(plot._replace(series=series))
    return plots


def points(history: Iterable[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Steps and values of one key; a value that no axis can hold is left out. The last entry of a step counts."""
    by_step = {
        entry["step"]: entry[key] for entry in history if is_number(entry.get(key)) and abs(entry[key]) < NOT_DRAWN
    }
    steps = sorted(by_step)
    return [float(step) for step in steps], [float(by_step[step]) for step in steps]
