"""Prompts to completions, and what is kept of them until the update.

Shapes in this file: B rollouts of one process, C tokens of its longest completion, V vocabulary entries.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ..measure.logps import PackedRows, pack_rows
from .config import PPOConfig, mapping


# The first number of the seed: apart from those of sampling.
_ORDER = 2


class RolloutBatchSampler:
    """Row numbers for each process and `training_step`: the prompts of a rollout, as often as it is updated on.

    Batches come round robin, one for each process. Of a rollout's prompts, process p of P gets the p-th part of every
    slice, so that P processes take each optimizer step on the same rows as one process with P times the batch.
    Rows that do not fill a last rollout are left for another epoch, which has another order.

    Args:
        num_rows (`int`): Prompts in the dataset.
        slice_size (`int`): Rows of one process in one `training_step`.
        slices (`int`): Slices of a rollout.
        processes (`int`): How many.
        repeats (`int`): Calls of `training_step` on each rollout.
        seed (`int`): With the epoch, it determines the order.
        epoch (`Callable`): Tells the present epoch when iteration begins.
    """

    drop_last = True

    def __init__(
        self,
        num_rows: int,
        *,
        slice_size: int,
        slices: int,
        processes: int,
        repeats: int,
        seed: int,
        epoch: Callable[[], int],
    ) -> None:
        self.num_rows, self.slice_size, self.slices, self.processes = num_rows, slice_size, slices, processes
        self.repeats, self.seed, self.epoch = repeats, seed, epoch
        self.batch_size = slice_size * slices  # accelerate asks

    @property
    def rollouts(self) -> int:
        return self.num_rows // (self.batch_size * self.processes)

    def __len__(self) -> int:
        return self.rollouts * self.repeats * self.processes

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, self.epoch()]).permutation(self.num_rows)
        whole = self.rollouts * self.batch_size * self.processes
        # (rollout, slice, process, row)
        parts = order[:whole].reshape(self.rollouts, self.slices, self.processes, self.slice_size)
        for rollout in parts:
            for _ in range(self.repeats):
                for process in range(self.processes):
                    yield rollout[:, process].reshape(-1).tolist()


def row_uniforms(seed: Sequence[int], rows: Sequence[int], length: int) -> torch.Tensor:
    """Uniform numbers in [0, 1) for the tokens of each row, `(rows, length)` in float64.

    They depend on the seed and the row's number alone: not on the other rows, on how many processes share them, or on
    what was drawn before.
    """
    return torch.from_numpy(np.stack([np.random.default_rng([*seed, row]).random(length) for row in rows]))


def row_numbers(rows: int, *, size: int, process: int, processes: int) -> list[int]:
    """The numbers that a process's rows, in slices of `size`, would have in one process with the whole batch.

    >>> row_numbers(4, size=2, process=1, processes=2)
    [2, 3, 6, 7]
    """
    return [(i // size * processes + process) * size + i % size for i in range(rows)]


class RowSampler(LogitsProcessor):
    """Samples each row's next token with the row's own random numbers, by inverting the cumulative distribution.

    It leaves that token as the only one possible, so that `generate(do_sample=False)` takes it. `generate`'s own
    sampling draws from one stream for the whole batch, and a resumed or distributed run would see other completions.
    """

    def __init__(self, uniforms: torch.Tensor, prompt_width: int, warpers: list[LogitsProcessor]) -> None:
        self.uniforms, self.prompt_width, self.warpers = uniforms, prompt_width, warpers

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        for warper in self.warpers:
            scores = warper(input_ids, scores)
        cumulative = scores.float().softmax(-1).cumsum(-1, dtype=torch.float64)
        step = input_ids.shape[1] - self.prompt_width
        total = cumulative[:, -1:].contiguous()
        token = torch.searchsorted(cumulative, self.uniforms[:, step, None] * total, right=True)
        # Rounded up to the total, a threshold would fall behind the last possible token.
        token = torch.minimum(token, torch.searchsorted(cumulative, total))
        # NaN has no place in an order. What a diverged policy writes then does not matter: a rollout refuses it.
        token = token.clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)


def sampling_warpers(args: PPOConfig) -> list[LogitsProcessor]:
    warpers: list[LogitsProcessor] = []
    if args.temperature != 1.0:
        warpers.append(TemperatureLogitsWarper(args.temperature))
    if args.top_k:
        warpers.append(TopKLogitsWarper(args.top_k))
    if args.top_p < 1.0:
        warpers.append(TopPLogitsWarper(args.top_p))
    if args.min_p is not None:
        warpers.append(MinPLogitsWarper(args.min_p))
    return warpers


def cut_after_eos(ids: Sequence[int], eos_token_ids: Sequence[int]) -> tuple[list[int], bool]:
    """The ids up to and with the first EOS, and whether there is one.

    >>> cut_after_eos([5, 6, 0, 0], [0])
    ([5, 6, 0], True)
    """
    for i, token in enumerate(ids):
        if token in eos_token_ids:
            return list(ids[: i + 1]), True
    return list(ids), False


@torch.no_grad()
def generate_completions(
    model: Any,
    prompt_ids: Sequence[Sequence[int]],
    *,
    args: PPOConfig,
    uniforms: torch.Tensor,
    eos_token_ids: list[int],
    pad_token_id: int,
    unused_ids: Sequence[int] = (),
) -> tuple[list[list[int]], list[bool]]:
    """Sample one completion for each prompt; whether it ended by EOS, which is then its last id.

    Args:
        uniforms (`torch.Tensor`): From [`row_uniforms`], `(B, max_completion_length)`.
        unused_ids (`Sequence[int]`, *optional*): Ids that no token has, which are never sampled.
    """
    device = model.device
    width = max(map(len, prompt_ids))
    input_ids = torch.tensor([[*[pad_token_id] * (width - len(ids)), *ids] for ids in prompt_ids], device=device)
    lengths = torch.tensor([len(ids) for ids in prompt_ids], device=device)
    attention_mask = torch.arange(width, device=device) >= width - lengths[:, None]
    config = GenerationConfig(
        max_new_tokens=args.max_completion_length,
        do_sample=False,  # RowSampler samples
        num_beams=1,
        repetition_penalty=args.repetition_penalty,
        eos_token_id=eos_token_ids,
        pad_token_id=pad_token_id,
        **mapping(args.generation_kwargs),
    )
    warpers = sampling_warpers(args)
    if unused_ids:
        warpers.insert(0, SuppressTokensLogitsProcessor(list(unused_ids), device=str(device)))
    output = model.generate(
        input_ids=input_ids,
        attention_mask=attention_mask.long(),
        generation_config=config,
        logits_processor=LogitsProcessorList([RowSampler(uniforms.to(device), width, warpers)]),
    )
    cut = [cut_after_eos(ids, eos_token_ids) for ids in output[:, width:].tolist()]
    return [ids for ids, _ in cut], [finished for _, finished in cut]


@dataclass
class Rollout:
    """Completions of one process and what PPO computed on them, until the last update on them.

    Tensors are `(B, C)`, 0 past the end of a completion, unless said otherwise.
    """

    prompt_ids: list[list[int]]
    completion_ids: list[list[int]]
    old_per_token_logps: torch.Tensor
    old_values: torch.Tensor
    advantages: torch.Tensor  # standardized
    returns: torch.Tensor
    kept: torch.Tensor  # (B,), False where no reward was given

    def pack(self, rows: Sequence[int], *, pad_token_id: int, device: torch.device | str) -> PackedRows:
        return pack_rows(
            [self.prompt_ids[i] for i in rows],
            [self.completion_ids[i] for i in rows],
            pad_token_id=pad_token_id,
            device=device,
        )

    def batch(self, rows: Sequence[int], *, pad_token_id: int, device: torch.device | str) -> dict[str, Any]:
        """What an update on these rows needs: [`PackedRows`]' fields, the mask of the loss, and what PPO computed."""
        packed = self.pack(rows, pad_token_id=pad_token_id, device=device)
        width = packed.completion_ids.shape[1]
        names = ("old_per_token_logps", "old_values", "advantages", "returns")
        computed = {name: getattr(self, name)[list(rows), :width] for name in names}
        return packed._asdict() | computed | {"loss_mask": packed.completion_mask & self.kept[list(rows), None]}

    def tokens(self, rows: Sequence[int]) -> int:
        """Completion tokens of these rows that take part in the loss."""
        return sum(len(self.completion_ids[i]) for i in rows if self.kept[i])

    def save(self, path: Path) -> None:
        tensors = {f.name: getattr(self, f.name).cpu().contiguous() for f in fields(self) if f.type is torch.Tensor}
        for name in ("prompt_ids", "completion_ids"):
            ids = getattr(self, name)
            tensors[name] = torch.tensor([token for row in ids for token in row], dtype=torch.long)
            tensors[f"{name}.lengths"] = torch.tensor([len(row) for row in ids])
        save_file(tensors, path)

    @classmethod
    def load(cls, path: Path, device: torch.device | str) -> "Rollout":
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict

        def ids(name: str) -> list[list[int]]:
            lengths = tensors.pop(f"{name}.lengths").tolist()
            return [row.tolist() for row in tensors.pop(name).split(lengths)]

        prompt_ids, completion_ids = ids("prompt_ids"), ids("completion_ids")
        return cls(prompt_ids, completion_ids, **{name: tensor.to(device) for name, tensor in tensors.items()})


def slice_rows(number: int, position: int, args: PPOConfig) -> list[int]:
    """The rows, in one process, that the update at `position` of rollout `number` learns from."""
    ppo_epoch, part = divmod(position, args.slices)
    size = args.per_device_train_batch_size
    order = epoch_order(args.slices * size, ppo_epoch=ppo_epoch, seed=[_ORDER, args.seed, number])
    return order[part * size : (part + 1) * size]


def epoch_order(rows: int, *, ppo_epoch: int, seed: Sequence[int]) -> list[int]:
    """Order in which a PPO epoch takes the rows: as generated at first, then shuffled.

    The first epoch keeps the slices in which the old log-probabilities were computed, so that its first ratio is 1
    bit for bit.
    """
    if ppo_epoch == 0:
        return list(range(rows))
    return np.random.default_rng([*seed, ppo_epoch]).permutation(rows).tolist()
