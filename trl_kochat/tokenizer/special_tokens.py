"""Checks of EOS, padding, unknown and BOS, and of the model's idea of them, with the token that would be right."""

import re
from collections.abc import Iterator

from ..findings import Finding
from .examined import ROLES, ExaminedTokenizer, as_ids, config_of


# Spellings that end a text in published models. Used only when exactly one of them is a special token.
EOS_SPELLINGS = (
    "</s>",
    "<eos>",
    "[EOS]",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<end_of_turn>",
    "[|endofturn|]",
    "<|endofturn|>",
)
# <tag>, [TAG], {tag}, |tag|, with a word in between: names for the machine, not something that people write.
MARKUP = re.compile(r"<.*\w.*>|\[.*\w.*\]|\{.*\w.*\}|\|.*\w.*\|", re.DOTALL)
# <pad>, [PAD], <|padding|>, <|finetune_right_pad_id|>, but not the pads of images or fill-in-the-middle.
_PAD = re.compile(r"[<\[{|].*pad.*[>\]}|]", re.IGNORECASE)
_OTHER_PAD = re.compile(r"fim|image|vision|video|audio", re.IGNORECASE)


def check_special_tokens(examined: ExaminedTokenizer) -> Iterator[Finding]:
    yield from _check_embedding(examined)
    yield from _check_eos(examined)
    yield from _check_bos(examined)
    yield from _check_unk(examined)
    yield from _check_pad(examined)
    yield from _check_additions(examined)


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def usable(examined: ExaminedTokenizer, token: str | None) -> bool:
    """Whether `token` is a special token of the vocabulary that the embedding has a row for."""
    return token in examined.specials and examined.has_row(examined.specials[token])


def better_token(examined: ExaminedTokenizer, role: str) -> str | None:
    """An existing special token for a role that is empty or wrong, or `None` when no file and no fact names one."""
    candidates = [examined.family.special_tokens.get(role)] if examined.family else []
    by_id = {token_id: token for token, token_id in examined.specials.items()}
    candidates += [by_id.get(token_id) for token_id in as_ids(examined.config.get(f"{role}_id"))]
    if role == "eos_token":
        candidates += [by_id.get(token_id) for token_id in examined.generation_eos_ids]
        spelled = [token for token in EOS_SPELLINGS if usable(examined, token)]
        candidates += spelled if len(spelled) == 1 else []
    if role == "unk_token":
        candidates.append(examined.model_unk)
    if role == "pad_token":
        spelled = [token for token in examined.specials if _PAD.fullmatch(token) and not _OTHER_PAD.search(token)]
        candidates += spelled if len(spelled) == 1 else []
        # Where every text can be written byte by byte, nothing ever becomes unknown, and that token is free.
        if examined.is_byte_based:
            candidates += [examined.tokenizer.unk_token, examined.model_unk, "<unk>"]
    # Padding and unknown must not look like an end, nor like a beginning.
    taken = (
        {examined.tokenizer.eos_token, examined.tokenizer.bos_token} if role in ("pad_token", "unk_token") else set()
    )
    return next((token for token in candidates if token not in taken and usable(examined, token)), None)


def _check_embedding(examined: ExaminedTokenizer) -> Iterator[Finding]:
    rows = examined.embedding_rows
    if rows is None:
        return
    outside = {token: token_id for token, token_id in examined.vocab.items() if token_id >= rows}
    if not outside:
        return
    named = [f"{role} {token}" for role in ROLES if (token := getattr(examined.tokenizer, role)) in outside]
    token, token_id = min(outside.items(), key=lambda item: item[1])
    yield Finding(
        "outside_embedding",
        "error",
        f"{counted(len(outside), 'token')} without a row in the embedding of {rows:,} rows"
        + (f", among them {', '.join(named)}" if named else f", such as {token}")
        + f" (id {token_id:,}): IndexError in training. Use existing tokens, or resize the embedding yourself.",
        # Loading again leaves them out, unless somebody added them on purpose or they are in tokenizer.json.
        fixable=examined.origin_matches and all(is_role_only(examined, token) for token in outside),
        measured={"tokens": len(outside), "embedding_rows": rows, "named": named},
    )


def is_role_only(examined: ExaminedTokenizer, token: str) -> bool:
    """Whether a token is there only because a role was given it, by the class or by the caller, at loading."""
    backend = examined.origin.backend
    in_file = backend is not None and backend.token_to_id(token) is not None
    return not in_file and token in examined.tokenizer.special_tokens_map.values()


def _check_eos(examined: ExaminedTokenizer) -> Iterator[Finding]:
    tokenizer = examined.tokenizer
    better = better_token(examined, "eos_token")
    if tokenizer.eos_token is None or examined.token_id("eos_token") is None:
        yield Finding(
            "no_eos",
            "error",
            (
                "There is no eos_token"
                if tokenizer.eos_token is None
                else f"eos_token {tokenizer.eos_token!r} is not in the vocabulary"
            )
            + ": no answer can be ended. "
            + (f"{better} is there for it." if better else f"Set it to one of {_some_specials(examined)}."),
            fixable=better is not None,
        )
    elif (ids := examined.encode([tokenizer.eos_token])[0]) != [tokenizer.eos_token_id]:
        is_markup = MARKUP.fullmatch(tokenizer.eos_token) is not None
        yield Finding(
            "eos_not_atomic",
            "error",
            f"{tokenizer.eos_token!r} in a text becomes {counted(len(ids), 'token')} {ids}, not its id "
            f"{tokenizer.eos_token_id}: training never shows the end."
            # Cutting a word or a line break out of every text would change how all text is read.
            + ("" if is_markup else f" People write it, so take another: {_some_specials(examined)}."),
            fixable=is_markup,
        )


def _some_specials(examined: ExaminedTokenizer) -> str:
    return ", ".join(list(examined.specials)[:8]) or "its tokens (none is marked special)"


def _check_bos(examined: ExaminedTokenizer) -> Iterator[Finding]:
    named = examined.family.special_tokens.get("bos_token") if examined.family else None
    if examined.tokenizer.bos_token is None and named is not None:
        assert examined.family is not None
        yield Finding(
            "no_bos",
            "info",
            f"bos_token is not set; {examined.family.name} was trained with {named} ({examined.family.source}).",
            fixable=True,
        )


def _check_unk(examined: ExaminedTokenizer) -> Iterator[Finding]:
    tokenizer, better = examined.tokenizer, better_token(examined, "unk_token")
    if tokenizer.unk_token is not None and tokenizer.unk_token == tokenizer.eos_token:
        writes_eos = examined.model_unk == tokenizer.eos_token and not examined.is_byte_based
        yield Finding(
            "unk_is_eos",
            "error" if writes_eos else "warning" if better else "info",
            f"unk_token is the end token {tokenizer.eos_token}: "
            + ("every unknown character ends the text" if writes_eos else "what is unknown looks like an end")
            + (f". The vocabulary has {better}." if better else "."),
            fixable=better is not None,
        )
    elif tokenizer.unk_token is None and better is not None:
        yield Finding(
            "no_unk",
            "info",
            f"unk_token is not set, and the vocabulary writes {better} for the unknown: nothing can count it.",
            fixable=True,
        )


def _check_pad(examined: ExaminedTokenizer) -> Iterator[Finding]:
    tokenizer, better = examined.tokenizer, better_token(examined, "pad_token")
    way_out = (
        f"{better} is there for it."
        if better
        else "No existing token is fit for it: for a reward model add one and resize the embedding."
    )
    effect = (
        "a reward model pools one token early and cannot see whether the answer ended, and masks made by "
        "`ids != pad` hide the end"
    )
    if examined.token_id("pad_token") is None:
        yield Finding(
            "no_pad",
            "warning",
            f"No pad token; trainers then take EOS, and {effect}. {way_out}",
            fixable=better is not None,
        )
    elif tokenizer.pad_token == tokenizer.eos_token:
        yield Finding(
            "pad_is_eos",
            "warning",
            f"pad_token is the end token {tokenizer.eos_token}: {effect}. {way_out}",
            fixable=better is not None,
        )


def _check_additions(examined: ExaminedTokenizer) -> Iterator[Finding]:
    tokenizer = examined.tokenizer
    plain, ids = examined.encode(["가"])[0], tokenizer("가")["input_ids"]
    if ids[len(ids) - 1 :] == [tokenizer.eos_token_id] != plain[len(plain) - 1 :]:
        yield Finding(
            "adds_eos",
            "warning",
            "The tokenizer ends every text with EOS, so a prompt that is tokenized as text ends before the answer: "
            "use conversational rows, or add_special_tokens=False.",
        )
    if "token_type_ids" in tokenizer.model_input_names and not examined.config.get("type_vocab_size"):
        yield Finding(
            "token_type_ids",
            "warning",
            "The tokenizer returns token_type_ids: generate() of Llama, GPT-NeoX and EXAONE raises, and GPT-2 "
            "silently adds the embedding of token 0 to every position.",
            fixable=True,
        )


def check_model(examined: ExaminedTokenizer) -> Iterator[Finding]:
    """What the model's config says against the tokenizer, and positions that padding moves."""
    if examined.model is None:
        return
    differing = disagreements(examined)
    if differing:
        effect = {
            "eos_token_id": "generation does not stop at the tokenizer's EOS",
            "pad_token_id": "a reward model pools at the wrong token",
        }
        wrong = [effect[key] for key, value in differing.items() if key in effect and value is not None]
        yield Finding(
            "config_disagrees",
            "warning" if wrong else "info",
            "The model's config has "
            + ", ".join(f"{key} {value}, the tokenizer {_id_of(examined, key)}" for key, value in differing.items())
            + (f": {' and '.join(wrong)}." if wrong else ".")
            + " fix_tokenizer(tokenizer, model) brings it in line.",
            fixable=True,
            measured={"config": differing, "tokenizer": {key: _id_of(examined, key) for key in differing}},
        )
    positions = learned_positions(examined)
    if positions:
        yield Finding(
            "learned_positions",
            "info",
            f"Positions are learned, {positions:,} of them: rows padded on the left need position_ids (log-"
            "probabilities move by up to 0.6 without), and nothing longer fits.",
            measured={"positions": positions},
        )


def _id_of(examined: ExaminedTokenizer, key: str) -> int | None:
    return examined.token_id(key.removesuffix("_id"))


def disagreements(examined: ExaminedTokenizer) -> dict[str, int | list[int] | None]:
    """The model config's ids that are not the tokenizer's, by key. A list of ends agrees when EOS is in it."""
    assert examined.model is not None
    differing: dict[str, int | list[int] | None] = {}
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        token_id = _id_of(examined, key)
        for config in configs_of(examined):
            value = getattr(config, key, None)
            if token_id is not None and token_id not in as_ids(value):
                differing.setdefault(key, value)
    return differing


def configs_of(examined: ExaminedTokenizer) -> list:
    """The objects of a model that hold special ids: its config, that of its text part, its generation_config."""
    assert examined.model is not None
    config = config_of(examined.model)
    text_config = config.get_text_config()
    generation_config = getattr(examined.model, "generation_config", None)
    return [config, *([text_config] if text_config is not config else []), *filter(None, [generation_config])]


def learned_positions(examined: ExaminedTokenizer) -> int | None:
    """Number of learned absolute positions, or `None` for rotary, ALiBi and the like."""
    length = examined.config.get("n_positions") or examined.config.get("max_position_embeddings")
    if not length:
        return None
    if hasattr(examined.model, "named_modules"):
        token_embeddings = examined.model.get_input_embeddings()
        tables = (module for _, module in examined.model.named_modules() if hasattr(module, "num_embeddings"))
        # OPT has two rows more than positions.
        learned = any(table is not token_embeddings and 0 <= table.num_embeddings - length <= 2 for table in tables)
        return length if learned else None
    relative = ("rope_parameters", "rope_theta", "rope_scaling", "rotary_dim", "rotary_pct", "alibi")
    return None if any(examined.config.get(key) for key in relative) else length
