"""Unicode forms of Korean text, and the end of text that was cut by length."""

import re
import unicodedata
from typing import Literal, get_args

from ..errors import InputError
from .shown import shown


UnicodeForm = Literal["NFC", "NFKC"]

# One half of a surrogate pair, which JSON can escape (`"\\ud83d"`) and UTF-8 cannot write.
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


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
        raise InputError(f"No form {shown(form)} for training text; there are {' and '.join(get_args(UnicodeForm))}.")
    return unicodedata.normalize(form, text)


# Letters by name, and nothing to see: Korean chats leave a line blank with them.
_FILLERS = "\u115f\u1160\u3164\uffa0"


def is_blank(text: str) -> bool:
    """Whether a text has nothing to read: white space, zero-width and control characters, Hangul fillers.

    >>> [is_blank(text) for text in (" \\n", "\\u200b\\ufeff", "\\u3164", "", "😀", "ㅋ")]
    [True, True, True, True, False, False]
    """
    return all(char.isspace() or char in _FILLERS or unicodedata.category(char) in ("Cc", "Cf") for char in text)


def refuse_half_characters(text: str, column: str | None = None) -> None:
    """Raise for text that no tokenizer reads: with half of a surrogate pair, as a cut emoji or wrong bytes leave it.

    >>> refuse_half_characters("네 😀")
    >>> refuse_half_characters("네 \\ud83d")
    Traceback (most recent call last):
        ...
    trl_kochat.errors.InputError: half a character ('\\ud83d', at 2), as a cut emoji leaves it; no tokenizer reads that

    Raises:
        ValueError: With the half, its position, and the column if one is named.
    """
    half = _HALF_CHARACTER.search(text)
    if half is not None:
        where = "" if column is None else f"column {column!r} holds "
        raise InputError(
            f"{where}half a character ({half[0]!a}, at {half.start()}), as a cut emoji leaves it; no tokenizer reads that"
        )


def whole_text(text: str) -> str:
    """The text in NFC, with U+FFFD for half characters, which no library outside Python reads.

    >>> whole_text("\\u1112\\u1161\\u11ab \\ud83d")
    '한 \ufffd'
    """
    return unicodedata.normalize("NFC", _HALF_CHARACTER.sub("\ufffd", text))


def drop_half_syllable(text: str) -> str:
    """The text without the piece of a character it ends in, U+FFFD, as decoding leaves it after a cut by length.

    For rewards, logs and people. Never encode the result in place of the ids: the model wrote other ones.

    >>> drop_half_syllable("오늘 날\\ufffd")
    '오늘 날'
    """
    return text.rstrip("\ufffd")
