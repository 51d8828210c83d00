"""Measure models and adapters on any rows, side by side, with how sure each number is.

What is measured goes by the rows: the loss of answers, whether the better answer of a pair is the likelier one (by kind of
the worse one, where rows name it), and what greedy answers to the prompts are like. A reward model is asked which answer
of a pair is the better. Every model is compared with the first, on the same rows.

  trl-kochat eval skt/kogpt2-base-v2 --adapter runs/sft_kochatgpt --adapter runs/ppo_kochatgpt rows.jsonl
  trl-kochat eval runs/dpo_orca pairs.jsonl --formatter orca_pairs --rewards speech_level:해요체 --json
  trl-kochat eval runs/reward_kochatgpt sample:orca_dpo_pairs.jsonl
  trl-kochat eval tiny-ko tiny-ko-sft rows.jsonl --judge reward_model runs/reward_kochatgpt --html page.html

A judge of your own is a program, --judge_command "python judge.py": it reads a line {"prompt", "a", "b"} for each pair of
answers and writes a line {"verdict": "a"}, "b" or "tie". It runs twice, the second time with a and b in each other's place.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich import get_console

from ..errors import InputError
from ..text.shown import printable
from .judge import Judge, Verdicts, command_judge, compare, reward_judge
from .rows import add_formatter_arguments, read_rows
from .shared import (
    EMBEDDED,
    Candidate,
    add_loading_arguments,
    ask_each,
    load_scorer,
    model_path,
    plan_candidates,
)


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..measure.generate import Generation
    from ..report import RunRecord

# As many rows as the recipes measure, unless asked otherwise.
MAX_ROWS = 256
# Column of a row that holds a good answer.
_REFERENCE = {"preference": "chosen", "prompt_completion": "completion"}


class Evaluated(NamedTuple):
    """What is known of one model."""

    measured: dict[str, Any]
    answers: "dict[int, Generation]"
    """By the number of the row; none of a row whose prompt leaves no room for one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        nargs="+",
        metavar="MODEL",
        help=f"folder or Hub id of a model or a reward model, folder of an adapter, or {EMBEDDED}",
    )
    parser.add_argument("data", metavar="FILE", help="rows to measure on: a file, a folder or a dataset id")
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="A",
        help="an adapter on MODEL, to measure as well; repeatable",
    )
    add_formatter_arguments(parser)
    parser.add_argument(
        "--max_eval_samples", type=int, default=MAX_ROWS, metavar="N", help=f"rows at the most (default: {MAX_ROWS})"
    )
    parser.add_argument("--max_new_tokens", type=int, default=64, metavar="N", help="longest answer (default: 64)")
    parser.add_argument(
        "--rewards", nargs="+", default=[], metavar="R", help="rewards for the answers, by name (docs/rewards.md)"
    )
    judges = parser.add_mutually_exclusive_group()
    judges.add_argument(
        "--judge", nargs=2, metavar=("reward_model", "FOLDER"), help="which answers a reward model likes better"
    )
    judges.add_argument("--judge_command", metavar="CMD", help="which answers a program likes better, see above")
    parser.add_argument("--json", action="store_true", help="one JSON object, with the answers")
    parser.add_argument("--html", type=Path, metavar="PAGE", help="write a page, with the answers side by side")
    add_loading_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if args.max_eval_samples < 1 or args.max_new_tokens < 1:
        raise InputError("--max_eval_samples and --max_new_tokens must be at least 1.")
    if args.judge and args.judge[0] != "reward_model":
        raise InputError(f"--judge {args.judge[0]} is none; give --judge reward_model FOLDER, or --judge_command.")
    candidates = plan_candidates(*([model_path(name) for name in names] for names in (args.model, args.adapter)))

    kind, rows = rows_to_measure(args)
    evaluated = evaluate_all(candidates, kind, rows, args)
    verdicts = judged(candidates, kind, rows, evaluated, args)
    records = [record_of(candidate.label, kind, evaluated, candidate) for candidate in candidates]
    if args.html:
        write_html(args, kind, rows, records, list(evaluated.values()), verdicts)
    if args.json:
        print(json.dumps(as_json(kind, rows, records, evaluated, verdicts), ensure_ascii=False))
    else:
        show(records, verdicts)
    return 0


def rows_to_measure(args: argparse.Namespace) -> tuple[str, list[dict[str, Any]]]:
    """The rows, as their type and at most so many of them, always the same; answers marked bad are left out.

    Raises:
        ValueError: There are no such rows, or none is left.
    """
    from ..encode import row_type
    from ..measure.held_out import some_rows

    made = read_rows(args.data, args)
    kind, _ = row_type(set(made.column_names))
    if kind == "unpaired_preference":
        good = made.filter(lambda row: row["label"])
        print(f"{len(made) - len(good):,} answers that are marked bad are left out.", file=sys.stderr)
        made, kind = good.remove_columns("label"), "prompt_completion"
    rows = some_rows(made, args.max_eval_samples)
    if not rows:
        raise InputError(f"{args.data} holds no row to measure on.")
    if len(rows) < len(made):
        print(f"{len(rows):,} of {len(made):,} rows, always the same (--max_eval_samples).", file=sys.stderr)
    return kind, rows


def evaluate_all(
    candidates: Sequence[Candidate], kind: str, rows: Sequence[Mapping[str, Any]], args: argparse.Namespace
) -> dict[Candidate, Evaluated]:
    """What is measured of each candidate, in order.

    Raises:
        ValueError: A reward model is given rows that are no pairs, or a model does not load.
    """
    from ..measure.preferences import evaluate_reward
    from ..measure.score import is_reward_model

    scorers = [candidate for candidate in candidates if is_reward_model(candidate.adapter or candidate.base)]
    if scorers and kind != "preference":
        raise InputError(f"{scorers[0].label} is a reward model, which is measured on pairs; the rows are {kind}.")
    writers = [candidate for candidate in candidates if candidate not in scorers]

    def ask(model: Any, tokenizer: "PreTrainedTokenizerBase") -> Evaluated:
        return evaluate(model, tokenizer, kind, rows, args)

    evaluated = ask_each(writers, args, ask)
    for candidate in scorers:
        base = candidate.base if candidate.adapter else None
        scorer = load_scorer(candidate.adapter or candidate.base, args, base=base)
        evaluated[candidate] = Evaluated(evaluate_reward(*scorer, rows), {})
        del scorer
    return {candidate: evaluated[candidate] for candidate in candidates}


def evaluate(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    kind: str,
    rows: Sequence[Mapping[str, Any]],
    args: argparse.Namespace,
) -> Evaluated:
    """The report's measures of a model that writes, and its answers."""
    from ..measure.answers import greedy_answers, means_of, measure_answers
    from ..measure.evaluate import evaluate_sft, own_answer
    from ..measure.preferences import evaluate_preferences
    from ..measure.rewarded import scores_by_reward
    from ..rewards import get_reward

    measured: dict[str, Any] = {}
    if kind == "preference":
        measured |= evaluate_preferences(model, tokenizer, rows)
    elif kind != "prompt_only":
        measured |= evaluate_sft(model, tokenizer, rows)
    reference = _REFERENCE.get(kind)
    if reference:
        measured |= own_answer(model, tokenizer, rows, reference)
    numbers = {id(row): number for number, row in enumerate(rows)}
    asked, given = greedy_answers(
        model, tokenizer, [row for row in rows if "prompt" in row], max_new_tokens=args.max_new_tokens
    )
    if not asked:
        return Evaluated(measured, {})
    measured |= measure_answers(asked, given, reference=reference)
    functions = {name: get_reward(name, tokenizer) for name in args.rewards}
    scores = scores_by_reward(functions, asked, [one.text for one in given], [one.ids for one in given])
    said = {name: [score for score in of_name if score is not None] for name, of_name in scores.items()}
    if silent := [name for name, of_name in said.items() if not of_name]:
        raise InputError(f"The reward {silent[0]} says nothing of these rows.")
    measured |= means_of({f"reward_{name}": of_name for name, of_name in said.items()})
    return Evaluated(measured, {numbers[id(row)]: one for row, one in zip(asked, given, strict=True)})


def judged(
    candidates: Sequence[Candidate],
    kind: str,
    rows: Sequence[Mapping[str, Any]],
    evaluated: Mapping[Candidate, Evaluated],
    args: argparse.Namespace,
) -> list[Verdicts]:
    """How each model's answers fare against the first one's; those of one model alone against the rows' own.

    Raises:
        ValueError: There is nothing to compare with.
    """
    if args.judge:
        judge: Judge = reward_judge(*load_scorer(model_path(args.judge[1]), args))
    elif args.judge_command:
        judge = command_judge(args.judge_command)
    else:
        return []
    sides = {candidate.label: evaluated[candidate].answers for candidate in candidates}
    reference = _REFERENCE.get(kind)
    if len(sides) == 1 and reference:
        sides = {"the rows' answers": references(rows, reference)} | sides
    (first, theirs), *others = sides.items()
    verdicts = []
    for label, ours in others:
        shared = [number for number in ours if number in theirs]
        if shared:
            prompts = [rows[number]["prompt"] for number in shared]
            pairs = ([side[number] for number in shared] for side in (ours, theirs))
            verdicts.append(compare(judge, (label, first), prompts, *pairs))
    if not verdicts:
        raise InputError("A judge compares answers: give two models that write, or rows that have answers.")
    return verdicts


def references(rows: Sequence[Mapping[str, Any]], column: str) -> "dict[int, Generation]":
    from ..measure.generate import Generation

    texts = [row[column] if isinstance(row[column], str) else row[column][-1]["content"] or "" for row in rows]
    return {
        number: Generation(row["prompt"], text, [], True)
        for number, (row, text) in enumerate(zip(rows, texts, strict=True))
        if "prompt" in row
    }


def record_of(label: str, kind: str, evaluated: Mapping[Candidate, Evaluated], candidate: Candidate) -> "RunRecord":
    """A model as a report has it: before is the first model, after is this one; the first has no before."""
    from ..report import RunRecord
    from ..report.intervals import add_measures

    first = next(iter(evaluated))
    record = RunRecord("eval", kind, "", label)
    if candidate != first:
        add_measures(record, "before", evaluated[first].measured)
    add_measures(record, "after", evaluated[candidate].measured)
    return record


def show(records: Sequence["RunRecord"], verdicts: Sequence[Verdicts]) -> None:
    """A table on a terminal, else a line for each measure of each model, with tabs between its cells."""

    from ..report.evaluation import judged_words, lines_of
    from ..report.table import evaluation_table

    console = get_console()
    if console.is_terminal:
        console.print(evaluation_table(records))
    else:
        for cells in lines_of(records):
            print("\t".join(cells))
    for verdict in verdicts:
        print(printable(judged_words(**verdict._asdict()).en))


def as_json(
    kind: str,
    rows: Sequence[Mapping[str, Any]],
    records: Sequence["RunRecord"],
    evaluated: Mapping[Candidate, Evaluated],
    verdicts: Sequence[Verdicts],
) -> dict[str, Any]:
    from ..report.evaluation import measures_as_json

    models = [
        {"label": candidate.label, "model": candidate.base, "adapter": candidate.adapter, **measures_as_json(record)}
        for candidate, record in zip(evaluated, records, strict=True)
    ]
    answers = [
        {
            "prompt": row["prompt"],
            "answers": {c.label: e.answers[number].text for c, e in evaluated.items() if number in e.answers},
        }
        for number, row in enumerate(rows)
        if "prompt" in row
    ]
    return {
        "type": kind,
        "rows": len(rows),
        "models": models,
        "judge": [verdict._asdict() for verdict in verdicts],
        "answers": answers,
    }


def write_html(
    args: argparse.Namespace,
    kind: str,
    rows: Sequence[Mapping[str, Any]],
    records: Sequence["RunRecord"],
    evaluated: Sequence[Evaluated],
    verdicts: Sequence[Verdicts],
) -> None:
    from ..report.evaluation import judged_words, write_evaluation
    from ..report.samples import sample_of

    samples = [[sample_of(answer) for answer in one.answers.values()] for one in evaluated]
    facts: list[Any] = [Path(args.data).name, kind.replace("_", " ")]
    facts += [judged_words(**verdict._asdict()) for verdict in verdicts]
    write_evaluation(args.html, records, samples, facts=facts, n=len(rows))
    print(args.html, file=sys.stderr)
