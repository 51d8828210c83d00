"""Flags of every command that reads rows, and the rows that they name, as rows of TRL."""

import argparse
from typing import TYPE_CHECKING

from ..data import RowCounts, format_dataset, load_rows
from ..data.columns import parse_columns


if TYPE_CHECKING:
    from datasets import Dataset


def add_formatter_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--formatter",
        "--format",
        metavar="NAME",
        help="formatter for the rows, by name or as FILE.py:FUNCTION; by default their columns decide",
    )
    parser.add_argument(
        "--columns",
        nargs="+",
        metavar="NAME=NEW",
        help="other names for columns, as in 질문=prompt 답변=completion; NAME= leaves one out",
    )
    add_encoding_argument(parser)


def add_encoding_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--encoding",
        default="utf-8",
        metavar="NAME",
        help="encoding of the files: cp949 (EUC-KR), utf-16, ... (default: utf-8)",
    )


def add_clean_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--clean",
        action="store_true",
        help="mend texts where nothing is lost by it (control tokens at the end, HTML entities, NFC, misread UTF-8), and "
        "show three of them before and after",
    )


def read_rows(source: str, args: argparse.Namespace, counts: RowCounts | None = None) -> "Dataset":
    """The rows of TRL that a formatter makes of raw ones: the one that is named, or that their columns tell.

    `counts` is filled in place.

    Raises:
        ValueError: There are no such rows, or no formatter for them.
    """
    raw = load_rows(source, encoding=args.encoding)
    rows = format_dataset(raw, args.formatter, columns=parse_columns(args.columns), counts=counts, check=False)
    return rows  # type: ignore[return-value]  # nothing is streamed
