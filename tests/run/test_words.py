"""Flags and keys that nobody knows."""

import re
from dataclasses import fields

import pytest
from trl import DPOConfig, GRPOConfig, ModelConfig, RewardConfig, SFTConfig

from trl_kochat import PPOConfig
from trl_kochat.run.arguments import RecipeArguments
from trl_kochat.run.words import meant_by, refuse_unknown, words_of_others
from trl_kochat.stages import StageArguments


DPO = {f.name for kind in (RecipeArguments, StageArguments, DPOConfig, ModelConfig) for f in fields(kind)}
PPO = {f.name for kind in (RecipeArguments, StageArguments, PPOConfig, ModelConfig) for f in fields(kind)}
ALL = DPO | PPO | {f.name for kind in (SFTConfig, RewardConfig, GRPOConfig) for f in fields(kind)}


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("lr", "learning_rate"),
        ("dataset", "dataset_name"),
        ("data", "dataset_name"),
        ("train_file", "dataset_name"),
        ("model", "model_name_or_path"),
        ("tokenizer", "model_name_or_path"),
        ("batch_size", "per_device_train_batch_size"),
        ("grad_accum", "gradient_accumulation_steps"),
        ("lora_rank", "lora_r"),
        ("use_4bit", "load_in_4bit"),
        ("epochs", "num_train_epochs"),
        ("output", "output_dir"),
        ("max_seq_length", "max_length"),
        ("seq_len", "max_length"),
        ("resume", "resume_from_checkpoint"),
        # By spelling.
        ("lerning_rate", "learning_rate"),
        ("max_step", "max_steps"),
        ("per_device_batch_size", "per_device_train_batch_size"),
    ],
)
def test_the_flag_that_was_meant_is_named(word, meant):
    for given, where in ((f"--{word.replace('_', '-')}", "on the command line"), (word, "in my.yaml")):
        with pytest.raises(ValueError, match=re.escape(f"Unknown key {word!r} {where}; did you mean {meant!r}?")):
            refuse_unknown([given], DPO, where)


def test_a_word_with_two_meanings_is_read_as_the_recipe_has_it():
    assert (meant_by("max_seq_length", DPO), meant_by("max_seq_length", PPO)) == (
        "max_length",
        "max_completion_length",
    )


def test_what_is_like_nothing_is_refused_all_the_same():
    with pytest.raises(ValueError, match="Unknown key 'xyzzy' on the command line; --help_all lists all"):
        refuse_unknown(["--xyzzy"], DPO, "on the command line")
    refuse_unknown(["--learning-rate", "beta"], DPO, "on the command line")


def test_every_answer_is_a_flag_and_no_flag_is_an_other_tools_word():
    assert not {name for names in words_of_others().values() for name in names} - ALL
    # A word that is a flag of one recipe may be another one's word for something else.
    assert not words_of_others().keys() & (DPO | PPO)
