import doctest
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_kochat.text import health
from trl_kochat.text.health import repeated_ngrams, repetition, script_shares, summarize_health


# What people write in Korean, beside whatever else hypothesis finds.
KOREAN = st.text(
    st.sampled_from("가각힣한국어네요다ㅋㅎㅠ各韓AZaé ア。.!?~…()（）`\n 0123😀☕︎") | st.characters(), max_size=120
)


def test_examples_in_the_docstrings_hold():
    results = doctest.testmod(health)
    assert results.attempted >= 5 and results.failed == 0


# Scripts.


@pytest.mark.parametrize(
    ("script", "in_names"),
    [
        ("hangul", ("HANGUL",)),
        ("han", ("CJK UNIFIED IDEOGRAPH", "CJK COMPATIBILITY IDEOGRAPH")),
        ("kana", ("HIRAGANA", "KATAKANA")),
        ("latin", ("LATIN SMALL LETTER", "LATIN CAPITAL LETTER")),
    ],
)
def test_letters_of_the_basic_plane_fall_under_the_script_they_are_named_after(script, in_names):
    rare = range(0xAB60, 0xAB70)  # phonetic Latin and Cherokee share these rows
    letters = [chr(code) for code in range(0x10000) if code not in rare and unicodedata.category(chr(code))[0] == "L"]
    named = [letter for letter in letters if any(name in unicodedata.name(letter, "") for name in in_names)]
    missed = [letter for letter in named if getattr(script_shares(letter), script) != 1.0]
    # Ⅽ-shaped reversed c and the two letters that Glagolitic calls "latinate" are of no consequence here.
    assert len(named) > 150 and {unicodedata.name(letter) for letter in missed} <= {
        "LATIN SMALL LETTER REVERSED C",
        "GLAGOLITIC CAPITAL LETTER LATINATE MYSLITE",
        "GLAGOLITIC SMALL LETTER LATINATE MYSLITE",
    }


@pytest.mark.parametrize("text", ["가", "ㄱㅏ", unicodedata.normalize("NFD", "각"), "ㅋㅋㅋ", "ꥠ", "ㅳ", "가1!😀 "])
def test_syllables_and_all_kinds_of_jamo_are_hangul(text):
    assert script_shares(text).hangul == 1.0


@pytest.mark.parametrize("text", ["", "123 !?", "😀👍🏽", "³⁴ ₂", "25℃", "Ⅲ"])
def test_text_without_letters_has_no_script(text):
    assert script_shares(text) == (0.0, 0.0, 0.0, 0.0, 0.0)


def test_other_scripts_are_other():
    assert script_shares("мир").other == 1.0
    assert script_shares("สวัสดี").other == 1.0


def test_a_letter_of_broken_bytes_is_no_hangul():
    shares = script_shares("한\ufffd")
    assert (shares.hangul, shares.other) == (0.5, 0.5)


def test_a_control_character_is_out_of_place_where_it_is_no_white_space():
    assert script_shares("\x1d한").other == 0.5
    assert script_shares("한\n글\t이\r\n에\u2028요").other == 0


@pytest.mark.parametrize(
    "text",
    [
        "한국어(韓國語)는 어렵지 않아요.",
        "인공지능(AI)과 광학 문자 인식（OCR）을 배워요.",
        "인공지능 (Artificial Intelligence, AI)입니다.",
        "나이[年歲]가 많으시네요.",
        "‘한우’(韓牛)예요.",
        "GDP(국내총생산)와 K-pop(케이팝)",
        "이렇게 쓰세요:\n```python\nprint('hello')\n```\n어때요?",
        "이렇게 쓰세요: ```python\nprint('hello')  # 길이 제한에 잘린 코드",
        "`model.generate()`를 부르면 돼요.",
        "https://huggingface.co/docs/trl?x=1#y에서 보세요.",
        "www.example.com이나 naver.com/search?q=a를 보세요.",
        "hong.gildong+1@example.co.kr로 보내 주세요.",
    ],
)
def test_glosses_code_and_addresses_are_no_leakage(text):
    shares = script_shares(text)
    assert shares.han == shares.latin == 0.0 and shares.hangul == 1.0


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("오늘 天氣가 좋아요", "han"),
        ("Sure! 도와드릴게요", "latin"),
        ("한국어는 very difficult (정말)", "latin"),
        ("네 ありがとう", "kana"),
        ("한국어(I am sorry, but as a language model I do not know the answer)", "latin"),  # a sentence, no gloss
        ("좋아요~~~ really? 네~~~ 좋아요", "latin"),  # drawn out, no code fence
        ("한국어 and `unclosed", "latin"),
    ],
)
def test_foreign_words_in_running_text_are_leakage(text, script):
    assert getattr(script_shares(text), script) > 0.1


@given(KOREAN)
def test_shares_are_shares_and_do_not_depend_on_the_unicode_form(text):
    shares = script_shares(text)
    assert all(0 <= share <= 1 for share in shares)
    assert sum(shares) == pytest.approx(1) or sum(shares) == 0
    for form in ("NFC", "NFD"):
        assert script_shares(unicodedata.normalize(form, text)) == shares


@given(KOREAN)
def test_code_adds_nothing(text):
    fence_closed = text.replace("`", "")
    assert script_shares(fence_closed + "\n```\nlet it = be\n```\n") == script_shares(fence_closed + "\n\n")


# Repetition.


@pytest.mark.parametrize(
    "text",
    [
        "한우 고기 맛있는 집 한우 고기 맛있는 집 한우 고기 맛있는 집",
        "그게 그리고 그리고 그리고 그리고 그리고 그리고",
        "가나다" * 12,
        "네, " * 20,
        "오늘은 맑아요. " * 3,
    ],
)
def test_loops_are_repetition(text):
    assert repetition(text).share > 0.4


@pytest.mark.parametrize(
    "text",
    [
        "ㅋ" * 40,
        "ㅋㅋㅋㅋ ㅋㅋㅋㅋ ㅋㅋㅋㅋ ㅋㅋㅋㅋ ㅋㅋㅋㅋ",
        "ㅎㅎ 하하하하하하하하하하하하하하 ㅠㅠㅠㅠㅠㅠㅠㅠㅠㅠㅠㅠㅠㅠㅠㅠ",
        "좋아요.................... !!!!!!!!!!!!!!!!!!!!",
        "😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀 축하해요",
        "--------------------------------",
        "불고기용은 보통 한우 목심이나 설도를 얇게 썬 고기예요. 정육점에 물어보시면 원산지를 알려 줄 거예요.",
        "빨리빨리 오세요, 두근두근해요.",
        "",
        "네",
    ],
)
def test_laughter_punctuation_and_plain_prose_are_not(text):
    assert repetition(text).share == 0


def test_repetition_grows_with_each_turn_of_a_loop():
    shares = [repetition("저는 잘 모르겠습니다. " * turns).share for turns in range(1, 8)]
    assert shares[0] == 0 and shares == sorted(shares) and len(set(shares)) == len(shares) and shares[-1] < 1


def test_a_loop_inside_one_word_is_seen_by_syllables_alone():
    result = repetition("서울특별시" * 8)
    assert result.eojeol_3grams == 0 and result.syllable_8grams > 0.8


@given(KOREAN)
def test_repetition_is_a_share_and_does_not_depend_on_the_unicode_form(text):
    result = repetition(text)
    assert 0 <= result.eojeol_3grams <= 1 and 0 <= result.syllable_8grams <= 1
    assert repetition(unicodedata.normalize("NFD", text)) == repetition(unicodedata.normalize("NFC", text)) == result


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 5))
def test_repeated_ngrams_counts_those_that_stood_earlier(units, n):
    seen, repeated, total = [], 0, 0
    for start in range(len(units) - n + 1):
        ngram = units[start : start + n]
        repeated += ngram in seen
        total += 1
        seen.append(ngram)
    assert repeated_ngrams(units, n) == pytest.approx(repeated / total if total else 0)


# Report.


def test_summary_has_the_keys_of_the_report_and_takes_means():
    summary = summarize_health(["韓國", "네, 좋아요.", "ok", "오늘은 맑아요. " * 20])
    assert list(summary) == ["repetition", "hanja", "latin"]
    assert summary["hanja"] == summary["latin"] == 0.25
    assert 0.2 < summary["repetition"] < 0.25


@given(st.lists(KOREAN, min_size=1, max_size=5))
def test_summary_is_between_0_and_1(texts):
    assert all(0 <= value <= 1 for value in summarize_health(texts).values())


def test_summary_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="No texts"):
        summarize_health([])
