"""Tokenizers loaded right, checked and repaired, with the chat templates of this package."""

from ..encode import TokenizedRow, tokenize_dataset, tokenize_rows
from ..findings import Finding
from .check import check_tokenizer
from .fix import fix_tokenizer
from .load import load_tokenizer, load_tokenizer_with_findings
from .pipeline import unicode_form
from .save import save_hand_over, save_portable
from .templates import read_template, set_chat_template, template_names


__all__ = [
    "Finding",
    "TokenizedRow",
    "check_tokenizer",
    "fix_tokenizer",
    "load_tokenizer",
    "load_tokenizer_with_findings",
    "read_template",
    "save_hand_over",
    "save_portable",
    "set_chat_template",
    "template_names",
    "tokenize_dataset",
    "tokenize_rows",
    "unicode_form",
]
