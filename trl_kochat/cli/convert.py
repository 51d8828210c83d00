"""Write rows as TRL takes them to disk, for TRL's own command line and for other tools.

OUT is a folder, which gets train.jsonl (that is what TRL's --dataset_name reads, or load_dataset("OUT")), or one file
that ends in .jsonl or .parquet; FOLDER/train.parquet gives TRL parquet. Nothing that exists is written over. What
was read, made, dropped (why) and mended is printed for every input.

  trl-kochat convert kochatgpt_2_RM.jsonl pairs
  trl reward --model_name_or_path MODEL --dataset_name pairs

  trl-kochat convert Intel/orca_dpo_pairs orca --eval_fraction 0.05
  trl dpo --model_name_or_path MODEL --dataset_name orca --eval_strategy steps
"""

import argparse
import json
import logging
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..data import RowCounts, detect_formatter, format_dataset, get_formatter, load_rows, split_by_prompt
from ..data.columns import first_row, parse_columns
from ..data.load import SUFFIXES
from ..errors import InputError
from ..findings import Finding
from ..text.shown import printable
from .rows import add_clean_argument, add_formatter_arguments


if TYPE_CHECKING:
    from datasets import Dataset


FORMATS = (".jsonl", ".parquet")
# By TRL's dataset type: which of its commands trains on such rows.
COMMANDS = {
    "prompt_completion": "sft",
    "language_modeling": "sft",
    "preference": "dpo",
    "unpaired_preference": "kto",
    "prompt_only": "grpo",
}
# Besides the control characters that JSON escapes anyway.
_LINE_ENDS = re.compile("[\x85\u2028\u2029]")


class Converted(NamedTuple):
    source: str
    type: str
    """TRL's name for rows of this kind."""
    rows: "Dataset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", nargs="+", metavar="IN", help="raw rows: file, folder, URL or dataset id; of one kind if several"
    )
    parser.add_argument("output", metavar="OUT", help="folder for TRL, or a file that ends in .jsonl or .parquet")
    add_formatter_arguments(parser)
    add_clean_argument(parser)
    parser.add_argument(
        "--type",
        choices=("preference", "unpaired_preference"),
        help="make pairs of answers marked good or bad, or mark the answers of pairs",
    )
    parser.add_argument(
        "--speech_pairs",
        metavar="LEVEL",
        help="of prompts with answers make pairs: the answer in 합쇼체, 해요체 or 해체, and the same in another level; "
        "needs the extra 'korean'",
    )
    parser.add_argument("--split", default="train", help="split to read of a dataset on the Hub (default: train)")
    parser.add_argument(
        "--eval_fraction",
        type=float,
        metavar="F",
        help="hold this share of the prompts out, in a test file beside train; no prompt is on both sides",
    )
    parser.add_argument("--seed", type=int, default=42, help="another seed holds out other prompts (default: 42)")


def run(args: argparse.Namespace) -> int:
    from ..data.health import check_leaks

    target = target_file(args.output)
    if args.eval_fraction is not None and target.stem != "train":
        raise InputError(f"--eval_fraction writes train and test: OUT must be a folder, not the file {args.output}.")
    columns = parse_columns(args.columns)
    parts = [convert(source, args, columns) for source in args.source]
    if args.speech_pairs:
        parts = [in_two_levels(part, args.speech_pairs) for part in parts]
    splits = {target: joined(parts)}
    if args.eval_fraction is not None:
        train, held_out = split_by_prompt(splits[target], args.eval_fraction, seed=args.seed)
        splits = {target: train, target.with_name(f"test{target.suffix}"): held_out}
        show_findings(check_leaks(train, held_out))
    target.parent.mkdir(parents=True, exist_ok=True)
    for path, rows in splits.items():
        write(rows, path)
        print(f"{path}: {len(rows):,} {parts[0].type} rows ({', '.join(rows.column_names)})")
    print(how_to_read(target, parts[0].type, set(splits)))
    return 0


def target_file(output: str) -> Path:
    """The file for the training rows of OUT.

    Raises:
        ValueError: The name ends as another kind of data file does, or something is there already.
    """
    path = Path(output)
    if path.suffix in FORMATS:
        if path.exists():
            raise InputError(f"{output} exists; give another name, or remove it.")
        return path
    if path.suffix.lower() in SUFFIXES:
        raise InputError(f"OUT ends in {path.suffix}; give a folder, or a file that ends in {' or '.join(FORMATS)}.")
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        # All files of a folder are read together.
        raise InputError(f"{output} exists and is not an empty folder; give another name, or remove it.")
    return path / "train.jsonl"


def convert(source: str, args: argparse.Namespace, columns: Mapping[str, str]) -> Converted:
    """The TRL rows of one source, mended if `args.clean`; what became of its rows and what is wrong with them is printed.

    Raises:
        ValueError: No formatter has that name or knows the columns, or a row is not what it expects.
    """
    from ..data.health import check_rows, clean_rows
    from ..encode import row_type

    formatter = get_formatter(args.formatter) if args.formatter is not None else None  # before a download
    raw_rows = load_rows(source, split=args.split, encoding=args.encoding)
    counts = RowCounts()
    logger = logging.getLogger("trl_kochat.data.format")
    disabled, logger.disabled = logger.disabled, True  # the counts are printed here
    try:
        formatter = formatter or get_formatter(detect_formatter(first_row(raw_rows, columns)))
        rows = format_dataset(raw_rows, formatter, columns=columns, counts=counts, check=False)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    finally:
        logger.disabled = disabled
    print(f"{source} as {formatter.name}: {counts}")
    if args.clean:
        rows, mended = clean_rows(rows)
        print(printable(str(mended)))
    show_findings(check_rows(rows))
    kind = formatter.type or row_type(set(rows.column_names))[0]
    return of_type(Converted(source, kind, rows), args.type)  # type: ignore[arg-type]


def show_findings(findings: Iterable[Finding]) -> None:
    for finding in findings:
        if finding.severity != "info":
            print(printable(str(finding)))


def of_type(part: Converted, asked: str | None) -> Converted:
    """The rows as pairs, or as answers marked good or bad, where they are the other.

    Raises:
        ValueError: They are neither.
    """
    from ..data.pairs import paired, unpaired

    if asked in (None, part.type):
        return part
    if part.type == "preference":
        return part._replace(type=asked, rows=unpaired(part.rows))
    if part.type != "unpaired_preference":
        raise InputError(f"{part.source} gives {part.type} rows; of those --type {asked} makes nothing.")
    rows, dropped = paired(part.rows)
    told = ", ".join(f"{reason} {count:,}" for reason, count in dropped.items()) or "nothing"
    print(f"{part.source}: {len(rows):,} pairs, left out: {told}")
    return part._replace(type=asked, rows=rows)


def in_two_levels(part: Converted, level: str) -> Converted:
    """Pairs of each answer in the level and in another one; what is left out is printed.

    Raises:
        ValueError: They are no prompts with answers, or no answer can be rewritten.
    """
    from ..data.pairs import speech_pairs

    if part.type != "prompt_completion":
        raise InputError(f"{part.source} gives {part.type} rows; --speech_pairs takes prompts with answers.")
    rows, left_out = speech_pairs(part.rows, level)
    print(f"{part.source}: {len(rows):,} pairs in two speech levels, left out as not certain: {left_out:,}")
    return part._replace(type="preference", rows=rows)


def joined(parts: list[Converted]) -> "Dataset":
    """The rows of all sources, one after the other.

    Raises:
        ValueError: They are not of one kind.
    """
    from datasets import concatenate_datasets

    first, *others = parts
    for other in others:
        if (other.type, set(other.rows.column_names)) != (first.type, set(first.rows.column_names)):
            raise InputError(
                f"{first.source} gives {first.type} rows ({', '.join(first.rows.column_names)}), {other.source} "
                f"{other.type} rows ({', '.join(other.rows.column_names)}); convert them one by one."
            )
    return first.rows if not others else concatenate_datasets([part.rows for part in parts])


def write(rows: "Dataset", path: Path) -> None:
    if path.suffix == ".parquet":
        import datasets

        datasets.disable_progress_bars()
        rows.to_parquet(path)
        return
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False)
            # Not every reader takes a newline alone for the end of a line.
            stream.write(_LINE_ENDS.sub(lambda end: f"\\u{ord(end[0]):04x}", line) + "\n")


def how_to_read(target: Path, row_type: str, written: set[Path]) -> str:
    if target.stem == "train" and set(target.parent.iterdir()) == written:
        return f"trl {COMMANDS[row_type]} --model_name_or_path MODEL --dataset_name {shlex.quote(str(target.parent))}"
    builder = "parquet" if target.suffix == ".parquet" else "json"
    return f'load_dataset("{builder}", data_files={str(target)!r}, split="train")'
