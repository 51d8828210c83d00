"""The speech level of each sentence in a text, by its last ending; needs the extra `korean`."""

import re
from collections.abc import Sequence
from typing import Any

from .korean import analyser
from .normalize import whole_text


LEVELS = ("합쇼체", "해요체", "해체", "해라체")
# By the form of the last ending, the first that fits; any other ending is 해체 (어, 지, 네, 거든, ㄹ까, ㄹ게, ㄴ데, 고, ...).
_ENDINGS = (
    ("합쇼체", re.compile(r"(?:[ㅂ습]니다|[ㅂ습]니까|시오|[ㅂ읍]시다)$")),
    ("해요체", re.compile(r"[요죠]$")),
    ("해라체", re.compile(r"(?:다|냐|(?<!으)니|자|라|구나|려무나|렴|노라|[는은ㄴ]가)$")),
)
_POLITE = ("습니다", "ㅂ니다", "어요", "에요", "세요", "네요", "죠")
# What the analyser makes of "먹을게.", "여는데." and "아니야."
_TAKEN_APART = ("/ETM 것/NNB 이/JKS", "는/ETM 데/NNB", "아니야/IC")
# What may follow the last ending of a sentence: punctuation, brackets, symbols, addresses, emoji.
_SYMBOLS = ("S", "W")
_LETTERS = ("SL", "SH", "SN")


def speech_levels(text: str) -> list[str | None]:
    """The level of each sentence, one of [`LEVELS`], or `None` for one that does not end (a heading, an item, a fragment).

    Lines are apart. What stands in quotes or brackets does not count beside a sentence of its own.

    >>> speech_levels('그는 "가자"라고 했어요. 나도 갔어!\\n- 물과 소금')
    ['해요체', '해체', None]
    """
    lines = [line for line in whole_text(text).splitlines() if line.strip()]
    return [_level(sentence) for line in lines for sentence in analyser().tokenize(line, split_sents=True)]


def _level(sentence: Sequence[Any]) -> str | None:
    words = [token for token in sentence if _is_word(token)]
    words = [token for token in words if token.sub_sent_position == 0] or words
    forms = [_compatible(token.form) for token in words]
    if not words:
        return None
    if forms[-1] == "요" and words[-1].tag[0] in "JM":
        return "해요체"
    if " ".join(f"{form}/{token.tag}" for form, token in zip(forms, words, strict=True)).endswith(_TAKEN_APART):
        return "해체"
    endings = [form for form, token in zip(forms, words, strict=True) if token.tag == "EF"]
    if words[-1].tag == "EC":
        endings.append(forms[-1])
    # "고맙습니다, 선생님."
    endings = endings or [form for form, token in zip(forms, words, strict=True) if form.endswith(_POLITE)]
    if not endings:
        return None
    return next((level for level, pattern in _ENDINGS if pattern.search(endings[-1])), "해체")


def _is_word(token: Any) -> bool:
    return not token.tag.startswith(_SYMBOLS) or token.tag in _LETTERS


def _compatible(form: str) -> str:
    """Consonants as letters of their own; the analyser writes them as the lower part of a syllable."""
    return form.translate({0x11AB: "ㄴ", 0x11AF: "ㄹ", 0x11B8: "ㅂ"})
