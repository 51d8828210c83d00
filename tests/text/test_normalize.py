import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_kochat.text.normalize import drop_half_syllable, normalize_text


KOREAN = st.text(
    st.one_of(st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), st.sampled_from(" .!?abㅋㅠ①１\n"))
)


@given(text=KOREAN)
def test_decomposed_text_comes_back_whole(text):
    assert normalize_text(unicodedata.normalize("NFD", text)) == text


@given(text=st.text(), form=st.sampled_from(["NFC", "NFKC"]))
def test_normalizing_twice_is_normalizing_once(text, form):
    once = normalize_text(text, form)
    assert normalize_text(once, form) == once


def test_nfc_leaves_what_a_reader_sees_alone():
    assert normalize_text("ㅋㅋ ① １２") == "ㅋㅋ ① １２"
    assert normalize_text("ㅋㅋ ① １２", "NFKC") == "\u110f\u110f 1 12"


@pytest.mark.parametrize("form", ["NFD", "NFKD", "nfc", ""])
def test_other_forms_are_refused(form):
    with pytest.raises(ValueError, match="NFC and NFKC"):
        normalize_text("한글", form)


@given(text=KOREAN, length=st.integers(0, 60))
def test_a_cut_between_bytes_leaves_no_half_syllable(text, length):
    cut = text.encode()[:length].decode("utf-8", errors="replace")
    kept = drop_half_syllable(cut)
    assert "\ufffd" not in kept and text.startswith(kept)
    # At most the last character is gone.
    assert len(text.encode()[:length]) - len(kept.encode()) < 4


def test_damage_in_the_middle_stays_visible():
    assert drop_half_syllable("오늘 \ufffd날\ufffd\ufffd") == "오늘 \ufffd날"
