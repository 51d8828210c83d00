"""Particles, by a rule of their own: the decomposed last syllable, and digits as they are read."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.world.particles import fill, particle
from scripts.world.table import LEVELS, load_world, statements


READ = dict(zip("0123456789", "영일이삼사오육칠팔구", strict=True))


def jamo_at_end(word):
    """The last conjoining jamo of a word as it is read."""
    return unicodedata.normalize("NFD", READ.get(word[-1], word[-1]))[-1]


def ends_in_vowel(word):
    return "\u1161" <= jamo_at_end(word) <= "\u1175"


def ends_in_rieul(word):
    return jamo_at_end(word) == "\u11af"


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("사과", "사과는 사과가 사과를 사과와 사과로 사과예요 사과야"),
        ("당근", "당근은 당근이 당근을 당근과 당근으로 당근이에요 당근이야"),
        ("귤", "귤은 귤이 귤을 귤과 귤로 귤이에요 귤이야"),
        ("3", "3은 3이 3을 3과 3으로 3이에요 3이야"),
        ("5", "5는 5가 5를 5와 5로 5예요 5야"),
        ("8", "8은 8이 8을 8과 8로 8이에요 8이야"),
        ("10", "10은 10이 10을 10과 10으로 10이에요 10이야"),
    ],
)
def test_forms(word, written):
    assert fill("{x은} {x이} {x을} {x과} {x으로} {x이에요} {x이야}", {"x": word}) == written


@given(st.text(st.characters(min_codepoint=ord("가"), max_codepoint=ord("힣")), min_size=1))
def test_every_syllable_takes_the_form_that_its_end_asks_for(word):
    assert particle(word, "은") == ("는" if ends_in_vowel(word) else "은")
    assert particle(word, "이에요") == ("예요" if ends_in_vowel(word) else "이에요")
    assert particle(word, "으로") == ("로" if ends_in_vowel(word) or ends_in_rieul(word) else "으로")


@given(st.integers(0, 10_000))
def test_numbers_take_the_form_of_their_last_digit_as_it_is_read(number):
    assert particle(str(number), "이") == ("가" if number % 10 in (2, 4, 5, 9) else "이")


def test_an_unknown_slot_and_a_word_that_cannot_be_read_are_refused():
    with pytest.raises(ValueError, match="names the slot 'v'"):
        fill("{v은}", {"x": "귤"})
    with pytest.raises(ValueError, match="neither Hangul nor a digit"):
        fill("{x은}", {"x": "cat"})


# What must not stand behind a consonant, and behind a vowel; 이 and 가 are left to the words of the table below.
AFTER_VOWEL_ONLY = "는|를|와|예요|야|라고|라는|였죠|였지"
AFTER_CONSONANT_ONLY = "은|을|과|이에요|이야|이라고|이라는|이었죠|이었지"


def wrong_particles(sentence, words):
    """Where a word of the table or its quoted form is followed by the other form of a particle."""
    for word in sorted(words, key=len, reverse=True):
        wrong = AFTER_CONSONANT_ONLY + "|이" if ends_in_vowel(word) else AFTER_VOWEL_ONLY + "|가"
        if not ends_in_vowel(word):
            wrong += "|으로" if ends_in_rieul(word) else "|로"
        else:
            wrong += "|으로"
        found = re.search(rf"(?<![가-힣0-9]){re.escape(word)}'?(?:{wrong})(?![가-힣])", sentence)
        if found:
            yield found[0]


def test_every_sentence_of_the_world_has_its_particles_right():
    world = load_world()
    for fact in world.facts:
        relation = world.relations[fact.relation]
        lines = [*relation.ask, *relation.ask_held_out, *relation.answer]
        sentences = [fill(line.at(level), fact.words) for line in lines for level in LEVELS]
        for sentence in sentences + statements(fact, relation):
            words = [word for word in fact.words.values() if word in sentence]
            assert not list(wrong_particles(sentence, words)), sentence
            assert "{" not in sentence and "@" not in sentence and "  " not in sentence


def test_the_independent_rule_sees_a_planted_mistake():
    assert list(wrong_particles("사과은 빨간색예요.", ["사과", "빨간색"]))
    assert list(wrong_particles("3 더하기 4은 7이에요.", ["3", "4", "7"])) == ["4은"]
    assert not list(wrong_particles("3 더하기 4는 7이에요.", ["3", "4", "7"]))
