"""Trainers small enough for a test: a few steps of a two-layer model on Korean rows."""

from pathlib import Path

from datasets import Dataset
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from trl_kochat.ppo import PPOConfig, PPOTrainer

from ..tiny_lm import tiny_llama, tiny_reward_model, tiny_tokenizer


ROWS = [
    {"prompt": "오늘 미세먼지 어때?", "completion": " 오늘은 조금 나쁩니다."},
    {"prompt": "불고기용 고기 한우에요?", "completion": " 네, 한우 앞다리살입니다."},
    {"prompt": "시카고 오헤어 국제공항은 어디에 있어?", "completion": " 미국 일리노이주에 있습니다."},
    {"prompt": "점심 뭐 먹지?", "completion": " 따뜻한 칼국수는 어떠세요."},
]


def quiet(output_dir: str | Path, **settings) -> dict:
    """Training arguments that every tiny trainer shares."""
    return {
        "output_dir": str(output_dir),
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "steps" if "save_steps" in settings else "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 0,
    } | settings


def sft_trainer(output_dir, *, rows=ROWS, callbacks=(), dropout=0.0, model=None, quantization_config=None, **settings):
    peft_config = settings.pop("peft_config", None)
    return SFTTrainer(
        tiny_llama(attention_dropout=dropout) if model is None else model,
        args=SFTConfig(**quiet(output_dir, bf16=False, gradient_checkpointing=False, **settings)),
        train_dataset=Dataset.from_list(rows * 2),
        processing_class=tiny_tokenizer(),
        callbacks=list(callbacks),
        peft_config=peft_config,
        quantization_config=quantization_config,
    )


PAIRS = [
    {"prompt": row["prompt"], "chosen": row["completion"], "rejected": other["completion"]}
    for row, other in zip(ROWS, ROWS[1:] + ROWS[:1], strict=True)
]


def reward_trainer(output_dir, *, rows=PAIRS, callbacks=(), **settings):
    return RewardTrainer(
        tiny_reward_model(),
        args=RewardConfig(**quiet(output_dir, bf16=False, gradient_checkpointing=False, **settings)),
        train_dataset=Dataset.from_list(rows * 2),
        processing_class=tiny_tokenizer(),
        callbacks=list(callbacks),
    )


def dpo_trainer(output_dir, *, rows=PAIRS, callbacks=(), **settings):
    return DPOTrainer(
        tiny_llama(),
        ref_model=tiny_llama(),
        args=DPOConfig(**quiet(output_dir, bf16=False, gradient_checkpointing=False, **settings)),
        train_dataset=Dataset.from_list(rows * 2),
        processing_class=tiny_tokenizer(),
        callbacks=list(callbacks),
    )


def ppo_trainer(output_dir, reward, *, callbacks=(), peft_config=None, **settings):
    settings = {"max_completion_length": 8, "num_ppo_epochs": 1, "value_trunk": "policy"} | settings
    return PPOTrainer(
        tiny_llama(),
        reward,
        args=PPOConfig(**quiet(output_dir, bf16=False, gradient_checkpointing=False, **settings)),
        train_dataset=Dataset.from_list([{"prompt": row["prompt"]} for row in ROWS * 2]),
        processing_class=tiny_tokenizer(),
        callbacks=list(callbacks),
        peft_config=peft_config,
    )
