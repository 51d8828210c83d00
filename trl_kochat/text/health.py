"""What a reader would object to in an answer: foreign script out of place, repetition, an end that never comes.

Every function takes the text in any Unicode form and reads it as NFC.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from ..errors import InputError


# Script -> ranges of code points, first and last included. From Scripts.txt of the Unicode Character Database
# (https://www.unicode.org/Public/UCD/latest/ucd/Scripts.txt); unassigned code points inside a block are not cut out.
_RANGES = {
    "hangul": (
        (0x1100, 0x11FF),  # Hangul Jamo: conjoining, what NFD makes of a syllable
        (0x302E, 0x302F),  # tone marks of old texts
        (0x3131, 0x318E),  # Hangul Compatibility Jamo: what a keyboard writes, ㅋㅋ
        (0x3200, 0x321E),  # parenthesized, ㈜
        (0x3260, 0x327E),  # circled
        (0xA960, 0xA97C),  # Hangul Jamo Extended-A
        (0xAC00, 0xD7A3),  # Hangul Syllables
        (0xD7B0, 0xD7FB),  # Hangul Jamo Extended-B
        (0xFFA0, 0xFFDC),  # half-width
    ),
    "han": (
        (0x2E80, 0x2FD5),  # radicals
        (0x3005, 0x3005),  # 々
        (0x3007, 0x3007),  # 〇
        (0x3021, 0x3029),
        (0x3038, 0x303B),
        (0x3400, 0x4DBF),  # Extension A
        (0x4E00, 0x9FFF),  # CJK Unified Ideographs
        (0xF900, 0xFAD9),  # compatibility ideographs; most become unified ones in NFC
        (0x20000, 0x3FFFD),  # the two planes set aside for ideographs
    ),
    "kana": (
        (0x3041, 0x3096),
        (0x309D, 0x309F),
        (0x30A1, 0x30FA),
        (0x30FC, 0x30FF),  # ー too, which Scripts.txt calls common: in practice it lengthens a kana
        (0x31F0, 0x31FF),
        (0xFF66, 0xFF9F),  # half-width
        (0x1AFF0, 0x1B167),
    ),
    "latin": (
        (0x0041, 0x005A),
        (0x0061, 0x007A),
        (0x00AA, 0x00AA),
        (0x00BA, 0x00BA),
        (0x00C0, 0x00D6),
        (0x00D8, 0x00F6),
        (0x00F8, 0x02B8),
        (0x1D00, 0x1D25),
        (0x1D62, 0x1D65),
        (0x1D6B, 0x1D77),
        (0x1D79, 0x1DBE),
        (0x1E00, 0x1EFF),
        (0x2071, 0x2071),
        (0x207F, 0x207F),
        (0x2090, 0x209C),
        (0x2C60, 0x2C7F),
        (0xA722, 0xA787),
        (0xA78B, 0xA7FF),
        (0xAB30, 0xAB64),
        (0xFB00, 0xFB06),
        (0xFF21, 0xFF3A),  # full-width
        (0xFF41, 0xFF5A),
    ),
}
_SORTED = sorted((first, last, script) for script, ranges in _RANGES.items() for first, last in ranges)
_FIRSTS = [first for first, _, _ in _SORTED]

_HANGUL = "ᄀ-ᇿㄱ-ㆎ가-힣"
# Left out before scripts are counted. The order matters: code may hold addresses, addresses may hold parentheses.
_NOT_PROSE = re.compile(
    "|".join(
        (
            r"```.*?(?:```|\Z)",  # a fence that the length limit left open runs to the end
            r"`[^`\n]+`",
            # Addresses end at the first character beyond ASCII: a particle follows without a space.
            r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+",
            r"(?:[a-z]{2,10}://|www\.)[!-~]+",
            r"(?:[A-Za-z0-9-]{1,63}\.){1,8}(?:com|net|org|edu|gov|io|ai|kr|jp|uk)(?![A-Za-z0-9])(?:[/?#][!-~]*)?",
        )
    ),
    re.DOTALL,
)
# A gloss explains the word it follows: 한국어(韓國語), 인공지능(AI), 나이[年歲]. Longer ones are sentences (40: ours).
_GLOSS = re.compile(rf"(?<=[{_HANGUL}\"'”’」』》*]) ?[(（\[][^()（）\[\]\n{_HANGUL}]{{1,40}}[)）\]]")
# The other way round, one foreign word that is explained in Korean: GDP(국내총생산).
_GLOSSED = re.compile(
    rf"(?<![^\W_])[^\W_{_HANGUL}](?:[^\W_{_HANGUL}]|[-&.']){{0,29}}(?= ?[(（\[][^()（）\[\]\n]{{0,40}}[{_HANGUL}])"
)


class ScriptShares(NamedTuple):
    """Share of each script among the letters of a text. They sum to 1, or are all 0 in a text without letters."""

    hangul: float
    han: float
    latin: float
    kana: float
    other: float


def _script(character: str) -> str | None:
    code_point = ord(character)
    index = bisect_right(_FIRSTS, code_point) - 1
    if index >= 0 and code_point <= _SORTED[index][1]:
        return _SORTED[index][2]
    return "other" if character.isalpha() else None


def script_shares(text: str) -> ScriptShares:
    """Share of Hangul, Han, Latin, kana and other scripts among the letters that stand in running prose.

    Code, addresses and glosses are left out: they are where foreign script belongs. Digits, punctuation and emoji
    have no script. A plain `AI` or `km` counts as Latin.

    >>> script_shares("오늘 天氣 good")
    ScriptShares(hangul=0.25, han=0.25, latin=0.5, kana=0.0, other=0.0)
    >>> script_shares("인공지능(AI)은 `model.fit()`이나 https://pytorch.org 에서, 한국어(韓國語)로 배워요.").hangul
    1.0
    """
    text = _NOT_PROSE.sub(" ", unicodedata.normalize("NFC", text))
    text = _GLOSSED.sub(" ", _GLOSS.sub(" ", text))
    counts = dict.fromkeys(ScriptShares._fields, 0)
    for character in text:
        script = _script(character)
        if script is not None:
            counts[script] += 1
    total = sum(counts.values())
    return ScriptShares(**{script: count / total if total else 0.0 for script, count in counts.items()})


# Drawn out on purpose, so no sign of a loop: ㅋㅋㅋ, ㅠㅠ, ㅇㅇ, 하하하, 흑흑.
_EXPRESSIVE = re.compile(r"[ㄱ-ㆎ]{2,}|([하호히헤흐크후키킥깔껄낄엉흑])\1+")
_NOT_WORD = re.compile(r"[\W_]+")


def _eojeols(text: str) -> list[str]:
    """The eojeols (what stands between spaces) without punctuation, emoji and drawn-out laughter or crying."""
    text = _EXPRESSIVE.sub("", unicodedata.normalize("NFC", text)).lower()
    return [eojeol for eojeol in (_NOT_WORD.sub("", part) for part in text.split()) if eojeol]


def repeated_ngrams(units: Sequence[Hashable], n: int) -> float:
    """Share of the n-grams that already stood earlier in the sequence; 0 when it is shorter than `n`.

    >>> repeated_ngrams("abcabcab", 3)  # abc, bca, cab, then abc, bca, cab again
    0.5
    """
    ngrams = [tuple(units[i : i + n]) for i in range(len(units) - n + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def _longest_repeat(text: str) -> str:
    """The longest string, other than a space, that stands twice in `text` without overlap; the earliest of several."""
    low, high, found = 1, len(text) // 2, ""
    while low <= high:  # a string that repeats has a beginning that repeats: bisection over its length
        length = (low + high) // 2
        first: dict[int, int] = {}
        for i in range(len(text) - length + 1):
            # Hashes and not the strings, which would take quadratic memory; equality is checked on the strings.
            j = first.setdefault(hash(text[i : i + length]), i)
            if i - j >= length and text[i : i + length] == text[j : j + length] != " ":
                found, low = text[j : j + length], length + 1
                break
        else:
            high = length - 1
    return found


def _period(text: str) -> int:
    """Length of the shortest string of which `text` is a repetition, the last turn perhaps cut; text is not empty."""
    border = [0] * len(text)  # prefix function of Knuth, Morris and Pratt
    for i in range(1, len(text)):
        length = border[i - 1]
        while length and text[i] != text[length]:
            length = border[length - 1]
        border[i] = length + (text[i] == text[length])
    return len(text) - border[-1]


class Repetition(NamedTuple):
    """How a text repeats itself; both shares are between 0 and 1."""

    eojeol_3grams: float
    """Share of the runs of three eojeols that stood earlier in the text."""
    syllable_8grams: float
    """Share of the runs of eight syllables (spaces left out) that stood earlier: loops inside long words as well."""
    longest_unit: str
    """The longest string that stands twice without overlap; when that string is a loop, one turn of it."""

    @property
    def share(self) -> float:
        """The larger of the two shares: the one number for a table."""
        return max(self.eojeol_3grams, self.syllable_8grams)


def repetition(text: str) -> Repetition:
    """Repetition in the words of a text; punctuation, emoji, ㅋㅋㅋ, ㅠㅠ and 하하하 are left out.

    >>> repetition("한우예요 한우예요 한우예요 한우예요 한우예요")
    Repetition(eojeol_3grams=0.6666666666666667, syllable_8grams=0.6923076923076923, longest_unit='한우예요')
    >>> repetition("ㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋ 네!!!!!!!!!! 맞아요...")
    Repetition(eojeol_3grams=0.0, syllable_8grams=0.0, longest_unit='')
    """
    eojeols = _eojeols(text)
    unit = _longest_repeat(" ".join(eojeols))
    return Repetition(
        eojeol_3grams=repeated_ngrams(eojeols, 3),
        syllable_8grams=repeated_ngrams("".join(eojeols), 8),
        longest_unit=unit[: _period(unit)].strip() if unit else "",
    )


_CLOSERS = " \t\r\n\"'”’»」』)）]】*_"
_STOPS = ".!?。！？…~～"
_LIST_MARK = re.compile(r"(?:^|\n)\s*\d+[.)]\Z")
_EMOTICON = re.compile(r"(?:[ㄱ-ㆎ]{2,}|\^+[._-]?\^+|[:;]-?[)D])\Z")
# Miscellaneous Symbols and Dingbats, and the pictographs of the supplementary plane; then modifiers of an emoji.
_EMOJI = re.compile(r"[\u2600-\u27bf\U0001f000-\U0001faff][\ufe0f\u200d]*\Z")
# Final endings that are rarely anything else; words that merely look so stand in `_NO_ENDING`.
_FINAL_ENDING = re.compile(r"(?:(?<=[가-힣])[다요]|죠|까|네|군|구나|거든|냐|시오|[있없같았었했겠됐]음|함|임|됨)\Z")
_NO_ENDING = re.compile(r"(?:마다|바다|보다|필요|중요|주요|수요|소요|개요|동네)\Z")


def has_sentence_ending(text: str) -> bool:
    """Whether the text reads as finished: a closing mark, an emoticon, or a Korean final ending in its last word.

    A heuristic for text alone; whether the model emitted EOS is known only to the one who generated.

    >>> [has_sentence_ending(text) for text in ("네, 한우예요", "좋아요 ㅎㅎ", "그렇습니다.”", "왜냐하면 그러니까")]
    [True, True, True, False]
    """
    text = unicodedata.normalize("NFC", text).rstrip()
    if text.endswith("```") or _EMOTICON.search(text):
        return True
    text = text.rstrip(_CLOSERS)
    if not text or _LIST_MARK.search(text):
        return False
    if text[-1] in _STOPS or _EMOJI.search(text):
        return True
    if text.endswith("니까"):  # 합니까 asks and ends, 하니까 gives a reason and goes on
        return unicodedata.normalize("NFD", text[:-2]).endswith("\u11b8")  # U+11B8 is ㅂ as a final consonant
    return bool(_FINAL_ENDING.search(text)) and not _NO_ENDING.search(text)


def summarize_health(texts: Sequence[str]) -> dict[str, float]:
    """Means over texts for a report: `repetition`, `hanja` (share of Han) and `latin`, each between 0 and 1.

    >>> summarize_health(["네, 한우예요.", "ok 네네"])
    {'repetition': 0.0, 'hanja': 0.0, 'latin': 0.25}

    Raises:
        ValueError: There is no text to take a mean of.
    """
    if not texts:
        raise InputError("No texts to sum up; give at least one.")
    shares = [script_shares(text) for text in texts]
    return {
        "repetition": sum(repetition(text).share for text in texts) / len(texts),
        "hanja": sum(share.han for share in shares) / len(texts),
        "latin": sum(share.latin for share in shares) / len(texts),
    }
