"""What a reader would object to in an answer: foreign script out of place, repetition, an end that never comes.

Every function takes the text in any Unicode form and reads it as NFC.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import regex

from ..errors import InputError
from .diversity import drawn_out


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


# A letter by its Unicode script. The marks that draw out or voice a kana are common to both kana scripts; Roman numerals
# (Ⅲ) are numbers here. U+FFFD is what is left of a letter whose bytes are not whole; nobody writes control characters.
_LETTER = regex.compile(
    r"(?P<hangul>\p{Script=Hangul})|(?P<han>\p{Script=Han})|(?P<kana>[\p{Script=Hiragana}\p{Script=Katakana}ーｰﾞﾟ])"
    r"|(?P<latin>(?!\p{Nl})\p{Script=Latin})|(?P<other>[\p{L}\ufffd]|[^\P{Cc}\t\n\v\f\r\x85])"
)


def script_shares(text: str) -> ScriptShares:
    """Share of Hangul, Han, Latin, kana and other scripts among the letters that stand in running prose.

    Code, addresses and glosses are left out: they are where foreign script belongs. Digits, punctuation and emoji
    have no script; broken bytes (U+FFFD) and control characters are of another. A plain `AI` or `km` counts as Latin.

    >>> script_shares("오늘 天氣 good")
    ScriptShares(hangul=0.25, han=0.25, latin=0.5, kana=0.0, other=0.0)
    >>> script_shares("인공지능(AI)은 `model.fit()`이나 https://pytorch.org 에서, 한국어(韓國語)로 배워요.").hangul
    1.0
    """
    text = _NOT_PROSE.sub(" ", unicodedata.normalize("NFC", text))
    text = _GLOSSED.sub(" ", _GLOSS.sub(" ", text))
    counts = Counter(letter.lastgroup for letter in _LETTER.finditer(text))
    return ScriptShares(*(counts[script] / (counts.total() or 1) for script in ScriptShares._fields))


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


class Repetition(NamedTuple):
    """How a text repeats itself; both shares are between 0 and 1."""

    eojeol_3grams: float
    """Share of the runs of three eojeols that stood earlier in the text."""
    syllable_8grams: float
    """Share of the runs of eight syllables (spaces left out) that stood earlier: loops inside long words as well."""

    @property
    def share(self) -> float:
        """The larger of the two shares: the one number for a table."""
        return max(self.eojeol_3grams, self.syllable_8grams)


def repetition(text: str) -> Repetition:
    """Repetition in the words of a text; punctuation, emoji, ㅋㅋㅋ, ㅠㅠ and 하하하 are left out.

    >>> repetition("한우예요 한우예요 한우예요 한우예요 한우예요")
    Repetition(eojeol_3grams=0.6666666666666667, syllable_8grams=0.6923076923076923)
    >>> repetition("ㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋ 네!!!!!!!!!! 맞아요...")
    Repetition(eojeol_3grams=0.0, syllable_8grams=0.0)
    """
    eojeols = _eojeols(text)
    return Repetition(repeated_ngrams(eojeols, 3), repeated_ngrams("".join(eojeols), 8))


def summarize_health(texts: Sequence[str]) -> dict[str, float]:
    """Means over texts for a report: `repetition`, `hanja` (share of Han) and `latin`, each between 0 and 1.

    Repetition is that of words or of one character ([`drawn_out`]), whichever is more.

    >>> summarize_health(["네, 한우예요.", "ok 네네"])
    {'repetition': 0.0, 'hanja': 0.0, 'latin': 0.25}

    Raises:
        ValueError: There is no text to take a mean of.
    """
    if not texts:
        raise InputError("No texts to sum up; give at least one.")
    shares = [script_shares(text) for text in texts]
    return {
        "repetition": sum(max(repetition(text).share, drawn_out(text)) for text in texts) / len(texts),
        "hanja": sum(share.han for share in shares) / len(texts),
        "latin": sum(share.latin for share in shares) / len(texts),
    }
