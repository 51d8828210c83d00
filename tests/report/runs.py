"""Run folders as a training run leaves them, without the training."""

import math
from pathlib import Path

from trl_kochat.report import RunRecord, Sample, report_folder, write_samples
from trl_kochat.report.lengths import histogram


COURSE_PROMPT = "불고기용 고기 한우에요?"

LOGS = {
    "sft": {"loss": 2.0, "eval_loss": 2.1, "mean_token_accuracy": 0.5, "entropy": 1.5},
    "reward": {"loss": 0.6, "accuracy": 0.7, "margin": 0.4, "mean_reward": 0.1},
    "dpo": {
        "loss": 0.6,
        "rewards/chosen": 0.2,
        "rewards/rejected": -0.2,
        "rewards/margins": 0.4,
        "rewards/accuracies": 0.8,
        "logps/chosen": -60.0,
        "logps/rejected": -70.0,
    },
    "ppo": {"reward": 0.3, "kl": 2.0, "entropy": 1.4, "completions/mean_length": 30.0, "ppo/policy_loss": 0.1},
    # A method that the report knows nothing of.
    "grpo": {"reward": 0.3, "rewards/polite/mean": 0.3, "rewards/polite/std": 0.1, "clip_ratio/low_mean": 0.0},
}
MEASURED = {
    "sft": {"eval_loss": 2.0},
    "reward": {"accuracy": 0.5, "margin": 0.0},
    "dpo": {"accuracy": 0.5, "margin": 0.0, "preferred": 0.4, "logps_chosen": -60.0},
    "ppo": {"reward": -1.0, "reward_std": 1.0, "kl": 0.0, "eos_rate": 0.5, "mean_length": 30.0},
    "grpo": {},
}


def make_record(method: str = "sft", **changes) -> RunRecord:
    history = [
        {"step": step, "grad_norm": 1.0, **{key: value * (1 + 0.01 * step) for key, value in LOGS[method].items()}}
        for step in range(1, 6)
    ]
    values = {
        "recipe": f"{method}_recipe",
        "method": method,
        "preset": "cpu",
        "model": "tiny-ko",
        "seconds": 71.2,
        "rows": {
            "read": 10,
            "made": 9,
            "dropped": {"identical": 1},
            "train": 7,
            "eval": 2,
            "lengths": {"prompt and completion": histogram([3, 5, 5, 8, 13])},
        },
        "tokenizer": [{"code": "pad_is_eos", "severity": "error", "fixed": True, "message": "pad was eos"}],
        "before": dict(MEASURED[method]),
        "after": {key: value + 0.25 for key, value in MEASURED[method].items()},
        "versions": {"trl": "1.16.0"},
        "run": {"status": "finished", "reason": None, "command": "python recipes/x.py", "seed": 42, "steps": 5}
        | {
            "max_steps": 5,
            "peak_host_memory_mib": 1024.0,
            "output_dir": "runs/x",
            "device": "CPU, 1 threads",
            "settings": {},
        },
        "history": history,
    }
    return RunRecord(**values | changes)


def make_run(output_dir: Path, method: str = "sft", samples: list[Sample] | None = None, **changes) -> Path:
    """Write a run's record and samples; returns its report folder."""
    folder = report_folder(output_dir)
    make_record(method, **changes).save(folder)
    if samples is None:
        samples = [
            Sample(step, COURSE_PROMPT, answer, ended=ended, tokens=9, repetition=math.nan if step else 0.5)
            for step, answer, ended in [(0, "고기 고기 고기", False), (5, "네, 한우입니다.", True)]
        ]
    write_samples(folder, samples)
    return folder
