"""The rows of a run: read, as ids, counted, shown."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedTokenizerBase
from trl import RewardConfig, SFTConfig

from ..data import RowCounts, detect_formatter, format_dataset, get_formatter
from ..data.columns import first_row, parse_columns
from ..data.formatters.registry import Formatter, formatter_of
from ..data.load import load_rows
from ..encode import count_cut, count_rows, render_row, row_type, tokenize_dataset
from ..errors import InputError
from ..processes import say
from ..text.shown import cut, listed, printable
from .arguments import RecipeArguments


AnyFormatter = str | Callable[..., list[dict[str, Any]]]


# Settings of a trainer's config by which it writes other ids, or none.
CHANGES_IDS = frozenset(
    {
        "assistant_only_loss",
        "chat_template_path",
        "completion_only_loss",
        "dataset_kwargs",
        "eos_token",
        "pad_token",
    }
)


# Rows of a recipe's own type, and what else its trainer takes in their place.
ALSO_TAKES = {"prompt_completion": {"language_modeling"}, "unpaired_preference": {"preference"}}
# Who trains on rows of a type.
TRAINED_BY = {
    "prompt_completion": "trl-kochat sft",
    "language_modeling": "trl-kochat sft",
    "preference": "trl-kochat dpo or reward",
    "unpaired_preference": "trl-kochat kto (trl-kochat convert --type preference makes pairs)",
    "prompt_only": "trl-kochat ppo or grpo",
}


def formatted_rows(arguments: RecipeArguments, own: AnyFormatter, counts: RowCounts) -> Dataset:
    """The rows of every `--dataset_name`, each by the formatter that [`choose_formatter`] finds for it, in one dataset.

    Args:
        arguments ([`RecipeArguments`]): What rows, and what is said of them.
        own (`str` or `Callable`): The recipe's own formatter.
        counts ([`RowCounts`]): Filled in place, for all of them.

    Raises:
        InputError: Rows cannot be read or formatted, or are of a type that the recipe does not train on.
    """
    columns = parse_columns(arguments.columns)
    parts = []
    for name in arguments.dataset_name:
        raw = load_rows(name, split=arguments.dataset_train_split, encoding=arguments.encoding)
        its_counts = RowCounts()
        try:
            formatter = choose_formatter(arguments.formatter, own, first_row(raw, columns))
            rows: Any = format_dataset(raw, formatter, columns=columns, counts=its_counts, check=False)
            kind = formatter.type or row_type(set(rows.column_names))[0]
            refuse_other_type(kind, formatter_of(own), formatter)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        counts.update(its_counts)
        parts.append((name, kind, rows))
    return _joined(parts)


def _joined(parts: Sequence[tuple[str, str, Dataset]]) -> Dataset:
    told = listed(f"{name}: {kind}, {listed(rows.column_names)}" for name, kind, rows in parts)
    if len({kind for _, kind, _ in parts}) > 1:
        raise InputError(f"The files make rows of different types ({told}); train on one after the other.")
    try:
        return concatenate_datasets([rows for _, _, rows in parts])
    except ValueError as error:  # texts in one, messages in the other
        raise InputError(f"The rows of these files do not fit one table ({told}): {cut(str(error), 300)}") from error


def choose_formatter(asked: str | None, own: AnyFormatter, row: Mapping[str, Any]) -> Formatter:
    """What `--formatter` says; else what fits a row's columns, where it makes what the recipe trains on; else its own.

    A function that is no registered formatter is a recipe's word on what its rows look like, and is not passed over.

    Raises:
        InputError: There is no such formatter, none fits, or the rows it makes are of another type.
    """
    its_own = formatter_of(own)
    if asked is not None:
        found = get_formatter(asked)
    elif not its_own.columns:
        return its_own
    else:
        fits = any(columns <= row.keys() for columns in its_own.columns)
        try:
            found = get_formatter(detect_formatter(row))
        except InputError:
            if fits:
                return its_own
            raise
        if fits and found.type not in _taken(its_own):
            return its_own
    if found.type is not None:  # told before a million rows are formatted
        refuse_other_type(found.type, its_own, found)
    return found


def _taken(own: Formatter) -> set[str | None]:
    return {own.type} | ALSO_TAKES.get(str(own.type), set())


def refuse_other_type(kind: str, own: Formatter, found: Formatter) -> None:
    """Raise `InputError` unless a recipe with that formatter of its own trains on rows of the type `kind`."""
    if own.type is not None and kind not in _taken(own):
        takes = " or ".join(sorted(map(str, _taken(own)))).replace("_", "-")
        raise InputError(
            f"{found.name} makes {kind.replace('_', '-')} rows of these, and this recipe trains on {takes} rows. On rows "
            f"like these trains {TRAINED_BY[kind]}; where columns are meant otherwise, say so: --columns NAME=NEW, or "
            "--formatter"
        )


def at_most(held_out: Dataset, limit: int | None, counts: RowCounts) -> Dataset:
    """Of the held-out rows `limit`, from everywhere among them; the others are counted as dropped, in place.

    Raises:
        InputError: There would be none.
    """
    if limit is None or len(held_out) <= limit:
        return held_out
    if limit < 1:
        raise InputError(f"--max_eval_samples {limit} leaves no held-out row; give 1 or more.")
    counts.made -= len(held_out) - limit
    counts.dropped["over_max_eval_samples"] += len(held_out) - limit
    return held_out.select([number * len(held_out) // limit for number in range(limit)])


def as_ids(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, config: Any, given: frozenset[str]) -> Dataset:
    """Rows as ids for a trainer that takes them (see [`tokenize_dataset`]), which is faster than its own way.

    Where a setting asks the trainer for other ids, the rows are left to it.
    """
    if not isinstance(config, SFTConfig | RewardConfig) or given & CHANGES_IDS:
        return dataset
    if "prompt" not in dataset.column_names:
        return dataset  # language modelling
    return tokenize_dataset(dataset, tokenizer, num_proc=config.dataset_num_proc)


def check_rendering(dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
    """
    Raises:
        InputError: The chat template does not render the first row, or the tools of the first row that has any.
    """
    numbers = [0]
    if "tools" in dataset.column_names:
        numbers += [number for number, tools in enumerate(dataset["tools"]) if tools][:1]
    for number in numbers:
        try:
            render_row(tokenizer, dataset[number])
        except InputError as error:
            raise InputError(f"Row {number} (counted from 0) of those made: {error}") from error


def row_summary(counts: RowCounts, train: Dataset, held_out: Dataset, trainer: Any) -> dict[str, Any]:
    """The counts of a run's rows for its report, with those that the trainer left out or cut for their length.

    Raises:
        InputError: Nothing is left to train on or to measure.
    """
    summary = counts.as_dict()
    max_length = getattr(trainer.args, "max_length", None)  # PPO has other limits
    sides = {"train": (train, trainer.train_dataset), "eval": (held_out, trainer.eval_dataset)}
    lengths = {side: count_rows(kept) for side, (_, kept) in sides.items()}
    if getattr(trainer.args, "packing", False) and trainer.args.packing_strategy == "wrapped":
        lengths = {side: len(given) for side, (given, _) in sides.items()}  # joined without borders, nothing left out
    too_long = sum(len(given) - lengths[side] for side, (given, _) in sides.items())
    cut = sum(count_cut(kept, trainer.processing_class, max_length) for _, kept in sides.values())
    if too_long:
        summary["dropped"]["too_long"] = too_long
        say(f"{too_long} rows left out: too long to learn from within --max_length {max_length} tokens.")
    if cut:
        say(f"{cut} rows cut at --max_length {max_length} tokens; a cut answer does not teach where to end.")
    for side, length in lengths.items():
        if not length:
            raise InputError(f"No {side} row is left within --max_length {max_length} tokens; raise it.")
    return {**summary, "made": summary["made"] - too_long, "cut": cut, **lengths}


def describe(
    trainer: Any, tokenizer: PreTrainedTokenizerBase, rows: Mapping[str, Any], train: Dataset, num_examples: int = 2
) -> None:
    """Print what `--dry_run` shows: rows with counts, rendered examples and trainable parameters."""
    dropped = ", ".join(f"{reason} {count}" for reason, count in rows["dropped"].items()) or "none"
    say(
        f"rows: {rows['read']:,} read, {rows['made']:,} made, dropped: {dropped}; "
        f"{rows['train']:,} to train on, {rows['eval']:,} held out"
    )
    for number, row in enumerate(train.select(range(min(num_examples, len(train))))):
        written = render_row(tokenizer, row)
        say(f"--- example {number + 1}, as the model sees it\n{printable(written.pop('prompt', ''))}", end="")
        label = f" {row['label']}" if "completion" in written and "label" in row else ""
        for column, text in written.items():
            say(f"\n[{column}{label}] {printable(text)}", end="")
        say()
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    # A 4-bit layer stores two weights in one element; PEFT's own count knows.
    every = trainer.model.get_nb_trainable_parameters()[1] if hasattr(trainer.model, "peft_config") else None
    every = every or sum(p.numel() for p in trainer.model.parameters())
    say(f"trainable parameters: {trainable:,} of {every:,} ({trainable / every:.2%})")
    say(f"output: {trainer.args.output_dir}")
    say("--dry_run: stopped before the first step.")
