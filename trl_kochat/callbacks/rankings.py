"""A reward model on whole rankings."""

from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset, concatenate_datasets
from torch import nn
from transformers import Trainer

from ..encode import row_lengths
from ..encode.rankings import whole_rankings
from ..processes import say


def batch_whole_rankings(trainer: Trainer) -> None:
    """Make each ranking one element of a batch and score each of its answers once, in place.

    A ranking of K answers gives up to K (K - 1) / 2 pairs, in which each answer stands K - 1 times. InstructGPT puts
    them into one batch, so that an answer takes one pass through the model instead of K - 1, and warns that they make the
    model overfit where they are shuffled (https://huggingface.co/papers/2203.02155, section 3.5). The loss of each pair
    is TRL's, and `per_device_train_batch_size` counts rankings. Pairs of no ranking stay elements of their own.

    Args:
        trainer ([`~transformers.Trainer`]): Before `train()`; changed where it is a `RewardTrainer` on rankings.
    """
    pairs: list[Any] = [trainer.train_dataset, trainer.eval_dataset]
    if not all(isinstance(side, Dataset) for side in pairs):
        return
    assert isinstance(trainer.model, nn.Module)
    rankings = [whole_rankings(side) for side in pairs]
    if not all(rankings) or sum(map(len, rankings)) == sum(map(len, pairs)):
        return
    say(
        f"{len(rankings[0]):,} rankings of {len(pairs[0]):,} pairs to train on: --per_device_train_batch_size counts "
        "rankings, and each answer goes through the model once (--whole_rankings false shuffles pairs)."
    )
    length = trainer.args.length_column_name
    trainer.train_dataset = _elements(pairs[0], rankings[0], length)
    held_out = _elements(pairs[1], rankings[1], length, first=len(pairs[0]))
    # Evaluated in their order: by length, their batches hold little padding.
    trainer.eval_dataset = held_out.select(sorted(range(len(held_out)), key=list(held_out[length]).__getitem__))
    trainer.data_collator = _of_pairs(concatenate_datasets(pairs), trainer.data_collator)
    trainer.args.remove_unused_columns = False  # the model knows no numbers of pairs
    _EachAnswerOnce().watch(trainer.model)


def _elements(pairs: Dataset, rankings: list[list[int]], length_column: str, *, first: int = 0) -> Dataset:
    """A row for each ranking with the numbers of its pairs, which count from `first`, and its longest answer's length."""
    lengths = row_lengths(pairs)
    longest = [max(lengths[number] for number in ranking) for ranking in rankings]
    numbers = [[first + number for number in ranking] for ranking in rankings]
    return Dataset.from_dict({"pairs": numbers, length_column: longest})


def _of_pairs(pairs: Dataset, collate: Callable[[list[Any]], Any]) -> Callable[[list[dict[str, Any]]], Any]:
    def collated(rows: list[dict[str, Any]]) -> Any:
        return collate([pairs[number] for row in rows for number in row["pairs"]])

    return collated


class _EachAnswerOnce:
    """Hooks of a model that scores B sequences of T tokens: those that are the same go through it once."""

    _places: torch.Tensor | None = None  # (B,): which of those scored each is

    def watch(self, model: nn.Module) -> None:
        model.register_forward_pre_hook(self._before, with_kwargs=True)
        model.register_forward_hook(self._after)

    def _before(self, model: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        self._places = None
        ids, mask = kwargs.get("input_ids"), kwargs.get("attention_mask")
        others = [value for name, value in kwargs.items() if name not in ("input_ids", "attention_mask")]
        # A batch of the trainer; who calls the model in another way, after training say, has his rows as they are.
        if (
            args
            or ids is None
            or mask is None
            or any(isinstance(o, torch.Tensor) and len(o) == len(ids) for o in others)
        ):
            return None
        # With the mask, since padding may be of the token that ends an answer.
        once, self._places = torch.cat([ids, mask], dim=1).unique(dim=0, return_inverse=True)  # of (B, 2T)
        ids, mask = once.chunk(2, dim=1)
        return args, {**kwargs, "input_ids": ids, "attention_mask": mask}

    def _after(self, model: nn.Module, args: Any, output: Any) -> None:
        if self._places is not None:
            output.logits = output.logits[self._places]
