"""What the base of `tiny-ko` judges: held-out questions stay unseen, and a verdict says what is so."""

import random

import pytest

from scripts.make_tiny_ko import PHASES, Claims
from scripts.world.make_rows import stages


@pytest.fixture(scope="module")
def claims():
    return Claims(random.Random(0), PHASES[-1])


@pytest.fixture(scope="module")
def questions():
    return {question.text: question for question in stages().questions}


@pytest.mark.parametrize("holds", [True, False])
def test_answers_stand_below_training_questions_and_are_right_where_the_verdict_says_so(claims, questions, holds):
    drawn = [claim.rpartition("\n") for claim in (claims.claim(holds) for _ in range(1500)) if claim]
    asked = [(questions[above], answer) for above, _, answer in drawn if above in questions]
    assert len(asked) > 200
    assert all(not question.held_out for question, _ in asked)
    assert all(claims.answers.is_right(answer, question.fact) is holds for question, answer in asked)


def test_the_word_of_a_question_said_back_is_judged_wrong(claims, questions):
    drawn = [claim.rpartition("\n") for claim in (claims.claim(holds=False) for _ in range(1500)) if claim]
    below = [(questions[above].fact, answer) for above, _, answer in drawn if above in questions]
    echoes = sum(answer.startswith(claims.answers.echoed(fact) or "\n") for fact, answer in below)
    assert echoes > 20


def test_what_was_to_be_wrong_and_is_right_is_not_judged(claims, questions, monkeypatch):
    # As where two values of a relation have a name in common.
    monkeypatch.setattr(claims.answers, "wrong_value", lambda fact, relation: fact.value)
    drawn = [claim.rpartition("\n") for claim in (claims.claim(holds=False) for _ in range(300)) if claim]
    below = [(questions[above].fact, answer) for above, _, answer in drawn if above in questions]
    assert below and not any(claims.answers.is_right(answer, fact) for fact, answer in below)
