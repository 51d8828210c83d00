"""Text health and Unicode forms on arbitrary text."""

import unicodedata

from hypothesis import strategies as st

from trl_kochat.data.formatters.kochatgpt import clean_text
from trl_kochat.text import health
from trl_kochat.text.normalize import drop_half_syllable, is_blank, normalize_text, refuse_half_characters

from .inputs import fuzz, outcome, texts, values


loops = st.builds(lambda text, times: text * times, texts.map(lambda text: text[:40]), st.integers(0, 30))
any_text = texts | loops


@fuzz(2, text=any_text)
def test_scripts_are_shares(text):
    shares = health.script_shares(text)
    assert all(0 <= share <= 1 for share in shares)
    assert abs(sum(shares) - 1) < 1e-9 or not any(shares)
    assert health.script_shares(unicodedata.normalize("NFD", text)) == shares


@fuzz(2, text=any_text)
def test_repetition_is_a_share(text):
    found = health.repetition(text)
    assert 0 <= found.share <= 1
    assert health.repetition(unicodedata.normalize("NFD", text)) == found


@fuzz(some=st.lists(any_text, max_size=4))
def test_means_over_texts_are_between_the_least_and_the_most(some):
    before = list(some)
    means, complaint = outcome(lambda: health.summarize_health(some))
    assert some == before
    assert (complaint is None) == bool(some)
    for key, mean in (means or {}).items():
        each = [health.summarize_health([text])[key] for text in some]
        assert min(each) - 1e-9 <= mean <= max(each) + 1e-9


@fuzz(sequence=st.lists(st.integers(0, 3), max_size=12), n=st.integers(1, 5))
def test_repeated_ngrams_are_a_share(sequence, n):
    assert 0 <= health.repeated_ngrams(sequence, n) < 1


@fuzz(2, text=any_text, form=st.sampled_from(("NFC", "NFKC")))
def test_normalizing_twice_changes_nothing_more(text, form):
    once = normalize_text(text, form)
    assert normalize_text(once, form) == once
    assert once.count("\ufffd") == text.count("\ufffd")


@fuzz(0.5, text=texts, form=values)
def test_no_other_form_is_taken(text, form):
    text_after, _ = outcome(lambda: normalize_text(text, form))
    assert text_after is None or form in ("NFC", "NFKC")


@fuzz(2, text=any_text)
def test_cutting_half_a_syllable_takes_nothing_else(text):
    cut = drop_half_syllable(text)
    assert text == cut + "\ufffd" * (len(text) - len(cut)) and not cut.endswith("\ufffd")


@fuzz(2, text=any_text)
def test_half_characters_are_refused_and_nothing_else(text):
    _, complaint = outcome(lambda: refuse_half_characters(text))
    assert (complaint is not None) == any("\ud800" <= char <= "\udfff" for char in text)


@fuzz(text=any_text)
def test_blank_is_blank_in_parts(text):
    assert is_blank(text) == all(is_blank(char) for char in text)


@fuzz(2, text=any_text, answer=st.booleans())
def test_cleaning_twice_adds_nothing_of_its_own(text, answer):
    cleaned, kinds = clean_text(text, answer=answer)
    assert (cleaned == text) == (not kinds)
    assert cleaned.count("\ufffd") == text.count("\ufffd")
    assert len(set(kinds)) == len(kinds)
