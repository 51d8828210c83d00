import math
from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_kochat.data.messages import said
from trl_kochat.data.ranking import check_ranks, ranked_rows


def pairs_of(ranks, **options):
    """Pairs of answers named by their number, the better one first."""
    answers = [said("assistant", str(number)) for number in range(len(ranks))]
    rows = ranked_rows(said("user", "질문"), answers, ranks, **options)
    return [(int(row["chosen"][0]["content"]), int(row["rejected"][0]["content"])) for row in rows], rows


@pytest.mark.parametrize("ranks", list(permutations(range(3))))
def test_three_distinct_ranks_give_every_pair_with_the_better_answer_first(ranks):
    pairs, rows = pairs_of(ranks)
    assert {frozenset(pair) for pair in pairs} == {frozenset(pair) for pair in combinations(range(3), 2)}
    assert all(ranks[better] < ranks[worse] for better, worse in pairs)
    assert [row["margin"] for row in rows] == [ranks[worse] - ranks[better] for better, worse in pairs]


def test_ties_give_no_pair():
    assert pairs_of([1, 1, 1])[0] == []
    pairs, rows = pairs_of([0, 0, 1])
    assert set(pairs) == {(0, 2), (1, 2)} and rows.dropped == {"tie": 1}


def test_a_least_difference_drops_what_is_nearer():
    pairs, rows = pairs_of([1.0, 1.5, 3.0, 3.0], least_difference=1.0)
    assert set(pairs) == {(0, 2), (0, 3), (1, 2), (1, 3)} and rows.dropped == {"too_close": 1, "tie": 1}


@given(st.lists(st.integers(0, 5), max_size=8))
def test_a_pair_for_each_two_answers_of_different_rank(ranks):
    pairs, rows = pairs_of(ranks)
    assert all(ranks[better] < ranks[worse] for better, worse in pairs)
    assert len(set(pairs)) == len(pairs) == sum(a != b for a, b in combinations(ranks, 2))
    assert len(pairs) + rows.dropped["tie"] == len(ranks) * (len(ranks) - 1) // 2


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ([0, 1], "2 ranks .* for 3 answers"),
        ([0, 1, 2, 3], "4 ranks .* for 3 answers"),
        ("012", "a ranking is a list"),
        (None, "a ranking is a list"),
        ([0, "1", 2], "rank '1'"),
        ([0, None, 2], "rank None"),
        ([0, True, 2], "rank True"),
        ([0, math.nan, 2], "rank nan"),
        ([0, math.inf, 2], "rank inf"),
        ([0, 10**400, 2], "rank 1000"),
        ([0] * 1000, r"1000 ranks \[0, 0, .{,80} for 3 answers"),
    ],
)
def test_what_is_no_ranking_is_an_error_that_shows_it(ranks, message):
    with pytest.raises(ValueError, match=message):
        check_ranks(ranks, 3)


def test_a_number_that_python_does_not_write_is_refused_in_our_words():
    with pytest.raises(ValueError, match="is not a finite number"):
        check_ranks([0, 10**5_000], 2)
    with pytest.raises(ValueError, match="give one rank per answer"):
        check_ranks([0, 10**5_000], 3)
