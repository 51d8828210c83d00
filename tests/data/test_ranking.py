import math
from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_kochat.data.ranking import check_ranks, ranked_pairs


@pytest.mark.parametrize("ranks", list(permutations(range(3))))
def test_three_distinct_ranks_give_every_pair_with_the_better_answer_first(ranks):
    pairs = list(ranked_pairs(ranks))
    assert {frozenset(pair) for pair in pairs} == {frozenset(pair) for pair in combinations(range(3), 2)}
    assert all(ranks[better] < ranks[worse] for better, worse in pairs)


def test_ties_give_no_pair():
    assert list(ranked_pairs([1, 1, 1])) == []
    assert set(ranked_pairs([0, 0, 1])) == {(0, 2), (1, 2)}


def test_five_answers_give_ten_pairs():
    assert len(list(ranked_pairs([4, 2, 0, 1, 3]))) == 10


@given(st.lists(st.integers(0, 5), max_size=8))
def test_a_pair_for_each_two_answers_of_different_rank(ranks):
    pairs = list(ranked_pairs(ranks))
    assert all(ranks[better] < ranks[worse] for better, worse in pairs)
    assert len(set(pairs)) == len(pairs) == sum(a != b for a, b in combinations(ranks, 2))


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
