"""Two CPU processes against one, each started by `accelerate launch` as a user would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent.parent


def launch(folder: Path, processes: int, per_device: int, value_trunk: str) -> list[dict]:
    folder.mkdir()
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(processes)]
    # On CPUs `--cpu` starts several processes by MPI only; `--multi_gpu` starts them by torchrun, and the script's
    # own use_cpu keeps them off the GPU.
    command += ["--multi_gpu"] if processes > 1 else ["--cpu"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command += ["-m", "tests.ppo.two_processes", str(folder), str(per_device), value_trunk]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    assert all(json.loads((folder / f"resumed_{i}.json").read_text()) for i in range(processes))
    return [json.loads((folder / f"process_{i}.json").read_text()) for i in range(processes)]


@pytest.mark.slow
@pytest.mark.parametrize("value_trunk", ["adapter", pytest.param("policy", marks=pytest.mark.long)])
def test_two_processes_learn_as_one_with_the_whole_batch(tmp_path, value_trunk):
    (one,) = launch(tmp_path / "one", 1, 4, value_trunk)
    two = launch(tmp_path / "two", 2, 2, value_trunk)

    # Each process makes its share of the completions, and together they make the same ones.
    assert [process["generated"] for process in two] == [one["generated"] / 2] * 2
    together = sorted(map(str, two[0]["rollouts"] + two[1]["rollouts"]))
    assert together == sorted(map(str, one["rollouts"]))

    updates = [[entry for entry in run["history"] if "loss" in entry] for run in (one, two[0])]
    assert len(updates[0]) == len(updates[1]) == 4
    for single, double in zip(*updates, strict=True):
        assert single.keys() == double.keys()
        for name, value in single.items():
            if name.startswith("ppo/time/"):
                continue
            # Sums over rows are taken in another order, and the optimizer's steps carry the rounding on.
            assert double[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
    for name, value in one["eval"].items():
        if not name.endswith(("runtime", "per_second")):
            assert two[0]["eval"][name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
