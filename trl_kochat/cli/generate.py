"""Let models and adapters answer the same prompts, side by side.

Without --prompt or --file, the four prompts of the KoChatGPT course are asked. Adapters of one base share it in memory.

  trl-kochat generate skt/kogpt2-base-v2 --adapter runs/sft_kochatgpt runs/ppo_kochatgpt
  trl-kochat generate runs/sft_kochatgpt --sample --temperature 2.0 --top_k 50 --beam 7 --no_repeat_ngram_size 2
  trl-kochat generate runs/sft_kochatgpt --decoding greedy "beam 10 ngram 2" "beam 7 ngram 2 T 2.0 top_k 50" "top_p 0.9"
  trl-kochat generate skt/kogpt2-base-v2 --raw --tokens --stop_strings '\\n' --prompt '바람도 없는 공중에'
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..data.load import load_rows
from ..data.source import sources_of
from ..errors import InputError
from ..text.health import summarize_health
from ..text.shown import printable
from .decoding import WAYS, add_decoding_arguments, decoding_settings, ways_of_decoding
from .rows import add_encoding_argument
from .shared import (
    EMBEDDED,
    Candidate,
    add_loading_arguments,
    ask_each,
    model_path,
    plan_candidates,
    refuse_odd_turns,
    transcript,
    write_plain,
)


if TYPE_CHECKING:
    from ..measure.generate import Generation


# Columns narrower than this (in terminal cells; a syllable takes two) are hard to read: answers then stand in blocks.
MIN_COLUMN = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        nargs="+",
        metavar="MODEL",
        help=f"folder or Hub id of a model, folder of an adapter, or {EMBEDDED} (the embedded model)",
    )
    parser.add_argument(
        "--adapter",
        nargs="+",
        action="extend",
        default=[],
        metavar="A",
        help="folder or Hub id of an adapter on MODEL; it answers beside MODEL itself",
    )
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--prompt", nargs="+", action="extend", metavar="P", help="what to ask")
    asked.add_argument("--file", metavar="F", help="rows with a prompt (JSON, CSV), or a .txt file with one a line")
    add_encoding_argument(parser)
    add_decoding_arguments(parser)
    parser.add_argument("--decoding", nargs="+", metavar="WAY", help=f"several ways side by side, each one of: {WAYS}")
    parser.add_argument("--max_new_tokens", type=int, default=64, metavar="N", help="longest answer (default: 64)")
    parser.add_argument("--stop_strings", nargs="+", metavar="S", help=r"end answers here; '\n' is a line end")
    parser.add_argument("--raw", action="store_true", help="continue the prompts as they are, no chat template")
    parser.add_argument("--tokens", action="store_true", help="show the tokens of each prompt with their ids")
    parser.add_argument("--batch_size", type=int, default=8, metavar="N", help="prompts at a time (default: 8)")
    add_loading_arguments(parser)


def run(args: argparse.Namespace) -> int:
    ways = ways_to_answer(args)
    candidates = plan_candidates(*([model_path(name) for name in names] for names in (args.model, args.adapter)))
    prompts = read_prompts(args)

    console = Console(markup=False, highlight=False, emoji=False)
    answers: dict[str, list[Generation]] = {}
    tables = answer_all(candidates, prompts, answers, ways, args)
    for number, prompt in enumerate(prompts):
        show_prompt(console, prompt)
        if tables:
            show_tokens(console, tables[number])
        show_answers(console, {label: generations[number] for label, generations in answers.items()})
    show_summary(console, answers)
    return 0


def ways_to_answer(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What `generate_answers` is told for each way of decoding, by its words; they are empty where there is but one.

    Raises:
        ValueError: Settings have no effect or do not go together.
    """
    one = decoding_settings(args)
    ways = {"": one}
    if args.decoding:
        if one != {"do_sample": False, "num_beams": 1} or args.greedy:
            raise InputError("--decoding says how to decode, way by way; write what other flags say into its ways.")
        ways = ways_of_decoding(args.decoding)
    if args.stop_strings:
        stops = [stop.replace("\\n", "\n").replace("\\t", "\t") for stop in args.stop_strings]
        ways = {way: settings | {"stop_strings": stops} for way, settings in ways.items()}
    return ways


def read_prompts(args: argparse.Namespace) -> list[Any]:
    """The prompts to ask, as strings or messages.

    Raises:
        ValueError: The file holds none, or a row has no prompt.
    """
    if args.prompt:
        return args.prompt
    if not args.file:
        from ..measure.generate import COURSE_PROMPTS

        return list(COURSE_PROMPTS)
    if Path(args.file).suffix == ".txt":
        try:
            sources = sources_of(Path(args.file), args.file, args.encoding, (".txt",))
        except FileNotFoundError as error:
            raise InputError(f"There is no file {args.file}.") from error
        lines = [line for source in sources for line in source.read().split("\n")]
        prompts: list[Any] = [line.rstrip("\r") for line in lines if line.strip()]
    else:
        prompts = []
        for number, row in enumerate(load_rows(args.file, encoding=args.encoding)):
            if not row.get("prompt"):
                raise InputError(f"Row {number} of {args.file} has no prompt; it has {', '.join(row)}.")
            refuse_odd_turns(row["prompt"], f"Row {number} of {args.file}")
            prompts.append(row["prompt"])
    if not prompts:
        raise InputError(f"{args.file} holds no prompts.")
    return prompts


def answer_all(
    candidates: Sequence[Candidate],
    prompts: Sequence[Any],
    answers: dict[str, "list[Generation]"],
    ways: Mapping[str, Mapping[str, Any]],
    args: argparse.Namespace,
) -> list[list[tuple[str, int]]]:
    """Fill in `answers`, candidate by candidate and way by way.

    Returns:
        The token table of each prompt by the first candidate's tokenizer, when they are asked for.
    """
    from ..measure.generate import generate_answers, token_table

    limits: dict[str, Any] = {name: getattr(args, name) for name in ("max_new_tokens", "batch_size", "raw")}
    tables: list[list[tuple[str, int]]] = []

    def ask(model: Any, tokenizer: Any) -> "list[list[Generation]]":
        if args.tokens and not tables:
            tables.extend(token_table(tokenizer, transcript(prompt)) for prompt in prompts)
        return [generate_answers(model, tokenizer, prompts, **limits, **settings) for settings in ways.values()]

    for candidate, by_way in ask_each(candidates, args, ask).items():
        for way, generations in zip(ways, by_way, strict=True):
            label = f"{candidate.label}: {way}" if way and len(candidates) > 1 else way or candidate.label
            answers[label] = generations
    return tables


# What follows is how it looks. A terminal gets tables, a pipe or a file plain lines.


def ending(generation: "Generation") -> str:
    return f"{'ended' if generation.ended else 'cut'} after {len(generation.ids)} tokens"


def show_prompt(console: Console, prompt: Any) -> None:
    text = printable(transcript(prompt))
    if not console.is_terminal:
        write_plain(console, f"# {text}")
        return

    console.print()
    console.print(Text(text, style="bold cyan"))


def show_tokens(console: Console, table: Sequence[tuple[str, int]]) -> None:
    shown = [(printable(token).replace("\n", "\\n"), str(token_id)) for token, token_id in table]
    if not console.is_terminal:
        write_plain(console, "\n".join(f"{token_id}\t{token}" for token, token_id in shown))
        return

    cells = [Text.assemble(token, "\n", (token_id, "dim")) for token, token_id in shown]
    console.print(Columns(cells, padding=(0, 1)))


def show_answers(console: Console, answers: Mapping[str, "Generation"]) -> None:
    if not console.is_terminal:
        for label, generation in answers.items():
            write_plain(console, f"[{label}] {printable(generation.text).strip()}  ({ending(generation)})")
        write_plain(console, "")
        return

    if console.width // len(answers) < MIN_COLUMN:
        for label, generation in answers.items():
            console.print(Panel(answer_text(generation), title=printable(label), title_align="left"))
        return
    table = Table(expand=True, show_lines=False)
    for label in answers:
        table.add_column(printable(label), ratio=1, overflow="fold")
    table.add_row(*(answer_text(generation) for generation in answers.values()))
    console.print(table)


def answer_text(generation: "Generation") -> Text:
    return Text.assemble(
        printable(generation.text).strip() or "(nothing)",
        "\n",
        (ending(generation), "dim" if generation.ended else "yellow"),
    )


def show_summary(console: Console, answers: Mapping[str, Sequence["Generation"]]) -> None:
    table = Table(title="All prompts", title_justify="left")
    names = ("", "ended", "tokens", "repetition", "hanja", "latin")
    for name in names:
        table.add_column(name, justify="right" if name else "left", overflow="fold", no_wrap=bool(name))
    for label, generations in answers.items():
        health = summarize_health([generation.text for generation in generations])
        ended = sum(generation.ended for generation in generations)
        tokens = sum(len(generation.ids) for generation in generations) / len(generations)
        cells = [printable(label), f"{ended}/{len(generations)}", f"{tokens:.1f}"]
        cells += [f"{value:.2f}" for value in health.values()]
        table.add_row(*cells)
        if not console.is_terminal:
            pairs = ", ".join(f"{name} {cell}" for name, cell in zip(names[1:], cells[1:], strict=True))
            write_plain(console, f"[{cells[0]}] {pairs}")
    if console.is_terminal:
        console.print()
        console.print(table)
