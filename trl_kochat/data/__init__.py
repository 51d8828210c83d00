"""Rows from files and the Hub, and what they become as rows of TRL."""

from .format import format_dataset
from .formatters import detect_formatter, formatter, formatter_names, get_formatter
from .load import load_rows
from .rows import RowCounts
from .split import split_by_prompt


__all__ = [
    "RowCounts",
    "detect_formatter",
    "format_dataset",
    "formatter",
    "formatter_names",
    "get_formatter",
    "load_rows",
    "split_by_prompt",
]
