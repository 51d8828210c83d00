"""A reward model on whole rankings against the same pairs one by one, in random order, as TRL takes them.

    python benchmarks/whole_rankings.py

The reward recipe on the embedded rankings of three answers; a step of either side has as many pairs. They take turns, a
step each. Tokens are those of the pairs, so that an answer that stands in two of them counts twice on both sides.
"""

import json
import sys
import tempfile
from typing import Any

from measure import Report, arguments, print_table, take_turns
from training import load_recipe, measured_trainer, summarize


SIDES = ("pairs", "rankings")


def main() -> None:
    parser = arguments(__doc__, "whole_rankings.json")
    parser.add_argument("--rankings", type=int, default=16, help="in a step")
    parser.add_argument("--steps", type=int, default=8, help="of each side; the first warms up")
    args = parser.parse_args()
    if args.worker:
        args.out.write_text(json.dumps(run_side(args)))
        return
    command = [sys.executable, __file__, "--rankings", str(args.rankings), "--steps", str(args.steps)]
    sides = take_turns({side: [*command, "--worker", side] for side in SIDES})
    rows = [{"side": side, **figures(summarize(sides[side]))} for side in SIDES]
    print_table(list(rows[0]), [list(row.values()) for row in rows])
    ratio = rows[1]["pairs' tokens / processor s"] / rows[0]["pairs' tokens / processor s"]
    print(f"\nrankings to pairs: {ratio:.2f}")
    Report().write(args.out, rows=rows, ratio=ratio)


def figures(summary: dict[str, Any]) -> dict[str, float]:
    return {
        "processor s / step": summary["cpu_seconds_per_step"],
        "pairs' tokens / processor s": summary["real_tokens_per_cpu_second"],
        "peak MB": summary["peak_bytes"] / 1e6,
    }


def run_side(args: Any) -> dict[str, Any]:
    recipe, results = load_recipe("reward_kochatgpt"), {}
    recipe.trl.RewardTrainer = measured_trainer(recipe.trl.RewardTrainer, results)
    flags = {
        "preset": "cpu",
        "whole_rankings": args.worker == "rankings",
        "per_device_train_batch_size": args.rankings * (3 if args.worker == "pairs" else 1),
        "max_steps": args.steps,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "max_eval_samples": 1,
        "eval_strategy": "no",
    }
    with tempfile.TemporaryDirectory() as folder:
        flags["output_dir"] = folder
        recipe.main([text for key, value in flags.items() for text in (f"--{key}", str(value))])
    return results


if __name__ == "__main__":
    main()
