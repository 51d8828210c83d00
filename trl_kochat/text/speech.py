"""Speech level by the end of a text: a rough reading, for shares over many answers."""

import re
from typing import Literal


_LAST_WORD = re.compile(r"([가-힣]+)[^가-힣A-Za-z0-9]*\Z")
_POLITE = re.compile(r"(?:요|죠|쇼|니다|니까|시오|소서)\Z")
_CASUAL = re.compile(r"[어아야지해네래자니냐걸군게마봐줘라까돼와려든대데]\Z")


def speech_end(text: str) -> Literal["polite", "casual", "written", "other"]:
    """존댓말 (`"polite"`), 반말 (`"casual"`), the plain -다 of books (`"written"`), by the last word alone.

    >>> [speech_end(text) for text in ("네, 맞아요!", "응, 맞아 ㅋㅋ", "수도는 서울이다.", "서울", "OK")]
    ['polite', 'casual', 'written', 'other', 'other']
    """
    last = _LAST_WORD.search(text)
    if last is None:
        return "other"
    if _POLITE.search(last[1]):
        return "polite"
    if last[1].endswith("다"):
        return "written"
    return "casual" if _CASUAL.search(last[1]) else "other"
