"""Speech levels on the sentences of the benchmark, whose levels are known."""

import unicodedata
from collections import Counter

import pytest

from benchmarks.speech_level import FITS, sentences, taken_for
from trl_kochat.text.speech_level import LEVELS, speech_levels


@pytest.fixture(scope="module")
def taken():
    return [(level, text, taken_for(text)) for level, text in sentences()]


@pytest.mark.parametrize("level", LEVELS)
def test_at_least_99_percent_are_found_and_at_most_2_percent_are_false(taken, level):
    of_level = [levels == {level} for known, _, levels in taken if known == level]
    others = [level in levels for known, _, levels in taken if level not in FITS[known]]
    assert len(of_level) > 150 and sum(of_level) / len(of_level) >= 0.99
    assert sum(others) / len(others) <= 0.02


def test_fragments_have_no_level(taken):
    told = Counter(levels == {"-"} for known, _, levels in taken if known == "-")
    assert told[False] <= 0.02 * told.total()


def test_a_quote_does_not_count_beside_its_sentence():
    assert speech_levels('그는 "가자. 얼른!"이라고 했어요.') == ["해요체"]
    assert speech_levels('"나는 갈래."') == ["해체"]


def test_each_sentence_counts():
    assert speech_levels("잘 모르겠습니다. 다른 걸 물어봐 줘.\n- 물\n그럼 이만 갈게요 ㅎㅎ") == [
        "합쇼체",
        "해체",
        None,
        "해요체",
    ]


def test_decomposed_text_has_the_same_levels():
    text = "네, 알겠습니다. 그럼 내일 봐요! 잘 자."
    assert speech_levels(unicodedata.normalize("NFD", text)) == speech_levels(text)


@pytest.mark.parametrize("text", ["", " \n", "😀", "\ud83d", "ㅋㅋ", "?!", "\x00"])
def test_nothing_to_read_has_no_level(text):
    assert set(speech_levels(text)) <= {None}


def test_without_the_analyser_the_extra_is_named(monkeypatch):
    import sys

    from trl_kochat.errors import InputError
    from trl_kochat.text.korean import analyser

    analyser.cache_clear()
    monkeypatch.setitem(sys.modules, "kiwipiepy", None)
    with pytest.raises(InputError, match=r"trl_kochat\[korean\]"):
        speech_levels("네, 그래요.")
