"""Counts of raw rows and of what was made of them."""

from collections import Counter

import pytest

from trl_kochat.data import RowCounts
from trl_kochat.data.rows import Rows, text_of


def counted():
    counts = RowCounts()
    counts.add(Rows([{"text": "가"}] * 3, dropped=["tie", "tie", "identical"], cleaned=["crlf"]), ["number", 0])
    counts.add([], ["number"])
    counts.add([])
    counts.add([{"text": "나"}])
    return counts


def test_each_raw_row_adds_what_was_made_dropped_mended_and_not_read():
    assert counted().as_dict() == {
        "read": 4,
        "made": 4,
        "dropped": {"tie": 2, "identical": 1, "nothing_to_learn": 2},
        "cleaned": {"crlf": 1},
        "unread": {"number": 2, "0": 1},
    }


def test_counts_of_two_files_add_up_in_every_part():
    both = counted()
    both.update(counted())
    assert (both.read, both.made) == (8, 8)
    assert (both.dropped, both.cleaned) == ({"tie": 4, "identical": 2, "nothing_to_learn": 4}, {"crlf": 2})
    assert both.unread == {"number": 4, "0": 2}


def test_going_back_to_an_earlier_count_leaves_that_one_alone():
    before, counts = counted(), counted()
    counts.update(counted())
    counts.restart(before)
    assert counts == before
    counts.update(counted())
    assert before == counted()


def test_counts_say_the_most_frequent_reason_first_and_nothing_of_what_is_not_there():
    assert str(counted()) == (
        "4 rows read, 4 made, 5 dropped (tie 2, nothing_to_learn 2, identical 1), 1 texts mended (crlf 1), "
        "columns not read (number 2, 0 1)"
    )
    assert str(RowCounts(read=1_000, made=1_000)) == "1,000 rows read, 1,000 made, 0 dropped, 0 texts mended"
    found = RowCounts(found={"rows_markup": 3})
    assert str(found).endswith("0 texts mended, found (rows_markup 3)") and found.as_dict()["found"] == {
        "rows_markup": 3
    }


def test_rows_are_a_list_that_knows_what_was_left_out():
    rows = Rows([{"a": 1}], dropped=["tie", "tie"], cleaned=["crlf"])
    assert rows == [{"a": 1}] and rows.dropped == Counter(tie=2) and rows.cleaned == Counter(crlf=1)
    assert Rows() == [] and not Rows().dropped


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "'a' is missing"),
        ({"a": None}, "'a' is None"),
        ({"a": 3}, "'a' holds 3, a int, not text"),
        ({"a": "\ud83d"}, "half"),
    ],
)
def test_a_column_without_text_says_what_is_there(row, message):
    with pytest.raises(ValueError, match=message):
        text_of(row, "a")
    assert text_of({"a": ""}, "a") == ""
