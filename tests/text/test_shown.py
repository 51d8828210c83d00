import doctest

from hypothesis import given
from hypothesis import strategies as st

from trl_kochat.text import shown
from trl_kochat.text.shown import printable


def test_examples_in_docstrings():
    assert doctest.testmod(shown).failed == 0


@given(st.text())
def test_nothing_that_a_model_writes_steers_the_terminal(text):
    shown = printable(text)
    assert all(c.isprintable() or not c.isascii() or c in "\n\t" for c in shown)
    assert not {"\r", "\x1b", "\x9b", "\u202e"} & set(shown)
    assert printable("안녕, hello!\n\t") == "안녕, hello!\n\t"
