"""What the callbacks add to the training time of the cpu recipes, apart from the answers and measures asked for.

The limit is 5 %. Each recipe runs from end to end; the time spent in the callbacks' events is taken on the way, and of
that, what goes into generating and scoring samples and into measuring held-out rows is counted apart.

    python benchmarks/callbacks_cost.py
    python benchmarks/callbacks_cost.py dpo_orca
"""

import argparse
import importlib.util
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from trl_kochat.callbacks import HealthGuardCallback, KoreanSamplesCallback, RunReportCallback, run_report, samples
from trl_kochat.ppo import PPOTrainer


LIMIT = 0.05
RECIPES = ("sft_kochatgpt", "reward_kochatgpt", "ppo_kochatgpt", "dpo_orca")
CALLBACKS = (KoreanSamplesCallback, HealthGuardCallback, RunReportCallback)
ASKED = (
    (samples, "generate_answers"),
    (samples, "score_completions"),
    (PPOTrainer, "score_answers"),
    (RunReportCallback, "_measure"),
)
ASKED_FOR = "asked for"


class Clock:
    """Seconds by name; what runs inside something timed under another name is taken off the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._running: list[float] = []  # time already given to what runs inside

    def timed(self, function, name):
        def wrapped(*args, **kwargs):
            self._running.append(0.0)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.perf_counter() - start
                self.seconds[name] += spent - self._running.pop()
                if self._running:
                    self._running[-1] += spent

        return wrapped


def timed_recipe(recipe: str, output_dir: str) -> tuple[Clock, float]:
    """Run a recipe with its cpu preset; the clock, and the seconds of its training with all that the callbacks do."""
    path = Path(__file__).parent.parent / "recipes" / f"{recipe}.py"
    spec = importlib.util.spec_from_file_location(recipe, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    clock, records = Clock(), []

    def keep(self, folder):
        records.append(self.seconds)
        save(self, folder)

    save = run_report.RunRecord.save
    with ExitStack() as patches:
        for callback in CALLBACKS:
            for event in [name for name in vars(callback) if name.startswith("on_")]:
                timed = clock.timed(getattr(callback, event), callback.__name__)
                patches.enter_context(patch.object(callback, event, timed))
        for owner, name in ASKED:
            patches.enter_context(patch.object(owner, name, clock.timed(getattr(owner, name), ASKED_FOR)))
        patches.enter_context(patch.object(run_report.RunRecord, "save", keep))
        module.main(["--preset", "cpu", "--output_dir", output_dir])
    return clock, records[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=RECIPES, metavar="RECIPE", help=f"of {', '.join(RECIPES)}")
    parser.add_argument("--output_dir", type=Path, help="keep the runs, and their reports, here")
    args = parser.parse_args()
    if unknown := set(args.recipes) - set(RECIPES):
        parser.error(f"no recipe {', '.join(sorted(unknown))}; there are {', '.join(RECIPES)}")
    lines, worst = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        for recipe in args.recipes:
            clock, total = timed_recipe(recipe, str((args.output_dir or Path(folder)) / recipe))
            added = {callback.__name__: clock.seconds[callback.__name__] for callback in CALLBACKS}
            training = total - sum(added.values()) - clock.seconds[ASKED_FOR]
            share = sum(added.values()) / training
            worst = max(worst, share)
            parts = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in added.items())
            asked = clock.seconds[ASKED_FOR]
            lines.append(
                f"{recipe:17} training {training:6.1f} s, asked for {asked:5.1f} s, added {share:5.1%} ({parts})"
            )
    print(*lines, f"the most: {worst:.1%}, limit {LIMIT:.0%}", sep="\n")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
