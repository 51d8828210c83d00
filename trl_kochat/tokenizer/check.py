"""`check_tokenizer`: everything that is wrong or remarkable about a tokenizer, measured, never guessed by name."""

from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from .chat import check_template
from .findings import Finding, worst_first
from .pipeline import (
    check_characters,
    check_hangul,
    check_jamo,
    check_newline,
    check_normalization,
    check_pipeline,
    check_text_specials,
)
from .special_tokens import check_model, check_special_tokens
from .subject import Subject


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
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel | PreTrainedConfig | None = None
) -> list[Finding]:
    """What a user should know about a tokenizer before training with it, the worst first, one finding per code.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): It is not changed.
        model ([`~transformers.PreTrainedModel`] or [`~transformers.PreTrainedConfig`], *optional*): Compared with the
            tokenizer. Without it the size of the embedding is read from the config.json beside the tokenizer.
    """
    return findings_of(Subject(tokenizer, model))


def findings_of(subject: Subject) -> list[Finding]:
    return worst_first([finding for check in CHECKS for finding in check(subject)])
