"""Unicode forms of Korean text, and the end of text that was cut by length."""

import unicodedata
from typing import Literal, get_args


UnicodeForm = Literal["NFC", "NFKC"]


def normalize_text(text: str, form: UnicodeForm = "NFC") -> str:
    """Compose Hangul, so that a syllable is one code point and not two or three conjoining jamo.

    NFC changes nothing that a reader can see. NFKC also folds compatibility characters, and with them what chat is
    made of: ㅋ becomes a conjoining jamo, ① becomes 1. Use it only for a vocabulary that was made from such text
    (`unicode_form` of `trl_kochat.tokenizer`).

    >>> normalize_text("\\u1112\\u1161\\u11ab글")
    '한글'

    Raises:
        ValueError: The form is neither "NFC" nor "NFKC"; the decomposed forms cost 3 to 9 times the tokens.
    """
    if form not in get_args(UnicodeForm):
        raise ValueError(f"No form {form!r} for training text; there are {' and '.join(get_args(UnicodeForm))}.")
    return unicodedata.normalize(form, text)


def drop_half_syllable(text: str) -> str:
    """The text without the piece of a character it ends in, U+FFFD, as decoding leaves it after a cut by length.

    For rewards, logs and people. Never encode the result in place of the ids: the model wrote other ones.

    >>> drop_half_syllable("오늘 날\\ufffd")
    '오늘 날'
    """
    return text.rstrip("\ufffd")
