import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_kochat.callbacks.health_rules import RULES
from trl_kochat.report import MEASURES
from trl_kochat.report.intervals import add_intervals
from trl_kochat.report.verdict import _words, verdict_of

from .runs import make_record


def run_of(shares, *, rows=100, warnings=(), method="sft", **changes):
    """A run whose measures are shares of its rows, before and after; a `None` was not measured."""
    distributions = {
        moment: {
            f"{name}_by_row": [1.0] * round(pair[side] * rows) + [0.0] * round((1 - pair[side]) * rows)
            for name, pair in shares.items()
        }
        for side, moment in enumerate(("before", "after"))
    }
    record = make_record(
        method,
        before={name: pair[0] for name, pair in shares.items()},
        after={name: pair[1] for name, pair in shares.items()},
        distributions=distributions,
        history=[{"step": 5, "health/code": code, "health/message": text} for code, text in warnings],
        **changes,
    )
    add_intervals(record)
    return record


def test_what_got_better_what_got_worse_and_what_to_look_at():
    record = run_of(
        {"right": (0.02, 0.91), "eos_rate": (0.4, 0.98), "distinct": (0.96, 0.7), "right_only_read": (0, 0.35)}
    )
    assert verdict_of(record) == {
        "en": "More answers are right (2% → 91%) and more answers end by themselves (40% → 98%), but answers to different "
        "questions differ less (96% → 70%): look at facts only read as a statement (35% right).",
        "ko": "맞는 답이 2%에서 91%로 늘었고, 스스로 끝맺는 답이 40%에서 98%로 늘었지만, 질문마다 다른 답이 96%에서 70%로 "
        "줄었으니, 문장으로 읽기만 한 사실의 답(정답 35%)을 살펴보세요.",
    }


def test_a_reward_that_rose_over_poorer_answers_is_not_praised_alone():
    said = verdict_of(run_of({"reward": (0.3, 0.8), "distinct": (1.0, 1.0), "distinct_2": (1.0, 0.6)}, method="ppo"))
    assert said["en"].startswith("The reward rose (0.3 → 0.8), but answers say the same words more often (100% → 60%)")
    assert "올랐지만, 답에 나온 단어 쌍의 가짓수가 100%에서 60%로 줄었으니" in said["ko"]


def test_what_the_guard_said_comes_before_every_better():
    record = run_of(
        {"preferred": (0.5, 0.9)}, warnings=[("same_answer", "59% of ..."), ("mine", "Mine.")], method="dpo"
    )
    said = verdict_of(record)
    assert said["en"].startswith("Warning: many questions get the same answer; Mine. The chosen answer is preferred")
    assert said["ko"].startswith("주의: 여러 질문에 같은 답을 합니다. Mine. 좋은 답을")


@pytest.mark.parametrize(("share", "warned"), [(0.19, False), (0.2, True)])
def test_one_answer_to_many_questions_is_a_warning_also_where_no_guard_spoke(share, warned):
    said = verdict_of(run_of({"right": (0.1, 0.9), "most_common": (0.02, share)}))
    assert said["en"].startswith("Warning: 20% of the questions get one and the same answer.") == warned
    assert said["ko"].startswith("주의: 질문의 20%에 똑같은 답을 합니다.") == warned


def test_the_same_answer_is_not_told_twice():
    record = run_of({"most_common": (0.02, 0.6)}, warnings=[("same_answer", "60% ...")])
    assert "same answer" in verdict_of(record)["en"] and "60%" not in verdict_of(record)["en"].partition(".")[0]


def test_a_failed_look_is_no_warning_about_the_model():
    record = run_of({"right": (0.1, 0.9)}, warnings=[("look_failed", "A round of samples failed.")])
    assert "Warning" not in verdict_of(record)["en"]


def test_a_change_within_chance_is_none():
    said = verdict_of(run_of({"right": (0.9, 0.91), "right_new_way": (0.8, 0.8)}))
    assert said["en"] == "Nothing that was measured changed by more than chance: read the answers."
    assert said["ko"] == "측정한 것 가운데 우연보다 크게 달라진 것이 없으니 답을 직접 읽어 보세요."


def test_what_was_not_measured_is_not_praised():
    said = verdict_of(make_record(before={"eval_loss": 2.0}, after={}))
    assert said["en"].startswith("Nothing was measured") and said["ko"].startswith(
        "학습 전후를 검증 데이터로 측정하지"
    )


def test_implicit_accuracy_of_dpo_which_starts_as_a_tie_is_no_praise():
    shares = {"accuracy": (0.5, 0.8)}
    assert "scores higher" not in verdict_of(run_of(shares, method="dpo"))["en"]
    assert "scores higher more often (50% → 80%)" in verdict_of(run_of(shares, method="reward"))["en"]


def test_dpo_that_ranks_pairs_and_changes_no_answer_is_told_both():
    said = verdict_of(run_of({"accuracy": (0.5, 0.8), "right": (0.7, 0.72)}, method="dpo"))
    assert said["en"].startswith(
        "It ranks 80% of the held-out pairs as they were labelled, and its answers changed by no"
    )
    assert said["ko"].startswith("검증 데이터의 쌍을 80%까지 라벨대로 가려내게 되었지만 답은")
    tied = verdict_of(run_of({"accuracy": (0.5, 0.52), "right": (0.7, 0.72)}, method="dpo"))
    assert tied["en"].startswith("Nothing that was measured changed")


def test_the_weakest_kind_of_pair_is_what_to_look_at():
    shares = {"accuracy": (0.5, 0.8), "accuracy_kind_level": (0.5, 0.69), "accuracy_kind_evasive": (0.5, 0.7)}
    said = verdict_of(run_of(shares, method="reward"))
    assert said["en"].endswith(
        "look at pairs whose rejected answer is the wrong speech level (69% in the right order)."
    )
    assert said["ko"].endswith("나쁜 답이 '말투가 맞지 않는 답'인 쌍(69% 맞힘)을 살펴보세요.")


@pytest.mark.parametrize(("share", "told"), [(0.89, True), (0.9, False)])
def test_answers_that_do_not_end_are_something_to_look_at(share, told):
    assert ("do not end" in verdict_of(run_of({"eos_rate": (0.5, share)}))["en"]) == told


@pytest.mark.parametrize("status", ["stopped", "interrupted", "failed"])
def test_a_run_that_did_not_finish_says_so_first(status):
    run = {"status": status, "steps": 3, "max_steps": 5}
    said = verdict_of(run_of({"right": (0.1, 0.9)}, run=run))
    assert said["en"].startswith("Warning: the run ended at step 3 of 5.") and said["ko"].startswith(
        "주의: 3 / 5 스텝"
    )


def test_a_run_that_goes_on_has_no_verdict():
    assert verdict_of(make_record(run={"status": "running"})) == {}


@pytest.mark.parametrize(("after", "particle"), [(1.0, "1로"), (1.3, "1.3으로"), (0.6, "0.6으로"), (0.2, "0.2로")])
def test_a_number_takes_the_particle_of_its_last_digit(after, particle):
    said = verdict_of(make_record(before={"eval_loss": 2.5}, after={"eval_loss": after}))["ko"]
    assert f"검증 손실이 2.5에서 {particle} 줄었으니" in said


def test_every_rule_and_every_measure_that_is_judged_has_words_in_both_languages():
    words = _words()
    assert words["warnings"].keys() >= RULES.keys() and words["measures"].keys() <= MEASURES.keys()
    texts = [texts for part in ("warnings", "ways", "kinds", "look") for texts in words[part].values()]
    for text in [*texts, words["same"], words["stopped"], words["nothing"], words["ranked"], words["unmeasured"]]:
        assert re.search("[가-힣]", text["ko"]) and not re.search("[가-힣]", text["en"])
        assert text["ko"].count("{}") == text["en"].count("{}")
    assert all(len(one["en"]) == 2 and len(one["ko"]) == 3 for one in words["measures"].values())


VALUES = st.dictionaries(
    st.sampled_from([*MEASURES, "right_x", "accuracy_kind_x"]), st.none() | st.floats(-2, 2) | st.integers(0, 9)
)


@given(VALUES, VALUES, st.sampled_from(["sft", "dpo", "ppo", "reward", "grpo"]))
def test_whatever_was_measured_has_a_sentence(before, after, method):
    for text in verdict_of(make_record(method, before=before, after=after)).values():
        assert text.endswith(".") and "{" not in text and len(text) < 700
