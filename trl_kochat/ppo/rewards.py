"""Where rewards come from: functions, reward models, and reward adapters on the policy's base.

Shapes in this file: B rollouts of one process, K reward sources.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import apply_chat_template, is_conversational

from ..errors import InputError
from ..measure.logps import PackedRows, pack_rows
from .heads import check_labels, scored_hidden
from .roles import ActorCritic


# f(prompts, completions, completion_ids, **columns) -> one number, or None, for each completion
RewardFunc = Callable[..., Sequence[float | None]]


@dataclass
class Episodes:
    """Finished completions of one process, as rewards see them."""

    rows: list[dict[str, Any]]  # of the dataset
    prompts: list[Any]  # texts or conversations
    completions: list[Any]  # texts, or conversations of one assistant message
    completion_ids: list[list[int]]
    finished: list[bool]  # False where a completion was cut by length
    packed: list[PackedRows]  # the ids that were generated, in slices


class NamedInErrors(AbstractContextManager):
    """Add to an error which reward function raised it: the traceback shows where, and there may be several."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: Any) -> None:
        if error is not None:
            error.add_note(f"Raised by the reward function {self.name!r}, which PPOTrainer called on a rollout.")


class FunctionReward:
    """A function of prompts and completions, called as TRL's trainers call it."""

    def __init__(self, function: RewardFunc, name: str) -> None:
        self.function, self.name = function, name

    def __call__(self, episodes: Episodes) -> list[float | None]:
        skipped = ("prompt", "completion", "completion_ids")
        columns = {k: [row[k] for row in episodes.rows] for k in episodes.rows[0] if k not in skipped}
        with NamedInErrors(self.name):
            given = self.function(
                prompts=episodes.prompts,
                completions=episodes.completions,
                completion_ids=episodes.completion_ids,
                **columns,
            )
        if not isinstance(given, Iterable):
            raise InputError(
                f"The reward function {self.name!r} returned {given!r}; return a list with one number, or None, for each "
                "completion."
            )
        rewards: list[Any] = list(given)
        if len(rewards) != len(episodes.prompts):
            raise InputError(
                f"The reward function {self.name!r} returned {len(rewards)} rewards for {len(episodes.prompts)} "
                "completions; return one for each, None where there is nothing to say."
            )
        for i, reward in enumerate(rewards):
            number = reward.item() if isinstance(reward, torch.Tensor) and reward.numel() == 1 else reward
            if number is not None and not (isinstance(number, Real) and math.isfinite(number)):
                raise InputError(
                    f"The reward function {self.name!r} returned {reward!r} for completion {i} "
                    f"({episodes.completions[i]!r}); return a finite number, or None to leave the completion out."
                )
            rewards[i] = None if number is None else float(number)
        return rewards


class AdapterReward:
    """A frozen reward adapter on the policy's base; it sees the very ids that were generated."""

    def __init__(self, model: ActorCritic, adapter: str, name: str) -> None:
        self.model, self.adapter, self.name = model, adapter, name

    def __call__(self, episodes: Episodes) -> list[float | None]:
        scores = [self.model.adapter_rewards(self.adapter, rows) for rows in episodes.packed]
        return torch.cat(scores).tolist()


class ModelReward:
    """A reward model of its own.

    With the policy's tokenizer it sees the very ids that were generated, and its score is read at the last real
    token whatever its padding token is; with another tokenizer it sees the text.
    """

    def __init__(
        self, model: PreTrainedModel | PeftModel, name: str, tokenizer: PreTrainedTokenizerBase | None, batch_size: int
    ) -> None:
        self.model: Any = model.eval().requires_grad_(False)
        check_labels(self.model.config.num_labels, name)
        self.name, self.tokenizer, self.batch_size = name, tokenizer, batch_size

    @torch.no_grad()
    def __call__(self, episodes: Episodes) -> list[float | None]:
        if self.tokenizer is None:
            scores = [self._score_ids(rows) for rows in episodes.packed]
        else:
            ids = self._ids(episodes)
            scores = [
                self._score_ids(self._pack(ids[i : i + self.batch_size])) for i in range(0, len(ids), self.batch_size)
            ]
        return torch.cat(scores).float().tolist()

    def _score_ids(self, rows: PackedRows) -> torch.Tensor:
        if hasattr(self.model, "score"):  # how transformers names the head of its decoders
            return self.model.score(scored_hidden(self.model, rows)).squeeze(-1)
        return self.model(input_ids=rows.input_ids, attention_mask=rows.attention_mask).logits[:, 0]

    def _ids(self, episodes: Episodes) -> list[list[int]]:
        """What RewardTrainer would have tokenized: a conversation as rendered, a text with its EOS if it has one."""
        assert self.tokenizer is not None
        pairs = zip(episodes.prompts, episodes.completions, episodes.finished, strict=True)
        if is_conversational({"prompt": episodes.prompts[0]}):
            texts = [apply_chat_template({"messages": p + c}, self.tokenizer)["text"] for p, c, _ in pairs]
            return self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        eos = self.tokenizer.eos_token or ""
        return self.tokenizer([p + c + (eos if finished else "") for p, c, finished in pairs])["input_ids"]

    def _pack(self, ids: list[list[int]]) -> PackedRows:
        assert self.tokenizer is not None
        pad_token_id = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        return pack_rows(ids, [[] for _ in ids], pad_token_id=pad_token_id, device=self.model.device)


Reward = FunctionReward | AdapterReward | ModelReward


def collect_rewards(rewards: Sequence[Reward], episodes: Episodes, device: torch.device) -> torch.Tensor:
    """What each source says of each completion, `(B, K)`; NaN for `None`."""
    columns = []
    for reward in rewards:
        given = reward(episodes)
        for i, value in enumerate(given):
            # In the tensor a NaN would say that there is no reward.
            if value is not None and not math.isfinite(value):
                raise InputError(
                    f"The reward model {reward.name!r} scores completion {i} ({episodes.completions[i]!r}) with {value}; "
                    "its weights are broken, or overflow in this precision: try bf16 or float32."
                )
        columns.append([math.nan if value is None else value for value in given])
    return torch.tensor(columns, dtype=torch.float32, device=device).T


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
