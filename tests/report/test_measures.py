import doctest
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.runs import make_record
from trl_kochat.report import MEASURES, measures, verdict
from trl_kochat.report.measures import format_number, sign


def test_examples_in_docstrings():
    assert doctest.testmod(measures).failed == 0


@given(st.sampled_from(sorted(MEASURES)), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_what_is_better_one_way_is_worse_the_other_way(key, a, b):
    opposite = {"better": "worse", "worse": "better", "same": "same", "changed": "changed"}
    assert verdict(key, a, b) == opposite[verdict(key, b, a)]


def test_a_measure_that_became_nan_is_worse():
    assert verdict("eval_loss", 1.0, None) == "worse"
    assert format_number(math.nan) == format_number(None) == "not finite"


def test_a_difference_no_one_can_read_is_no_difference():
    record = make_record(before={"eval_loss": 1.00001}, after={"eval_loss": 1.0})
    assert verdict("eval_loss", 1.00001, 1.0) == "same" and sign(record, "eval_loss") == "="


def test_a_measure_we_do_not_know_is_not_judged():
    record = make_record(before={"my_measure": 1.0}, after={"my_measure": 2.0})
    assert verdict("my_measure", 1.0, 2.0) == "changed" and sign(record, "my_measure") == "↑"


@pytest.mark.parametrize(
    "contract",
    ["eval_loss", "accuracy", "margin", "preferred", "logps_chosen", "reward", "reward_std", "kl", "eos_rate"]
    + ["mean_length", "repetition", "hanja", "latin"],
)
def test_every_measure_of_the_contract_has_words(contract):
    assert MEASURES[contract].label != contract
