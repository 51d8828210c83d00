"""The tokenizer under examination, with what the checks keep asking about it."""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..encode import encode_texts
from ..errors import InputError
from ..text.shown import shown
from .families import Family, family_of
from .origin import Origin


ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")


class ExaminedTokenizer:
    """A tokenizer, its model or config if there is one, and the files both came from. Nothing here changes them."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        model: PreTrainedModel | PreTrainedConfig | None = None,
        origin: Origin | None = None,
    ):
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            raise InputError(f"{shown(tokenizer)} is not a tokenizer; load_tokenizer(name) loads one.")
        if model is not None and not isinstance(model, PreTrainedConfig) and not hasattr(model, "config"):
            raise InputError(
                f"{shown(model)} is neither a model nor its config; AutoConfig.from_pretrained loads one."
            )
        self.tokenizer = tokenizer
        self.model: Any = model
        self.origin = origin or Origin(tokenizer.name_or_path)

    @cached_property
    def backend(self) -> Tokenizer | None:
        """The `tokenizers` pipeline, `None` for the few classes that are written in Python."""
        return getattr(self.tokenizer, "backend_tokenizer", None)

    @cached_property
    def origin_matches(self) -> bool:
        return self.origin.matches(self.tokenizer)

    @cached_property
    def vocab(self) -> dict[str, int]:
        return self.tokenizer.get_vocab()

    @cached_property
    def added(self) -> dict[str, int]:
        """Tokens that are cut out of a text before the vocabulary sees it, special or not, with their ids."""
        return self.tokenizer.get_added_vocab()

    @cached_property
    def specials(self) -> dict[str, int]:
        """Tokens that are marked special in the vocabulary, with their ids."""
        added = self.tokenizer.added_tokens_decoder
        return {token.content: token_id for token_id, token in added.items() if token.special}

    @cached_property
    def family(self) -> Family | None:
        return family_of(self.vocab, self.tokenizer.vocab_size)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The model's config; without a model, the config.json that lies beside the tokenizer."""
        if self.model is not None:
            return config_of(self.model).get_text_config().to_dict()
        config = self.origin.json("config.json") if self.origin_matches else {}
        text_config = config.get("text_config")
        return text_config if isinstance(text_config, dict) else config

    @cached_property
    def generation_eos_ids(self) -> list[int]:
        """Ids at which the model's own generation stops."""
        generation_config = getattr(self.model, "generation_config", None)
        if generation_config is not None:
            return as_ids(generation_config.eos_token_id)
        stored = self.origin.json("generation_config.json") if self.origin_matches else {}
        return as_ids(stored.get("eos_token_id"))

    @cached_property
    def embedding_rows(self) -> int | None:
        embeddings = self.model.get_input_embeddings() if hasattr(self.model, "get_input_embeddings") else None
        return getattr(embeddings, "num_embeddings", None) or self.config.get("vocab_size")

    @cached_property
    def is_byte_based(self) -> bool:
        """Whether every text has a writing, byte by byte if need be, so that nothing is ever unknown."""
        probe = "뷁\U00013000힣\U00010000"  # rare syllables, a hieroglyph, Linear B
        return self.decode(self.encode([f"가{probe}"]))[0].endswith(probe)

    @cached_property
    def model_unk(self) -> str | None:
        """The token that the vocabulary itself writes for the unknown, whatever the tokenizer calls `unk_token`."""
        if self.backend is None:
            return None
        if hasattr(self.backend.model, "unk_token"):
            return self.backend.model.unk_token
        model = json.loads(self.backend.to_str())["model"]  # Unigram keeps a position
        unk_id = model.get("unk_id")
        return None if unk_id is None else model["vocab"][unk_id][0]

    @property
    def model_unk_id(self) -> int | None:
        return None if self.model_unk is None else self.vocab.get(self.model_unk)

    @cached_property
    def vocab_texts(self) -> list[str]:
        """What the entries of the vocabulary read as, without added tokens and without pieces of a character."""
        ids = [[token_id] for token, token_id in self.vocab.items() if token not in self.added]
        texts = self.backend.decode_batch(ids) if self.backend is not None else self.tokenizer.batch_decode(ids)
        return [text for text in texts if "\ufffd" not in text]

    def token_id(self, role: str) -> int | None:
        """Id of `eos_token` and so on; `None` where the role is empty or its token is not in the vocabulary."""
        token = getattr(self.tokenizer, role)
        return None if token is None else self.vocab.get(token)

    def has_row(self, token_id: int) -> bool:
        return self.embedding_rows is None or token_id < self.embedding_rows

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, nothing added."""
        if not texts:  # which the tokenizer does not take
            return []
        return encode_texts(self.tokenizer, texts, add_special_tokens=False)

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Texts of the ids, special tokens included, nothing cleaned up."""
        if not ids:
            return []
        return self.tokenizer.batch_decode(
            [list(row) for row in ids], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )


def config_of(model: PreTrainedModel | PreTrainedConfig) -> PreTrainedConfig:
    return model if isinstance(model, PreTrainedConfig) else model.config


def as_ids(ids: int | Sequence[int] | None) -> list[int]:
    if isinstance(ids, int):
        return [ids]
    # A file may hold anything in their place.
    return [one for one in ids if isinstance(one, int)] if isinstance(ids, list | tuple) else []


def syllables(text: str) -> Counter[str]:
    """Hangul syllables of a text, in composed form, with their numbers.

    >>> sorted(syllables("가나 가! abc").items())
    [('가', 2), ('나', 1)]
    """
    return Counter(char for char in unicodedata.normalize("NFC", text) if "가" <= char <= "힣")


def surviving_syllables(texts: Iterable[str], decoded: Iterable[str]) -> tuple[int, int, Counter[str]]:
    """How many syllables of `texts` are found again in `decoded`, how many there were, and which were lost."""
    lost: Counter[str] = Counter()
    total = 0
    for text, back in zip(texts, decoded, strict=True):
        before = syllables(text)
        total += before.total()
        lost += before - syllables(back)
    return total - lost.total(), total, lost
