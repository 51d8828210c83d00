"""From where on each health rule speaks, and what its sentence says of the run."""

import math

import pytest

from trl_kochat.callbacks.health_rules import RULES

from .logs import constant, halves, log_of, merged, ramp, replay, rounds, then


RISES = {"reward": (0.0, 1.0), "reward_std": (1.0, 1.0)}
GROUPS = {"frac_reward_zero_std": (0.125, 0.125)}
ENDLESS = {"eos_rate": constant(0.0), "mean_length": constant(64.0)}

# Rule, a log that is not bad yet, one that is (of the same run), and what is known of it.
BORDERS = {
    "KL at its bound": ("kl_too_large", halves(kl=(0, 20)), halves(kl=(0, 20.5)), {}),
    "KL a token": (
        "kl_too_large",
        halves(kl=(0, 0.5), **GROUPS, **{"completions/mean_length": (8, 40)}),
        halves(kl=(0, 0.5), **GROUPS, **{"completions/mean_length": (8, 41)}),
        {},
    ),
    "KL a token of unknown lengths": ("kl_too_large", halves(kl=(0, 20), **GROUPS), halves(kl=(0, 21), **GROUPS), {}),
    "entropy": (
        "entropy_collapse",
        halves(reward=(0, 0), entropy=(2.0, 0.2)),
        halves(reward=(0, 0), entropy=(2.0, 0.19)),
        {},
    ),
    "entropy beside its start": (
        "entropy_collapse",
        halves(reward=(0, 0), entropy=(0.5, 0.125)),
        halves(reward=(0, 0), entropy=(0.5, 0.12)),
        {},
    ),
    "groups alike": (
        "no_signal",
        halves(frac_reward_zero_std=(0.5, 0.89)),
        halves(frac_reward_zero_std=(0.5, 0.9)),
        {},
    ),
    "a reward that pays half its spread": (
        "reward_traded",
        halves(**RISES, **{"rewards/a/mean": (1.0, 0.5), "rewards/a/std": (1.0, 1.0)}),
        halves(**RISES, **{"rewards/a/mean": (1.0, 0.4), "rewards/a/std": (1.0, 1.0)}),
        {},
    ),
    "a reward that pays a quarter": (
        "reward_traded",
        halves(**RISES, **{"rewards/a/mean": (2.0, 1.5), "rewards/a/std": (0.0, 0.0)}),
        halves(**RISES, **{"rewards/a/mean": (2.0, 1.4), "rewards/a/std": (0.0, 0.0)}),
        {},
    ),
    "a reward that pays, of unknown spread": (
        "reward_traded",
        halves(**RISES, **{"rewards/a/mean": (1.0, 0.75)}),
        halves(**RISES, **{"rewards/a/mean": (1.0, 0.7)}),
        {},
    ),
    "answers twice as long": (
        "reward_hacking",
        halves(**RISES, **{"completions/mean_length": (30, 60)}),
        halves(**RISES, **{"completions/mean_length": (30, 61)}),
        {},
    ),
    "answers of three fifths": (
        "reward_hacking",
        halves(**RISES, **{"completions/mean_length": (50, 30)}),
        halves(**RISES, **{"completions/mean_length": (50, 29)}),
        {},
    ),
    "repetition for a reward": (
        "reward_hacking",
        merged(halves(**RISES), rounds(repetition=then(0.25, 0.5))),
        merged(halves(**RISES), rounds(repetition=then(0.25, 0.51))),
        {},
    ),
    "variety for a reward": (
        "reward_without_variety",
        merged(halves(**RISES), rounds(distinct=then(0.5, 0.375))),
        merged(halves(**RISES), rounds(distinct=then(0.5, 0.37))),
        {},
    ),
    "repetition": (
        "repetition_rises",
        rounds(repetition=then(0.25, 0.5)),
        rounds(repetition=then(0.25, 0.51)),
        {},
    ),
    "Chinese characters": (
        "foreign_script_rises",
        rounds(hanja=then(0.0, 0.05)),
        rounds(hanja=then(0.0, 0.06)),
        {},
    ),
    "Latin letters": ("foreign_script_rises", rounds(latin=then(0.0, 0.2)), rounds(latin=then(0.0, 0.21)), {}),
    "one answer for many, in the second half": (
        "same_answer",
        rounds((0, 0.2, 0.4, 0.49), most_common=then(0.1, 0.5, 0.1)),
        rounds((0, 0.2, 0.4, 0.5), most_common=then(0.1, 0.5, 0.1)),
        {},
    ),
    "a lost question, twice seen after it was known": (
        "own_answer_at_chance",
        rounds((0, 1), own_answer=then(0.6, 0.1)),
        rounds((0, 0.5, 1), own_answer=then(0.6, 0.1)),
        {},
    ),
    "samples without an end, in the second half": (
        "never_ends",
        rounds((0, 0.2, 0.4, 0.49), **ENDLESS),
        rounds((0, 0.2, 0.4, 0.5), **ENDLESS),
        {"answer_length": 20.0},
    ),
    "samples without an end, in three rounds": (
        "never_ends",
        rounds((0, 1), **ENDLESS),
        rounds((0, 0.5, 1), **ENDLESS),
        {"answer_length": 20.0},
    ),
    "samples without an end, twice": (
        "never_ends",
        rounds(mean_length=constant(64.0), eos_rate=then(1.0, 0.0, 0.8)),
        rounds(mean_length=constant(64.0), eos_rate=then(1.0, 0.0, 0.7)),
        {"answer_length": 20.0},
    ),
    "samples without an end, as long as answers by now": (
        "never_ends",
        rounds(eos_rate=constant(0.0), mean_length=ramp(20, 53)),
        rounds(eos_rate=constant(0.0), mean_length=ramp(20, 64)),
        {"answer_length": 48.0},
    ),
    "completions cut": (
        "never_ends",
        halves(**{"completions/clipped_ratio": (0.5, 0.99), "completions/mean_length": (64, 64)}),
        halves(**{"completions/clipped_ratio": (0.5, 1.0), "completions/mean_length": (64, 64)}),
        {},
    ),
    "completions cut six times on end, late": (
        "never_ends",
        halves(10, **{"completions/clipped_ratio": (0.5, 1.0), "completions/mean_length": (64, 64)}),
        halves(20, **{"completions/clipped_ratio": (0.5, 1.0), "completions/mean_length": (64, 64)}),
        {},
    ),
    "chosen answers lose a seventh": (
        "likelihood_displacement",
        halves(**{"logps/chosen": (-40, -40), "rewards/chosen": (0, -3.0), "rewards/rejected": (0, -9.0)}),
        halves(**{"logps/chosen": (-40, -40), "rewards/chosen": (0, -3.1), "rewards/rejected": (0, -9.0)}),
        {"beta": 0.5},
    ),
    "rejected answers lose too": (
        "likelihood_displacement",
        halves(**{"logps/chosen": (-40, -40), "rewards/chosen": (0, -4.0), "rewards/rejected": (0, 0.0)}),
        halves(**{"logps/chosen": (-40, -40), "rewards/chosen": (0, -4.0), "rewards/rejected": (0, -0.25)}),
        {"beta": 0.5},
    ),
    "both lose, without a beta": (
        "likelihood_displacement",
        halves(**{"logps/chosen": (-40, -46), "logps/rejected": (-40, -60)}),
        halves(**{"logps/chosen": (-40, -47), "logps/rejected": (-40, -60)}),
        {},
    ),
    "chosen answers lose, and of the others nothing is known": (
        "likelihood_displacement",
        halves(**{"logps/chosen": (-40, -60)}),
        halves(**{"logps/chosen": (-40, -60), "logps/rejected": (-40, -41)}),
        {},
    ),
    "accuracy": ("accuracy_at_chance", halves(accuracy=(0.6, 0.55)), halves(accuracy=(0.6, 0.54)), {}),
    "accuracy of six values": (
        "accuracy_at_chance",
        halves(10, accuracy=(0.9, 0.5)),
        halves(12, accuracy=(0.9, 0.5)),
        {},
    ),
    "accuracy of the last twenty values": (
        "accuracy_at_chance",
        [{"step": step, "accuracy": 0.9 if step < 81 else 0.545} for step in range(100)],
        [{"step": step, "accuracy": 0.9 if step < 80 else 0.545} for step in range(100)],
        {"max_steps": 100},
    ),
    "accuracy in the second half": (
        "accuracy_at_chance",
        [{"step": step, "accuracy": 0.5} for step in range(50)],
        [{"step": step, "accuracy": 0.5} for step in range(51)],
        {"max_steps": 100},
    ),
}


@pytest.mark.parametrize("name", BORDERS)
def test_a_rule_speaks_from_its_border_on(name):
    code, good, bad, facts = BORDERS[name]
    assert code not in replay(good, **facts)
    assert code in replay(bad, **facts)


def test_rows_of_which_half_are_cut_are_too_many():
    assert "rows_cut" in replay([{"step": 0}], rows_cut=0.5) and "rows_cut" not in replay([{"step": 0}], rows_cut=0.49)


@pytest.mark.parametrize(
    "key", ["loss", "eval_loss", "grad_norm", "reward", "rewards/chosen", "logps/chosen", "kl", "entropy"]
)
def test_one_value_that_is_no_number_is_told_at_once(key):
    said = replay([{"step": 1, key: 1.0}, {"step": 2, key: math.nan}])["not_finite"]
    assert said.startswith(f"{key} is nan at step 2")


def test_fp16_excuses_gradients_and_nothing_else():
    assert "not_finite" in replay([{"step": 1, "loss": math.nan}], fp16=True)
    assert "not_finite" not in replay([{"step": 1, "grad_norm": math.inf}], fp16=True)


def test_a_measure_has_a_start_and_an_end_once_there_are_values_for_both():
    logs = [log_of({"x": float(step)} for step in range(number)) for number in range(1, 8)]
    seen = [(log.first("x"), log.last("x"), log.rose("x")) for log in logs]
    firsts, lasts, rises = zip(*seen, strict=True)
    assert firsts == (None,) * 5 + (1.0, 1.0)  # two windows of three that do not overlap
    assert lasts == (None, None, 1.0, 2.0, 3.0, 4.0, 5.0)
    assert rises[:4] == (None, None, (0.0, 1.5), (0.0, 2.5))  # the first value against the mean of two


@pytest.mark.parametrize(
    ("levels", "rose"),
    [
        ({"reward": (0.0, 1.0), "reward_std": (2.0, 2.0)}, False),
        ({"reward": (0.0, 1.1), "reward_std": (2.0, 2.0)}, True),
        ({"reward": (0.0, 0.3)}, True),  # of unknown spread
        ({"reward": (0.0, 0.0)}, False),
    ],
)
def test_a_reward_has_risen_when_it_left_half_its_spread_behind(levels, rose):
    assert log_of(halves(**levels)).reward_rose() == ((0.0, levels["reward"][1]) if rose else None)


def test_the_spread_of_a_reward_is_the_one_it_began_with():
    entries = [{**entry, "reward_std": 4.0 if entry["step"] else 1.0} for entry in halves(reward=(0.0, 1.0))]
    assert log_of(entries).reward_rose() is not None


def test_only_means_of_functions_are_rewards_each_by_itself():
    entry = {"step": 1, "rewards/ends/mean": 1.0, "rewards/ends/std": 0.0, "rewards/chosen": 0.1, "reward": 1.0}
    assert log_of([entry]).reward_names() == ["ends"]


def test_a_reward_that_is_not_logged_long_enough_hides_no_other():
    entries = halves(**RISES, **{"rewards/new/mean": (1.0, 1.0), "rewards/ends/mean": (1.0, 0.2)})
    for entry in entries[:8]:
        del entry["rewards/new/mean"]
    entries[0] = {"rewards/new/mean": 1.0, **entries[0]}  # first in order, five values in all
    assert "The reward ends fell from 1.00 to 0.20" in RULES["reward_traded"](log_of(entries))


# What a sentence says: numbers of this run, and settings of its trainer.
GRPO = {**RISES, **GROUPS, "kl": (0, 1), "entropy": (2.0, 0.1), "completions/mean_length": (30, 90)}
SENTENCES = {
    "KL in groups": ("kl_too_large", halves(**GRPO), {}, ("90.0 nats", "Raise beta", "fewer steps")),
    "KL of PPO": ("kl_too_large", halves(kl=(0, 50)), {}, ("50.0 nats", "above 20:", "Raise kl_coef", "kl_target")),
    "entropy in groups": ("entropy_collapse", halves(**GRPO), {}, ("from 2.00 to 0.100", "fewer num_iterations.")),
    "entropy of PPO": (
        "entropy_collapse",
        halves(reward=(0, 0), entropy=(2.0, 0.1)),
        {},
        ("from 2.00 to 0.100", "kl_coef", "fewer num_ppo_epochs."),
    ),
    "length": ("reward_hacking", halves(**GRPO), {}, ("from 0.00 to 1.00", "from 30 to 90 tokens", "Raise beta")),
    "repetition for a reward": (
        "reward_hacking",
        merged(halves(**RISES), rounds(repetition=then(0.1, 0.75))),
        {},
        ("from 0.00 to 1.00", "from 0.10 to 0.75"),
    ),
    "variety": (
        "reward_without_variety",
        merged(halves(**RISES), rounds(distinct=then(0.9, 0.3))),
        {},
        ("from 0.00 to 1.00", "from 90% to 30%", "kl_coef"),
    ),
    "one answer": (
        "same_answer",
        rounds((0, 0.2, 0.5), most_common=lambda t: 0.1 + t),
        {},
        ("60% of the sampled prompts", "step 30 (10% before"),
    ),
    "a lost question": (
        "own_answer_at_chance",
        rounds((0, 0.5, 1), own_answer=lambda t: (0.6, 0.2, 0.1)[int(2 * t)]),
        {},
        ("in 10% of cases, 60% at its best",),
    ),
    "repetition": ("repetition_rises", rounds(repetition=then(0.1, 0.75)), {}, ("from 0.10 to 0.75",)),
    "Chinese characters": ("foreign_script_rises", rounds(hanja=then(0.01, 0.2)), {}, ("Chinese", "from 1% to 20%")),
    "no end": (
        "never_ends",
        rounds(eos_rate=constant(0.0), mean_length=ramp(20, 84)),
        {"answer_length": 10.0},
        ("within 84 tokens at step 60",),
    ),
    "displacement": (
        "likelihood_displacement",
        halves(**{"logps/chosen": (-40, -60), "logps/rejected": (-50, -80)}),
        {},
        ("chosen answers lost 20 nats", "began at -40", "rejected 30:"),
    ),
    "a reward model at chance": (
        "accuracy_at_chance",
        halves(accuracy=(0.5, 0.5), margin=(0.125, 0.125)),
        {},
        ("50% of the pairs", "of 60 steps", "margin 0.125"),
    ),
    "DPO at chance": (
        "accuracy_at_chance",
        halves(**{"rewards/accuracies": (0.4, 0.5), "rewards/margins": (0.25, 0.25)}),
        {},
        ("50% of the pairs", "margin 0.25"),
    ),
    "chance, of unknown margin": ("accuracy_at_chance", halves(accuracy=(0.5, 0.5)), {}, ("margin 0)",)),
    "gradients under fp16": ("not_finite", [{"step": 3, "loss": math.inf}], {"fp16": True}, ("instead of fp16.",)),
    "gradients": ("not_finite", [{"step": 3, "loss": math.inf}], {}, ("inf at step 3", "or max_grad_norm.")),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_a_sentence_says_the_numbers_of_the_run_and_settings_of_its_trainer(name):
    code, entries, facts, told = SENTENCES[name]
    said = RULES[code](log_of(entries, **facts))
    assert not [part for part in told if part not in said], said
