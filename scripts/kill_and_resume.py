"""Kill each recipe with SIGKILL at random moments, resume it, and compare with a run that nothing disturbed.

    python scripts/kill_and_resume.py                       # four recipes, ten kills each: some 15 minutes on two cores
    python scripts/kill_and_resume.py --recipes ppo_kochatgpt --times 3

A run is killed at a random moment after its first checkpoint, in the middle of a step, of a checkpoint being written or
of the last measurement, whatever comes; then `--resume_from_checkpoint true` goes on. The end must be the same in every
bit of the weights, in the trainer's log (without times), in the report's measures before and after, and in its samples.
Prints a table, writes JSON, and exits with 1 if anything differs. Rows are cut down so that forty runs take minutes.
"""

import argparse
import hashlib
import importlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from trl_kochat.data.load import load_rows
from trl_kochat.run.checkpoints import checkpoint_problem, list_checkpoints
from trl_kochat.run.presets import preset_values
from trl_kochat.sample import embedded


RECIPES = ("sft_kochatgpt", "reward_kochatgpt", "dpo_orca", "ppo_kochatgpt")
# What the clock decides, and what transformers and TRL count anew after resuming.
CLOCK = ("runtime", "per_second", "ppo/time", "total_flos", "train_loss", "num_tokens")


def run(recipe: str, argv: list[str], log: str) -> None:
    """One run in a process of its own."""
    os.setsid()
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    os.dup2(1, 2)
    with open(1, "w", closefd=False) as out, redirect_stdout(out), redirect_stderr(out):
        importlib.import_module(f"trl_kochat.recipes.{recipe}").main(argv)


class Runs:
    """Runs of one recipe on the same few rows."""

    def __init__(self, recipe: str, folder: Path, *, max_steps: int, save_steps: int, rows: int):
        self.recipe, self.folder = recipe, folder
        # Processes forked from one that has imported everything start in no time.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([f"trl_kochat.recipes.{name}" for name in RECIPES])
        self._flags = ["--preset", "cpu", "--max_steps", str(max_steps), "--save_steps", str(save_steps)]
        self._flags += [
            "--logging_steps",
            str(save_steps),
            "--warmup_steps",
            "1",
            "--per_device_train_batch_size",
            "4",
        ]
        self._flags += ["--disable_tqdm", "true", "--eval_fraction", "0.1", "--dataset_name", *self._few_rows(rows)]

    def _few_rows(self, number: int) -> list[str]:
        files = []
        for source in map(Path, map(embedded, preset_values(self.recipe, "cpu")["dataset_name"])):
            kept = [row for _, row in zip(range(number), load_rows(source), strict=False)]
            file = self.folder / f"{source.stem}.json"
            file.write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
            files.append(str(file))
        return files

    def start(self, name: str, *more: str) -> Any:
        argv = [*self._flags, "--output_dir", str(self.folder / name), *more]
        process = self._context.Process(target=run, args=(self.recipe, argv, str(self.folder / f"{name}.log")))
        process.start()
        return process

    def finish(self, name: str, *more: str) -> None:
        process = self.start(name, *more)
        process.join()
        if process.exitcode:
            log = (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"{self.recipe} ended with {process.exitcode}:\n{log[-3000:]}")

    def undisturbed(self) -> float:
        """Run to the end; seconds from the first checkpoint to there."""
        process = self.start("undisturbed")
        first = wait_for_checkpoint(self.folder / "undisturbed", process)
        process.join()
        if process.exitcode:
            raise RuntimeError((self.folder / "undisturbed.log").read_text(encoding="utf-8", errors="replace")[-3000:])
        return time.perf_counter() - first

    def kill(self, name: str, after: float) -> dict[str, Any]:
        """Kill a run `after` seconds from its first checkpoint; which checkpoints it left, and which are broken."""
        process = self.start(name)
        first = wait_for_checkpoint(self.folder / name, process)
        process.join(max(0.0, first + after - time.perf_counter()))
        alive = process.is_alive()
        if alive:
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        left = list_checkpoints(self.folder / name)
        return {
            "killed": alive,
            "last_step": left[0].step,
            "broken": {c.folder.name: problem for c in left if (problem := checkpoint_problem(c.folder))},
        }


def wait_for_checkpoint(output_dir: Path, process: Any) -> float:
    while not list(output_dir.glob("checkpoint-*/trainer_state.json")):
        if not process.is_alive():
            raise RuntimeError(f"The run ended without a checkpoint; see {output_dir}.log")
        time.sleep(0.005)
    return time.perf_counter()


def outcome(output_dir: Path) -> dict[str, Any]:
    """All that must not depend on whether a run was killed."""
    state = json.loads((list_checkpoints(output_dir)[0].folder / "trainer_state.json").read_text(encoding="utf-8"))
    metrics = json.loads((output_dir / "report" / "metrics.json").read_text(encoding="utf-8"))
    samples = (output_dir / "report" / "samples.jsonl").read_text(encoding="utf-8")
    weights = sorted(file for file in output_dir.rglob("*.safetensors") if "checkpoint-" not in str(file))
    assert weights
    return {
        "weights": {
            str(file.relative_to(output_dir)): hashlib.sha256(file.read_bytes()).hexdigest() for file in weights
        },
        "log": without_clock(state["log_history"]),
        "report": {
            "status": metrics["run"]["status"],
            "before": metrics["before"],
            "after": metrics["after"],
            "distributions": metrics["distributions"],
            "history": without_clock(metrics["history"]),
        },
        "samples": samples,
    }


def without_clock(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    entries = [{k: v for k, v in entry.items() if not any(part in k for part in CLOCK)} for entry in history]
    return [entry for entry in entries if entry.keys() - {"step", "epoch"}]


def save(args: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps({"arguments": vars(args) | {"json": str(args.json)}, "kills": results}, indent=1))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPES)
    parser.add_argument("--times", type=int, default=10, help="kills of each recipe")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--max_steps", type=int, default=4)
    parser.add_argument("--save_steps", type=int, default=1, help="also the steps between two logs")
    parser.add_argument("--rows", type=int, default=12, help="rows taken of each file")
    parser.add_argument("--json", type=Path, default=Path("runs/kill_and_resume.json"))
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    chance = random.Random(args.seed)
    results = []
    print(f"{'recipe':18} {'kill':>4} {'after':>7} {'resumed from':>16} {'broken':>7}  the same as undisturbed")
    for recipe in args.recipes:
        with tempfile.TemporaryDirectory() as folder:
            runs = Runs(recipe, Path(folder), max_steps=args.max_steps, save_steps=args.save_steps, rows=args.rows)
            seconds = runs.undisturbed()
            expected = outcome(Path(folder) / "undisturbed")
            for number in range(1, args.times + 1):
                after = seconds
                while True:
                    after = chance.uniform(0, after)
                    result = {"recipe": recipe, "kill": number, "after": round(after, 3), **runs.kill("killed", after)}
                    if result["killed"]:
                        break
                    shutil.rmtree(Path(folder) / "killed")  # it had ended before: earlier, then
                runs.finish("killed", "--resume_from_checkpoint", "true")
                found = outcome(Path(folder) / "killed")
                result["same"] = {key: found[key] == expected[key] for key in expected}
                metrics = json.loads((Path(folder) / "killed" / "report" / "metrics.json").read_text(encoding="utf-8"))
                result["resumed_from"] = metrics["run"]["resumed_from"]
                results.append(result)
                say = ", ".join(f"{key} {'yes' if same else 'NO'}" for key, same in result["same"].items())
                start = f"step {result['resumed_from'][-1]}" if result["resumed_from"] else "-"
                print(f"{recipe:18} {number:4} {after:6.2f}s {start:>16} {len(result['broken']):7}  {say}", flush=True)
                save(args, results)
                shutil.rmtree(Path(folder) / "killed")
    same = sum(all(result["same"].values()) for result in results)
    print(f"{same} of {len(results)} killed runs ended like an undisturbed one.")
    return 0 if same == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
