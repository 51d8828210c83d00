"""Score answers with a reward model and show their order.

MODEL is the folder of a reward adapter (its base is found and its score head loaded) or a whole reward model.
Without --prompt the texts are scored by themselves, as the KoChatGPT course does.

  trl-kochat score runs/reward_kochatgpt --prompt '오늘 미세먼지 어때?' --completion '맑아요.' '똥멍청이입니다.'
  trl-kochat score runs/reward_kochatgpt --file answers.jsonl --json

A row of the file is {"prompt": ..., "completion": ...}, {"prompt": ..., "completions": [...]}, or one of the course's
ranking rows (completion_0, completion_1, ...). Ranks are among the answers to one prompt, in one row or several.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..data.load import load_rows
from ..errors import InputError
from ..text.shown import printable
from .rows import add_encoding_argument
from .shared import add_loading_arguments, load_scorer, model_path, refuse_odd_turns, transcript, write_plain


class Scored(NamedTuple):
    rank: int
    """1 is the best of its prompt; equal scores share a rank."""
    score: float
    prompt: Any
    completion: Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="reward adapter (folder) or whole reward model (folder, Hub id)"
    )
    parser.add_argument("--base", metavar="B", help="base of the adapter, where it is not the one the adapter names")
    parser.add_argument("--prompt", metavar="P", help="what was asked")
    parser.add_argument("--completion", nargs="+", action="extend", metavar="C", help="answers to score")
    parser.add_argument("--file", metavar="F", help="JSON lines or a JSON array with prompt and completion(s)")
    add_encoding_argument(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object per completion, in the order given")
    parser.add_argument("--batch_size", type=int, default=8, metavar="N", help="rows at a time (default: 8)")
    add_loading_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if bool(args.completion) == bool(args.file) or (args.file and args.prompt is not None):
        raise InputError("Give either --completion, with or without --prompt, or --file.")
    if args.file:
        pairs = read_pairs(args.file, args.encoding)
    else:
        pairs = [("" if args.prompt is None else args.prompt, completion) for completion in args.completion]

    from ..measure.score import score_completions

    model, tokenizer = load_scorer(model_path(args.model), args, base=model_path(args.base) if args.base else None)
    prompts, completions = [prompt for prompt, _ in pairs], [completion for _, completion in pairs]
    raw = not args.file and args.prompt is None
    scores = score_completions(model, tokenizer, prompts, completions, batch_size=args.batch_size, raw=raw)
    scored = rank(pairs, scores)
    if args.json:
        for row in scored:
            print(json.dumps(row._asdict(), ensure_ascii=False))
        return 0

    show_scores(Console(markup=False, highlight=False, emoji=False), scored)
    return 0


def read_pairs(path: str, encoding: str = "utf-8") -> list[tuple[Any, Any]]:
    """Prompt and completion of every answer in a file.

    Raises:
        ValueError: A row has no prompt or no completion.
    """
    pairs = []
    for number, row in enumerate(load_rows(path, encoding=encoding)):
        completions = row_completions(row)
        if "prompt" not in row or not completions:
            raise InputError(
                f"Row {number} of {path} has {', '.join(row)}; it needs prompt, and completion, completions or "
                "completion_0, completion_1, ..."
            )
        for turns in (row["prompt"], *completions):
            refuse_odd_turns(turns, f"Row {number} of {path}")
        pairs += [(row["prompt"], completion) for completion in completions]
    return pairs


def row_completions(row: Mapping[str, Any]) -> list[Any]:
    """The answers in a row; one given as a list of messages is one answer.

    >>> row_completions({"prompt": "?", "completion_0": "가", "completion_1": "나", "ranking": [1, 0]})
    ['가', '나']
    """
    for name in ("completions", "completion"):
        given = row.get(name)
        if given is not None:
            several = isinstance(given, list) and not (given and isinstance(given[0], Mapping))
            return given if several else [given]
    numbered: list[Any] = []
    while row.get(f"completion_{len(numbered)}") is not None:
        numbered.append(row[f"completion_{len(numbered)}"])
    return numbered


def rank(pairs: Sequence[tuple[Any, Any]], scores: Sequence[float]) -> list[Scored]:
    """Ranks within each prompt, 1 for the highest score, in the order of `pairs`.

    >>> [row.rank for row in rank([("가", "a"), ("가", "b"), ("가", "c"), ("나", "d")], [0.5, 2.0, 0.5, -1.0])]
    [2, 1, 2, 1]
    """
    by_prompt: dict[str, list[float]] = {}
    for (prompt, _), score in zip(pairs, scores, strict=True):
        by_prompt.setdefault(transcript(prompt), []).append(score)
    return [
        Scored(1 + sum(other > score for other in by_prompt[transcript(prompt)]), score, prompt, completion)
        for (prompt, completion), score in zip(pairs, scores, strict=True)
    ]


def show_scores(console: Console, scored: Sequence[Scored]) -> None:
    """Best first, prompt by prompt: a table on a terminal, plain lines anywhere else."""
    by_prompt: dict[str, list[Scored]] = {}
    for row in scored:
        by_prompt.setdefault(transcript(row.prompt), []).append(row)
    for prompt, rows in by_prompt.items():
        rows.sort(key=lambda row: row.rank)
        title, lines = printable(prompt), [printable(transcript(row.completion)).strip() for row in rows]
        if not console.is_terminal:
            write_plain(console, f"# {title}" if title else "# (no prompt)")
            for row, line in zip(rows, lines, strict=True):
                write_plain(console, f"{row.rank}\t{row.score:+.3f}\t{line}")
            write_plain(console, "")
            continue

        table = Table("rank", "score", "completion", show_lines=True)
        table.columns[0].justify = table.columns[1].justify = "right"
        table.columns[2].overflow = "fold"
        for row, line in zip(rows, lines, strict=True):
            table.add_row(str(row.rank), f"{row.score:+.3f}", Text(line), style="bold" if row.rank == 1 else None)
        console.print()
        if title:
            console.print(Text(title, style="bold cyan"))
        console.print(table)
