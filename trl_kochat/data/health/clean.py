"""`clean_rows`: mend what a file or an export has damaged, where nothing is lost by it."""

import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from os.path import commonprefix
from typing import TYPE_CHECKING, Any

from ...encode import row_type
from ...errors import need_dataset
from ...text.damage import CONTROL_TOKENS, odd_characters, restored, without_entities, without_tokens_at_end
from ...text.normalize import is_blank
from ...text.shown import shown
from .damaged import own_control_tokens


if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

# Texts shown before and after, and characters around what has changed.
EXAMPLES, AROUND = 3, 20


@dataclass
class Mended:
    """What was mended: in how many texts, of which kinds, and the first of them before and after."""

    texts: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in self.kinds.most_common())
        lines = [f"{self.texts:,} texts mended ({kinds})" if self.texts else "There was nothing to mend"]
        for before, after in self.examples:
            there, now = _where_they_differ(before, after)
            told = f"{shown(there, 120)} -> {shown(now, 120)}"
            # Composed and decomposed text look alike.
            lines.append(f"  {told} ({len(before):,} characters -> {len(after):,})")
        return "\n".join(lines)


def clean_rows(dataset: "Dataset", tokenizer: "PreTrainedTokenizerBase | None" = None) -> "tuple[Dataset, Mended]":
    """Rows with their texts mended where nothing is lost by it, and what was mended.

    | kind | what is done |
    |---|---|
    | `mojibake` | Korean in UTF-8 or CP949 that was read as Latin-1 or Windows-1252 is read as what it was, if all of it is valid |
    | `entities` | HTML entities outside code are written out |
    | `unicode_form` | NFC |
    | `control_token` | control tokens at the end of a text are taken off, unless nothing else is there |

    Args:
        dataset ([`datasets.Dataset`]): Rows of one TRL type.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*): Its control tokens are taken off, too.
    """
    need_dataset(dataset, "clean_rows")
    mended = Mended()
    tokens = CONTROL_TOKENS | own_control_tokens(tokenizer)
    odd = odd_characters(tokens)
    steps: dict[str, Callable[[str], str]] = {
        "mojibake": restored,
        "entities": without_entities,
        "unicode_form": lambda text: unicodedata.normalize("NFC", text),
        "control_token": lambda text: without_tokens_at_end(text, tokens),
    }

    def mend(text: str) -> str:
        before = text
        for kind, step in steps.items() if odd.search(text) else ():
            if (after := step(text)) != text and not is_blank(after):
                mended.kinds[kind] += 1
                text = after
        if text != before:
            mended.texts += 1
            if len(mended.examples) < EXAMPLES:
                mended.examples.append((before, text))
        return text

    def mend_value(value: Any) -> Any:
        if isinstance(value, list):
            return [{**turn, "content": turn["content"] and mend(turn["content"])} for turn in value]
        return mend(value)

    _, answers = row_type(set(dataset.column_names))
    columns = [column for column in dict.fromkeys(("prompt", *answers)) if column in dataset.column_names]
    made = dataset.map(
        lambda batch: {column: [mend_value(value) for value in batch[column]] for column in columns},
        batched=True,
        features=dataset.features,
        load_from_cache_file=False,  # which would count nothing
    )
    return made, mended


def _where_they_differ(before: str, after: str) -> tuple[str, str]:
    start = max(len(commonprefix([before, after])) - AROUND, 0)
    rest = [before[start:], after[start:]]
    same = len(commonprefix([text[::-1] for text in rest]))
    end = max(same - AROUND, 0)
    there, now = (text[: len(text) - end] for text in rest)
    return there, now
