"""Which curves tell about a method: a plot is a title and the keys of the trainer's log that share an axis."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .shape import is_number


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


def _train_and_eval(key: str) -> tuple[Series, Series]:
    return Series(key, "training"), Series(f"eval_{key}", "held-out")


_LOSS = Plot(
    "loss", "Loss", _train_and_eval("loss"), "Held-out loss that rises while training loss falls is overfitting."
)
_GRAD_NORM = Plot("grad_norm", "Gradient norm", (Series("grad_norm", "gradient norm"),), log_scale=True)
_LEARNING_RATE = Plot("learning_rate", "Learning rate", (Series("learning_rate", "learning rate"),))
_ANSWERS = (
    Plot(
        "answers_health",
        "Answers to the fixed prompts",
        (
            Series("samples/repetition", "repetition"),
            Series("samples/hanja", "Chinese characters"),
            Series("samples/latin", "Latin letters"),
            Series("samples/eos_rate", "ended by themselves"),
        ),
        "Shares between 0 and 1. Repetition or foreign script that rises is damage, whatever the reward says.",
    ),
    Plot("answers_length", "Length of those answers (tokens)", (Series("samples/mean_length", "tokens"),)),
    Plot(
        "answers_score",
        "Score of those answers",
        (
            Series("samples/score", "score"),
            Series("samples/score_chosen", "chosen"),
            Series("samples/score_rejected", "rejected"),
        ),
    ),
)

PLOTS: dict[str, tuple[Plot, ...]] = {
    "sft": (
        _LOSS,
        Plot("token_accuracy", "Next-token accuracy", _train_and_eval("mean_token_accuracy")),
        Plot("entropy", "Entropy (nats a token)", _train_and_eval("entropy")),
    ),
    "reward": (
        _LOSS,
        Plot(
            "accuracy",
            "Pairs in the right order",
            _train_and_eval("accuracy"),
            "0.5 is chance. 1.0 on training rows and less on held-out rows is overfitting.",
        ),
        Plot("margin", "Margin, chosen over rejected", _train_and_eval("margin")),
        Plot("mean_reward", "Mean reward", _train_and_eval("mean_reward")),
    ),
    "dpo": (
        _LOSS,
        Plot(
            "rewards",
            "Implicit rewards",
            (Series("rewards/chosen", "chosen"), Series("rewards/rejected", "rejected")),
            "Both falling together means that the model unlearns the chosen answers too.",
        ),
        Plot("margins", "Reward margin", _train_and_eval("rewards/margins")),
        Plot("accuracies", "Pairs in the right order", _train_and_eval("rewards/accuracies"), "0.5 is chance."),
        Plot(
            "logps",
            "Log-probability of an answer (nats)",
            (Series("logps/chosen", "chosen"), Series("logps/rejected", "rejected")),
        ),
        Plot("entropy", "Entropy (nats a token)", _train_and_eval("entropy")),
    ),
    "ppo": (
        Plot(
            "reward",
            "Reward",
            (Series("reward", "training"), Series("eval_reward", "held-out")),
            "A reward that rises while answers grow long or repeat themselves is the reward model being fooled.",
        ),
        Plot("kl", "KL to the reference (nats a completion)", (Series("kl", "KL"),)),
        Plot(
            "policy_entropy", "Entropy (nats a token)", (Series("entropy", "entropy"),), "Near 0 it explores nothing."
        ),
        Plot("completion_length", "Completion length (tokens)", (Series("completions/mean_length", "mean length"),)),
        Plot(
            "completion_ends",
            "Completions cut by length",
            (Series("completions/clipped_ratio", "share cut"),),
            "At 1 no answer ends by itself.",
        ),
        Plot(
            "losses",
            "Losses",
            (Series("ppo/policy_loss", "policy"), Series("ppo/value_loss", "value")),
        ),
        Plot("explained_variance", "Explained variance of the value", (Series("ppo/explained_variance", "share"),)),
        Plot(
            "clip_fraction",
            "Share of clipped tokens",
            (Series("ppo/clipfrac", "policy"), Series("ppo/clipfrac_value", "value")),
        ),
        Plot("time", "Seconds a rollout", ()),
    ),
}
_COMMON = (*_ANSWERS, _GRAD_NORM, _LEARNING_RATE)

# Keys of the log that are times, each a part of a step. Nothing else of a key may become text of a drawing.
TIME_KEY = re.compile(r"ppo/time/([a-z_]+)")


def plots_of(method: str, history: Iterable[Mapping[str, Any]]) -> list[Plot]:
    """The plots of a method that have something to show, their series reduced to the keys that were logged."""
    logged = {key for entry in history for key, value in entry.items() if isinstance(value, (int, float))}
    plots = []
    for plot in (*PLOTS[method], *_COMMON):
        series = plot.series
        if plot.name == "time":
            parts = filter(None, map(TIME_KEY.fullmatch, sorted(logged)))
            series = tuple(Series(part[0], part[1].replace("_", " ")) for part in parts)
        series = tuple(one for one in series if one.key in logged)
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
