"""Each rule against a log of a run that goes wrong in its way, and all of them against healthy logs."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_kochat.callbacks.health_rules import COLLAPSE, RULES

from .logs import STEPS, constant, logged, merged, ramp, replay, rounds


PPO = {
    "reward": ramp(-1, 1.5),
    "reward_std": constant(1.0),
    "kl": ramp(0, 12),
    "entropy": ramp(2.0, 1.2),
    "completions/mean_length": ramp(28, 36),
    "completions/clipped_ratio": ramp(0.4, 0.1),
}
DPO = {
    "loss": ramp(0.69, 0.3),
    "rewards/chosen": ramp(0, 0.6),
    "rewards/rejected": ramp(0, -1.2),
    "rewards/accuracies": lambda t: 0.0 if t == 0 else 0.6 + 0.35 * t,
    "rewards/margins": ramp(0, 1.8),
    "logps/chosen": ramp(-60, -54),
    "logps/rejected": ramp(-60, -72),
    "entropy": ramp(1.6, 1.2),
}
REWARD = {"loss": ramp(0.7, 0.3), "accuracy": ramp(0.5, 0.9), "margin": ramp(0, 2), "grad_norm": constant(1.0)}
SFT = {"loss": ramp(3, 1), "entropy": ramp(3, 0.1), "mean_token_accuracy": ramp(0.3, 0.7), "grad_norm": constant(1.0)}

# As TRL's GRPOTrainer logs it: KL is in nats a token.
GRPO = PPO | {
    "kl": ramp(0, 0.3),
    "frac_reward_zero_std": ramp(0.1, 0.95),
    "rewards/speech_level/mean": ramp(0.4, 0.95),
    "rewards/speech_level/std": constant(0.4),
    "rewards/ends/mean": ramp(0.95, 0.94),
    "rewards/ends/std": constant(0.02),
}

HEALTHY = {
    "sft": (merged(logged(**SFT), rounds(repetition=ramp(0.5, 0.0), eos_rate=ramp(0, 1))), {"answer_length": 20.0}),
    # From a base that knows no question, by way of one answer for many, to one that answers.
    "sft from a base": (
        merged(
            logged(**SFT),
            rounds(
                distinct=lambda t: 0.4 if 0 < t < 0.5 else 0.95,
                most_common=lambda t: 0.5 if 0 < t < 0.5 else 0.08,
                own_answer=ramp(0.1, 0.9),
            ),
        ),
        {"answer_length": 20.0},
    ),
    "reward": (logged(**REWARD), {"rows_cut": None}),
    "dpo": (merged(logged(**DPO), rounds(latin=ramp(0.3, 0.25))), {"beta": 0.1, "rows_cut": 0.02, "max_length": 512}),
    "ppo": (merged(logged(**PPO), rounds(distinct=ramp(1.0, 0.85))), {}),
    "grpo": (merged(logged(**GRPO), rounds(distinct=ramp(1.0, 0.9))), {}),
}

BAD = {
    "a loss that is NaN": ("not_finite", logged(**SFT | {"loss": lambda t: math.nan if t > 0.5 else 1.0}), {}),
    "a gradient that is infinite": (
        "not_finite",
        logged(**SFT | {"grad_norm": lambda t: math.inf if t > 0.5 else 1.0}),
        {},
    ),
    "a gradient that stays infinite under fp16": (
        "not_finite",
        logged(**SFT | {"grad_norm": lambda t: math.inf if t > 0.5 else 1.0}),
        {"fp16": True},
    ),
    "KL that runs away": ("kl_too_large", logged(**PPO | {"kl": ramp(0, 60)}), {}),
    "KL beyond a bound of one's own": ("kl_too_large", logged(**PPO), {"max_kl": 5.0}),
    "KL a token that runs away": ("kl_too_large", logged(**GRPO | {"kl": ramp(0, 2)}), {}),
    "groups that are all alike": (
        "no_signal",
        logged(**GRPO | {"frac_reward_zero_std": constant(0.97), "reward": constant(0.1)}),
        {},
    ),
    "a reward had at the expense of another": (
        "reward_traded",
        logged(**GRPO | {"rewards/ends/mean": ramp(0.95, 0.4)}),
        {},
    ),
    "entropy that collapses": ("entropy_collapse", logged(**PPO | {"entropy": ramp(2.0, 0.01)}), {}),
    "reward for length": ("reward_hacking", logged(**PPO | {"completions/mean_length": ramp(28, 120)}), {}),
    "reward for saying less": ("reward_hacking", logged(**PPO | {"completions/mean_length": ramp(28, 8)}), {}),
    "reward for repetition": ("reward_hacking", merged(logged(**PPO), rounds(repetition=ramp(0.02, 0.9))), {}),
    "reward for one answer": (
        "reward_without_variety",
        merged(logged(**PPO), rounds(distinct=ramp(1.0, 0.3), most_common=ramp(0.05, 0.7))),
        {},
    ),
    "one answer for everybody": (
        "same_answer",
        merged(logged(**DPO), rounds(distinct=ramp(0.4, 0.1), most_common=ramp(0.2, 0.6))),
        {"beta": 0.1},
    ),
    "answers that have lost the question": (
        "own_answer_at_chance",
        merged(logged(**DPO), rounds(own_answer=lambda t: 0.5 if t < 0.5 else 0.1)),
        {"beta": 0.1},
    ),
    "loops": ("repetition_rises", merged(logged(**SFT), rounds(repetition=ramp(0.02, 0.8))), {}),
    "Chinese characters": ("foreign_script_rises", merged(logged(**DPO), rounds(hanja=ramp(0, 0.2))), {"beta": 0.1}),
    "English": ("foreign_script_rises", merged(logged(**DPO), rounds(latin=ramp(0.05, 0.6))), {"beta": 0.1}),
    "answers that stop ending": (
        "never_ends",
        merged(logged(**SFT), rounds(eos_rate=lambda t: float(t == 0), mean_length=ramp(20, 64))),
        {},
    ),
    "answers that never learn to end": (
        "never_ends",
        merged(logged(**SFT), rounds(eos_rate=constant(0.0), mean_length=constant(64.0))),
        {"answer_length": 20.0},
    ),
    "completions that are all cut": ("never_ends", logged(**PPO | {"completions/clipped_ratio": constant(1.0)}), {}),
    "displacement": (
        "likelihood_displacement",
        logged(**DPO | {"rewards/chosen": ramp(0, -3), "rewards/rejected": ramp(0, -6)}),
        {"beta": 0.1},
    ),
    "displacement without a beta": (
        "likelihood_displacement",
        logged(**DPO | {"logps/chosen": ramp(-60, -90), "logps/rejected": ramp(-60, -120)}),
        {},
    ),
    "a reward model at chance": ("accuracy_at_chance", logged(**REWARD | {"accuracy": constant(0.5)}), {}),
    "DPO at chance": ("accuracy_at_chance", logged(**DPO | {"rewards/accuracies": constant(0.48)}), {"beta": 0.1}),
    "rows that are cut": ("rows_cut", logged(**SFT), {"rows_cut": 0.95, "max_length": 16}),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_run_is_called_by_its_name_and_nothing_else(name):
    code, entries, facts = BAD[name]
    assert replay(entries, **facts).keys() == {code}


@pytest.mark.parametrize("name", BAD)
def test_a_sentence_has_a_number_and_a_way_out(name):
    code, entries, facts = BAD[name]
    said = replay(entries, **facts)[code]
    assert any(character.isdigit() for character in said) and said.endswith(".")
    remedies = ("Raise", "Lower", "Check", "Look", "Go back", "raise")
    assert any(remedy in said for remedy in remedies)


@pytest.mark.parametrize("method", HEALTHY)
def test_a_healthy_run_is_silent(method):
    entries, facts = HEALTHY[method]
    assert replay(entries, **facts) == {}


@pytest.mark.parametrize("method", HEALTHY)
@given(seed=st.integers(0, 10_000))
def test_noise_of_small_batches_says_nothing(method, seed):
    entries, facts = HEALTHY[method]
    noise = random.Random(seed)
    noisy = [
        {k: v if k == "step" or k.startswith("samples/") else v + noise.gauss(0, 0.08 * abs(v)) for k, v in e.items()}
        for e in entries
    ]
    assert replay(noisy, **facts) == {}


def test_every_rule_has_a_bad_run():
    assert {code for code, _, _ in BAD.values()} == RULES.keys()


def test_what_ends_a_run_early_are_rules():
    assert {"entropy_collapse", "same_answer"} < COLLAPSE < RULES.keys()


def test_a_single_overflow_is_how_fp16_finds_its_scale():
    log = logged(**SFT | {"grad_norm": lambda t: math.inf if 0.3 < t < 0.35 else 1.0})
    assert replay(log, fp16=True) == {}


@pytest.mark.parametrize(("overflows", "told"), [(2, False), (3, True)])
def test_under_fp16_three_infinite_norms_on_end_are_no_search_for_a_scale(overflows, told):
    log = [{"step": step, "grad_norm": math.inf if 10 <= step < 10 + overflows else 1.0} for step in range(20)]
    assert ("not_finite" in replay(log, fp16=True)) == told


def test_entropy_that_was_low_from_the_start_has_not_collapsed():
    assert replay(logged(**PPO | {"entropy": constant(0.15)})) == {}


def test_chosen_answers_that_fall_alone_are_no_displacement():
    log = logged(**DPO | {"rewards/chosen": ramp(0, -3), "rewards/rejected": ramp(0, 1)})
    assert replay(log, beta=0.1) == {}


def test_accuracy_of_the_first_steps_is_no_chance():
    log = logged(**DPO | {"rewards/accuracies": lambda t: 0.0 if t < 0.25 else 0.6})
    assert replay(log, beta=0.1) == {}


def test_accuracy_that_is_lost_late_in_a_long_run_is_seen():
    log = [{"step": step, "accuracy": 0.9 if step < 170 else 0.5, "margin": 0.1} for step in range(200)]
    assert replay(log, max_steps=200).keys() == {"accuracy_at_chance"}


def test_completions_of_which_some_end_now_and_then_do_end():
    log = [{"step": step, "completions/clipped_ratio": 0.9 if step % 5 == 0 else 1.0} for step in range(STEPS)]
    assert replay(log) == {}


def test_one_round_without_an_end_says_nothing():
    assert replay(rounds(eos_rate=lambda t: float(t < 1), mean_length=constant(64.0)), answer_length=20.0) == {}


@pytest.mark.parametrize(("answer_length", "told"), [(47.0, True), (49.0, False)])
def test_answers_that_hardly_fit_the_samples_may_not_have_ended_yet(answer_length, told):
    """Samples of 64 tokens: an answer of more than three quarters of that says nothing of a model that goes on."""
    log = rounds(eos_rate=constant(0.0), mean_length=constant(64.0))
    assert ("never_ends" in replay(log, answer_length=answer_length)) == told


def test_one_answer_that_loops_once_says_nothing():
    assert replay(rounds(repetition=lambda t: 0.45 if t == 0.5 else 0.02)) == {}


def test_long_answers_cut_by_short_samples_say_nothing():
    cut = rounds(eos_rate=constant(0.0), mean_length=constant(64.0))
    assert replay(cut, answer_length=200.0) == {} == replay(cut)


def test_low_entropy_on_given_answers_is_a_good_fit():
    assert replay(logged(**SFT | {"entropy": ramp(3, 0.01)})) == {}


def test_an_empty_log_says_nothing():
    assert replay([]) == {} == replay([{"step": 0}])


# Collapse.


@pytest.mark.parametrize(("share", "told"), [(0.29, False), (0.3, True)])
def test_an_answer_that_three_of_ten_get_twice_is_one_for_everybody(share, told):
    log = rounds(most_common=lambda t: share if t >= 0.75 else 0.05)
    assert ("same_answer" in replay(log)) == told


def test_one_round_of_one_answer_says_nothing_and_neither_does_the_first_half():
    assert replay(rounds(most_common=lambda t: 0.9 if t == 0.75 else 0.05)) == {}
    assert replay(rounds(most_common=lambda t: 0.9 if t < 0.5 else 0.05)) == {}
    assert "same_answer" in replay(rounds(most_common=lambda t: 0.9 if t <= 0.5 else 0.05))


@pytest.mark.parametrize(("start", "end", "told"), [(0.35, 0.2, True), (0.34, 0.2, False), (0.35, 0.21, False)])
def test_a_question_is_lost_by_a_model_that_had_it(start, end, told):
    log = rounds(own_answer=lambda t: start if t < 0.75 else end)
    assert ("own_answer_at_chance" in replay(log)) == told


def test_a_base_that_never_knew_the_question_has_not_lost_it():
    assert replay(rounds(own_answer=constant(0.1))) == {}


@pytest.mark.parametrize(("left", "told"), [(0.74, True), (0.75, False)])
def test_a_reward_that_costs_a_quarter_of_the_answers_is_told(left, told):
    log = merged(logged(**PPO), rounds(distinct=lambda t: 1.0 if t < 0.75 else left))
    assert ("reward_without_variety" in replay(log)) == told


def test_answers_that_become_alike_without_a_reward_for_it_are_no_hacking():
    log = merged(logged(**PPO | {"reward": constant(0.0)}), rounds(distinct=ramp(1.0, 0.3)))
    assert "reward_without_variety" not in replay(log)
