"""What can be seen going wrong in a trainer's log: each rule reads the log so far and says one sentence, or nothing.

Thresholds without a source are ours, set so that the healthy runs of the recipes stay silent.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any


# Logged values that a rule takes together, so that a single noisy batch says nothing.
WINDOW = 3
_REWARD = re.compile(r"rewards/.+/mean")


@dataclass
class Log:
    """What a run logged, by key, and what is known of the run itself."""

    max_steps: int
    """Optimizer steps planned."""
    max_kl: float = 20.0
    """In nats a completion."""
    beta: float | None = None
    """Of DPO."""
    rows_cut: float | None = None
    """Share of the training rows that lose their end to `max_length`."""
    max_length: int | None = None
    """In tokens."""
    answer_length: float | None = None
    """Median length of an answer in the training rows, in tokens."""
    fp16: bool = False
    """Whether a gradient scaler is at work, which skips steps whose gradients overflow."""
    step: int = field(default=0, init=False)
    fired: set[str] = field(default_factory=set, init=False)
    """Codes of rules that have spoken."""
    _values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list), init=False)

    def add(self, entry: Mapping[str, Any]) -> None:
        self.step = entry.get("step", self.step)
        for key, value in entry.items():
            if isinstance(value, (int, float)):
                self._values[key].append(value)

    def values(self, key: str) -> list[float]:
        return self._values.get(key, [])

    def reward_names(self) -> list[str]:
        """Of the reward functions that were logged each by itself."""
        return [key[len("rewards/") : -len("/mean")] for key in self._values if _REWARD.fullmatch(key)]

    def first(self, key: str) -> float | None:
        """Mean of the first window; `None` until there are two windows that do not overlap."""
        values = self.values(key)
        return fmean(values[:WINDOW]) if len(values) >= 2 * WINDOW else None

    def last(self, key: str) -> float | None:
        values = self.values(key)
        return fmean(values[-WINDOW:]) if len(values) >= WINDOW else None

    @property
    def in_groups(self) -> bool:
        """Whether GRPO or RLOO writes the log, which compare the answers to one prompt."""
        return bool(self.values("frac_reward_zero_std"))

    @property
    def kl_weight(self) -> str:
        """The setting that holds the policy near its reference."""
        return "beta" if self.in_groups else "kl_coef"

    def reward_rose(self) -> tuple[float, float] | None:
        """Start and present level of a reward that rose by half of its spread or more."""
        first, last, spread = self.first("reward"), self.last("reward"), self.values("reward_std")
        if first is None or last is None or not last > first + 0.5 * (spread[0] if spread else 0.0):
            return None
        return first, last

    def rose(self, key: str, rounds: int = 2) -> tuple[float, float] | None:
        """Start and present level of what is measured rarely: the first value against the mean of the last rounds."""
        values = self.values(key)
        return (values[0], fmean(values[-rounds:])) if len(values) > rounds else None


Rule = Callable[[Log], str | None]


def not_finite(log: Log) -> str | None:
    # transformers leaves NaN out of the loss it logs (logging_nan_inf_filter); the gradient norm still shows it.
    for key in ("loss", "eval_loss", "grad_norm", "reward", "rewards/chosen", "logps/chosen", "kl", "entropy"):
        # fp16's scaler finds its scale by overflowing: single infinite norms are how it works.
        needed = WINDOW if key == "grad_norm" and log.fp16 else 1
        values = log.values(key)[-needed:]
        if len(values) == needed and not any(map(math.isfinite, values)):
            return (
                f"{key} is {values[-1]} at step {log.step}: training has diverged and the weights may be lost. Go back to "
                "an earlier checkpoint with a lower learning_rate or max_grad_norm"
                + (", or train in bf16 or float32 instead of fp16." if log.fp16 else ".")
            )
    return None


def kl_too_large(log: Log) -> str | None:
    kl = log.last("kl")
    if kl is not None and log.in_groups:  # in nats a token
        kl *= log.last("completions/mean_length") or 1.0
    if kl is None or not kl > log.max_kl:
        return None
    return (
        f"KL to the reference is {kl:.1f} nats a completion, above {log.max_kl:g}: the model has left the text that the "
        f"reward model knows. Raise {log.kl_weight}, lower learning_rate"
        + (", or take fewer steps." if log.in_groups else ", or set kl_target.")
    )


def entropy_collapse(log: Log) -> str | None:
    if not log.values("reward"):  # on given answers low entropy is only a good fit
        return None
    first, last = log.first("entropy"), log.last("entropy")
    # 0.2 nats: the likeliest token has some 95 % at every position.
    if first is None or last is None or not (last < 0.2 and last < first / 4):
        return None
    return (
        f"Entropy fell from {first:.2f} to {last:.3f} nats a token: the model writes the same answer every time and "
        f"explores no more. Raise {log.kl_weight} or temperature, lower learning_rate, or take fewer "
        + ("num_iterations." if log.in_groups else "num_ppo_epochs.")
    )


def no_signal(log: Log) -> str | None:
    """GRPO and RLOO learn from differences within a group; late in a good run there may be none left."""
    share = log.last("frac_reward_zero_std")
    if share is None or share < 0.9 or log.reward_rose():
        return None
    return (
        f"In {share:.0%} of the groups all answers get the same reward, and nothing is learnt from those. Raise temperature "
        "or num_generations, or take a reward that tells the answers apart (in proportion, not all or nothing)."
    )


def reward_traded(log: Log) -> str | None:
    """The sum rises, and one of its parts pays for it."""
    if not log.reward_rose():
        return None
    for name in log.reward_names():
        first, last = log.first(f"rewards/{name}/mean"), log.last(f"rewards/{name}/mean")
        if first is None or last is None:
            continue
        spread = log.first(f"rewards/{name}/std") or 0.0
        if first - last > max(0.5 * spread, 0.25 * abs(first)):
            return (
                f"The reward {name} fell from {first:.2f} to {last:.2f} while the sum of the rewards rose: another one is "
                "had at its expense. Raise its weight (reward_weights), or let the other count only where this one is "
                "satisfied (trl_kochat.rewards.gate)."
            )
    return None


def reward_hacking(log: Log) -> str | None:
    rose = log.reward_rose()
    if rose is None:
        return None
    first, last = rose
    lengths = log.first("completions/mean_length"), log.last("completions/mean_length")
    repetition = log.rose("samples/repetition")
    if None not in lengths and lengths[1] > 2 * lengths[0]:  # type: ignore[operator]
        symptom = f"completions grew from {lengths[0]:.0f} to {lengths[1]:.0f} tokens"
    elif None not in lengths and lengths[1] < 0.6 * lengths[0]:  # type: ignore[operator]
        symptom = f"completions shrank from {lengths[0]:.0f} to {lengths[1]:.0f} tokens"
    elif repetition is not None and repetition[1] > repetition[0] + 0.25:
        symptom = f"repetition in the sampled answers rose from {repetition[0]:.2f} to {repetition[1]:.2f}"
    else:
        return None
    return (
        f"The reward rose from {first:.2f} to {last:.2f} while {symptom}: the reward model may be fooled rather than "
        f"served, so read the answers. Raise {log.kl_weight}, stop at an earlier checkpoint, or train the reward model on "
        "bad ones."
    )


def reward_without_variety(log: Log) -> str | None:
    rose, change = log.reward_rose(), log.rose("samples/distinct")
    # PPO that goes well keeps nine tenths of the answers different.
    if rose is None or change is None or change[1] >= 0.75 * change[0]:
        return None
    first, last = rose
    return (
        f"The reward rose from {first:.2f} to {last:.2f} while the share of different answers fell from {change[0]:.0%} to "
        f"{change[1]:.0%}: one answer that the reward model likes takes the place of all. Raise {log.kl_weight}, stop at an "
        "earlier checkpoint, or lower learning_rate."
    )


def same_answer(log: Log) -> str | None:
    """Two rounds on end in the second half of a run, since a model that learns to answer may begin with one answer."""
    shares = log.values("samples/most_common")
    if log.step < log.max_steps / 2 or len(shares) < 3 or min(shares[-2:]) < 0.3:
        return None
    if "reward_without_variety" in log.fired:
        return None
    return (
        f"{shares[-1]:.0%} of the sampled prompts get the same answer at step {log.step} ({shares[0]:.0%} before training): "
        "the answers do not depend on the question. Lower learning_rate, train on more different rows, or stop at an "
        "earlier checkpoint; look at the samples before you save it."
    )


def own_answer_at_chance(log: Log) -> str | None:
    """A model finds the reference that belongs to a question among ten; one that has lost the question has 10 %."""
    shares = log.values("samples/own_answer")
    if len(shares) < 3 or max(shares[-2:]) > 0.2 or max(shares) < 0.35:
        return None
    return (
        f"Of ten answers the one that belongs to the prompt gains the most by it in {shares[-1]:.0%} of cases, {max(shares):.0%} "
        "at its best, and 10% is chance: the model has lost the question. Lower learning_rate, raise beta or kl_coef, or "
        "stop at an earlier checkpoint."
    )


def repetition_rises(log: Log) -> str | None:
    change = log.rose("samples/repetition")
    if change is None or not change[1] > change[0] + 0.25 or "reward_hacking" in log.fired:
        return None
    return (
        f"Repetition in the sampled answers rose from {change[0]:.2f} to {change[1]:.2f}: the model falls into loops. "
        "Lower learning_rate or train for fewer steps; look at the samples before you save it."
    )


def foreign_script_rises(log: Log) -> str | None:
    for key, name, bound in (("hanja", "Chinese characters", 0.05), ("latin", "Latin letters", 0.2)):
        change = log.rose(f"samples/{key}")
        if change is not None and change[1] > change[0] + bound:
            return (
                f"The share of {name} in the sampled answers rose from {change[0]:.0%} to {change[1]:.0%}. Look for them "
                "in the training rows (`chosen` most of all), and lower learning_rate."
            )
    return None


def never_ends(log: Log) -> str | None:
    way_out = (
        "Check that the training answers end in EOS and are not cut by max_length (tokenizer findings: pad equal to "
        "EOS hides it), or allow longer answers."
    )
    cut = log.values("completions/clipped_ratio")[-2 * WINDOW :]
    if len(cut) == 2 * WINDOW and min(cut) > 0.99:
        length = log.last("completions/mean_length")
        return f"Every completion was cut at {length:.0f} tokens, none ended by itself. {way_out}"
    rates, lengths = log.values("samples/eos_rate"), log.values("samples/mean_length")
    if len(rates) < 3 or any(rates[-2:]) or log.step < log.max_steps / 2:
        return None
    # It says something where answers of the training rows would have ended by then, or, not knowing them, where the
    # model's own answers did before training. Else the samples may just be too short.
    if log.answer_length is None and not rates[0]:
        return None
    if log.answer_length is not None and log.answer_length > 0.75 * lengths[-1]:
        return None
    return f"No sampled answer ends by itself within {lengths[-1]:.0f} tokens at step {log.step}. {way_out}"


def likelihood_displacement(log: Log) -> str | None:
    """Both answers of a pair lose probability, and the margin only tells which of them loses more.

    Razin et al., "Unintentional Unalignment", https://huggingface.co/papers/2410.08847.
    """
    start = log.first("logps/chosen")
    if start is None:
        return None
    # Rewards are differences to the reference on the same rows; the log-probabilities themselves vary by batch.
    if log.beta:
        fall, rejected_fall = (-(log.last(f"rewards/{side}") or 0.0) / log.beta for side in ("chosen", "rejected"))
    else:
        fall, rejected_fall = (
            (log.first(f"logps/{side}") or 0.0) - (log.last(f"logps/{side}") or 0.0) for side in ("chosen", "rejected")
        )
    if not (fall > 0.15 * abs(start) and rejected_fall > 0):
        return None
    return (
        f"The chosen answers lost {fall:.0f} nats of log-probability (they began at {start:.0f}) and the rejected "
        f"{rejected_fall:.0f}: both fall together, so the model unlearns what it should prefer. Lower learning_rate, raise "
        "beta, or add the SFT loss on the chosen answers (loss_type=['sigmoid', 'sft'])."
    )


def accuracy_at_chance(log: Log) -> str | None:
    for key, margin in (("accuracy", "margin"), ("rewards/accuracies", "rewards/margins")):
        values = log.values(key)
        recent = values[len(values) // 2 :][-20:]  # not the start, where a policy equal to its reference has 0
        if log.step < log.max_steps / 2 or len(recent) < 2 * WINDOW or fmean(recent) >= 0.55:
            continue
        return (
            f"{fmean(recent):.0%} of the pairs are in the right order after {log.step} of {log.max_steps} steps, and "
            f"50% is chance (margin {log.last(margin) or 0.0:.3g}). Check that chosen and rejected are not mixed up or "
            "alike, and raise learning_rate or the number of steps."
        )
    return None


def rows_cut(log: Log) -> str | None:
    if log.rows_cut is None or log.rows_cut < 0.5:
        return None
    return (
        f"{log.rows_cut:.0%} of the training rows are cut at max_length {log.max_length}: their answers lose the end, and "
        "with it EOS. Raise max_length, or drop the long rows."
    )


# After these no answer is worth waiting for.
COLLAPSE = frozenset({"entropy_collapse", "reward_without_variety", "same_answer", "own_answer_at_chance"})
# In this order: what explains another goes first.
RULES: dict[str, Rule] = {
    "not_finite": not_finite,
    "rows_cut": rows_cut,
    "kl_too_large": kl_too_large,
    "entropy_collapse": entropy_collapse,
    "no_signal": no_signal,
    "reward_hacking": reward_hacking,
    "reward_traded": reward_traded,
    "reward_without_variety": reward_without_variety,
    "same_answer": same_answer,
    "own_answer_at_chance": own_answer_at_chance,
    "repetition_rises": repetition_rises,
    "foreign_script_rises": foreign_script_rises,
    "never_ends": never_ends,
    "likelihood_displacement": likelihood_displacement,
    "accuracy_at_chance": accuracy_at_chance,
}
