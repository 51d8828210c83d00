"""A statement in another speech level, where only its endings change; needs the extra `korean`."""

from typing import Any

from ..errors import InputError
from .korean import analyser
from .normalize import whole_text
from .speech_level import speech_levels


# Endings that say the same in each level: after a stem, and after 이다.
_ENDINGS = {
    "합쇼체": (("습니다", "ᆸ니다"), ("습니다", "ᆸ니다")),
    "해요체": (("어요", "아요"), ("에요", "예요")),
    "해체": (("어", "아"), ("야",)),
}
# What belongs to a level itself: words for me and you, -시- and the verbs that have it in them. So do 네 and 응.
_OF_A_LEVEL = {"저", "저희", "제", "나", "내", "너", "시", "께서", "께", "계시", "주무시", "드시", "잡수시"}
_THEIR_TAGS = ("NP", "EP", "JKS", "JKB", "VV", "VX")


def in_level(text: str, level: str) -> str | None:
    """A text whose sentences are plain statements, with their endings in the level; `None` where that is not certain.

    Certain is what the analyser reads again as the same words with the other ending. Questions, requests, honorifics,
    words of one level alone (저, 나, 네) and endings that say more than that (-네요, -거든요) are left.

    Args:
        text (`str`): What is said.
        level (`str`): 합쇼체, 해요체 or 해체.

    >>> in_level("수도는 서울이에요.", "합쇼체"), in_level("저는 몰라요.", "해체")
    ('수도는 서울입니다.', None)
    """
    if level not in _ENDINGS:
        raise InputError(f"Nothing is written in the level {level!r}; there are {', '.join(_ENDINGS)}.")
    lines = [_line_in(line, level) if line.strip() else line for line in whole_text(text).split("\n")]
    written = "\n".join(line for line in lines if line is not None)
    return written if None not in lines and set(speech_levels(written)) == {level} else None


def _line_in(line: str, level: str) -> str | None:
    read = [(token.form, token.tag) for token in analyser().tokenize(line)]
    if analyser().join(read) != line or any(form in _OF_A_LEVEL and tag in _THEIR_TAGS for form, tag in read):
        return None
    meant: list[tuple[str, str]] = []
    for number, (form, tag) in enumerate(read):
        if tag == "IC" or form == "?":
            return None
        if tag == "EF":
            after_copula = read[number - 1][1].startswith("VCP")
            if not any(form in endings[after_copula] for endings in _ENDINGS.values()):
                return None
            form = _ENDINGS[level][after_copula][0]
            if after_copula:
                before = read[number - 2][0][-1] if number > 1 else ""
                if not "가" <= before <= "힣":
                    return None
                if level == "해요체" and (ord(before) - ord("가")) % 28 == 0:  # 커피예요, but 서울이에요
                    form = "예요"
        meant.append((form, tag))
    written: str = analyser().join(meant)
    again = [(token.form, token.tag) for token in analyser().tokenize(written)]
    return written if _without_allomorphs(again) == _without_allomorphs(meant) else None


def _without_allomorphs(words: list[tuple[str, str]]) -> list[Any]:
    """먹어 and 가 have one ending in two forms."""
    same = {form: endings[0] for pair in _ENDINGS.values() for endings in pair for form in endings}
    return [(same.get(form, form) if tag == "EF" else form, tag) for form, tag in words]
