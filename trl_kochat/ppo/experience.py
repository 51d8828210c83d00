"""One rollout from prompts to advantages: generate, reward, score, estimate advantages.

Shapes in this file: B rollouts of one process, C tokens of its longest completion, K reward sources.
"""

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from peft.helpers import disable_input_dtype_casting
from torch import nn
from transformers import PreTrainedTokenizerBase, TrainerState

from ..encode import answer_end, as_turns, encode_texts, end_token_ids, is_conversational, prompt_ids, unused_ids
from ..errors import InputError
from ..measure.logps import PackedRows, completion_logits, feed_in_one_block, pack_rows, pad_rows, token_logps
from ..text.normalize import drop_half_syllable
from .adapters import AdapterRoles
from .config import PPOConfig, mapping
from .objective import KL_ESTIMATORS, advantages_and_returns, explained_variance, standardize, token_rewards
from .rewards import Episodes, Reward, collect_rewards, weighted_rewards
from .roles import Roles, Scores
from .rollout import Rollout, generate_completions, row_uniforms


class Experience(NamedTuple):
    """Finished completions of one process with all that was computed on them; tensors are `(B, C)` if not said."""

    episodes: Episodes
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


class ExperienceMaker:
    """Makes rollouts with the policy as it is; holds no state between two of them.

    Args:
        model (`Roles`): Policy and value.
        rewards (`list[Reward]`): Sources of rewards.
        ref_model (`torch.nn.Module`, *optional*): A reference of its own; otherwise `model` holds it, if it is used.
        tokenizer (`PreTrainedTokenizerBase`): The policy's.
        args (`PPOConfig`): Settings.
        accelerator (`Accelerator`): For the device, autocast and what is gathered over processes.
    """

    def __init__(
        self,
        model: Roles,
        rewards: list[Reward],
        ref_model: nn.Module | None,
        tokenizer: PreTrainedTokenizerBase,
        args: PPOConfig,
        accelerator: Accelerator,
    ) -> None:
        self.model, self.rewards, self.ref_model, self.tokenizer = model, rewards, ref_model, tokenizer
        self.args, self.accelerator = args, accelerator
        self.eos_token_ids = end_token_ids(tokenizer, model.language_model.generation_config.eos_token_id)
        self.reward_weights = torch.tensor(args.reward_weights or [1.0] * len(rewards), device=accelerator.device)
        # Padding is told by lengths, so any id does.
        self.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.eos_token_ids[0]
        self.unused_ids = unused_ids(tokenizer, model.language_model.config.get_text_config().vocab_size)
        self.uses_reference = args.kl_coef > 0
        for module in filter(None, (model, ref_model)):
            feed_in_one_block(module)

    def inputs_as_they_are(self) -> AbstractContextManager[None]:
        """Let adapters read their input as it is where autocast rounds it.

        PEFT would copy it to their weights' float32 before that, for the same bits: layers that are not quantized
        everywhere, 4-bit ones on a CPU.
        """
        return disable_input_dtype_casting(self.model, active=self.accelerator.mixed_precision != "no")

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        with self.accelerator.autocast(), self.inputs_as_they_are():
            yield

    def prompt_ids(self, prompts: Sequence[Any]) -> list[list[int]]:
        """Ids of texts or conversations, as the policy is asked to continue them."""
        return prompt_ids(self.tokenizer, prompts, **mapping(self.args.chat_template_kwargs))

    def __call__(
        self,
        rows: list[dict[str, Any]],
        *,
        numbers: Sequence[int],
        seed: Sequence[int],
        slice_size: int,
        state: TrainerState | None = None,
        learner: nn.Module | None = None,
    ) -> Experience:
        """Complete the prompts of `rows` and score the completions.

        Args:
            rows (`list[dict]`): Rows of the dataset.
            numbers (`Sequence[int]`): Of the rows among those of all processes; with `seed` they determine sampling.
            slice_size (`int`): Rows scored in one forward pass.
            state (`TrainerState`, *optional*): For reward functions.
            learner (`torch.nn.Module`, *optional*): The model as the training loop wraps it, if the next update is on
                all these rows at once: the passes of policy and value then keep their graphs, and the update needs no other.
        """
        self.model.eval()
        start = time.perf_counter()
        # 1. Generate
        episodes = self._complete(rows, row_uniforms(seed, numbers, self.args.max_completion_length), state)
        seconds = time.perf_counter() - start
        # 2. Reward
        packed = [self._pack(episodes, slice(i, i + slice_size)) for i in range(0, len(rows), slice_size)]
        rewards_per_func, scores, kept = self._reward(episodes)
        # 3. Log-probabilities under policy and reference, values. The policy's apart from what runs without gradients:
        # autocast would hand on its casts of the weights, which have none.
        with torch.no_grad(), self._autocast():
            ref_logps = [self._ref_logps(part) if self.uses_reference else None for part in packed]
        if learner is not None:
            learner.train()
        with torch.set_grad_enabled(learner is not None), self._autocast():
            active = [self._active_scores(learner or self.model, part) for part in packed]
        logps, values, entropies, kl = self._whole(active, ref_logps)
        lengths = torch.tensor([len(ids) for ids in episodes.completion_ids], device=logps.device)
        mask = torch.arange(logps.shape[1], device=logps.device) < lengths[:, None]
        live = active[0] if learner is not None else None
        return Experience(episodes, mask, logps, values, entropies, kl, rewards_per_func, scores, kept, seconds, live)

    @torch.no_grad()
    def _complete(self, rows: list[dict[str, Any]], uniforms: torch.Tensor, state: TrainerState | None) -> Episodes:
        asked = self.prompt_ids([row["prompt"] for row in rows])
        with self._autocast(), self.model.generating(merge=self.args.merge_for_generation) as model:
            completion_ids, finished = generate_completions(
                model,
                asked,
                args=self.args,
                uniforms=uniforms,
                eos_token_ids=self.eos_token_ids,
                pad_token_id=self.pad_token_id,
                unused_ids=self.unused_ids,
            )
        # Other special tokens stay in the text: in some vocabularies they are emoji, and where they are not, a reward
        # should see that the policy writes them.
        texts = [
            str(self.tokenizer.decode(ids[:-1])) if done else drop_half_syllable(str(self.tokenizer.decode(ids)))
            for ids, done in zip(completion_ids, finished, strict=True)
        ]
        return self._episodes(rows, texts, asked, completion_ids, finished, state)

    def _episodes(
        self,
        rows: list[dict[str, Any]],
        texts: Sequence[str],
        asked: list[list[int]],
        completion_ids: list[list[int]],
        finished: list[bool],
        state: TrainerState | None,
    ) -> Episodes:
        conversational = is_conversational({"prompt": rows[0]["prompt"]})
        completions: list[Any] = list(texts)
        if conversational:
            completions = [[{"role": "assistant", "content": text}] for text in texts]
        end = self._answer_end(conversational)
        stop = () if end.stop_id is None else (end.stop_id,)
        read_ids = [
            [*ids[:-1], *(stop or ids[-1:]), *end.tail_ids] if done else ids
            for ids, done in zip(completion_ids, finished, strict=True)
        ]
        return Episodes(rows, completions, asked, completion_ids, read_ids, finished, state or TrainerState())

    def _answer_end(self, conversational: bool) -> Any:
        kwargs = mapping(self.args.chat_template_kwargs)
        return answer_end(self.tokenizer, conversational=conversational, **kwargs)

    def _pack(self, episodes: Episodes, part: slice) -> PackedRows:
        return pack_rows(
            episodes.prompt_ids[part],
            episodes.completion_ids[part],
            pad_token_id=self.pad_token_id,
            device=self.accelerator.device,
        )

    @torch.no_grad()
    def _reward(self, episodes: Episodes) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        with self._autocast():
            rewards = collect_rewards(self.rewards, episodes, self.accelerator.device)
        return rewards, *weighted_rewards(rewards, self.reward_weights, clip_range=self.args.reward_clip_range)

    def score_answers(
        self,
        prompts: Sequence[Any],
        answers: Sequence[str],
        state: TrainerState | None = None,
        columns: Iterable[str] = (),
    ) -> list[float | None]:
        """What the rewards say, weighted and summed, of texts that end by themselves; `None` where they say nothing.

        A prompt that is a string is one user turn where the tokenizer has a chat template, as in [`generate_answers`].
        For reward functions the columns hold `None`.
        """
        if self.tokenizer.chat_template is not None:
            prompts = [as_turns(prompt, "user") for prompt in prompts]
        rows = [dict.fromkeys(columns) | {"prompt": prompt} for prompt in prompts]
        ids = encode_texts(self.tokenizer, answers, add_special_tokens=False)
        completion_ids = [[*row, self.eos_token_ids[0]] for row in ids]
        asked = self.prompt_ids(prompts)
        episodes = self._episodes(rows, answers, asked, completion_ids, [True] * len(rows), state)
        _, scores, kept = self._reward(episodes)
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
            assert isinstance(self.model, AdapterRoles)
            return self.model.ref_logps(rows, temperature=temperature)
        return token_logps(completion_logits(self.ref_model, rows), rows, temperature=temperature)

    def rollout(self, made: Experience, *, kl_coef: float) -> tuple[Rollout, dict[str, float]]:
        """Advantages and returns, standardized over all processes; and what they say of the critic."""
        _check_finite(made)
        finished = torch.tensor(made.episodes.finished, device=made.scores.device)
        scores = made.scores - (self.args.missing_eos_penalty or 0.0) * (~finished).float()
        rewards = token_rewards(scores, made.kl, made.mask, kl_coef=kl_coef)
        advantages, returns = advantages_and_returns(
            rewards, made.values, made.mask, gamma=self.args.gamma, lam=self.args.lam
        )
        mask = made.mask & made.kept[:, None]
        rollout = Rollout(
            prompt_ids=made.episodes.prompt_ids,
            completion_ids=made.episodes.completion_ids,
            old_per_token_logps=made.per_token_logps,
            old_values=made.values,
            advantages=standardize(advantages, mask, reduce=self._sum),
            returns=returns,
            kept=made.kept,
        )
        critic = {"ppo/kl_coef": kl_coef}
        explained = explained_variance(made.values, returns, mask, reduce=self._sum)
        return rollout, critic if math.isnan(explained) else critic | {"ppo/explained_variance": explained}

    def _sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.accelerator.reduce(tensor, "sum")

    def row_measures(self, made: Experience) -> torch.Tensor:
        """What [`summarize`] needs of each completion, `(B, 6 + K)`."""
        finished = torch.tensor(made.episodes.finished, device=made.scores.device)
        kl, entropy = ((of_tokens * made.mask).sum(1) for of_tokens in (made.kl, made.entropies))
        columns = [made.scores, made.kept, kl, entropy, made.mask.sum(1), finished]
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
        for reward, given in zip(self.rewards, measures[:, 6:].T, strict=True):
            given = given[~given.isnan()]
            if len(given):
                metrics[f"rewards/{reward.name}/mean"] = given.mean().item()
                metrics[f"rewards/{reward.name}/std"] = given.std(unbiased=False).item()
        return metrics

    def summarize_evaluation(self, measures: torch.Tensor) -> dict[str, float]:
        """As [`summarize`], under the names of the run report's measures."""
        metrics = self.summarize(measures)
        renamed = {"mean_length": metrics["completions/mean_length"], "eos_rate": measures[:, 5].mean().item()}
        return {k: v for k, v in metrics.items() if not k.startswith("completions/")} | renamed

    def logged(self, made: Experience) -> dict[str, float]:
        """Means over all processes of what reward functions logged with `log_metric`."""
        values: dict[str, list[float]] = defaultdict(list)
        for of_process in gather_object([dict(made.episodes.metrics)]):
            for name, given in of_process.items():
                values[name] += given
        return {name: sum(given) / len(given) for name, given in values.items()}

    def table(self, made: Experience, advantages: torch.Tensor | None = None) -> list[dict[str, Any]]:
        """One row for each completion of all processes, for the eye."""
        rows = []
        for i, (prompt, completion) in enumerate(zip(made.episodes.prompts, made.episodes.completions, strict=True)):
            row = {"prompt": prompt, "completion": completion}
            for reward, value in zip(self.rewards, made.rewards_per_func[i].tolist(), strict=True):
                row[reward.name] = None if math.isnan(value) else value
            if advantages is not None:
                row["advantage"] = advantages[i, : int(made.mask[i].sum())].mean().item()
            extra = made.episodes.columns.items()
            rows.append(row | {column: values[i] for column, values in extra if i < len(values)})
        return gather_object(rows)


def _check_finite(made: Experience) -> None:
    """Raise where the models are beyond repair: every update on this rollout would be NaN."""
    said = {"policy's log-probabilities": made.per_token_logps, "values": made.values, "KL to the reference": made.kl}
    for name, tensor in said.items():
        if not tensor.isfinite().all():
            raise InputError(
                f"The {name} on a rollout are not finite: training has diverged. Go back to an earlier checkpoint with a "
                "lower learning_rate or max_grad_norm, or train in bf16 or float32 instead of fp16."
            )
