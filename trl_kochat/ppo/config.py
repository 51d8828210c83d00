"""Settings of the PPO trainer."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments
from transformers.utils import is_torch_bf16_gpu_available

from ..errors import InputError
from .objective import KL_ESTIMATORS


# Fields that hold a mapping; on a command line they are JSON.
_MAPPINGS = ("model_init_kwargs", "generation_kwargs", "chat_template_kwargs")
# What generation_kwargs may hold: how tokens are computed. All else changes which tokens come, unknown to the update.
GENERATION_KWARGS = (
    "use_cache",
    "cache_implementation",
    "cache_config",
    "max_cache_len",
    "prefill_chunk_size",
    "compile_config",
    "disable_compile",
)
_CHOICES = {"reference": ("sft", "base"), "value_trunk": ("adapter", "policy"), "kl_estimator": tuple(KL_ESTIMATORS)}


def mapping(value: dict | str | None) -> dict[str, Any]:
    """A mapping given as such or as JSON, empty if not given."""
    value = json.loads(value) if isinstance(value, str) else value
    if value is not None and not isinstance(value, dict):
        raise InputError(f"{value!r} is no mapping; on a command line, write a JSON object")
    return value or {}


@dataclass
class PPOConfig(TrainingArguments):
    r"""Configuration of [`PPOTrainer`]: what is PPO's own, and TRL's shared names where TRL has one.

    Every other argument is that of [`~transformers.TrainingArguments`]. How batches nest: each process generates
    `per_device_train_batch_size * steps_per_generation` completions, then passes over them `num_ppo_epochs` times in
    slices of `per_device_train_batch_size`, with an optimizer step every `gradient_accumulation_steps` slices.
    `num_train_epochs` counts passes over the prompts, `max_steps` optimizer steps.

    Parameters:
        > Models

        model_init_kwargs (`dict` or JSON, *optional*): For `from_pretrained`, where a model is given as a path.
        trust_remote_code (`bool`, defaults to `False`): Run code that a model repository ships.
        disable_dropout (`bool`, defaults to `True`):
            With dropout, the first update would already see a ratio other than 1 and a KL other than 0.
        reference (`str`, defaults to `"sft"`):
            What KL is measured against when the model comes with an adapter: `"sft"`, the model as given, whose
            adapter is kept as a frozen copy; or `"base"`, the base with the adapter off. Without an adapter to start
            from, both are the model as given.
        value_trunk (`str`, defaults to `"adapter"`):
            Where the value comes from. `"adapter"`: a LoRA adapter of its own on the shared base (without LoRA, a
            model of its own), started from the reward model where there is one. `"policy"`: a head on the policy's
            last hidden state, which saves a forward and backward pass, and lets the value loss shape the policy.

        > Prompts and generation

        remove_unused_columns (`bool`, defaults to `False`): Columns beside `prompt` go to the reward functions.
        max_prompt_length (`int`, *optional*):
            A longer prompt (in tokens) is an error. Nothing is cut here: what a cut prompt asks is for its author to
            decide.
        max_completion_length (`int`, defaults to `256`): Tokens at most.
        steps_per_generation (`int`, *optional*):
            Slices of `per_device_train_batch_size` generated at once in each process, a multiple of
            `gradient_accumulation_steps` and by default equal to it. Mutually exclusive with `generation_batch_size`.
        generation_batch_size (`int`, *optional*): The same, as the number of completions over all processes.
        temperature (`float`, defaults to `1.0`), top_k (`int`, defaults to `0`), top_p (`float`, defaults to `1.0`),
        min_p (`float`, *optional*), repetition_penalty (`float`, defaults to `1.0`):
            Sampling, as in TRL. Nothing that the base's generation_config asks for joins it. Log-probabilities, KL and
            entropy are those of the softmax at this temperature over all tokens, as in TRL: where the others cut or
            warp what is sampled, the ratio compares the same tokens under two policies that do not, which is a little
            off-policy (by the share that is cut away). Warped log-probabilities are not offered: a sampled token that
            an update moves out of the top k would have none.
        generation_kwargs (`dict` or JSON, *optional*):
            More for [`~transformers.GenerationConfig`], of what does not change which tokens come: `use_cache`,
            `cache_implementation`, `cache_config`, `max_cache_len`, `prefill_chunk_size`, `compile_config`,
            `disable_compile`.
        chat_template_kwargs (`dict` or JSON, *optional*): More for `apply_chat_template`.
        merge_for_generation (`bool`, *optional*):
            Generate from copies of the base's matrices with the policy's adapter added to them: faster, but for the
            time of generation the base is in memory twice. By default on a CPU, where an update needs more memory
            anyway. Only a plain LoRA on matrices that nothing else uses, not in 4-bit, is the same model then.

        > Rewards

        reward_weights (`list[float]`, *optional*): One for each reward function; 1.0 by default.
        reward_clip_range (`list[float]`, *optional*): The weighted sum is clipped to [min, max].
        missing_eos_penalty (`float`, *optional*): Subtracted from the score of a completion that was cut by length.

        > PPO

        num_ppo_epochs (`int`, defaults to `4`): Passes over each batch of completions.
        kl_coef (`float`, defaults to `0.05`):
            Weight of the KL penalty in the token rewards. With 0 and no `kl_target`, the reference is never run.
        kl_estimator (`str`, defaults to `"k1"`): `"k1"` or `"k3"`, see [`ppo.objective`].
        kl_target (`float`, *optional*): In nats a completion. The coefficient then adapts to reach it.
        kl_horizon (`int`, defaults to `10000`): Episodes over which it adapts; smaller is faster.
        cliprange (`float`, defaults to `0.2`): Of the probability ratio.
        cliprange_value (`float`, defaults to `0.2`): Of the value, in units of the reward.
        vf_coef (`float`, defaults to `0.1`): Weight of the value loss.
        gamma (`float`, defaults to `1.0`), lam (`float`, defaults to `0.95`): Of generalized advantage estimation.

        > Logging

        log_completions (`bool`, defaults to `False`): Print a table of completions and send it to wandb, if in use.
        num_completions_to_print (`int`, *optional*): Rows of the printed table; all by default.
    """

    # TRL's defaults for all its trainers, and of its last PPOConfig, where transformers' own differ.
    learning_rate: float = field(default=3e-6, metadata={"help": "Initial learning rate."})
    logging_steps: float = field(default=10, metadata={"help": "Optimizer steps between two logs."})
    gradient_checkpointing: bool = field(
        default=True, metadata={"help": "Recompute activations in the backward pass, which saves memory."}
    )
    bf16: bool | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Compute in bf16; by default where the GPU can and fp16 is not asked for."}
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Keep False where reward functions use other columns than the prompt."}
    )

    model_init_kwargs: dict | str | None = field(default=None, metadata={"help": "JSON for `from_pretrained`."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that a model repository ships."})
    disable_dropout: bool = field(default=True, metadata={"help": "Without it, PPO's first ratio is not 1."})
    reference: str = field(
        default="sft", metadata={"help": "KL against the model as given, or its base.", "choices": ["sft", "base"]}
    )
    value_trunk: str = field(
        default="adapter",
        metadata={"help": "The value on an adapter of its own or on the policy.", "choices": ["adapter", "policy"]},
    )

    max_prompt_length: int | None = field(default=None, metadata={"help": "A longer prompt is an error (tokens)."})
    max_completion_length: int = field(default=256, metadata={"help": "Tokens of a completion at most."})
    generation_batch_size: int | None = field(
        default=None, metadata={"help": "Completions generated at once, over all processes."}
    )
    steps_per_generation: int | None = field(
        default=None, metadata={"help": "Slices of the device batch size generated at once in each process."}
    )
    temperature: float = field(default=1.0, metadata={"help": "Of sampling."})
    top_k: int = field(default=0, metadata={"help": "Sample from the k likeliest tokens; 0 for all."})
    top_p: float = field(default=1.0, metadata={"help": "Sample from the likeliest tokens of this total probability."})
    min_p: float | None = field(default=None, metadata={"help": "Least probability, relative to the likeliest."})
    repetition_penalty: float = field(default=1.0, metadata={"help": "Above 1 discourages repeated tokens."})
    generation_kwargs: dict | str | None = field(default=None, metadata={"help": "JSON for GenerationConfig."})
    chat_template_kwargs: dict | str | None = field(default=None, metadata={"help": "JSON for the chat template."})

    merge_for_generation: bool | None = field(
        default=None, metadata={"help": "Add the adapter to copies of the base's matrices to generate."}
    )

    reward_weights: list[float] | None = field(default=None, metadata={"help": "One for each reward function."})
    reward_clip_range: list[float] | None = field(default=None, metadata={"help": "Least and most reward."})
    missing_eos_penalty: float | None = field(
        default=None, metadata={"help": "Subtracted from the score of a completion without an end."}
    )

    num_ppo_epochs: int = field(default=4, metadata={"help": "Passes over each batch of completions."})
    kl_coef: float = field(default=0.05, metadata={"help": "Weight of the KL penalty."})
    kl_estimator: str = field(
        default="k1", metadata={"help": "How KL is estimated at each token.", "choices": list(KL_ESTIMATORS)}
    )
    kl_target: float | None = field(
        default=None, metadata={"help": "Nats a completion that kl_coef is adapted to reach; fixed if not given."}
    )
    kl_horizon: int = field(default=10_000, metadata={"help": "Episodes over which kl_coef adapts."})
    cliprange: float = field(default=0.2, metadata={"help": "Clip range of the probability ratio."})
    cliprange_value: float = field(default=0.2, metadata={"help": "Clip range of the value."})
    vf_coef: float = field(default=0.1, metadata={"help": "Weight of the value loss."})
    gamma: float = field(default=1.0, metadata={"help": "Discount."})
    lam: float = field(default=0.95, metadata={"help": "Lambda of generalized advantage estimation."})

    log_completions: bool = field(default=False, metadata={"help": "Log a table of completions."})
    num_completions_to_print: int | None = field(default=None, metadata={"help": "Rows of the printed table."})

    def __post_init__(self) -> None:
        for name in _MAPPINGS:
            setattr(self, name, mapping(getattr(self, name)))
        for name in mapping(self.generation_kwargs):
            if name not in GENERATION_KWARGS:
                raise InputError(
                    f"generation_kwargs holds {name!r}, which it may not: PPO samples from the distribution whose "
                    "log-probabilities it takes. temperature, top_k, top_p, min_p, repetition_penalty and "
                    f"max_completion_length are fields of PPOConfig; there are {', '.join(GENERATION_KWARGS)} besides."
                )
        if self.bf16 is None:
            self.bf16 = not self.fp16 and not self.use_cpu and is_torch_bf16_gpu_available()
        super().__post_init__()
        self._check_numbers()
        self._set_batch_sizes()
        if self.reward_clip_range is not None:
            if len(self.reward_clip_range) != 2 or not self.reward_clip_range[0] < self.reward_clip_range[1]:
                raise InputError(f"reward_clip_range is {self.reward_clip_range}; it is a least and a greatest reward")
        if self.auto_find_batch_size:
            raise InputError("auto_find_batch_size would change the batch in the middle of a rollout; turn it off")
        if self.ignore_data_skip:
            raise InputError("ignore_data_skip would resume a rollout with other prompts than it began with")

    def _check_numbers(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"{name} is {getattr(self, name)!r}; it is one of {', '.join(map(repr, choices))}")
        ranges = {
            "temperature": (self.temperature > 0, "above 0"),
            "top_k": (self.top_k >= 0, "0 (all tokens) or more"),
            "repetition_penalty": (self.repetition_penalty > 0, "above 0"),
            "max_prompt_length": (self.max_prompt_length is None or self.max_prompt_length >= 1, "at least 1"),
            "reward_weights": (all(map(math.isfinite, self.reward_weights or ())), "a finite number for each reward"),
            "missing_eos_penalty": ((self.missing_eos_penalty or 0.0) >= 0, "0 or more, and is subtracted"),
            "vf_coef": (self.vf_coef >= 0, "0 or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "min_p": (self.min_p is None or 0 <= self.min_p <= 1, "from 0 to 1"),
            "max_completion_length": (self.max_completion_length >= 1, "at least 1"),
            "num_ppo_epochs": (self.num_ppo_epochs >= 1, "at least 1"),
            "kl_coef": (self.kl_coef >= 0, "0 or more"),
            "kl_target": (self.kl_target is None or self.kl_target > 0, "above 0, in nats a completion"),
            "kl_horizon": (self.kl_horizon >= 1, "at least 1"),
            "cliprange": (self.cliprange > 0, "above 0"),
            "cliprange_value": (self.cliprange_value > 0, "above 0"),
            "gamma": (0 <= self.gamma <= 1, "from 0 to 1"),
            "lam": (0 <= self.lam <= 1, "from 0 to 1"),
        }
        for name, (good, allowed) in ranges.items():
            if not good:
                raise InputError(f"{name} is {getattr(self, name)}; it is {allowed}")
        if self.kl_target is not None and self.kl_coef == 0:
            raise InputError("kl_target adapts kl_coef by factors, and kl_coef is 0; start from 0.05, say")

    def _set_batch_sizes(self) -> None:
        slice_size = self.per_device_train_batch_size * self.world_size
        if self.generation_batch_size is not None:
            if self.steps_per_generation not in (None, self.generation_batch_size / slice_size):
                raise InputError("generation_batch_size and steps_per_generation say the same thing; give one of them")
            if self.generation_batch_size % slice_size:
                raise InputError(
                    f"generation_batch_size {self.generation_batch_size} is not a multiple of {slice_size} "
                    f"(per_device_train_batch_size {self.per_device_train_batch_size} x {self.world_size} processes)"
                )
            self.steps_per_generation = self.generation_batch_size // slice_size
        elif self.steps_per_generation is None:
            self.steps_per_generation = self.gradient_accumulation_steps
        if self.steps_per_generation < 1 or self.steps_per_generation % self.gradient_accumulation_steps:
            raise InputError(
                f"A rollout of {self.steps_per_generation} slices does not divide into optimizer steps of "
                f"{self.gradient_accumulation_steps}: make steps_per_generation (or generation_batch_size / "
                f"{slice_size}) a multiple of gradient_accumulation_steps"
            )
        self.generation_batch_size = self.steps_per_generation * slice_size

    @property
    def slices(self) -> int:
        """Slices of a rollout in each process: `steps_per_generation`, once it is settled."""
        assert self.steps_per_generation is not None
        return self.steps_per_generation

    @property
    def updates_per_rollout(self) -> int:
        """Calls of `training_step` on each rollout, in each process."""
        return self.num_ppo_epochs * self.slices

    @property
    def episodes_per_rollout(self) -> int:
        """Completions of a rollout over all processes: `generation_batch_size`, once it is settled."""
        return self.slices * self.per_device_train_batch_size * self.world_size

    def is_mid_rollout(self, step: int) -> bool:
        """Whether updates on the present rollout are left after optimizer step `step`."""
        return step * self.gradient_accumulation_steps % self.updates_per_rollout != 0
