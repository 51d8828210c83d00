"""PPO on the stock training loop."""

import copy
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig, PeftModel
from torch import nn
from torch.utils.data import DataLoader
from transformers import (
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    set_seed,
)
from transformers.trainer_utils import EvalLoopOutput, get_last_checkpoint

from ..errors import InputError
from ..tokenizer import load_tokenizer, save_hand_over
from .checks import check_datasets, check_launch, check_models, checked_sources
from .config import PPOConfig
from .experience import Experience, ExperienceMaker
from .models import Loader, build_roles, disable_dropout
from .objective import adapted_kl_coef, loss_sums
from .progress import Progress, means
from .rewards import ModelReward
from .roles import POLICY, VALUE, Roles, Scores
from .rollout import Rollout, RolloutBatchSampler, row_numbers, slice_rows
from .tables import show_completions


# The first number of a seed, so that sampling in training and evaluation are unrelated.
_TRAIN, _EVAL = 0, 1
# Sums over tokens that an update reports, in this order.
_TOKEN_METRICS = ("policy_loss", "value_loss", "clipfrac", "clipfrac_value", "approx_kl", "ratio")


def _collate(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return rows  # prompts become tensors in the rollout


class PPOTrainer(Trainer):
    """Proximal policy optimization (https://huggingface.co/papers/1707.06347) of a language model on prompts.

    The stock loop of [`~transformers.Trainer`] runs it: `training_step` makes a rollout when the last one is used up,
    and takes the loss on a slice of it. So saving, resuming, logging, callbacks, gradient accumulation and `accelerate`
    work as they do there. Resuming is exact, between rollout and update too: the rollout is part of the checkpoint.
    Several processes need DDP; sharded weights (FSDP, DeepSpeed stage 3) are not supported.

    Args:
        model (`str`, `PreTrainedModel` or `PeftModel`):
            The policy: a path, a folder with an adapter (the SFT adapter, say), or an object. Changed in place.
        reward_funcs (`str`, `PreTrainedModel`, `PeftModel`, `Callable` or a list of them):
            Functions `f(prompts, completions, completion_ids, **columns)` as GRPOTrainer's, reward models with one
            label, paths; an adapter folder of the policy's base is loaded onto it. Rewards are summed by
            `args.reward_weights`; what every source calls `None` is left out and counted as `ppo/missing_rewards`.
        args ([`PPOConfig`], *optional*): Settings.
        train_dataset (`Dataset`): Prompt-only rows, standard or conversational; other columns go to the functions.
        eval_dataset (`Dataset` or a mapping of them, *optional*): Held-out prompts.
        processing_class (`PreTrainedTokenizerBase`, *optional*): The policy's; by default that of [`load_tokenizer`].
        reward_processing_classes (`PreTrainedTokenizerBase` or a list, *optional*): Of reward models that do not read
            the policy's ids; by default each model's own, where one was saved with it.
        ref_model (`str` or `PreTrainedModel`, *optional*): What KL is measured against, if not `args.reference`.
        value_model (`str` or `PreTrainedModel`, *optional*): What the value starts from: a model with one label, or
            the folder of such an adapter. By default the reward model's weights, else the policy's with a head of 0.
        callbacks (`list[TrainerCallback]`, *optional*): Added to the default ones.
        optimizers (*optional*): Optimizer and scheduler, as in [`~transformers.Trainer`].
        quantization_config (`BitsAndBytesConfig`, *optional*): For a model given as a path.
        peft_config (`PeftConfig`, *optional*): A new LoRA adapter for a policy without one.
    """

    # compute_loss divides by the tokens of the whole accumulated batch.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: str | PreTrainedModel | PeftModel,
        reward_funcs: Any,
        args: PPOConfig | None = None,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        reward_processing_classes: Any = None,
        ref_model: str | PreTrainedModel | None = None,
        value_model: str | PreTrainedModel | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        quantization_config: BitsAndBytesConfig | None = None,
        peft_config: PeftConfig | None = None,
    ) -> None:
        args = args if args is not None else PPOConfig("ppo")
        sources, tokenizers = checked_sources(reward_funcs, reward_processing_classes, args, peft_config)
        set_seed(args.seed)  # of new adapters
        loader = Loader(args, quantization_config)
        policy = loader.causal(model)
        tokenizer = processing_class or load_tokenizer(str(policy.name_or_path))
        check_models(model, ref_model, tokenizer)
        if ref_model is None and args.kl_coef > 0 and peft_config is None and not isinstance(policy, PeftModel):
            ref_model = copy.deepcopy(policy)
        self.ref_model = Loader(args).causal(ref_model) if ref_model is not None else None
        roles, self.rewards = build_roles(
            policy,
            sources,
            loader=loader,
            tokenizer=tokenizer,
            value_model=value_model,
            reward_processing_classes=tokenizers,
            peft_config=peft_config,
        )
        if args.disable_dropout:
            disable_dropout(roles)
        super().__init__(
            model=roles,
            args=args,
            data_collator=_collate,  # type: ignore[arg-type]
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=tokenizer,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        check_launch(self)
        self.args: PPOConfig
        self.model: Roles
        self.train_dataset: Dataset
        self._settle_frozen_models()
        self.maker = ExperienceMaker(roles, self.rewards, self.ref_model, tokenizer, args, self.accelerator)
        self.eval_completions: list[dict[str, Any]] = []  # of the last evaluation, for reports
        check_datasets(self.train_dataset, self.eval_dataset, self.maker, args, policy.config)
        self._forget()

    def _settle_frozen_models(self) -> None:
        own = [r.model for r in self.rewards if isinstance(r, ModelReward) and r.adapter is None]
        for module in filter(None, [self.ref_model, *own]):
            module.eval().requires_grad_(False)
            if getattr(module, "quantization_method", None) is None:  # quantized weights are where they were loaded
                module.to(self.accelerator.device)

    def _forget(self) -> None:
        self.progress = Progress(self.args.kl_coef)
        self._live: Scores | None = None  # of the rollout just made
        self._table: list[dict[str, Any]] = []
        self._slice_in_step, self._step_of_slice = 0, -1
        self._step_tokens = 0.0
        self._step_sums = torch.zeros(len(_TOKEN_METRICS), device=self.accelerator.device)

    def get_train_dataloader(self) -> DataLoader:
        """Batches of rows: a rollout's prompts, once for each `training_step` on them."""
        args = self.args
        sampler = RolloutBatchSampler(
            len(self.train_dataset),
            slice_size=args.per_device_train_batch_size,
            slices=args.slices,
            processes=args.world_size,
            repeats=args.updates_per_rollout,
            seed=args.data_seed if args.data_seed is not None else args.seed,
            epoch=lambda: int(self.state.epoch or 0),
        )
        loader: DataLoader = DataLoader(
            self.train_dataset,
            batch_sampler=sampler,  # type: ignore[arg-type]
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
        )
        return self.accelerator.prepare(loader)

    def training_step(
        self, model: nn.Module, inputs: Any, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Make a rollout of the prompts in `inputs` if none is left, then learn from the next slice of it."""
        args = self.args
        if self._step_of_slice != self.state.global_step:
            self._step_of_slice, self._slice_in_step = self.state.global_step, 0
        done = self.state.global_step * args.gradient_accumulation_steps + self._slice_in_step
        number, position = divmod(done, args.updates_per_rollout)
        rollout = self._make_rollout(inputs, number, model) if position == 0 else self.progress.rollout
        assert rollout is not None
        self.progress.rollout = rollout
        if self.progress.is_loaded:
            if self.maker.prompt_ids([row["prompt"] for row in inputs]) != rollout.prompt_ids:
                raise InputError("The saved rollout is of other prompts: the dataset or the chat template changed.")
            self.progress.is_loaded = False
        if self._slice_in_step == 0:
            upcoming = range(position, position + args.gradient_accumulation_steps)
            tokens = sum(rollout.tokens(slice_rows(number, p, args)) for p in upcoming)
            total = self.accelerator.reduce(torch.tensor(float(tokens), device=self.accelerator.device), "sum")
            self._step_tokens = max(total.item(), 1.0)
        start = time.perf_counter()
        rows = slice_rows(number, position, args)
        batch = rollout.batch(rows, pad_token_id=self.maker.pad_token_id, device=self.accelerator.device)
        # A value with a pass of its own has its backward pass apart: one graph in memory instead of two. After a
        # rollout whose passes are used there are two already.
        apart = self.model.has_value_pass and self._live is None
        passes = [(POLICY,), (VALUE,)] if apart else [(POLICY, VALUE)]
        with self.maker.inputs_as_they_are():
            losses = [super(PPOTrainer, self).training_step(model, batch | {"roles": roles}) for roles in passes]
        # Of all updates on a rollout, so that the parts of a rollout's time compare.
        self.progress.metrics["ppo/time/update"].append((time.perf_counter() - start) * args.updates_per_rollout)
        self._slice_in_step += 1
        if self._slice_in_step == args.gradient_accumulation_steps:
            self._report_step()
        return torch.stack(losses).sum()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Clipped policy and value loss on a slice of a rollout, a mean over the tokens of the whole step."""
        args = self.args
        names = ("input_ids", "attention_mask", "completion_ids", "completion_mask", "prompt_lengths", "roles")
        if self._live is not None:
            scores, self._live = self._live, None
        else:
            scores = model(**{name: inputs[name] for name in names}, temperature=args.temperature)
        # DDP averages gradients over processes, and the tokens counted are those of all of them.
        per_token = self.accelerator.num_processes / self._step_tokens
        sums = loss_sums(
            scores.per_token_logps,
            scores.values,
            inputs,
            cliprange=args.cliprange,
            cliprange_value=args.cliprange_value,
        )
        for name, total in sums.items():
            self._step_sums[_TOKEN_METRICS.index(name)] += total.detach()
        # Each part is scaled by itself, so that parts computed apart add up to the same bits.
        weights = {"policy_loss": 1.0, "value_loss": args.vf_coef}
        loss = sum(weights[name] * sums[name] * per_token for name in weights if name in sums)
        return (loss, scores) if return_outputs else loss

    def _report_step(self) -> None:
        of_step = self.accelerator.reduce(self._step_sums, "sum") / self._step_tokens
        for name, mean in zip(_TOKEN_METRICS, of_step.tolist(), strict=True):
            self.progress.metrics[f"ppo/{name}"].append(mean)
        self._step_sums = torch.zeros_like(self._step_sums)

    def _make_rollout(self, rows: list[dict[str, Any]], number: int, model: nn.Module) -> Rollout:
        args = self.args
        # If all of it is one slice, the first update can use the passes that score it.
        learner = model if args.slices == 1 and args.disable_dropout else None
        start = time.perf_counter()
        size = args.per_device_train_batch_size
        made = self._experience(rows, size=size, first=0, seed=[_TRAIN, args.seed, number], learner=learner)
        self.progress.metrics["ppo/time/generation"].append(made.generation_seconds)
        self.progress.metrics["ppo/time/scoring"].append(time.perf_counter() - start - made.generation_seconds)
        self._live = made.live
        rollout, critic = self.maker.rollout(made, kl_coef=self.progress.kl_coef)
        metrics = self.maker.summarize(self.accelerator.gather(self.maker.row_measures(made)))
        for name, value in (self.maker.logged(made) | metrics | critic).items():
            self.progress.metrics[name].append(value)
        if args.log_completions:
            self._table = self.maker.table(made, rollout.advantages)
        if args.kl_target is not None:
            self.progress.kl_coef = adapted_kl_coef(
                self.progress.kl_coef,
                metrics["kl"],
                kl_target=args.kl_target,
                episodes=args.episodes_per_rollout,
                kl_horizon=args.kl_horizon,
            )
        return rollout

    def _experience(
        self, rows: list[dict[str, Any]], *, size: int, first: int, seed: list[int], learner: nn.Module | None = None
    ) -> Experience:
        """Completions of rows whose numbers start at `first`, the same whatever the number of processes."""
        processes, process = self.args.world_size, self.args.process_index
        numbers = [first + i for i in row_numbers(len(rows), size=size, process=process, processes=processes)]
        return self.maker(rows, numbers=numbers, seed=seed, slice_size=size, state=self.state, learner=learner)

    def score_answers(self, prompts: Sequence[Any], answers: Sequence[str]) -> list[float | None]:
        """Rewards of answers, as [`KoreanSamplesCallback`] takes them."""
        return self.maker.score_answers(prompts, answers, self.state, self.train_dataset.column_names or ())

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Complete each prompt once, with random numbers that are the same every time, and measure the completions."""
        args, size = self.args, self.args.eval_batch_size
        measures, self.eval_completions = [], []
        logged: dict[str, list[float]] = defaultdict(list)
        for i, rows in enumerate(dataloader):
            made = self._experience(rows, size=size, first=i * size * args.world_size, seed=[_EVAL, args.seed])
            measures.append(self.accelerator.gather_for_metrics(self.maker.row_measures(made)))
            self.eval_completions += self.maker.table(made)
            for name, value in self.maker.logged(made).items():
                logged[name].append(value)
        every = self.eval_measures = torch.cat(measures)  # of the rows of `eval_completions`
        self.eval_completions = self.eval_completions[: len(every)]  # the last batch may be filled up
        metrics = self.maker.summarize_evaluation(every) | means(logged)
        if args.log_completions:
            self._show(self.eval_completions, metric_key_prefix)
        named = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        return EvalLoopOutput(None, None, metrics=named, num_samples=len(every))  # type: ignore[arg-type]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of what was measured since the last log; with `log_completions`, show the last rollout."""
        if not any(name.startswith("eval_") for name in logs):
            logs |= self.progress.pop_metrics()
            self._show(self._table, "completions")
            self._table = []
        super().log(logs, start_time)

    def _show(self, rows: list[dict[str, Any]], name: str) -> None:
        if self.accelerator.is_main_process:
            show_completions(rows, name=name, step=self.state.global_step, args=self.args)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the policy where `AutoPeftModelForCausalLM` (or `AutoModelForCausalLM`) finds it, the value beside it.

        A checkpoint that the loop saves also holds what resuming needs.
        """
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        if self.args.should_save:
            self.model.save_pretrained(folder)
            save_hand_over(self.model.policy, self.maker.tokenizer, folder)
            if _internal_call:
                self.model.save_for_resuming(folder)
        if _internal_call:
            self.progress.save(folder, self.args, self.state.global_step)
        elif self.args.push_to_hub:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As [`~transformers.Trainer.train`]; a checkpoint resumes exactly where it was saved."""
        self._forget()
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir)
            if resume_from_checkpoint is None:
                raise InputError(f"No checkpoint in {self.args.output_dir!r} to resume from.")
        if resume_from_checkpoint:
            folder = Path(str(resume_from_checkpoint))
            self.progress = Progress.load(folder, self.args, self.accelerator.device)
            self.model.load_value(folder)
        return super().train(resume_from_checkpoint, *args, **kwargs)
