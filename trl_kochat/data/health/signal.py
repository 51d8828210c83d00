"""Rows that there is nothing to learn from, or the wrong thing."""

from collections import Counter
from collections.abc import Iterator
from operator import ne
from typing import Any

from ...encode import tokenize_rows
from ...findings import Finding
from .batches import Batch, Tally


# Share of the answers that are alike, and how many there must be for it to say anything (ours).
ALIKE, ALIKE_LEAST = 0.9, 20
# Characters of an opening, and of an answer that is no mere label (ours).
OPENING, NO_LABEL = 8, 12


class Repeated:
    """The same row again, and the same pair both ways round."""

    def __init__(self, tokenizer: Any = None, max_length: int | None = None):
        self.numbers: dict[int, int] = {}
        self.again, self.both_ways = Tally(), Tally()

    def look(self, batch: Batch) -> None:
        is_pairs = batch.answers == ("chosen", "rejected")
        labels = batch.rows.get("label", [None] * len(batch))
        for number, (texts, label) in enumerate(
            zip(zip(*batch.texts.values(), strict=True), labels, strict=True), start=batch.first
        ):
            before = self.numbers.setdefault(hash((texts, label)), number)
            if before != number:
                self.again.add(number, f"row {before}: {texts[0]}")
            elif is_pairs and texts[-1] != texts[-2]:
                turned = self.numbers.get(hash(((*texts[:-2], texts[-1], texts[-2]), label)))
                if turned is not None:
                    self.both_ways.add(number, f"row {turned}: {texts[0]}")

    def findings(self, total: int) -> Iterator[Finding]:
        if self.again.rows:
            yield self.again.finding("rows_duplicate", total, "were there before, word for word")
        if self.both_ways.rows:
            yield self.both_ways.finding(
                "rows_both_ways",
                total,
                "prefer the answer that another row of the same prompt rejects, and reject the one it prefers",
                way_out="Together they teach nothing.",
                grave=True,
            )


class Alike:
    """Pairs whose answers are the same, as text or as ids."""

    def __init__(self, tokenizer: Any = None, max_length: int | None = None):
        self.tokenizer, self.max_length = tokenizer, max_length
        self.same, self.within_length = Tally(), Tally()

    def look(self, batch: Batch) -> None:
        if batch.answers != ("chosen", "rejected"):
            return
        near = []
        for index, (chosen, rejected) in enumerate(zip(*(batch.texts[name] for name in batch.answers), strict=True)):
            if chosen == rejected or "".join(chosen.split()) == "".join(rejected.split()):
                self.same.add(batch.first + index, chosen, "same text" if chosen == rejected else "white space")
            elif self._may_be_same(batch, index, chosen, rejected):
                near.append(index)
        renders = getattr(self.tokenizer, "chat_template", None) or not batch.conversational
        if near and self.tokenizer is not None and renders:
            for index, row in zip(
                near, tokenize_rows(self.tokenizer, [batch.row(i) for i in near], first=batch.first), strict=True
            ):
                number, text = batch.first + index, batch.texts["chosen"][index]
                if row.sequences["chosen"] == row.sequences["rejected"]:
                    self.same.add(number, text, "same ids")
                elif (
                    self.max_length is not None
                    and row.completion_start < self.max_length
                    and row.sequences["chosen"][: self.max_length] == row.sequences["rejected"][: self.max_length]
                ):
                    self.within_length.add(number, text)

    def _may_be_same(self, batch: Batch, index: int, chosen: str, rejected: str) -> bool:
        """Whether it is worth making ids: one form or one unknown character apart, or apart beyond the limit only."""
        if len(chosen) == len(rejected) and sum(map(ne, chosen, rejected)) <= OPENING:
            return True
        if chosen[:OPENING] != rejected[:OPENING]:
            return False
        if abs(len(chosen) - len(rejected)) <= OPENING and chosen[-OPENING:] == rejected[-OPENING:]:
            return True
        # A character is three bytes, and so three tokens at the most but for emoji.
        length = sum(len(texts[index]) for column, texts in batch.texts.items() if column != "rejected")
        return self.max_length is not None and 3 * length > self.max_length

    def findings(self, total: int) -> Iterator[Finding]:
        if self.same.rows:
            kinds = ", ".join(f"{kind} {count:,}" for kind, count in self.same.kinds.most_common())
            yield self.same.finding(
                "rows_same_answers",
                total,
                f"have a chosen and a rejected answer that are the same to the model ({kinds})",
                way_out="There is nothing to prefer: leave them out.",
                grave=True,
            )
        if self.within_length.rows:
            yield self.within_length.finding(
                "rows_same_within_length",
                total,
                f"have answers that do not differ within {self.max_length:,} tokens",
                way_out="Raise max_length, or leave them out.",
                grave=True,
            )


class Uniform:
    """Answers of one length for all, or of one opening."""

    def __init__(self, tokenizer: Any = None, max_length: int | None = None):
        self.lengths: dict[str, Counter[int]] = {}
        self.openings: dict[str, Counter[str]] = {}

    def look(self, batch: Batch) -> None:
        for column in batch.answers:
            long = [text for text in batch.texts[column] if len(text) >= NO_LABEL]
            self.lengths.setdefault(column, Counter()).update(map(len, batch.texts[column]))
            self.openings.setdefault(column, Counter()).update([text[:OPENING] for text in long])

    def findings(self, total: int) -> Iterator[Finding]:
        for what, counters in (("length", self.lengths), ("opening", self.openings)):
            told = []
            for column, counts in counters.items():
                value, count = counts.most_common(1)[0] if counts else ("", 0)
                if count >= max(ALIKE * total, ALIKE_LEAST) and (what == "opening" or int(value) >= NO_LABEL):
                    told.append((column, value, count / total))
            if told:
                yield Finding(
                    f"rows_one_{what}",
                    "warning",
                    f"Nearly all answers have one {what}: "
                    + ", ".join(
                        f"{share:.1%} of {column} {f'{value} characters' if what == 'length' else f'begin with {value!r}'}"
                        for column, value, share in told
                    )
                    + (
                        ". They look cut by length: see the source."
                        if what == "length"
                        else ". A model learns that before it learns to answer."
                    ),
                    measured={column: {what: value, "share": round(share, 4)} for column, value, share in told},
                )
