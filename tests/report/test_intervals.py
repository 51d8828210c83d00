import pytest

from trl_kochat.report.intervals import add_intervals
from trl_kochat.report.measures import format_measure, judged, sign

from .runs import make_record


def record_of(before, after, name="right"):
    record = make_record(
        before={name: sum(before) / len(before)},
        after={name: sum(after) / len(after)},
        distributions={"before": {f"{name}_by_row": before}, "after": {f"{name}_by_row": after}},
    )
    add_intervals(record)
    return record


def test_a_measure_has_its_rows_and_where_it_lies():
    record = record_of([0, 1] * 20, [1] * 40)
    assert record.n == {"right": 40}
    low, high = record.intervals["before"]["right"]
    assert 0.3 < low < 0.5 < high < 0.7
    assert record.intervals["after"]["right"] == [1, 1]
    assert record.intervals["change"]["right"][0] > 0 and judged(record, "right") == "better"


def test_the_same_rows_show_a_change_that_two_samples_of_rows_would_not():
    """Every row a little better, while rows differ much."""
    before = [float(number) for number in range(20)]
    record = record_of(before, [value - 0.1 for value in before], "eval_loss")
    assert record.intervals["before"]["eval_loss"][0] < record.after["eval_loss"]
    assert judged(record, "eval_loss") == "better" and sign(record, "eval_loss") == "↓"


@pytest.mark.parametrize(("won", "lost", "word"), [(2, 1, "same"), (12, 1, "better"), (1, 12, "worse")])
def test_a_change_no_larger_than_chance_is_none(won, lost, word):
    before = [0] * won + [1] * lost + [0, 1] * 20
    after = [1] * won + [0] * lost + [0, 1] * 20
    record = record_of(before, after)
    assert record.before != record.after and judged(record, "right") == word
    assert (sign(record, "right") == "=") == (word == "same")


@pytest.mark.parametrize(("rows", "word"), [(7, "same"), (8, "better")])
def test_a_handful_of_rows_shows_nothing(rows, word):
    assert judged(record_of([0] * rows, [1] * rows), "right") == word


def test_other_rows_after_than_before_have_no_paired_change():
    record = record_of([0, 1] * 10, [1] * 18)
    assert "right" not in record.intervals.get("change", {}) and record.n == {"right": 18}


def test_rows_that_are_not_finite_have_no_interval():
    record = record_of([0, 1] * 10, [1] * 20)
    record.distributions["after"]["right_by_row"][3] = None
    add_intervals(record)
    assert record.intervals.keys() == {"before"}


def test_a_run_without_rows_has_none():
    record = make_record()
    add_intervals(record)
    assert record.n == {} == record.intervals and judged(record, "eval_loss") == "worse"


def test_shares_are_per_cent_and_others_are_not():
    assert format_measure("right_only_read", 1 / 3) == "33.3%"
    assert format_measure("kl", 0.5) == "0.5" and format_measure("right", None) == "not finite"
