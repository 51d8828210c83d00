"""Checks of the way from text to ids and back."""

import unicodedata
from collections.abc import Iterator, Sequence

from transformers import PreTrainedTokenizerBase

from ..findings import Finding
from ..text.normalize import UnicodeForm
from .examined import ExaminedTokenizer, surviving_syllables
from .origin import is_rebuilt_class
from .probes import CHARACTERS, JAMO, PIPELINE, SENTENCES, common_syllables
from .special_tokens import MARKUP


# Below this share of everyday syllables the data itself is damaged; KoGPT2's vocabulary keeps 99.97 % of real chat.
ENOUGH_SYLLABLES = 0.99


def check_pipeline(examined: ExaminedTokenizer) -> Iterator[Finding]:
    """Whether ids are those that tokenizer.json, which the model was trained with, would give."""
    if not is_rebuilt_class(examined.tokenizer) or not examined.origin_matches:
        return
    backend = examined.origin.backend
    assert backend is not None  # it matched
    # tokenizer.json may carry padding and truncation of its own.
    backend.no_padding()
    backend.no_truncation()
    theirs = [encoding.ids for encoding in backend.encode_batch(list(PIPELINE), add_special_tokens=False)]
    ours = examined.encode(PIPELINE)
    differing = sum(ids != own_ids for ids, own_ids in zip(ours, theirs, strict=True))
    if differing:
        decoded = examined.decode(examined.encode(SENTENCES))
        kept, total, _ = surviving_syllables(SENTENCES, decoded)
        yield Finding(
            "pipeline_rebuilt",
            "error",
            f"{type(examined.tokenizer).__name__} does not follow tokenizer.json, with whose ids the model was trained: "
            f"{differing} of {len(PIPELINE)} Korean probes get other ids"
            + (f", and {kept / total:.1%} of everyday syllables survive." if kept < total else "."),
            fixable=True,
            measured={"probes": len(PIPELINE), "differing": differing, "syllables_kept": round(kept / total, 4)},
        )


def check_hangul(examined: ExaminedTokenizer) -> Iterator[Finding]:
    kept, total, lost = surviving_syllables(SENTENCES, examined.decode(examined.encode(SENTENCES)))
    if kept < ENOUGH_SYLLABLES * total:
        written = set("".join(examined.vocab_texts))
        in_vocab = sum(syllable in written for syllable in lost)
        cause = (
            "The vocabulary has them, so the pipeline before it is wrong: load with load_tokenizer, from the original "
            "files if this folder was saved after the damage."
            if in_vocab > len(lost) / 2
            else "The vocabulary does not have them: take a model that writes Korean."
        )
        yield Finding(
            "hangul_lost",
            "error",
            f"{total - kept} of {total} everyday Hangul syllables do not come back after encode and decode. {cause}",
            measured={"kept": kept, "total": total, "lost_in_vocabulary": in_vocab},
        )
        return
    common = common_syllables()
    decoded = examined.decode(examined.encode(common))
    missing = [
        char for char, back in zip(common, decoded, strict=True) if char not in unicodedata.normalize("NFC", back)
    ]
    if missing:
        without = examined.decode(examined.encode([f"가{char}나" for char in missing]))
        vanished = [char for char, back in zip(missing, without, strict=True) if "".join(back.split()) == "가나"]
        trace = f" {len(vanished)} of them leave no token at all: the model never sees that they were there."
        yield Finding(
            "hangul_missing",
            "warning" if vanished else "info",
            f"{len(missing)} of the {len(common):,} common syllables have no writing in this vocabulary, among them "
            f"{' '.join(missing[:8])}.{trace if vanished else ''}",
            measured={
                "missing": len(missing),
                "vanished": len(vanished),
                "common": len(common),
                "examples": missing[:20],
            },
        )


def check_newline(examined: ExaminedTokenizer) -> Iterator[Finding]:
    back = examined.decode(examined.encode(["첫째 줄\n둘째 줄"]))[0]
    if "\n" not in back:
        yield Finding(
            "newline_lost",
            "warning",
            f"A line break does not come back ({back!r}): prompts that use lines run together.",
        )


def check_jamo(examined: ExaminedTokenizer) -> Iterator[Finding]:
    decoded = (back.strip() for back in examined.decode(examined.encode(JAMO)))
    rewritten = {
        text: back
        for text, back in zip(JAMO, decoded, strict=True)
        if back != text and unicodedata.normalize("NFKC", text) == unicodedata.normalize("NFKC", back)
    }
    if not rewritten:
        return
    unreachable = sum(any("\u3131" <= char <= "\u318e" for char in text) for text in examined.vocab_texts)
    text, back = next(iter(rewritten.items()))
    points = f"U+{ord(text[0]):04X} becomes U+{ord(back[0]):04X}"
    yield Finding(
        "jamo_rewritten",
        # A vocabulary made from the very same form was trained so.
        "warning" if unreachable else "info",
        f"Jamo come back as other code points ({text}: {points}): compare and search generated text after NFKC."
        + (f" {unreachable} entries of the vocabulary hold the form that is never reached." if unreachable else ""),
        measured={"rewritten": rewritten, "unreachable_entries": unreachable},
    )


def check_characters(examined: ExaminedTokenizer) -> Iterator[Finding]:
    """Visible characters that leave no trace, and those that become unknown."""
    characters = list(dict.fromkeys(CHARACTERS))
    ids = examined.encode([f"가{char}나" for char in characters])
    decoded = ["".join(back.split()) for back in examined.decode(ids)]
    vanished = [char for char, back in zip(characters, decoded, strict=True) if back == "가나"]
    if vanished:
        yield Finding(
            "characters_vanish",
            "warning",
            f"{len(vanished)} of {len(characters)} visible characters leave no token at all: {' '.join(vanished[:12])}. "
            "The model never sees that they were there.",
            measured={"vanished": len(vanished), "probed": len(characters), "examples": vanished[:40]},
        )
    unk, unk_id = examined.model_unk, examined.model_unk_id
    unknown = [char for char, row in zip(characters, ids, strict=True) if unk_id is not None and unk_id in row]
    if unknown:
        yield Finding(
            "characters_unknown",
            "info" if 2 * len(unknown) < len(characters) else "warning",
            f"{len(unknown)} of {len(characters)} visible characters are unknown ({unk}): {' '.join(unknown[:12])}.",
            measured={"unknown": len(unknown), "probed": len(characters), "examples": unknown[:40]},
        )


def check_text_specials(examined: ExaminedTokenizer) -> Iterator[Finding]:
    """Emoji and emoticons that are special tokens, which `skip_special_tokens=True` deletes."""
    texts = [token for token in examined.specials if not MARKUP.fullmatch(token.strip(" ▁")) and not token.isalnum()]
    if texts:
        # Those that are not plain ASCII show best what is meant.
        shown = sorted(texts, key=str.isascii)[:6]
        yield Finding(
            "text_is_special",
            "warning",
            f"{len(texts)} tokens that people write ({' '.join(shown)}) are special: skip_special_tokens=True deletes "
            "them from answers. Decode with skip_special_tokens=False and cut at EOS where they matter.",
            measured={"tokens": len(texts), "examples": texts[:40]},
        )


def check_normalization(examined: ExaminedTokenizer) -> Iterator[Finding]:
    decomposed = [unicodedata.normalize("NFD", text) for text in SENTENCES]
    tokens = sum(map(len, examined.encode(SENTENCES)))
    tokens_nfd = sum(map(len, examined.encode(decomposed)))
    if tokens_nfd > tokens:
        form = _form_of(examined.vocab_texts)
        yield Finding(
            "no_normalization",
            "info",
            f"Decomposed text (NFD, as macOS writes file names) costs {tokens_nfd / tokens:.1f} times the tokens: this "
            f"tokenizer does not normalize. {form} fits this vocabulary: normalize_text(text, {form!r}).",
            measured={"nfd_cost": round(tokens_nfd / tokens, 2), "form": form},
        )


def unicode_form(tokenizer: PreTrainedTokenizerBase) -> UnicodeForm:
    """`"NFC"` or `"NFKC"`, whichever fits the vocabulary of a tokenizer, for `normalize_text`.

    NFKC rewrites text (ㅋ becomes a conjoining jamo, ① becomes 1), so it is named only where the vocabulary shows that
    it was made from such text: no entry that NFKC would change, and some that only NFKC writes, conjoining jamo that
    stand alone. Elsewhere it costs tokens: 24 % with the vocabularies of Qwen 3.6 and Llama 3.
    """
    return _form_of(ExaminedTokenizer(tokenizer).vocab_texts)


def _form_of(texts: Sequence[str]) -> UnicodeForm:
    made_so = any("\u1100" <= char <= "\u11ff" for text in texts for char in text)
    return "NFKC" if made_so and all(unicodedata.is_normalized("NFKC", text) for text in texts) else "NFC"
