"""How long one waits before anything happens: imports, `--help`, `--dry_run`, the first training step.

    python benchmarks/startup.py

Each command is a fresh process; ours and TRL's take turns. The first round warms the disk cache and does not count.
`first step` is the DPO recipe's cpu preset up to the end of its first step, with the rows and samples measured before it
left out, and `trl dpo` with the same model, rows and arguments, which finds its rows as token ids in the cache of the first
round, where the recipe, which has mended them in memory, makes its ids anew.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from dpo_recipe_vs_post import write_rows
from measure import Report, arguments, check, print_table, run_command
from training import ROOT, load_recipe

from trl_kochat.startup import begin_command


SAMPLE = ROOT / "trl_kochat" / "sample"
BIN = Path(sys.executable).parent


def commands(folder: str) -> dict[str, tuple[list[Any], list[Any]]]:
    """What is measured: ours, and what a user of TRL runs instead (empty: nothing of the kind)."""
    python, recipe = sys.executable, ROOT / "recipes" / "dpo_orca.py"
    first = [python, __file__, "--folder", folder, "--worker"]
    return {
        "import": ([python, "-c", "import trl_kochat"], [python, "-c", "import trl"]),
        "import the DPO trainer": (
            [python, "-c", "from trl_kochat import format_dataset, load_tokenizer; from trl import DPOTrainer"],
            [python, "-c", "from trl import DPOTrainer"],
        ),
        "--help": ([BIN / "trl-kochat", "--help"], [BIN / "trl", "--help"]),
        "--help of DPO": ([python, recipe, "--help"], [BIN / "trl", "dpo", "--help"]),
        "--dry_run": ([python, recipe, "--preset", "cpu", "--dry_run", "--output_dir", f"{folder}/dry"], []),
        "first step": ([*first, "recipe"], [*first, "trl"]),
    }


def exits_after_a_step(trainer_class: type) -> type:
    """A trainer that ends its process after one step; callbacks added after it was built are left out."""
    from transformers import TrainerCallback

    class Exit(TrainerCallback):
        def on_step_end(self, *args, **kwargs):
            os._exit(0)

    class Exiting(trainer_class):
        def train(self, *args, **kwargs):
            self.callback_handler.callbacks.clear()
            self.add_callback(Exit())
            return super().train()

    return Exiting


def run_worker(args: argparse.Namespace) -> None:
    if args.worker == "recipe":
        begin_command()
        recipe = load_recipe("dpo_orca")
        recipe.trl.DPOTrainer = exits_after_a_step(recipe.trl.DPOTrainer)
        recipe.Run.as_command(lambda: recipe.main(["--preset", "cpu", "--output_dir", f"{args.folder}/recipe"]))
        return
    import trl
    from trl.scripts import dpo

    from trl_kochat.run.presets import precision, preset_values
    from trl_kochat.sample import embedded

    trl.DPOTrainer = exits_after_a_step(trl.DPOTrainer)
    preset = {**preset_values("dpo_orca", "cpu"), **precision("cpu")}
    preset.pop("eval_fraction")
    preset |= {"model_name_or_path": embedded(preset["model_name_or_path"])}
    preset |= {"dataset_name": [f"{args.folder}/rows"], "output_dir": f"{args.folder}/trl"}
    flags = []
    for key, value in preset.items():
        flags += [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
    dpo.main(*dpo.make_parser().parse_args_and_config(flags))


def main() -> None:
    parser = arguments(__doc__, "startup.json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="ROW", help="rows of the table to measure, such as 'first step'")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        run_worker(args)
        return
    report = Report()
    runs: dict[str, dict[str, list[dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        rows = argparse.Namespace(dataset_name=SAMPLE / "orca_dpo_pairs.jsonl", rows=10_000, eval_fraction=0.2)
        write_rows(rows, Path(folder))
        for turn in range(args.rounds + 1):
            measured = {k: v for k, v in commands(folder).items() if not args.only or k in args.only}
            for name, sides in measured.items():
                for side, command in zip(("ours", "trl"), sides, strict=True):
                    if command:
                        result = run_command(command)
                        if turn:
                            runs.setdefault(name, {}).setdefault(side, []).append(result)
            print(f"round {turn} of {args.rounds}", flush=True)
    figures = {
        name: {
            side: {key: statistics.median(result[key] for result in results) for key in results[0]}
            for side, results in sides.items()
        }
        for name, sides in runs.items()
    }
    table = []
    for name, sides in figures.items():
        ours, theirs = sides["ours"], sides.get("trl", {})
        ratio = ours["seconds"] / theirs["seconds"] if theirs else None
        megabytes = [side.get("peak_bytes") and side["peak_bytes"] / 1e6 for side in (ours, theirs)]
        table.append([name, ours["seconds"], theirs.get("seconds"), ratio, *megabytes])
    print_table(["", "ours s", "TRL s", "ratio", "ours MB", "TRL MB"], table)
    goals = [
        check(
            f"{name}, time to TRL's",
            sides["ours"]["seconds"] / sides["trl"]["seconds"],
            "<=",
            1.05 if name == "first step" else 1.1,
        )
        for name, sides in figures.items()
        if "trl" in sides
    ]
    report.write(args.out, figures=figures, goals=goals)


if __name__ == "__main__":
    main()
