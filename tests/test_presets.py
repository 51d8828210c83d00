"""The cpu presets from end to end: what a newcomer runs first makes the model better. `make presets`, a quarter of an hour."""

import json
import os
from pathlib import Path

import pytest

from tests.test_recipes import RECIPES, load


pytestmark = [pytest.mark.slow, pytest.mark.presets]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory of its own, for runs/."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("chain"))
    yield Path.cwd()
    os.chdir(before)


def measures(folder, name, *flags):
    load(next(path for path in RECIPES if path.stem == name)).main(["--preset", "cpu", *flags])
    record = json.loads((folder / "runs" / name / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert not record["warnings"]
    return record["before"], record["after"]


def assert_answers_differ(before, after):
    assert after["distinct"] >= max(0.9 * before["distinct"], 0.85)


def test_sft_teaches_a_model_that_does_not_answer_to_answer(folder):
    before, after = measures(folder, "sft_kochatgpt")
    assert before["right"] <= 0.1
    assert after["right_asked_otherwise"] >= 0.85 and after["right_new_way"] >= 0.6 and after["right_only_read"] >= 0.3
    assert after["own_answer"] >= 0.8 and after["eos_rate"] >= 0.95 and after["speech_level"] >= 0.9
    assert_answers_differ(before, after)


def test_reward_tells_what_is_wrong_with_an_answer(folder):
    _, after = measures(folder, "reward_kochatgpt")
    assert after["accuracy"] >= 0.85
    kinds = {name: value for name, value in after.items() if name.startswith("accuracy_kind_")}
    # A wrong fact and a fact of another question are true to form; only a model that knows the facts tells them.
    assert {"accuracy_kind_wrong_fact", "accuracy_kind_other_question", "accuracy_kind_echo"} <= kinds.keys()
    assert min(kinds.values()) >= 0.7
    for kind in ("evasive", "repetition", "unfinished", "wrong_language"):
        assert kinds[f"accuracy_kind_{kind}"] >= 0.8


def test_ppo_earns_reward_with_answers_that_are_right(folder):
    before, after = measures(
        folder, "ppo_kochatgpt", "--sft_adapter", "tiny-ko-sft-early", "--reward_adapter", "tiny-ko-reward"
    )
    assert after["reward"] >= before["reward"] + before["reward_std"] and after["kl"] < 10
    assert after["right"] >= before["right"] + 0.2
    assert_answers_differ(before, after)


def test_grpo_takes_up_the_speech_level_and_answers_no_less_right(folder):
    before, after = measures(folder, "grpo_korean", "--sft_adapter", "tiny-ko-sft")
    assert before["reward_speech_level"] < 0.5 and after["reward_speech_level"] >= 0.9
    assert after["reward"] >= before["reward"] + before["reward_std"]
    assert after["right"] >= before["right"]
    assert_answers_differ(before, after)


def test_kto_makes_good_answers_likelier_and_forgets_nothing(folder):
    before, after = measures(folder, "kto_pairs", "--max_eval_samples", "240")
    assert after["eval_loss"] < before["eval_loss"]
    assert after["right"] >= before["right"] - 0.02 and after["speech_level"] >= before["speech_level"] - 0.02
    assert_answers_differ(before, after)


def test_dpo_prefers_what_people_prefer_and_forgets_nothing(folder):
    before, after = measures(folder, "dpo_orca")
    assert round(after["preferred"] - before["preferred"], 2) >= 0.1 and after["accuracy"] >= 0.75
    assert after["right"] >= before["right"] - 0.02 and after["speech_level"] >= 0.95
    assert_answers_differ(before, after)
