from itertools import pairwise
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_kochat.text.diversity import (
    bootstrap_interval,
    diversity_by_row,
    drawn_out,
    ratio_by_row,
)
from trl_kochat.text.health import summarize_health


COLLAPSED = ["이해를 구해보세요."] * 50 + ["이성을 구해보세요."] * 40 + ["네."] * 10
HEALTHY = [f"{number}번 문제의 답은 {number * 7}이에요." for number in range(100)]


def measures(texts):
    return {name: pytest.approx(fmean(values)) for name, values in diversity_by_row(texts).items()}


def test_a_model_that_says_one_thing_to_everybody_shows():
    collapsed, healthy = diversity_by_row(COLLAPSED), diversity_by_row(HEALTHY)
    assert measures(COLLAPSED)["distinct"] == 0.03 and measures(COLLAPSED)["most_common"] == 0.5
    assert measures(HEALTHY)["distinct"] == 1.0 and measures(HEALTHY)["most_common"] == 0.01
    assert fmean(collapsed["distinct_2"]) < 0.05 < 0.6 < fmean(healthy["distinct_2"])


def test_spelling_in_another_unicode_form_is_the_same_answer():
    assert measures(["한글", "\u1112\u1161\u11ab\u1100\u1173\u11af"])["distinct"] == 0.5


@pytest.mark.parametrize("text", ["ㅋ" * 24, "," * 24, "네" + "!" * 30, "하" * 40, "1" * 40])
def test_one_character_again_and_again_is_repetition(text):
    assert drawn_out(text) > 0.5
    assert summarize_health([text])["repetition"] > 0.5


@pytest.mark.parametrize("text", ["", "   ", "ㅋㅋㅋㅋ 좋아요!!", "음... 글쎄요", "네, 한우예요."])
def test_how_people_write_is_none(text):
    assert drawn_out(text) == 0.0


def test_an_interval_holds_the_mean_and_narrows_with_more_values():
    few, many = [0.0, 1.0] * 10, [0.0, 1.0] * 200
    low, high = bootstrap_interval(few)
    assert low < 0.5 < high and (low, high) == bootstrap_interval(few)
    closer = bootstrap_interval(many)
    assert low < closer[0] < 0.5 < closer[1] < high
    assert bootstrap_interval([1.0] * 5) == (1.0, 1.0)


@given(st.lists(st.text(alphabet="가나 \n", max_size=8), min_size=1, max_size=12))
def test_what_the_rows_add_is_the_measure(texts):
    by_row = diversity_by_row(texts)
    assert all(len(values) == len(texts) for values in by_row.values())
    answers = [" ".join(text.split()) for text in texts]
    pairs = [pair for answer in answers for pair in pairwise(answer.split())]
    assert measures(texts) == {
        "distinct": len(set(answers)) / len(answers),
        "most_common": max(map(answers.count, answers)) / len(answers),
        "distinct_2": len(set(pairs)) / max(len(pairs), 1),
    }


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 9)), min_size=1, max_size=20))
def test_a_ratio_is_the_mean_of_what_its_rows_add(rows):
    parts, wholes = zip(*rows, strict=True)
    assert fmean(ratio_by_row(parts, wholes)) == pytest.approx(sum(parts) / sum(wholes), abs=1e-9)


def test_rows_of_one_ratio_leave_no_doubt():
    assert bootstrap_interval(ratio_by_row([1, 2, 4], [2, 4, 8])) == (0.5, 0.5)


def test_an_interval_of_a_share_is_that_of_the_textbook():
    """1.96 standard errors to either side: sqrt(0.3 * 0.7 / 200) each."""
    low, high = bootstrap_interval([1.0] * 60 + [0.0] * 140)
    assert low == pytest.approx(0.3 - 1.96 * 0.0324, abs=0.01) and high == pytest.approx(0.3 + 1.96 * 0.0324, abs=0.01)
