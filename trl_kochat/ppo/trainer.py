"""PPO on the stock training loop."""

import copy
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig, PeftModel
from safetensors import SafetensorError
from torch import nn
from torch.utils.data import DataLoader
from transformers import (
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerState,
    set_seed,
)
from transformers.trainer_utils import EvalLoopOutput, get_last_checkpoint

from ..errors import InputError
from ..tokenizer import load_tokenizer, save_hand_over
from ..versions import check_torchao
from .checks import as_list, check_datasets, check_launch, check_sources
from .config import PPOConfig
from .experience import Experience, ExperienceMaker
from .models import Loader, build_roles, disable_dropout
from .objective import adapted_kl_coef, policy_losses, value_losses
from .rewards import ModelReward
from .roles import POLICY, VALUE, Roles, Scores
from .rollout import Rollout, RolloutBatchSampler, epoch_order, row_numbers
from .tables import show_completions


STATE_FILE = "ppo_state.json"
# The first number of a seed, so that sampling in training and evaluation and the order of updates are unrelated.
_TRAIN, _EVAL, _ORDER = 0, 1, 2
# Sums over tokens that an update reports, in this order.
_TOKEN_METRICS = ("policy_loss", "value_loss", "clipfrac", "clipfrac_value", "approx_kl", "ratio")


def _collate(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows stay rows: prompts become tensors in the rollout."""
    return rows


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
            Functions `f(prompts, completions, completion_ids, **columns)` that return one number or `None` for each
            completion; reward models with one label; paths. An adapter folder that was trained on the policy's base
            is loaded onto it. Rewards are summed by `args.reward_weights`; a completion for which every source says
            `None` is left out of the loss and counted as `ppo/missing_rewards`.
        args ([`PPOConfig`], *optional*): Settings.
        train_dataset (`Dataset`): Prompt-only rows, standard or conversational; other columns go to the functions.
        eval_dataset (`Dataset` or a mapping of them, *optional*): Held-out prompts.
        processing_class (`PreTrainedTokenizerBase`, *optional*): The policy's tokenizer; by default what
            [`load_tokenizer`] gives for the model.
        reward_processing_classes (`PreTrainedTokenizerBase` or a list, *optional*): Tokenizers of reward models that
            do not read the policy's ids; by default each model's own, where one was saved with it.
        ref_model (`str` or `PreTrainedModel`, *optional*): What KL is measured against; by default see
            `args.reference`.
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
        reward_funcs = as_list(reward_funcs)
        reward_processing_classes = as_list(reward_processing_classes or [None] * len(reward_funcs))
        check_sources(reward_funcs, reward_processing_classes, args)
        set_seed(args.seed)  # of new adapters
        if peft_config is not None:
            check_torchao()
        loader = Loader(args, quantization_config)
        policy = loader.causal(model)
        tokenizer = processing_class or load_tokenizer(str(policy.name_or_path))
        if tokenizer.eos_token_id is None:
            raise InputError("The tokenizer has no eos_token, so no completion could end; set tokenizer.eos_token.")
        if ref_model is model and not isinstance(model, str):
            raise InputError("ref_model is the model itself and would move with it; leave it out, or pass a copy.")
        if ref_model is None and args.kl_coef > 0 and peft_config is None and not isinstance(policy, PeftModel):
            ref_model = copy.deepcopy(policy)
        self.ref_model = Loader(args).causal(ref_model) if ref_model is not None else None
        roles, self.rewards = build_roles(
            policy,
            reward_funcs,
            loader=loader,
            tokenizer=tokenizer,
            value_model=value_model,
            reward_processing_classes=reward_processing_classes,
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
        self.maker = ExperienceMaker(
            roles,
            self.rewards,
            ref_model=self.ref_model,
            tokenizer=tokenizer,
            args=args,
            accelerator=self.accelerator,
        )
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
        """Start without a rollout."""
        self.kl_coef = self.args.kl_coef
        self._rollout: Rollout | None = None
        self._live: Scores | None = None  # of the rollout just made
        self._is_loaded = False  # from a checkpoint, and not yet compared with the prompts that come
        self._metrics: dict[str, list[float]] = defaultdict(list)
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
        rollout = self._make_rollout(inputs, number, model) if position == 0 else self._rollout
        assert rollout is not None
        self._rollout = rollout
        if self._is_loaded:
            if self.maker.prompt_ids([row["prompt"] for row in inputs]) != rollout.prompt_ids:
                raise InputError("The saved rollout is of other prompts: the dataset or the chat template changed.")
            self._is_loaded = False
        if self._slice_in_step == 0:
            upcoming = range(position, position + args.gradient_accumulation_steps)
            tokens = sum(rollout.tokens(self._slice_rows(rollout, number, p)) for p in upcoming)
            total = self.accelerator.reduce(torch.tensor(float(tokens), device=self.accelerator.device), "sum")
            self._step_tokens = max(total.item(), 1.0)
        start = time.perf_counter()
        rows = self._slice_rows(rollout, number, position)
        batch = rollout.batch(rows, pad_token_id=self.maker.pad_token_id, device=self.accelerator.device)
        # A value with a pass of its own has its backward pass apart: one graph in memory instead of two. After a
        # rollout whose passes are used there are two already.
        apart = self.model.has_value_pass and self._live is None
        passes = [(POLICY,), (VALUE,)] if apart else [(POLICY, VALUE)]
        losses = [super(PPOTrainer, self).training_step(model, batch | {"roles": roles}) for roles in passes]
        # Of all updates on a rollout, so that the parts of a rollout's time compare.
        self._metrics["ppo/time/update"].append((time.perf_counter() - start) * args.updates_per_rollout)
        self._slice_in_step += 1
        if self._slice_in_step == args.gradient_accumulation_steps:
            self._report_step()
        return torch.stack(losses).sum()

    def _slice_rows(self, rollout: Rollout, number: int, position: int) -> list[int]:
        ppo_epoch, part = divmod(position, self.args.slices)
        order = epoch_order(len(rollout.prompt_ids), ppo_epoch=ppo_epoch, seed=[_ORDER, self.args.seed, number])
        size = self.args.per_device_train_batch_size
        return order[part * size : (part + 1) * size]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Clipped policy and value loss on a slice of a rollout, a mean over the tokens of the whole step."""
        args, mask = self.args, inputs["loss_mask"]
        names = ("input_ids", "attention_mask", "completion_ids", "completion_mask", "prompt_lengths", "roles")
        if self._live is not None:
            scores, self._live = self._live, None
        else:
            scores = model(**{name: inputs[name] for name in names}, temperature=args.temperature)
        # DDP averages gradients over processes, and the tokens counted are those of all of them.
        per_token = self.accelerator.num_processes / self._step_tokens
        # Each part is scaled by itself, so that parts computed apart add up to the same bits.
        loss: Any = 0.0
        if scores.per_token_logps is not None:
            logps, old_logps = scores.per_token_logps, inputs["old_per_token_logps"]
            policy = policy_losses(logps, old_logps, inputs["advantages"], cliprange=args.cliprange)
            loss = loss + policy.losses[mask].sum() * per_token
            with torch.no_grad():
                log_ratio = (logps - old_logps)[mask]
                self._count("policy_loss", policy.losses[mask])
                self._count("clipfrac", policy.clipped[mask])
                self._count("approx_kl", 0.5 * log_ratio.square())
                self._count("ratio", log_ratio.exp())
        if scores.values is not None:
            value = value_losses(
                scores.values, inputs["old_values"], inputs["returns"], cliprange=args.cliprange_value
            )
            loss = loss + args.vf_coef * value.losses[mask].sum() * per_token
            self._count("value_loss", value.losses[mask])
            self._count("clipfrac_value", value.clipped[mask])
        return (loss, scores) if return_outputs else loss

    def _count(self, name: str, of_tokens: torch.Tensor) -> None:
        self._step_sums[_TOKEN_METRICS.index(name)] += of_tokens.detach().sum()

    def _report_step(self) -> None:
        means = self.accelerator.reduce(self._step_sums, "sum") / self._step_tokens
        for name, mean in zip(_TOKEN_METRICS, means.tolist(), strict=True):
            self._metrics[f"ppo/{name}"].append(mean)
        self._step_sums = torch.zeros_like(self._step_sums)

    def _make_rollout(self, rows: list[dict[str, Any]], number: int, model: nn.Module) -> Rollout:
        args = self.args
        # If all of it is one slice, the first update can use the passes that score it.
        learner = model if args.slices == 1 and args.disable_dropout else None
        start = time.perf_counter()
        made = self._experience(
            rows, size=args.per_device_train_batch_size, first=0, seed=[_TRAIN, args.seed, number], learner=learner
        )
        self._metrics["ppo/time/generation"].append(made.generation_seconds)
        self._metrics["ppo/time/scoring"].append(time.perf_counter() - start - made.generation_seconds)
        self._live = made.live
        rollout, critic = self.maker.rollout(made, kl_coef=self.kl_coef)
        metrics = self.maker.summarize(self.accelerator.gather(self.maker.row_measures(made)))
        for name, value in (self.maker.logged(made) | metrics | critic).items():
            self._metrics[name].append(value)
        if args.log_completions:
            self._table = self.maker.table(made, rollout.advantages)
        if args.kl_target is not None:
            self.kl_coef = adapted_kl_coef(
                self.kl_coef,
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
        """Rewards of answers, for `KoreanSamplesCallback(score=trainer.score_answers)`."""
        return self.maker.score_answers(prompts, answers, self.state)

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
        every = torch.cat(measures)
        self.eval_completions = self.eval_completions[: len(every)]  # the last batch may be filled up
        metrics = self.maker.summarize(every)
        mean_length = metrics["completions/mean_length"]
        metrics = {k: v for k, v in metrics.items() if not k.startswith("completions/")}
        metrics |= {"mean_length": mean_length, "eos_rate": every[:, 5].mean().item()} | _means(logged)
        if args.log_completions:
            self._show(self.eval_completions, metric_key_prefix)
        named = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        return EvalLoopOutput(None, None, metrics=named, num_samples=len(every))  # type: ignore[arg-type]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of what was measured since the last log; with `log_completions`, show the last rollout."""
        if not any(name.startswith("eval_") for name in logs):
            logs |= _means(self._metrics)
            self._metrics.clear()
            self._show(self._table, "completions")
            self._table = []
        super().log(logs, start_time)

    def _show(self, rows: list[dict[str, Any]], name: str) -> None:
        if self.accelerator.is_main_process:
            limit, step = self.args.num_completions_to_print, self.state.global_step
            show_completions(rows, name=name, step=step, limit=limit, report_to=self.args.report_to or [])

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
            self._save_progress(folder)
        elif self.args.push_to_hub:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _save_progress(self, folder: Path) -> None:
        if self.args.should_save:
            self.model.save_for_resuming(folder)
            # Weights and rollouts that must be there for resuming, for whoever looks whether the checkpoint is whole.
            files = {str(path.relative_to(folder)) for path in folder.rglob("*.safetensors")}
            if self._is_mid_rollout(self.state.global_step):
                files |= {self._rollout_file(folder, process).name for process in range(self.args.world_size)}
            state = {"kl_coef": self.kl_coef, "metrics": self._metrics, "files": sorted(files)}
            (folder / STATE_FILE).write_text(json.dumps(state), encoding="utf-8")
        if self._is_mid_rollout(self.state.global_step):
            assert self._rollout is not None
            self._rollout.save(self._rollout_file(folder, self.args.process_index))

    def _is_mid_rollout(self, global_step: int) -> bool:
        return global_step * self.args.gradient_accumulation_steps % self.args.updates_per_rollout != 0

    def _rollout_file(self, folder: Path, process: int) -> Path:
        return folder / f"rollout_{process}.safetensors"

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As [`~transformers.Trainer.train`]; a checkpoint resumes exactly where it was saved."""
        self._forget()
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir)
            if resume_from_checkpoint is None:
                raise InputError(f"No checkpoint in {self.args.output_dir!r} to resume from.")
        if resume_from_checkpoint:
            self._load_progress(Path(str(resume_from_checkpoint)))
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _load_progress(self, folder: Path) -> None:
        if not (folder / STATE_FILE).is_file():
            raise InputError(f"{folder} is no checkpoint of PPOTrainer: it has no {STATE_FILE}.")
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        self.kl_coef = state["kl_coef"]
        self._metrics.update(state["metrics"])
        self.model.load_value(folder)
        trainer_state = TrainerState.load_from_json(str(folder / "trainer_state.json"))
        if self._is_mid_rollout(trainer_state.global_step):
            file = self._rollout_file(folder, self.args.process_index)
            if not file.is_file():
                raise InputError(
                    f"{folder} was saved in the middle of a rollout and has no {file.name}: resume with the same "
                    "number of processes and the same batch sizes."
                )
            try:
                self._rollout, self._is_loaded = Rollout.load(file, self.accelerator.device), True
            except SafetensorError as error:
                raise InputError(f"{file} is broken ({error}): resume from another checkpoint.") from error


def _means(values: dict[str, list[float]]) -> dict[str, float]:
    return {name: sum(given) / len(given) for name, given in values.items()}
