"""Checks of a tokenizer on the rows it is going to train on."""

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median

from ..encode import (
    Row,
    TokenizedRow,
    checked_rows,
    is_conversational,
    losses_by_length,
    texts_of,
    tokenize_rows,
)
from ..findings import Finding, Severity
from .examined import ExaminedTokenizer
from .probes import HANGUL
from .special_tokens import counted, learned_positions


# Above this share a shortcoming is worth a warning; below it is a remark.
NOTABLE = 0.01
# Texts on which tokens per syllable and eojeol are measured, evenly spread over the rows: enough for three digits.
COST_SAMPLE = 4_000


def check_encoded_rows(examined: ExaminedTokenizer, rows: Sequence[Row], max_length: int | None) -> Iterator[Finding]:
    rows = checked_rows(rows)
    if not rows:
        return
    # Without a template conversations cannot be rendered, as a finding of its own says.
    renders = bool(examined.tokenizer.chat_template) or not is_conversational(rows[0])
    tokenized = tokenize_rows(examined.tokenizer, rows) if renders else []
    texts = [text for row in rows for text in texts_of(row)]
    yield _check_tokens(examined, texts, tokenized, len(rows))
    yield from _check_unknown(examined, texts, tokenized)
    if not tokenized:
        return
    yield from _check_prefix(examined, tokenized)
    yield from _check_length(examined, tokenized, max_length)


def _check_tokens(
    examined: ExaminedTokenizer, texts: Sequence[str], tokenized: Sequence[TokenizedRow], num_rows: int
) -> Finding:
    sample = texts[:: max(len(texts) // COST_SAMPLE, 1)]
    tokens = eojeols = korean_tokens = korean_syllables = 0
    for text, ids in zip(sample, examined.encode(sample), strict=True):
        tokens += len(ids)
        eojeols += len(text.split())
        hangul = len(HANGUL.findall(text))
        if 2 * hangul >= len("".join(text.split())) > 0:
            korean_tokens += len(ids)
            korean_syllables += hangul
    per_syllable = round(korean_tokens / korean_syllables, 3) if korean_syllables else None
    per_eojeol = round(tokens / eojeols, 3) if eojeols else None
    costs = [
        f"{value:.2f} tokens per {unit}"
        for value, unit in ((per_syllable, "syllable"), (per_eojeol, "eojeol"))
        if value
    ]
    lengths = [row.length for row in tokenized]
    told = [f"median {median(lengths):,.0f} tokens, longest {max(lengths):,}"] if lengths else []
    return Finding(
        "rows_tokens",
        "info",
        f"{counted(num_rows, 'row')}: {', '.join(told + costs)}.",
        measured={
            "rows": num_rows,
            "median_length": median(lengths) if lengths else None,
            "longest": max(lengths, default=None),
            "tokens_per_syllable": per_syllable,
            "tokens_per_eojeol": per_eojeol,
        },
    )


def _check_unknown(
    examined: ExaminedTokenizer, texts: Sequence[str], tokenized: Sequence[TokenizedRow]
) -> Iterator[Finding]:
    counts = Counter("".join(texts))
    characters = [char for char in counts if char.isprintable() and not char.isspace()]
    encoded = examined.encode([f"가{char}나" for char in characters])
    unk_id = examined.model_unk_id
    sequences = [ids for row in tokenized for ids in (row.sequences.values() or [row.prompt_ids])]
    unknown_tokens = 0 if unk_id is None else sum(ids.count(unk_id) for ids in sequences)
    if unk_id is not None and unknown_tokens:
        unknown = Counter({char: counts[char] for char, row in zip(characters, encoded, strict=True) if unk_id in row})
        rate = unknown_tokens / sum(map(len, sequences))
        yield Finding(
            "rows_unknown",
            _severity(rate),
            f"{rate:.2%} of the tokens are unknown ({examined.model_unk})"
            + (f", most often {_most_common(unknown)}." if unknown else "."),
            measured={"rate": rate, "tokens": unknown_tokens, "characters": dict(unknown.most_common(20))},
        )
    decoded = ("".join(back.split()) for back in examined.decode(encoded))
    vanished = Counter({char: counts[char] for char, back in zip(characters, decoded, strict=True) if back == "가나"})
    if vanished:
        yield Finding(
            "rows_vanish",
            "warning",
            f"{vanished.total():,} characters of the rows leave no token at all, most often {_most_common(vanished)}.",
            measured={"characters": dict(vanished.most_common(20)), "total": vanished.total()},
        )


def _most_common(counts: Counter[str]) -> str:
    return ", ".join(f"{char} ({count:,})" for char, count in counts.most_common(8))


def _check_prefix(examined: ExaminedTokenizer, tokenized: Sequence[TokenizedRow]) -> Iterator[Finding]:
    broken = [row for row in tokenized if not row.prompt_is_prefix]
    if not broken:
        return
    share = len(broken) / len(tokenized)
    ends = Counter(examined.decode([row.prompt_ids[row.completion_start :]])[0] for row in broken)
    end, count = ends.most_common(1)[0]
    way_out = (
        "The tokenizer ends the prompt itself: use conversational rows."
        if end == examined.tokenizer.eos_token
        else "End prompts on a character that merges with nothing, not on a space."
    )
    yield Finding(
        "rows_prefix",
        _severity(share),
        f"In {len(broken):,} of {len(tokenized):,} rows ({share:.1%}) the prompt's tokens do not begin those of prompt "
        f"and answer, most often at {end!r} ({count:,}): the end of the prompt is left out of training. {way_out}",
        measured={"rows": len(broken), "share": share, "ends": dict(ends.most_common(5))},
    )


def _check_length(
    examined: ExaminedTokenizer, tokenized: Sequence[TokenizedRow], max_length: int | None
) -> Iterator[Finding]:
    longest = max(row.length for row in tokenized)
    max_length = longest if max_length is None else max_length
    losses = losses_by_length(tokenized, max_length)
    worst = max(max(loss.values()) for loss in losses.values())
    if worst:
        told = [
            f"{trainer} {' and '.join(f'{what} {count:,}' for what, count in loss.items() if count)}"
            for trainer, loss in losses.items()
            if any(loss.values())
        ]
        yield Finding(
            "rows_length",
            _severity(worst / len(tokenized)),
            f"max_length {max_length:,} is too short for some of {len(tokenized):,} rows (longest {longest:,} tokens): "
            + "; ".join(told)
            + ". The trainer does not say so, and a row that is cut has no EOS.",
            measured={"max_length": max_length, "longest": longest, "trainers": losses},
        )
    positions = learned_positions(examined)
    if positions and min(longest, max_length) > positions:
        too_long = sum(min(row.length, max_length) > positions for row in tokenized)
        yield Finding(
            "rows_positions",
            "error",
            f"{too_long:,} rows are longer than the {positions:,} learned positions: IndexError. Set max_length to "
            f"{positions:,} or less.",
            measured={"rows": too_long, "positions": positions},
        )


def _severity(share: float) -> Severity:
    return "warning" if share >= NOTABLE else "info"
