"""Batches of rows of like length."""

from typing import Any

import torch
from datasets import Dataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from ..encode import column_lengths, row_lengths


STRATEGIES = ("group_by_length", "batch_rebalance")


def group_by_length(trainer: Trainer) -> None:
    """Make `train_sampling_strategy="group_by_length"` (or `"batch_rebalance"`) work with a trainer of TRL, in place.

    transformers looks for one column of ids, of which a pair has two or three, and takes the column of lengths away
    with all that the model does not know. Padding is computed like text, so rows that differ less in length train
    faster; QLoRA's own runs group them too (https://huggingface.co/papers/2305.14314, appendix B.2). With another
    strategy nothing is changed.

    Args:
        trainer ([`~transformers.Trainer`]): TRL's `SFTTrainer`, `DPOTrainer` or `RewardTrainer`, before `train()`.
    """
    args = trainer.args
    if args.train_sampling_strategy not in STRATEGIES:
        return
    trainer.add_callback(_SameOrder())
    for name in ("train_dataset", "eval_dataset"):
        dataset = getattr(trainer, name)
        if _holds_pairs(dataset):
            setattr(trainer, name, _with_lengths(dataset, args.length_column_name, getattr(args, "max_length", None)))
            args.remove_unused_columns = False  # TRL's collators of pairs take what they need


def sort_held_out_pairs(trainer: Trainer) -> None:
    """Evaluate a trainer's held-out pairs by their lengths, in place, so that its batches hold little padding.

    The mean of a loss that each pair has is the same in any order. Rows of other kinds stay as they are: their loss is a
    mean over the tokens of a batch, and another one in other batches (as is what DPO's loss type "sft" adds).
    """
    held_out: Any = trainer.eval_dataset
    if _holds_pairs(held_out):
        lengths = row_lengths(held_out)
        trainer.eval_dataset = held_out.select(sorted(range(len(lengths)), key=lengths.__getitem__))


def _holds_pairs(dataset: Any) -> bool:
    return isinstance(dataset, Dataset) and "chosen" in column_lengths(dataset.select(range(min(1, len(dataset)))))


def _with_lengths(dataset: Dataset, column: str, max_length: int | None) -> Dataset:
    """`dataset` with the length of each pair's longer side, in tokens, as its batch will hold it."""

    def lengths(rows: dict[str, list[list[int]]]) -> dict[str, list[int]]:
        return {column: [min(length, max_length or length) for length in row_lengths(rows)]}

    return dataset.map(lengths, batched=True, desc="Measuring rows")


class _SameOrder(TrainerCallback):
    """Draw the groups of every epoch from a seed of its own, on each process and in a resumed run alike.

    Otherwise transformers takes the global random numbers, of which a resumed run has used others.
    """

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        batches = train_dataloader.batch_sampler
        while hasattr(batches, "batch_sampler"):  # accelerate's share of one process, around all batches
            batches = batches.batch_sampler
        sampler = getattr(batches, "sampler", None)
        if isinstance(sampler, LengthGroupedSampler):
            seed = args.seed if args.data_seed is None else args.data_seed
            sampler.generator = torch.Generator().manual_seed(seed + int(state.epoch or 0))
