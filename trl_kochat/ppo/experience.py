"""One rollout from prompts to advantages: generate, score, reward.

Shapes in this file: B rollouts of one process, C tokens of its longest completion, K reward sources.
"""

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn
from transformers import PreTrainedTokenizerBase
from trl import is_conversational

from ..errors import InputError
from ..measure.logps import PackedRows, completion_logits, pack_rows, pad_rows, token_logps
from ..text.normalize import drop_half_syllable
from .config import PPOConfig, mapping
from .objective import KL_ESTIMATORS, advantages_and_returns, explained_variance, standardize, token_rewards
from .rewards import Episodes, Reward, collect_rewards, weighted_rewards
from .roles import ActorCritic, Scores
from .rollout import Rollout, generate_completions, row_uniforms


class Experience(NamedTuple):
    """Finished completions of one process with all that was computed on them; tensors are `(B, C)` if not said."""

    episodes: Episodes
    prompt_ids: list[list[int]]
    mask: torch.Tensor
    per_token_logps: torch.Tensor
    values: torch.Tensor
    entropies: torch.Tensor
    kl: torch.Tensor
    rewards_per_func: torch.Tensor  # (B, K), NaN where a source said nothing
    scores: torch.Tensor  # (B,), weighted sum of the rewards
    kept: torch.Tensor  # (B,), False where no source gave a reward
    generation_seconds: float
    live: Scores | None = None  # what policy and value said, with the graph, where an update is to use it


def _check_finite(made: Experience) -> None:
    """Raise where the models are beyond repair: every update on this rollout would be NaN."""
    said = {"policy's log-probabilities": made.per_token_logps, "values": made.values, "KL to the reference": made.kl}
    for name, tensor in said.items():
        if not tensor.isfinite().all():
            raise InputError(
                f"The {name} on a rollout are not finite: training has diverged. Go back to an earlier checkpoint with a "
                "lower learning_rate or max_grad_norm, or train in bf16 or float32 instead of fp16."
            )


class ExperienceMaker:
    """Makes rollouts with the policy as it is; holds no state between two of them.

    Args:
        model (`ActorCritic`): Policy and value.
        rewards (`list[Reward]`): Sources of rewards.
        ref_model (`torch.nn.Module`, *optional*): A reference of its own; otherwise `model` holds it, if it is used.
        tokenizer (`PreTrainedTokenizerBase`): The policy's.
        eos_token_ids (`list[int]`): Each ends a completion.
        args (`PPOConfig`): Settings.
        accelerator (`Accelerator`): For the device, autocast and what is gathered over processes.
    """

    def __init__(
        self,
        model: ActorCritic,
        rewards: list[Reward],
        *,
        ref_model: nn.Module | None,
        tokenizer: PreTrainedTokenizerBase,
        eos_token_ids: list[int],
        args: PPOConfig,
        accelerator: Accelerator,
    ) -> None:
        self.model, self.rewards, self.ref_model, self.tokenizer = model, rewards, ref_model, tokenizer
        self.eos_token_ids, self.args, self.accelerator = eos_token_ids, args, accelerator
        self.reward_weights = torch.tensor(args.reward_weights or [1.0] * len(rewards), device=accelerator.device)
        # Padding is told by lengths, so any id does.
        self.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else eos_token_ids[0]
        self.uses_reference = args.kl_coef > 0

    def prompt_ids(self, prompts: Sequence[Any]) -> list[list[int]]:
        """Ids of texts or conversations, as the policy is asked to continue them."""
        if is_conversational({"prompt": prompts[0]}):
            kwargs = {"add_generation_prompt": True, **mapping(self.args.chat_template_kwargs)}
            texts = [self.tokenizer.apply_chat_template(prompt, tokenize=False, **kwargs) for prompt in prompts]
            return self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return self.tokenizer(list(prompts))["input_ids"]

    def _text(self, ids: list[int], finished: bool) -> str:
        # Other special tokens stay: in some vocabularies they are emoji, and where they are not, a reward should see
        # that the policy writes them.
        text = str(self.tokenizer.decode(ids[:-1] if finished else ids, skip_special_tokens=False))
        return text if finished else drop_half_syllable(text)

    def _autocast(self) -> AbstractContextManager:
        return self.accelerator.autocast()

    def __call__(
        self,
        rows: list[dict[str, Any]],
        *,
        numbers: Sequence[int],
        seed: Sequence[int],
        slice_size: int,
        learner: nn.Module | None = None,
    ) -> Experience:
        """Complete the prompts of `rows` and score the completions.

        Args:
            rows (`list[dict]`): Rows of the dataset.
            numbers (`Sequence[int]`): Of the rows among those of all processes; with `seed` they determine sampling.
            slice_size (`int`): Rows scored in one forward pass.
            learner (`torch.nn.Module`, *optional*): The model as the training loop wraps it, if the next update is on
                all these rows at once: the passes of policy and value then keep their graphs, and the update needs no other.
        """
        self.model.eval()
        start = time.perf_counter()
        episodes, prompt_ids = self._complete(rows, numbers, seed, slice_size)
        seconds = time.perf_counter() - start
        with torch.no_grad(), self._autocast():
            rewards_per_func = collect_rewards(self.rewards, episodes, self.accelerator.device)
            ref_logps = [self._ref_logps(packed) if self.uses_reference else None for packed in episodes.packed]
        scores, kept = weighted_rewards(rewards_per_func, self.reward_weights, clip_range=self.args.reward_clip_range)
        # Apart from what ran without gradients: autocast would hand on its casts of the weights, which have none.
        if learner is None:
            with torch.no_grad(), self._autocast():
                active = [self._active_scores(self.model, packed) for packed in episodes.packed]
        else:
            learner.train()
            with self._autocast():
                active = [self._active_scores(learner, packed) for packed in episodes.packed]
        live = active[0] if learner is not None else None
        with torch.no_grad():
            logps, values, entropies, kl = self._whole(active, ref_logps)
        lengths = torch.tensor([len(ids) for ids in episodes.completion_ids], device=logps.device)
        mask = torch.arange(logps.shape[1], device=logps.device) < lengths[:, None]
        return Experience(
            episodes, prompt_ids, mask, logps, values, entropies, kl, rewards_per_func, scores, kept, seconds, live
        )

    @torch.no_grad()
    def _complete(
        self, rows: list[dict[str, Any]], numbers: Sequence[int], seed: Sequence[int], slice_size: int
    ) -> tuple[Episodes, list[list[int]]]:
        prompts = [row["prompt"] for row in rows]
        prompt_ids = self.prompt_ids(prompts)
        with self._autocast(), self.model.generating(merge=self.args.merge_for_generation):
            completion_ids, finished = generate_completions(
                self.model.policy,
                prompt_ids,
                args=self.args,
                uniforms=row_uniforms(seed, numbers, self.args.max_completion_length),
                eos_token_ids=self.eos_token_ids,
                pad_token_id=self.pad_token_id,
            )
        texts: list[Any] = [self._text(ids, done) for ids, done in zip(completion_ids, finished, strict=True)]
        if is_conversational({"prompt": prompts[0]}):
            texts = [[{"role": "assistant", "content": text}] for text in texts]
        packed = [
            pack_rows(
                prompt_ids[i : i + slice_size],
                completion_ids[i : i + slice_size],
                pad_token_id=self.pad_token_id,
                device=self.accelerator.device,
            )
            for i in range(0, len(rows), slice_size)
        ]
        return Episodes(rows, prompts, texts, completion_ids, finished, packed), prompt_ids

    @torch.no_grad()
    def score_answers(self, prompts: Sequence[Any], answers: Sequence[str]) -> list[float | None]:
        """What the rewards say, weighted and summed, of texts that end by themselves; `None` where they say nothing.

        A prompt that is a string is one user turn where the tokenizer has a chat template, as in [`generate_answers`].
        Reward functions get no other columns.
        """
        if self.tokenizer.chat_template is not None:
            prompts = [[{"role": "user", "content": p}] if isinstance(p, str) else list(p) for p in prompts]
        eos_token_id: Any = self.tokenizer.eos_token_id
        ids = self.tokenizer(list(answers), add_special_tokens=False)["input_ids"]
        completion_ids = [[*row, eos_token_id] for row in ids]
        completions: list[Any] = list(answers)
        if is_conversational({"prompt": prompts[0]}):
            completions = [[{"role": "assistant", "content": answer}] for answer in answers]
        packed = pack_rows(
            self.prompt_ids(prompts),
            completion_ids,
            pad_token_id=self.pad_token_id,
            device=self.accelerator.device,
        )
        rows = [{"prompt": prompt} for prompt in prompts]
        episodes = Episodes(rows, list(prompts), completions, completion_ids, [True] * len(rows), [packed])
        with self._autocast():
            rewards = collect_rewards(self.rewards, episodes, self.accelerator.device)
        scores, kept = weighted_rewards(rewards, self.reward_weights, clip_range=self.args.reward_clip_range)
        return [score if k else None for score, k in zip(scores.tolist(), kept.tolist(), strict=True)]

    def _active_scores(self, model: nn.Module, rows: PackedRows) -> Scores:
        return model(**rows._asdict(), temperature=self.args.temperature, with_entropies=True)

    def _whole(self, active: list[Scores], ref: list[torch.Tensor | None]) -> list[torch.Tensor]:
        """Log-probabilities, values, entropies and KL of all slices, each `(B, C)`."""
        slices = []
        for (logps, values, entropies), ref_logps in zip(active, ref, strict=True):
            assert logps is not None and values is not None and entropies is not None
            kl = torch.zeros_like(logps)
            if ref_logps is not None:
                kl = KL_ESTIMATORS[self.args.kl_estimator](logps.detach(), ref_logps)
            slices.append((logps.detach(), values.detach(), entropies, kl))
        width = max(logps.shape[1] for logps, *_ in slices)
        return [torch.cat([pad_rows(list(t), width) for t in tensors]) for tensors in zip(*slices, strict=True)]

    def _ref_logps(self, rows: PackedRows) -> torch.Tensor:
        temperature = self.args.temperature
        if self.ref_model is None:
            return self.model.ref_logps(rows, temperature=temperature)
        return token_logps(completion_logits(self.ref_model, rows), rows, temperature=temperature)

    @torch.no_grad()
    def rollout(self, made: Experience, *, kl_coef: float) -> tuple[Rollout, dict[str, float]]:
        """Advantages and returns, standardized over all processes; and what they say of the critic."""
        _check_finite(made)
        penalty = self.args.missing_eos_penalty or 0.0
        finished = torch.tensor(made.episodes.finished, device=made.scores.device)
        scores = made.scores - penalty * (~finished).float()
        rewards = token_rewards(scores, made.kl, made.mask, kl_coef=kl_coef)
        advantages, returns = advantages_and_returns(
            rewards, made.values, made.mask, gamma=self.args.gamma, lam=self.args.lam
        )
        mask = made.mask & made.kept[:, None]
        rollout = Rollout(
            prompt_ids=made.prompt_ids,
            completion_ids=made.episodes.completion_ids,
            old_per_token_logps=made.per_token_logps,
            old_values=made.values,
            advantages=standardize(advantages, mask, reduce=self._sum),
            returns=returns,
            kept=made.kept,
        )
        critic = {"ppo/kl_coef": kl_coef}
        explained = explained_variance(made.values, returns, mask, reduce=self._sum)
        if not math.isnan(explained):
            critic["ppo/explained_variance"] = explained
        return rollout, critic

    def _sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.accelerator.reduce(tensor, "sum")

    def row_measures(self, made: Experience) -> torch.Tensor:
        """What [`summarize`] needs of each completion, `(B, 6 + K)`."""
        finished = torch.tensor(made.episodes.finished, device=made.scores.device)
        columns = [
            made.scores,
            made.kept,
            (made.kl * made.mask).sum(1),
            (made.entropies * made.mask).sum(1),
            made.mask.sum(1),
            finished,
        ]
        return torch.cat([torch.stack([c.float() for c in columns], dim=1), made.rewards_per_func], dim=1)

    def summarize(self, measures: torch.Tensor) -> dict[str, float]:
        """Metrics of completions, from the rows of [`row_measures`] of all processes, `(N, 6 + K)`."""
        score, kept, kl, entropy, length, finished = measures[:, :6].T
        metrics = {
            "entropy": (entropy.sum() / length.sum()).item(),
            "completions/mean_length": length.mean().item(),
            "completions/min_length": length.min().item(),
            "completions/max_length": length.max().item(),
            "completions/clipped_ratio": 1 - finished.mean().item(),
            "ppo/missing_rewards": (1 - kept).sum().item(),
        }
        if self.uses_reference:
            metrics["kl"] = kl.mean().item()
        score = score[kept.bool()]
        if len(score):
            metrics |= {"reward": score.mean().item(), "reward_std": score.std(unbiased=False).item()}
        for i, reward in enumerate(self.rewards):
            given = measures[:, 6 + i]
            given = given[~given.isnan()]
            if len(given):
                metrics[f"rewards/{reward.name}/mean"] = given.mean().item()
                metrics[f"rewards/{reward.name}/std"] = given.std(unbiased=False).item()
        return metrics

    def table(self, made: Experience, advantages: torch.Tensor | None = None) -> list[dict[str, Any]]:
        """One row for each completion of all processes, for the eye."""
        rows = []
        for i, (prompt, completion) in enumerate(zip(made.episodes.prompts, made.episodes.completions, strict=True)):
            row = {"prompt": prompt, "completion": completion}
            for reward, value in zip(self.rewards, made.rewards_per_func[i].tolist(), strict=True):
                row[reward.name] = None if math.isnan(value) else value
            if advantages is not None:
                length = int(made.mask[i].sum())
                row["advantage"] = advantages[i, :length].mean().item()
            rows.append(row)
        return gather_object(rows)
