"""Show rows as a trainer will see them: which tokens are trained on, where prompts end, what a length cuts off.

Loss tokens are green, each in another shade than its neighbours; what max_length cuts off is red. Without a terminal
loss tokens stand between bars, and a tilde opens what is cut off. Nothing is downloaded that is here already.

  trl-kochat preview kochatgpt_2_RM.jsonl --model skt/kogpt2-base-v2 -n 1
  trl-kochat preview my_rows.json --model ./my-model --formatter orca_pairs --max_length 1536
"""

import argparse
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from ..errors import InputError
from ..text.shown import printable
from .doctor import MAX_LENGTH, add_row_arguments
from .rows import read_rows
from .shared import model_path


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..tokenizer import TokenizedRow

_TRAINERS = {
    "preference": "DPOTrainer, RewardTrainer",
    "unpaired_preference": "KTOTrainer",
    "prompt_completion": "SFTTrainer",
    "language_modeling": "SFTTrainer",
    "prompt_only": "PPOTrainer, GRPOTrainer",
}
# Tokens before a token that decide how it reads, such as the space a Metaspace decoder puts before it.
_CONTEXT = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="FILE|NAME", help="rows to show: a file, a folder or a dataset id")
    parser.add_argument("--model", required=True, metavar="M", help="folder or repository id of the tokenizer's model")
    parser.add_argument("-n", type=int, default=3, metavar="N", help="number of rows (default: 3)")
    parser.add_argument("--chat_template", default="auto", help="'auto' (default), 'training' or one of ours")
    add_row_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from ..tokenizer import load_tokenizer, tokenize_rows

    if args.n < 1:
        raise InputError(f"-n is {args.n}; give the number of rows to show, 1 or more.")
    rows = list(islice(read_rows(args.data, args), args.n))
    tokenizer = load_tokenizer(
        model_path(args.model), chat_template=args.chat_template, trust_remote_code=args.trust_remote_code
    )
    console = Console(highlight=False)
    for number, (raw, row) in enumerate(zip(rows, tokenize_rows(tokenizer, rows), strict=True), start=1):
        label = f"  label {raw['label']}" if row.type == "unpaired_preference" else ""
        _show_row(console, tokenizer, row, f"row {number}{label}", args.max_length or MAX_LENGTH)
    return 0


def _show_row(
    console: Console, tokenizer: "PreTrainedTokenizerBase", row: "TokenizedRow", name: str, max_length: int
) -> None:
    title = f"{name}  {row.type}  for {_TRAINERS[row.type]}"
    console.print(Rule(Text(title, style="bold"), align="left") if console.is_terminal else Text(f"== {title}"))
    start = row.completion_start
    if row.type != "language_modeling":
        console.print(_heading("prompt", f"{len(row.prompt_ids):,} tokens, no loss"), soft_wrap=True)
        console.print(_tokens(console, tokenizer, row.prompt_ids[:start], [], "", max_length), soft_wrap=True)
    if not row.prompt_is_prefix:
        end = tokenizer.decode(row.prompt_ids[start:])
        note = f"The end of the prompt, {printable(repr(end))}, merges with what follows and is not trained as it is asked."
        console.print(Text(f"! {note}", style="yellow"), soft_wrap=True)
    for column, ids in row.sequences.items():
        console.print(_heading(column, _count(row, ids, max_length)), soft_wrap=True)
        console.print(_tokens(console, tokenizer, ids[start:], ids[:start], "loss", max_length), soft_wrap=True)
    for note in _lost(row, max_length):
        console.print(Text(f"! {note}", style="yellow"), soft_wrap=True)
    console.print()


def _heading(name: str, rest: str) -> Text:
    return Text.assemble((name, "bold"), "  ", (rest, "dim"))


def _count(row: "TokenizedRow", ids: Sequence[int], max_length: int) -> str:
    loss = max(min(len(ids), max_length) - row.completion_start, 0)
    cut = len(ids) - max_length
    return f"{loss:,} tokens with loss, {len(ids):,} with the prompt" + (
        f"; max_length {max_length:,} is {cut:,} too short" if cut > 0 else ""
    )


def _lost(row: "TokenizedRow", max_length: int) -> list[str]:
    from ..encode import losses_by_length

    verbs = {"drops": "drops this row", "cuts": "cuts this row: the answer has no end"}
    return [
        f"{trainer} {verbs.get(what, 'finds no room for an answer')}."
        for trainer, losses in losses_by_length([row], max_length).items()
        for what, count in losses.items()
        if count
    ]


def _tokens(
    console: Console,
    tokenizer: "PreTrainedTokenizerBase",
    ids: Sequence[int],
    before: Sequence[int],
    kind: str,
    max_length: int,
) -> Text:
    """The text of `ids`, which follow `before`, token by token."""
    text = Text()
    position = len(before)
    bar = "" if console.is_terminal or not kind else "|"
    opened = False
    for index, (piece, size) in enumerate(pieces(tokenizer, ids, before)):
        cut = position + size > max_length
        shades = ("green", "bold bright_green") if kind else ("dim", "dim")
        style = "red strike" if cut else shades[index % 2]
        # Where tokens stand without bars, one tilde opens all that is cut off.
        mark = "~" if cut and not console.is_terminal and (bar or not opened) else bar
        opened = opened or cut
        text.append(mark + printable(piece).replace("\n", "↵\n"), style=style)
        position += size
    text.append(bar)
    return text


def pieces(
    tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], before: Sequence[int] = ()
) -> list[tuple[str, int]]:
    """The text of each token and the number of tokens it took: a character written byte by byte is one piece."""
    context = _last_whole(tokenizer, before)
    found: list[tuple[str, int]] = []
    piece: list[int] = []
    for position, token_id in enumerate(ids, start=1):
        piece.append(token_id)
        text = str(tokenizer.decode(context + piece)).removeprefix(str(tokenizer.decode(context)))
        # Four bytes make any character.
        if text.endswith("\ufffd") and len(piece) < 4 and position < len(ids):
            continue
        found.append((text, len(piece)))
        context = _last_whole(tokenizer, context + piece)
        piece = []
    return found


def _last_whole(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> list[int]:
    """Some of the last ids, cut where a character begins: bytes without their first spoil those that follow."""
    start = max(0, len(ids) - _CONTEXT)
    while (
        start > 0 and str(tokenizer.decode(list(ids[start:]))).startswith("\ufffd") and len(ids) - start < _CONTEXT + 4
    ):
        start -= 1
    return list(ids[start:])
