"""Examine the tokenizer of a model, alone or with the rows it is going to train on, which are looked through too.

The model is loaded as AutoTokenizer loads it. Every finding is measured; `repaired` marks what load_tokenizer puts
right. Rows are counted with the repaired tokenizer. Nothing is changed, and nothing is downloaded that is here already.

Exit status: 0 when there is no error among the findings, 1 when there is, 2 when nothing could be examined.

  trl-kochat doctor skt/kogpt2-base-v2
  trl-kochat doctor ./my-model --data kochatgpt_1_SFT.jsonl --max_length 512
  trl-kochat doctor ./my-model --against ../serving/.venv/bin/python
"""

import argparse
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..data import RowCounts
from ..errors import InputError
from ..findings import Finding, worst_first
from ..text.shown import printable
from .against import differences
from .rows import add_clean_argument, add_formatter_arguments, read_rows
from .shared import model_path


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


MAX_LENGTH = 1024
_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}
_ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder or repository id")
    parser.add_argument("--data", metavar="FILE|NAME", help="rows to count: a file, a folder or a dataset id")
    add_row_arguments(parser)
    add_clean_argument(parser)
    parser.add_argument(
        "--against",
        metavar="PYTHON",
        help="another environment's interpreter: tell which texts its transformers reads as other ids",
    )
    parser.add_argument("--json", action="store_true", help="print findings as JSON, for other programs")


def add_row_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of every subcommand that reads rows."""
    add_formatter_arguments(parser)
    parser.add_argument("--max_length", type=_length, help=f"tokens a row may have (default: {MAX_LENGTH:,}, as TRL)")
    parser.add_argument(
        "--trust_remote_code", action="store_true", help="run tokenizer code that comes with the model"
    )


def _length(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no length; give a number of tokens, 1 or more")
    return int(text)


def run(args: argparse.Namespace) -> int:
    idle = [
        f"--{name}"
        for name in ("formatter", "columns", "max_length", "clean")
        if getattr(args, name) and not args.data
    ]
    if idle:
        raise InputError(f"{' and '.join(idle)} has no effect without --data.")
    args.model = model_path(args.model)
    counts = RowCounts()
    rows = read_rows(args.data, args, counts) if args.data else None
    with _quiet():  # the table says it all
        loaded, repaired, findings, about_rows = _examine(args, rows)
    if args.data:  # what follows counts the rows made
        about_rows.append(Finding("rows_read", "info", f"{args.data}: {counts}", measured=counts.as_dict()))
    if args.json:
        print(json.dumps(_as_json(args.model, loaded, repaired, findings + about_rows), ensure_ascii=False, indent=2))
    else:
        _show(args.model, loaded, repaired, findings, about_rows)
    return int(any(finding.severity == "error" for finding in findings + about_rows))


def _examine(
    args: argparse.Namespace, rows: Any
) -> tuple["PreTrainedTokenizerBase", "PreTrainedTokenizerBase", list[Finding], list[Finding]]:
    """The tokenizer as AutoTokenizer and as load_tokenizer give it, what was found in it, and what in the rows."""
    from transformers import AutoConfig

    from ..data.health import check_rows, clean_rows
    from ..tokenizer import check_tokenizer
    from ..tokenizer.examined import ExaminedTokenizer
    from ..tokenizer.load import load_as_auto, repair_loaded
    from ..tokenizer.training import training_findings

    loaded = load_as_auto(args.model, trust_remote_code=args.trust_remote_code)
    try:
        config = AutoConfig.from_pretrained(args.model, trust_remote_code=args.trust_remote_code)
    except (OSError, ValueError):  # a folder with a tokenizer only
        config = None
    try:
        repaired, findings = repair_loaded(ExaminedTokenizer(loaded))
    except InputError:  # no end token and none to be found, as one of the findings says
        repaired, findings = loaded, check_tokenizer(loaded)
    if args.clean:
        rows, mended = clean_rows(rows, repaired)
    left = check_tokenizer(repaired, config, rows, max_length=args.max_length or MAX_LENGTH)
    about_tokenizer = [finding for finding in findings if finding.fixed]
    about_tokenizer += [finding for finding in left if not finding.code.startswith("rows_")]
    about_tokenizer += training_findings(repaired)
    if args.against:
        options = {"repaired": repaired, "rows": rows, "trust_remote_code": args.trust_remote_code}
        about_tokenizer.append(differences(args.model, loaded, args.against, **options))
    about_rows = [finding for finding in left if finding.code.startswith("rows_")]
    if rows is not None:
        about_rows += check_rows(rows, repaired, max_length=args.max_length or MAX_LENGTH)
    if args.clean:
        about_rows.append(Finding("rows_mended", "info", str(mended), measured={"kinds": dict(mended.kinds)}))
    return loaded, repaired, worst_first(about_tokenizer), worst_first(about_rows)


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("trl_kochat.tokenizer")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _as_json(
    model: str, loaded: "PreTrainedTokenizerBase", repaired: "PreTrainedTokenizerBase", findings: list[Finding]
) -> dict[str, Any]:
    return {
        "model": model,
        "loaded": _described(loaded),
        "repaired": _described(repaired),
        "findings": [vars(finding) for finding in findings],
    }


def _described(tokenizer: "PreTrainedTokenizerBase") -> dict[str, Any]:
    return {
        "class": type(tokenizer).__name__,
        "entries": len(tokenizer),
        "special_tokens": _special_ids(tokenizer),
    }


def _special_ids(tokenizer: "PreTrainedTokenizerBase") -> dict[str, Any]:
    return {
        role: None
        if getattr(tokenizer, role) is None
        else [getattr(tokenizer, role), getattr(tokenizer, f"{role}_id")]
        for role in _ROLES
    }


def _show(
    model: str,
    loaded: "PreTrainedTokenizerBase",
    repaired: "PreTrainedTokenizerBase",
    findings: list[Finding],
    about_rows: list[Finding],
) -> None:
    console = Console(highlight=False)
    console.print(Text(printable(model), style="bold"), soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    headings = ("loaded by", "class", "entries", *(role.removesuffix("_token") for role in _ROLES))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    shown = {"AutoTokenizer": loaded} | ({} if repaired is loaded else {"load_tokenizer": repaired})
    for name, tokenizer in shown.items():
        specials = (" ".join(map(str, value)) if value else "none" for value in _special_ids(tokenizer).values())
        cells = (name, type(tokenizer).__name__, f"{len(tokenizer):,}", *map(printable, specials))
        table.add_row(*(Text(cell) for cell in cells))
        if not console.is_terminal:  # a file has no width to fit into
            told = ", ".join(f"{heading} {cell}" for heading, cell in list(zip(headings, cells, strict=True))[2:])
            console.print(Text(f"{name:<14} {cells[1]}: {told}"), soft_wrap=True)
    if console.is_terminal:
        console.print(table)
    if findings:
        console.print()
        _show_findings(console, findings)
    if about_rows:
        console.print()
        console.print(Text("rows", style="bold"))
        _show_findings(console, about_rows)
    console.print()
    console.print(_verdict(findings + about_rows), soft_wrap=True)


def _show_findings(console: Console, findings: list[Finding]) -> None:
    if not console.is_terminal:
        for finding in findings:
            state = "repaired" if finding.fixed else ""
            line = f"{finding.severity:<8} {state:<9} {finding.code:<21} {printable(finding.message)}"
            console.print(Text(line), soft_wrap=True)
        return
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        style = _STYLES[finding.severity]
        repaired = Text("repaired" if finding.fixed else "", style="green")
        message = Text(printable(finding.message), style="dim" if finding.fixed else "")
        table.add_row(Text(finding.severity, style=style), repaired, Text(finding.code, style=style), message)
    console.print(table)


def _verdict(findings: list[Finding]) -> Text:
    from ..tokenizer.special_tokens import counted

    open_errors = sum(finding.severity == "error" and not finding.fixed for finding in findings)
    open_warnings = sum(finding.severity == "warning" and not finding.fixed for finding in findings)
    repaired = sum(finding.fixed and finding.severity != "info" for finding in findings)
    if not (open_errors or open_warnings or repaired):
        return Text("Healthy.", style="green")
    to_look_at = ((open_errors, "error"), (open_warnings, "warning"))
    parts = [f"{counted(number, noun)} to look at" for number, noun in to_look_at if number]
    if repaired:
        parts.insert(
            0, f"AutoTokenizer alone is not right here; load_tokenizer repairs {counted(repaired, 'finding')}"
        )
    return Text(f"{'; '.join(parts)}.", style="red" if open_errors else "yellow")
