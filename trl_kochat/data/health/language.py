"""What language and what speech level answers are in: facts, not faults."""

import random
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ...findings import Finding
from ...text.damage import without_tokens_at_end
from ...text.health import ScriptShares, script_shares
from ...text.speech import speech_end
from .batches import Batch


# Answers read, drawn evenly from all, and characters of each: shares to a per cent or two.
SAMPLE, LENGTH = 1_000, 400


class Language:
    def __init__(self, tokenizer: Any = None, max_length: int | None = None):
        self.sample: list[str] = []
        self.seen = 0
        self.draw = random.Random(0)  # the same rows give the same shares

    def look(self, batch: Batch) -> None:
        for text in batch.texts[batch.answers[0]] if batch.answers else ():  # what is rejected is not learned
            self.seen += 1
            if len(self.sample) < SAMPLE:
                self.sample.append(text)
            elif (place := int(self.draw.random() * self.seen)) < SAMPLE:
                self.sample[place] = text

    def findings(self, total: int) -> Iterator[Finding]:
        if not self.sample:
            return
        # What other checks find must not pass for foreign letters or hide an ending.
        sound = [without_tokens_at_end(unicodedata.normalize("NFC", text)) for text in self.sample]
        levels = Counter(map(speech_end, sound))
        shares = [script_shares(text[:LENGTH]) for text in sound]
        scripts = {name: sum(getattr(share, name) for share in shares) / len(shares) for name in ScriptShares._fields}
        level = {name: levels[name] / len(self.sample) for name in ("polite", "casual", "written", "other")}
        foreign = [f"{name} {scripts[name]:.1%}" for name in ScriptShares._fields[1:] if scripts[name] >= 0.001]
        yield Finding(
            "rows_language",
            "info",
            f"{len(self.sample):,} answers by their endings: 존댓말 {level['polite']:.0%}, 반말 {level['casual']:.0%}, -다 "
            f"{level['written']:.0%}, other {level['other']:.0%}; foreign letters: {', '.join(foreign) or 'none'}.",
            measured={"answers": len(self.sample), "levels": level, "scripts": scripts},
        )
