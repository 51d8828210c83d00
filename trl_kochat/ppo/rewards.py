"""Where rewards come from: functions, reward models, and reward adapters on the policy's base.

Shapes in this file: B rollouts of one process, K reward sources.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TrainerState

from ..encode import score_position, tokenize_rows
from ..errors import InputError
from ..measure.logps import PackedRows, pack_rows
from ..measure.rewarded import checked_rewards
from .heads import check_labels


# f(prompts, completions, completion_ids, **columns) -> one number, or None, for each completion
RewardFunc = Callable[..., Sequence[float | None] | Awaitable[Sequence[float | None]]]
# Arguments of a reward function beside the dataset's columns.
OWN_ARGUMENTS = ("prompts", "completions", "completion_ids", "trainer_state", "log_metric", "log_extra")


@dataclass
class Episodes:
    """Finished completions of one process, as rewards see them."""

    rows: list[dict[str, Any]]  # of the dataset
    completions: list[Any]  # texts, or conversations of one assistant message
    prompt_ids: list[list[int]]
    completion_ids: list[list[int]]
    read_ids: list[list[int]]  # completions as a reward model was trained to read them, see `answer_end`
    finished: list[bool]  # False where a completion was cut by length
    trainer_state: TrainerState
    metrics: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # that functions logged
    columns: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    @property
    def prompts(self) -> list[Any]:
        """Texts or conversations."""
        return [row["prompt"] for row in self.rows]


class FunctionReward:
    """A function of prompts and completions, called as TRL's GRPOTrainer calls it; it may be `async`."""

    def __init__(self, function: RewardFunc, name: str) -> None:
        self.function, self.name = function, name

    def __call__(self, episodes: Episodes) -> Any:
        columns = {k: [row[k] for row in episodes.rows] for k in episodes.rows[0] if k not in ("prompt", "completion")}
        given = {
            "prompts": episodes.prompts,
            "completions": episodes.completions,
            "completion_ids": episodes.completion_ids,
            "trainer_state": episodes.trainer_state,
            "log_metric": lambda name, value: episodes.metrics[name].append(float(value)),
            "log_extra": lambda column, values: episodes.columns[column].extend(values),
        }
        try:
            return self.function(**columns | given)
        except Exception as error:
            self.name_in(error)
            raise

    def name_in(self, error: BaseException) -> None:
        """Add to an error which function raised it: the traceback shows where, and there may be several."""
        error.add_note(f"Raised by the reward function {self.name!r}, which PPOTrainer called on a rollout.")


class ModelReward:
    """A reward model: an adapter on the policy's base, or a model of its own.

    With the policy's tokenizer it sees the ids that were generated, with another one the text. Its score is read where
    RewardTrainer reads it.

    Args:
        model (`AdapterRoles`, `PreTrainedModel` or `PeftModel`): What holds it.
        name (`str`): Of the metrics.
        adapter (`str`, *optional*): Its name, where the model is the policy's base.
        batch_size (`int`): Rows of one forward pass.
        pad_token_id (`int`): That the model was trained with, by which the end of a row is found.
        tokenizer (`PreTrainedTokenizerBase`, *optional*): The model's, if it is not the policy's.
    """

    def __init__(
        self,
        model: Any,
        name: str,
        *,
        batch_size: int,
        pad_token_id: int,
        adapter: str | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        self.model, self.name, self.adapter = model, name, adapter
        self.batch_size, self.pad_token_id, self.tokenizer = batch_size, pad_token_id, tokenizer
        if adapter is None:
            check_labels(model.config.num_labels, name)
            model.eval().requires_grad_(False)
            model.config.get_text_config().pad_token_id = pad_token_id  # by which it finds the end of a row itself

    def _scores(self, rows: PackedRows, positions: list[int]) -> torch.Tensor:
        if self.adapter is not None:
            return self.model.adapter_rewards(self.adapter, rows, positions)
        return self.model(input_ids=rows.input_ids, attention_mask=rows.attention_mask).logits[:, 0]

    def __call__(self, episodes: Episodes) -> list[float | None]:
        ids = [[*p, *c] for p, c in zip(episodes.prompt_ids, episodes.read_ids, strict=True)]
        if self.tokenizer is not None:
            pairs = zip(episodes.prompts, episodes.completions, strict=True)
            rows = [{"prompt": prompt, "completion": completion} for prompt, completion in pairs]
            tokenized = tokenize_rows(self.tokenizer, rows, ended=episodes.finished)
            ids = [row.sequences["completion"] for row in tokenized]
        scores = []
        for start in range(0, len(ids), self.batch_size):
            part = ids[start : start + self.batch_size]
            packed = pack_rows(part, [[] for _ in part], pad_token_id=self.pad_token_id, device=self.model.device)
            scores.append(self._scores(packed, [score_position(row, self.pad_token_id) for row in part]))
        values = torch.cat(scores).float().tolist()
        for i, value in enumerate(values):
            # In a tensor of rewards NaN says that there is none.
            if not math.isfinite(value):
                raise InputError(
                    f"The reward model {self.name!r} scores completion {i} ({episodes.completions[i]!r}) with {value}; "
                    "its weights are broken, or overflow in this precision: try bf16 or float32."
                )
        return values


Reward = FunctionReward | ModelReward


def collect_rewards(rewards: Sequence[Reward], episodes: Episodes, device: torch.device) -> torch.Tensor:
    """What each source says of each completion, `(B, K)`; NaN for `None`. Async functions run together."""
    given = [reward(episodes) for reward in rewards]
    waiting = {i: answer for i, answer in enumerate(given) if isawaitable(answer)}
    if waiting:
        # In a thread, since a notebook runs a loop of its own in this one.
        with ThreadPoolExecutor(1) as thread:
            answers = thread.submit(asyncio.run, _together(list(waiting.values()))).result()
        for i, answer in zip(waiting, answers, strict=True):
            if isinstance(answer, BaseException):
                rewards[i].name_in(answer)  # type: ignore[union-attr]
                raise answer
            given[i] = answer
    columns = []
    for reward, answer in zip(rewards, given, strict=True):
        is_function = isinstance(reward, FunctionReward)
        values = checked_rewards(reward.name, answer, episodes.completions) if is_function else answer
        columns.append([math.nan if value is None else value for value in values])
    return torch.tensor(columns, dtype=torch.float32, device=device).T


async def _together(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


def weighted_rewards(
    rewards: torch.Tensor, weights: torch.Tensor, *, clip_range: Sequence[float] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted sum over the sources that gave a reward, and which completions got one at all.

    Args:
        rewards (`torch.Tensor`): From [`collect_rewards`], `(B, K)`.
        weights (`torch.Tensor`): `(K,)`.
        clip_range (`Sequence[float]`, *optional*): Least and greatest sum.

    Returns:
        Sums, 0 where no source gave a reward, and `True` where one did; both `(B,)`.
    """
    total = (rewards * weights).nansum(dim=1)
    if clip_range is not None:
        total = total.clamp(*clip_range)
    kept = ~rewards.isnan().all(dim=1)
    return torch.where(kept, total, 0.0), kept
