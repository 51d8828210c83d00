"""PPO, GRPO and RLOO side by side: the same prompts, rewards, seeds and number of answers, on the cpu presets.

    python benchmarks/online_trainers.py --output_dir runs/online             # 3 trainers, 3 seeds; finished runs stay
    python benchmarks/online_trainers.py --output_dir runs/online --seeds     # only the table of the runs that are there

Every figure is of a run's own `report/metrics.json`: reward (the weighted sum), KL in nats an answer, different and right
answers on held-out prompts before and after, seconds from its first step to its last, and the peak memory of its process.
Each trainer keeps the KL weight of its own preset, PPO its rate, too; at equal numbers of answers PPO takes the same
number of steps.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any


RECIPES = Path(__file__).parent.parent / "recipes"
TRAINERS = {
    "PPO": ["ppo_kochatgpt.py"],
    "GRPO": ["grpo_korean.py", "--trainer", "grpo", "--learning_rate", "5e-4"],
    "RLOO": ["grpo_korean.py", "--trainer", "rloo", "--learning_rate", "5e-4"],
}
SHARED = (
    "--preset cpu --rewards right speech_level:해요체 ends --reward_weights 1.0 1.0 0.5 --max_steps 32 "
    "--per_device_train_batch_size 32 --max_completion_length 32 --max_eval_samples 64 --eval_strategy no "
    "--save_strategy no"
).split()
# Column of the table -> where it is in metrics.json, digits.
COLUMNS = {
    "reward": ("after", "reward", 2),
    "KL, nats an answer": ("after", "kl", 1),
    "different": ("after", "distinct", 3),
    "right": ("after", "right", 3),
    "in the level": ("after", "reward_speech_level", 3),
    "seconds": (None, "seconds", 0),
    "peak memory, MiB": ("run", "peak_host_memory_mib", 0),
}


def train(name: str, seed: int, folder: Path) -> None:
    recipe, *own = TRAINERS[name]
    command = [sys.executable, str(RECIPES / recipe), *own, *SHARED, "--seed", str(seed)]
    subprocess.run([*command, "--output_dir", str(folder)], check=True)


def metrics(folder: Path) -> dict[str, Any] | None:
    """What a finished run left, or `None`."""
    path = folder / "report" / "metrics.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"run": {"status": None}}
    return found if found["run"]["status"] == "finished" else None


def cell(runs: list[dict[str, Any]], part: str | None, key: str, digits: int) -> str:
    """Mean and standard deviation of a number over the runs; empty where a trainer does not measure it."""
    values = [float(found[key]) for run in runs if key in (found := run[part] if part else run)]
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}" if values else ""


def table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """A row for each trainer, and one for the start, which all share."""
    lines = [f"| | runs | {' | '.join(COLUMNS)} |", f"|{'---|' * (len(COLUMNS) + 2)}"]
    every = [run for of_trainer in runs.values() for run in of_trainer]
    start = [cell(every, "before", key, digits) if part == "after" else "" for part, key, digits in COLUMNS.values()]
    lines.append(f"| start | | {' | '.join(start)} |")
    for name, of_trainer in runs.items():
        cells = [cell(of_trainer, *where) for where in COLUMNS.values()]
        lines.append(f"| {name} | {len(of_trainer)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for name in TRAINERS:
            folder = arguments.output_dir / f"{name.lower()}_{seed}"
            if metrics(folder) is None:
                train(name, seed, folder)
    runs = {
        name: [run for folder in sorted(arguments.output_dir.glob(f"{name.lower()}_*")) if (run := metrics(folder))]
        for name in TRAINERS
    }
    print(table({name: found for name, found in runs.items() if found}))


if __name__ == "__main__":
    main()
