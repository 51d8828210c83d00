"""Rows whose text a file or an export has damaged."""

import unicodedata
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate
from typing import Any

from ...encode import encode_texts
from ...findings import Finding
from ...text.damage import (
    CONTROL_TOKENS,
    HALF_WIDTH_JAMO,
    MEDIA_TOKENS,
    NO_VALUES,
    UTF8_AS_CP949,
    control_tokens_in,
    markup_in,
    misread,
    odd_characters,
    outside_code,
)
from .batches import Batch, Tally


# Code -> what rows do that have it, what to do.
TOLD = {
    "rows_mojibake": ("hold Korean that was read in another encoding than it was written in", ""),
    "rows_replaced": (
        "hold U+FFFD, which stands where bytes were no character",
        "What was there is lost: read the source again with its own encoding.",
    ),
    "rows_markup": ("hold HTML", "--clean writes entities out; tags are left to you."),
    "rows_no_value": ("have an answer that is the name of nothing", "Leave them out."),
    "rows_half_width": ("hold half-width jamo, which few vocabularies have", "NFKC makes syllables of them."),
}


class Damaged:
    """Control tokens as text, misread bytes, markup, the names of nothing, Unicode forms."""

    def __init__(self, tokenizer: Any = None, max_length: int | None = None):
        self.tokenizer = tokenizer
        self.own = own_control_tokens(tokenizer)
        self.tokens = control_tokens_in(CONTROL_TOKENS | MEDIA_TOKENS | self.own)
        self.odd = odd_characters(self.own)
        self.found: defaultdict[str, Tally] = defaultdict(Tally)
        self.at_end = 0
        self.decomposed = ""

    def look(self, batch: Batch) -> None:
        odd = [(index, column) for column, texts in batch.texts.items() for index in self._odd_ones(texts)]
        for index, column in sorted(odd):  # row by row, as they are counted
            self._read(batch, batch.first + index, batch.texts[column][index])
        for index, answers in enumerate(zip(*(batch.texts[column] for column in batch.answers), strict=True)):
            for text in answers:
                if len(text) < 16 and text.strip().lower() in NO_VALUES:
                    self.found["rows_no_value"].add(batch.first + index, text)

    def _odd_ones(self, texts: list[str]) -> Iterator[int]:
        """Indices of the texts that have a character which sound Korean is without, by one search over all of them."""
        starts = list(accumulate((len(text) + 1 for text in texts), initial=0))
        before = -1
        for hit in self.odd.finditer("\0".join(texts)):
            index = bisect_right(starts, hit.start()) - 1
            if index != before:  # a text may hold a NUL itself
                yield index
                before = index

    def _read(self, batch: Batch, number: int, text: str) -> None:
        self._read_tokens(batch, number, text)
        if encoding := misread(text):
            self.found["rows_mojibake"].add(number, text, encoding)
        if "\ufffd" in text:
            at = text.index("\ufffd")
            self.found["rows_replaced"].add(number, text[max(at - 20, 0) : at + 20])
        if markup := markup_in(text):
            self.found["rows_markup"].add(number, markup, markup)
        if half := HALF_WIDTH_JAMO.search(text):
            self.found["rows_half_width"].add(number, text[max(half.start() - 20, 0) : half.end() + 20])
        if not unicodedata.is_normalized("NFC", text):
            self.found["rows_decomposed"].add(number, text)
            self.decomposed = self.decomposed or text

    def _read_tokens(self, batch: Batch, number: int, text: str) -> None:
        eos = getattr(self.tokenizer, "eos_token", None)
        if eos and not batch.conversational:
            text = text.removesuffix(eos)  # which TRL does not write a second time
        hits = list(self.tokens.finditer(text))
        prose = outside_code(text)
        hits = [hit for hit in hits if hit[0] in self.own or hit[0] in prose]
        if hits:
            ends = not text[hits[-1].end() :].strip()
            shown = hits[-1] if ends else hits[0]
            self.at_end += ends
            context = text[max(shown.start() - 20, 0) : shown.end() + 10]
            self.found["rows_control_token"].add(number, context, shown[0])

    def findings(self, total: int) -> Iterator[Finding]:
        for code, tally in self.found.items():
            if code == "rows_control_token":
                yield self._tokens_finding(tally, total)
            elif code == "rows_decomposed":
                yield self._decomposed_finding(tally, total)
            else:
                what, way_out = TOLD[code]
                if code == "rows_mojibake":
                    way_out = _mojibake_way_out(tally)
                yield tally.finding(code, total, what, way_out=way_out, grave=code != "rows_markup")

    def _tokens_finding(self, tally: Tally, total: int) -> Finding:
        tokens = ", ".join(f"{token} ({count:,})" for token, count in tally.kinds.most_common(3))
        is_own = bool(self.own & tally.kinds.keys())
        return tally.finding(
            "rows_control_token",
            total,
            f"hold a control token as text: {tokens}, {self.at_end:,} at the end of a text",
            way_out=("This tokenizer reads it as the token itself" if is_own else "The model learns to write it out")
            + "; --clean takes it off the ends.",
            least="warning" if is_own else "info",
            grave=True,
        )

    def _decomposed_finding(self, tally: Tally, total: int) -> Finding:
        what, cost = "hold text that is not composed (NFC)", "several"
        if self.tokenizer is not None:
            composed = unicodedata.normalize("NFC", self.decomposed)
            loose, whole = encode_texts(self.tokenizer, [self.decomposed, composed], add_special_tokens=False)
            if loose == whole:
                return replace(tally.finding("rows_decomposed", total, what), severity="info")
            cost = f"{len(loose) / max(len(whole), 1):.1f}"
        way_out = f"It costs {cost} times the tokens; --clean composes it."
        return tally.finding("rows_decomposed", total, what, way_out=way_out)


def own_control_tokens(tokenizer: Any) -> frozenset[str]:
    """Special tokens of a tokenizer that nobody would write: `<pad>`, and neither an emoji nor a word."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    return frozenset(
        token.content for token in added if token.special and len(token.content) > 2 and token.content[0] in "<[{|"
    )


def _mojibake_way_out(tally: Tally) -> str:
    told = " and ".join(sorted(tally.kinds))
    if tally.kinds.keys() - {UTF8_AS_CP949}:
        return f"{told}; --clean restores what comes back exactly."
    return f"{told}, and bytes are lost: read the source again as UTF-8."
