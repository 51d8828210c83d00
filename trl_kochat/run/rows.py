"""The rows of a run: read, as ids, counted, shown."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl import RewardConfig, SFTConfig

from ..data import RowCounts
from ..data.load import load_rows
from ..encode import count_cut, count_rows, render_row, tokenize_dataset
from ..errors import InputError
from ..processes import say
from ..text.shown import printable


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


def read_rows(names: Sequence[str], split: str) -> Any:
    """The raw rows of every `--dataset_name`, one after the other (see [`load_rows`])."""
    sources = [load_rows(name, split=split) for name in names]
    return sources[0] if len(sources) == 1 else chain.from_iterable(sources)


def as_ids(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, config: Any, given: frozenset[str]) -> Dataset:
    """Rows as ids for a trainer that takes them (see [`tokenize_dataset`]), which is faster than its own way.

    Where a setting asks the trainer for other ids, the rows are left to it.
    """
    if not isinstance(config, SFTConfig | RewardConfig) or given & CHANGES_IDS:
        return dataset
    return tokenize_dataset(dataset, tokenizer, num_proc=config.dataset_num_proc)


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
        for column, text in written.items():
            say(f"\n[{column}] {printable(text)}", end="")
        say()
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    # A 4-bit layer stores two weights in one element; PEFT's own count knows.
    every = trainer.model.get_nb_trainable_parameters()[1] if hasattr(trainer.model, "peft_config") else None
    every = every or sum(p.numel() for p in trainer.model.parameters())
    say(f"trainable parameters: {trainable:,} of {every:,} ({trainable / every:.2%})")
    say(f"output: {trainer.args.output_dir}")
    say("--dry_run: stopped before the first step.")
