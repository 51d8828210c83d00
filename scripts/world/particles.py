"""Korean particles by the sound before them, and templates that use them.

A template names a slot and, after it, the particle as it stands behind a consonant: `{x은} {v이에요}.` becomes
"사과는 빨간색이에요." A particle with one form only (`{x에}`, `{x의}`) is written behind the word as it is. `@` leaves
the word out, for one that stands in quotes: `'{v}'{v이라고@}`.
"""

import re
from collections.abc import Mapping


# After a consonant, after a vowel. 으로 is apart: ㄹ counts as a vowel before it.
FORMS = {
    "은": "는",
    "이": "가",
    "을": "를",
    "과": "와",
    "이에요": "예요",
    "이야": "야",
    "이다": "다",
    "이지": "지",
    "이라고": "라고",
    "이라는": "라는",
    "이었죠": "였죠",
    "이었지": "였지",
}
# How the last digit of a number is read: 영 or 십, 일, 이, 삼, 사, 오, 육, 칠, 팔, 구.
_DIGIT_FINALS = dict(zip("0123456789", ("ㅇ", "ㄹ", "", "ㅁ", "", "", "ㄱ", "ㄹ", "ㄹ", ""), strict=True))
_SLOT = re.compile(r"\{(\w)([가-힣]*)(@?)\}")


def final_consonant(word: str) -> str:
    """The consonant in which a word ends when it is read: "" for a vowel, "ㄹ", or "ㅇ" for any other one.

    >>> [final_consonant(word) for word in ("사과", "귤", "당근", "7", "10", "2")]
    ['', 'ㄹ', 'ㅇ', 'ㄹ', 'ㅇ', '']

    Raises:
        ValueError: It ends in neither Hangul nor a digit.
    """
    last = word[-1:]
    if last in _DIGIT_FINALS and last:
        return {"": "", "ㄹ": "ㄹ"}.get(_DIGIT_FINALS[last], "ㅇ")
    if not "가" <= last <= "힣":
        raise ValueError(f"{word!r} ends in neither Hangul nor a digit; its particle is unknown.")
    final = (ord(last) - ord("가")) % 28
    return "" if final == 0 else "ㄹ" if final == 8 else "ㅇ"


def particle(word: str, form: str) -> str:
    """The form of a particle that stands behind a word.

    >>> [particle("감귤", "은"), particle("사과", "은"), particle("귤", "으로"), particle("감", "으로"), particle("감", "도")]
    ['은', '는', '로', '으로', '도']
    """
    if form == "으로":
        return "으로" if final_consonant(word) == "ㅇ" else "로"
    if form not in FORMS:
        return form
    return form if final_consonant(word) else FORMS[form]


def fill(template: str, words: Mapping[str, str]) -> str:
    """A template with its slots filled and every particle in its right form.

    >>> fill("{x은} {v이에요}.", {"x": "사과", "v": "빨간색"})
    '사과는 빨간색이에요.'

    Raises:
        ValueError: The template names a slot that has no word.
    """

    def filled(slot: re.Match[str]) -> str:
        name, form, alone = slot.groups()
        if name not in words:
            raise ValueError(f"{template!r} names the slot {name!r}; there are {', '.join(sorted(words))}.")
        word = words[name]
        return ("" if alone else word) + (particle(word, form) if form else "")

    return _SLOT.sub(filled, template)
