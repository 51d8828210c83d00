"""`check_tokenizer`: everything that is wrong or remarkable about a tokenizer, measured, never guessed by name."""

from collections.abc import Sequence

from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..encode import Row
from ..errors import InputError
from ..findings import Finding, worst_first
from .chat import check_template
from .examined import ExaminedTokenizer
from .pipeline import (
    check_characters,
    check_hangul,
    check_jamo,
    check_newline,
    check_normalization,
    check_pipeline,
    check_text_specials,
)
from .rows import check_encoded_rows
from .special_tokens import check_model, check_special_tokens


CHECKS = (
    check_pipeline,
    check_hangul,
    check_newline,
    check_jamo,
    check_special_tokens,
    check_text_specials,
    check_characters,
    check_normalization,
    check_template,
    check_model,
)


def check_tokenizer(
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel | PreTrainedConfig | None = None,
    rows: Sequence[Row] | None = None,
    *,
    max_length: int | None = 1024,
) -> list[Finding]:
    """What a user should know about a tokenizer before training with it, the worst first, one finding per code.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): It is not changed.
        model ([`~transformers.PreTrainedModel`] or [`~transformers.PreTrainedConfig`], *optional*): Compared with the
            tokenizer. Without it the size of the embedding is read from the config.json beside the tokenizer.
        rows (list of `dict` or [`datasets.Dataset`], *optional*): Rows of one TRL type, standard or conversational;
            how the tokenizer treats them is counted.
        max_length (`int`, *optional*, defaults to `1024`): Length, in tokens, that the trainer will be given; TRL's
            default. `None` cuts nothing.

    Raises:
        ValueError: `max_length` is below 1, the rows have the columns of no TRL type, differ in kind, or the chat template cannot render them.
    """
    if max_length is not None and max_length < 1:
        raise InputError(f"max_length is {max_length}; it must be 1 or more tokens, or None.")
    examined = ExaminedTokenizer(tokenizer, model)
    found = findings_of(examined)
    return worst_first([*found, *check_encoded_rows(examined, rows, max_length)]) if rows is not None else found


def findings_of(examined: ExaminedTokenizer) -> list[Finding]:
    return worst_first([finding for check in CHECKS for finding in check(examined)])
