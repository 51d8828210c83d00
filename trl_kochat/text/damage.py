"""Text that a file or an export has damaged: control tokens written out, bytes read in the wrong encoding, markup."""

import html
import re
from collections.abc import Collection, Iterable


# Spelt out in the vocabularies of published models: what a model is told the turns of a conversation with.
CONTROL_TOKENS = frozenset(
    """<|endoftext|> <|im_start|> <|im_end|> <|im_sep|> <|begin_of_text|> <|end_of_text|> <|eot_id|> <|eom_id|>
    <|start_header_id|> <|end_header_id|> <|user|> <|assistant|> <|system|> <|end|> <|pad|> <|padding|> <|endofturn|>
    <|stop|> <|unused0|> <|sep|> <|acc|> <s> </s> <pad> <unk> <mask> <usr> <sys> <bos> <eos> <start_of_turn>
    <end_of_turn> [INST] [/INST] <<SYS>> <</SYS>> [BOS] [EOS] [PAD] [UNK] [CLS] [SEP] [|endofturn|] [|user|]
    [|assistant|] [|system|]""".split()
)
# Where a picture or a sound stood, which no text model sees.
MEDIA_TOKENS = frozenset(
    "<image> <video> <audio> <|image|> <|video|> <|audio|> <|image_pad|> <img_placeholder>".split()
)
# What an export writes where there was nothing.
NO_VALUES = frozenset(("nan", "none", "null", "<na>", "#n/a", "undefined", "[null]"))

UTF8_AS_LATIN, UTF8_AS_CP949 = "UTF-8 was read as latin-1", "UTF-8 was read as cp949"
CP949_AS_LATIN = "CP949 was read as latin-1"
# Hangul in UTF-8 is three bytes, EA to ED and two of 80 to BF; this is how they look in Latin-1 and in Windows-1252.
_TRAIL = "\x80-\xbf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122"
_AS_LATIN = re.compile(f"(?:[\xea-\xed][{_TRAIL}]{{2}} ?){{2}}")
# CP949 in Latin-1: the two bytes of a syllable of KS X 1001.
_CP949_AS_LATIN = re.compile("(?:[\xb0-\xc8][\xa1-\xfe] ?){3,}")
LEADERS = 3  # as many characters may stand there again and again: ······
_SYLLABLES = [chr(point) for point in range(ord("가"), ord("힣") + 1)]
# The 2,350 of KS X 1001, which cover nearly all written Korean; this encoding writes others as four jamo, in eight bytes.
COMMON_SYLLABLES = [char for char in _SYLLABLES if len(char.encode("euc_kr")) == 2]
# Read as CP949, Korean turns into syllables that no word has: the other ones.
_RARE = "".join(sorted({*_SYLLABLES} - {*COMMON_SYLLABLES}))
_RARE_SYLLABLE = re.compile(f"[{_RARE}]")
_SYLLABLE = re.compile("[가-힣]")
# Of the syllables of a text, and in number, from which on they are no slang (뷁, 쀍) any more (ours).
RARE_SHARE, RARE_LEAST = 0.25, 3

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
_ENTITY = re.compile(
    r"&(?:#[0-9]{1,6}|#[xX][0-9a-fA-F]{1,5}|amp|lt|gt|quot|apos|nbsp|middot|hellip|[lr][sd]quo|[mn]dash);"
)
_TAG = re.compile(
    r"</?(?:a|b|i|u|p|br|hr|li|ul|ol|td|tr|th|em|div|img|span|font|table|tbody|strong|blockquote|h[1-6])(?: [^<>\n]*)?/?>",
    re.IGNORECASE,
)
HALF_WIDTH_JAMO = re.compile("[\uffa1-\uffdc]")
# What any of the above begins with or holds: a text without one is sound, and most are.
_ODD = "<\\[&\ufffd\uffa1-\uffdc\u0300-\u036f\u1100-\u11ff\xea-\xed"


def odd_characters(tokens: Iterable[str] = ()) -> re.Pattern[str]:
    """What finds a text that may be damaged, up to the next NUL, with the first characters of further control tokens."""
    first = "".join(re.escape(token[0]) for token in tokens)
    # A middle dot is no damage, two in a row may be; an alternative would cost five times as much.
    return re.compile(f"[{_ODD}{first}{_RARE}\xb0-\xc8](?:(?<![\xb0-\xc8])|[\xa1-\xfe])[^\0]*")


def control_tokens_in(tokens: Collection[str] = CONTROL_TOKENS) -> re.Pattern[str]:
    """What finds these tokens, the longest that fits."""
    return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))))


def outside_code(text: str) -> str:
    """A text without what stands in backquotes, where a tag or a token is spoken of."""
    return _CODE.sub(" ", text) if "`" in text else text


def misread(text: str) -> str | None:
    """Which encoding was taken for which, where Korean shows it.

    >>> misread("안녕하세요".encode().decode("latin-1")), misread("안녕하세요".encode("cp949").decode("latin-1"))
    ('UTF-8 was read as latin-1', 'CP949 was read as latin-1')
    >>> misread("?덈뀞?섏꽭??"), misread("뷁! 쀍은 뭐야?"), misread("1장 ············ 3쪽")
    ('UTF-8 was read as cp949', None, None)
    """
    if _AS_LATIN.search(text):
        return UTF8_AS_LATIN
    if any(len(set(found[0])) > LEADERS for found in _CP949_AS_LATIN.finditer(text)):
        return CP949_AS_LATIN
    rare = _RARE_SYLLABLE.findall(text)
    is_damaged = len(set(rare)) >= RARE_LEAST and len(rare) >= RARE_SHARE * len(_SYLLABLE.findall(text))
    return UTF8_AS_CP949 if is_damaged else None


def restored(text: str) -> str:
    """Korean that was read as Latin-1 or Windows-1252, as it was; any other text as it is.

    The way back has one outcome, and a text that lost bytes has none (UTF-8 read as CP949 lost some), so nothing is guessed.

    >>> restored("안녕하세요".encode().decode("latin-1")), restored("안녕하세요".encode("cp949").decode("latin-1"))
    ('안녕하세요', '안녕하세요')
    >>> restored("?덈뀞?섏꽭??")
    '?덈뀞?섏꽭??'
    """
    written_in = {UTF8_AS_LATIN: "utf-8", CP949_AS_LATIN: "cp949"}.get(misread(text) or "")
    if written_in is None:
        return text
    try:
        # Windows-1252 has other characters in place of some of Latin-1's control characters, and the rest as they are.
        return b"".join(char.encode("latin-1" if char <= "\xff" else "cp1252") for char in text).decode(written_in)
    except UnicodeError:
        return text


def without_tokens_at_end(text: str, tokens: Collection[str] = CONTROL_TOKENS) -> str:
    """The text without the control tokens that it ends in, as an export leaves them.

    >>> without_tokens_at_end("네, 맞아요.</s> <pad><pad>\\n"), without_tokens_at_end("<s>는 취소선이에요. ")
    ('네, 맞아요.', '<s>는 취소선이에요. ')
    """
    ends = tuple(tokens)
    while (bare := text.rstrip()).endswith(ends):
        text = bare[: -max(len(token) for token in ends if bare.endswith(token))].rstrip()
    return text


def markup_in(text: str) -> str | None:
    """The first HTML entity or tag outside code.

    >>> markup_in("A &amp; B<br>"), markup_in("`<br>`은 줄을 바꿔요."), markup_in("1 < 2, <제목>")
    ('&amp;', None, None)
    """
    prose = outside_code(text)
    found = _ENTITY.search(prose) or _TAG.search(prose)
    return found[0] if found else None


def without_entities(text: str) -> str:
    """The text with its HTML entities written out, code left as it is.

    >>> without_entities("R&amp;D 예산은 &lt;표 1&gt;에 있어요. `&lt;`는 그대로.")
    'R&D 예산은 <표 1>에 있어요. `&lt;`는 그대로.'
    """
    pieces, end = [], 0
    for code in [*_CODE.finditer(text), None]:
        start = code.start() if code else len(text)
        pieces.append(_ENTITY.sub(lambda entity: html.unescape(entity[0]), text[end:start]))
        if code:
            pieces.append(code[0])
            end = code.end()
    return "".join(pieces)
