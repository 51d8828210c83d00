"""Trainers small enough for a test: a few steps of a two-layer model on Korean rows."""

import os
import socket
import subprocess
import sys
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


def run_two_processes(script: str, folder: Path) -> list[tuple[int, str, str]]:
    """Run a script as rank 0 and rank 1 with `folder/out` as its argument; the status, stdout and stderr of each."""
    (folder / "script.py").write_text(script, encoding="utf-8")
    root = Path(__file__).parents[2]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(folder / "script.py"), str(folder / "out")],
            cwd=root,
            env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        outputs = [process.communicate(timeout=180) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]
