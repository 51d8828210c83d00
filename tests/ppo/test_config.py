"""Settings of PPO: those that are told are those that hold, and each is refused from its border on."""

import ast
import re
from dataclasses import fields

import pytest
from transformers import GenerationConfig
from trl import SFTConfig

from trl_kochat.ppo import PPOConfig
from trl_kochat.ppo.config import GENERATION_KWARGS


def config(**kwargs):
    return PPOConfig("out", report_to="none", use_cpu=True, **kwargs)


DEFAULTS = {f.name: f.default for f in fields(PPOConfig)}
TOLD = dict(re.findall(r"(\w+) \(`[^`]+`, defaults to `([^`]+)`\)", PPOConfig.__doc__))
OPTIONAL = re.findall(r"(\w+) \(`[^`]+`(?: or JSON)?, \*optional\*\)", PPOConfig.__doc__)


def test_the_defaults_are_those_of_the_documentation():
    assert (
        len(TOLD) >= 20 and {name: ast.literal_eval(value) for name, value in TOLD.items()}.items() <= DEFAULTS.items()
    )
    assert len(OPTIONAL) > 10 and all(DEFAULTS[name] is None for name in OPTIONAL)


def test_what_all_trainers_of_trl_have_is_as_there():
    trls = {f.name: f.default for f in fields(SFTConfig)}
    assert all(DEFAULTS[name] == trls[name] for name in ("logging_steps", "gradient_checkpointing", "bf16"))


def test_generation_kwargs_are_settings_that_transformers_knows():
    assert all(hasattr(GenerationConfig(), name) for name in GENERATION_KWARGS)


# What is refused, and the nearest that is not.
BORDERS = {
    "temperature": ([0.0], [0.5]),
    "top_k": ([-1], [0]),
    "top_p": ([0.0, 1.25], [0.5, 1.0]),
    "min_p": ([-0.25, 1.25], [0.0, 1.0]),
    "repetition_penalty": ([0.0], [0.5]),
    "max_prompt_length": ([0], [1]),
    "max_completion_length": ([0], [1]),
    "missing_eos_penalty": ([-0.25], [0.0]),
    "num_ppo_epochs": ([0], [1]),
    "kl_coef": ([-0.25], [0.0]),
    "kl_target": ([0.0], [0.5]),
    "kl_horizon": ([0], [1]),
    "cliprange": ([0.0], [0.5]),
    "cliprange_value": ([0.0], [0.5]),
    "vf_coef": ([-0.25], [0.0]),
    "gamma": ([-0.25, 1.25], [0.0, 1.0]),
    "lam": ([-0.25, 1.25], [0.0, 1.0]),
    "reference": (["reward"], ["sft", "base"]),
    "value_trunk": (["reward"], ["adapter", "policy"]),
    "kl_estimator": (["k2"], ["k1", "k3"]),
    "reward_clip_range": ([[1.0], [0.0, 1.0, 2.0], [1.0, 1.0]], [[0.0, 1.0]]),
    "steps_per_generation": ([0, 3], [2, 4]),
    "generation_batch_size": ([0, 8, 12, 18], [16, 32]),
    "auto_find_batch_size": ([True], [False]),
    "ignore_data_skip": ([True], [False]),
    "generation_kwargs": (["[1]", {"top_k": 1}], ["{}", {"use_cache": False}]),
}


@pytest.mark.parametrize("name", BORDERS)
def test_a_setting_is_refused_from_its_border_on(name):
    refused, taken = BORDERS[name]
    batches = dict(per_device_train_batch_size=8, gradient_accumulation_steps=2)
    for value in refused:
        with pytest.raises(ValueError, match=name if name != "generation_kwargs" else "mapping|top_k"):
            config(**batches, **{name: value})
    for value in taken:
        config(**batches, **{name: value})


def test_a_rollout_is_as_many_slices_as_an_optimizer_step_takes_unless_told():
    made = config(per_device_train_batch_size=4, gradient_accumulation_steps=2, num_ppo_epochs=3)
    assert (made.slices, made.updates_per_rollout, made.generation_batch_size) == (2, 6, 8)
    assert made.episodes_per_rollout == 8
    assert [made.is_mid_rollout(step) for step in range(5)] == [False, True, True, False, True]
    both = config(per_device_train_batch_size=4, steps_per_generation=2, generation_batch_size=8)
    assert both.slices == 2
    alone = config(per_device_train_batch_size=4, generation_batch_size=8)
    assert len(range(alone.slices)) == 2 and len(range(alone.episodes_per_rollout)) == 8
    assert alone.bf16 is False  # settled, and not on a CPU


def test_mappings_that_are_not_given_are_empty():
    made = config(chat_template_kwargs='{"tone": "polite"}')
    assert made.chat_template_kwargs == {"tone": "polite"} and made.model_init_kwargs == made.generation_kwargs == {}
