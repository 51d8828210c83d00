"""Recipes that are killed or told to end, and go on: the end is the same as without."""

import json
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL and no fork server on Windows"),
]


@pytest.fixture
def kill_and_resume(monkeypatch):
    """The script, with which anyone can do the same many times over."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    import kill_and_resume

    return kill_and_resume


@pytest.mark.long
def test_a_killed_recipe_ends_as_if_nothing_had_happened(kill_and_resume, tmp_path):
    # PPO has the most to lose: three roles, and a rollout that two steps share. The rest is the script's.
    runs = kill_and_resume.Runs("ppo_kochatgpt", tmp_path, max_steps=4, save_steps=1, rows=8)
    seconds = runs.undisturbed()
    expected = kill_and_resume.outcome(tmp_path / "undisturbed")
    assert expected["report"]["before"] != expected["report"]["after"] and len(expected["log"]) >= 4
    killed = runs.kill("killed", after=seconds / 4)
    assert killed["killed"]
    broken = tmp_path / "killed" / f"checkpoint-{killed['last_step']}" / "optimizer.pt"
    if killed["last_step"] > 1 and broken.exists():  # and on top of it, the last checkpoint is damaged
        broken.write_bytes(broken.read_bytes()[:1000])
    runs.finish("killed", "--resume_from_checkpoint", "true")
    found = kill_and_resume.outcome(tmp_path / "killed")
    assert found == expected


FAILS = """
import os, signal
from transformers import TrainerCallback
from trl_kochat.callbacks import run_report
from trl_kochat.recipes import sft_kochatgpt
from trl_kochat.run import run

class Fails(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        raise RuntimeError("broken")

class Record(run_report.RunRecord):
    def save(self, folder):
        if self.run["status"] != "running":
            os.kill(os.getpid(), signal.SIGTERM)
        super().save(folder)

run.HealthGuardCallback, run_report.RunRecord = Fails, Record
sft_kochatgpt.main()
"""


def test_what_failed_is_written_down_also_where_a_launcher_ends_the_process_meanwhile(tmp_path):
    # So it does where another process has died: this one fails for it, and gets SIGTERM while it writes that down.
    flags = "--preset cpu --max_steps 3 --max_eval_samples 4 --eval_strategy no --output_dir out"
    flags += " --dataset_name sample:kochatgpt_1_SFT_conversation.jsonl"
    done = subprocess.run([sys.executable, "-c", FAILS, *flags.split()], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0 and "RuntimeError: broken" in done.stderr, done.stderr
    run = json.loads((tmp_path / "out" / "report" / "metrics.json").read_text(encoding="utf-8"))["run"]
    assert run["status"] == "failed" and run["reason"] == "RuntimeError: broken"


def test_ctrl_c_ends_a_recipe_that_says_how_to_go_on(tmp_path):
    flags = "--preset cpu --max_steps 100 --save_steps 1 --max_eval_samples 8 --output_dir out"
    command = [sys.executable, str(ROOT / "recipes" / "dpo_orca.py"), *flags.split()]
    with (tmp_path / "log").open("w") as log:
        # A pytest in the background ignores SIGINT, and its children would.
        heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, preexec_fn=heed)
        try:
            deadline = time.monotonic() + 120
            while not list(tmp_path.glob("out/checkpoint-1/trainer_state.json")):
                assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            assert process.wait(120) == 130
        finally:
            process.kill()
    text = (tmp_path / "log").read_text(encoding="utf-8")
    assert "Traceback" not in text
    run = json.loads((tmp_path / "out" / "report" / "metrics.json").read_text(encoding="utf-8"))["run"]
    assert run["status"] == "interrupted" and 1 <= run["steps"] < 100 and run["reason"] in text
    page = (tmp_path / "out" / "report" / "index.html").read_text(encoding="utf-8")
    assert f"at step {run['steps']} of 100" in page

    words = shlex.split(run["reason"].partition("Go on with: ")[2])
    assert words == [
        "python",
        str(ROOT / "recipes" / "dpo_orca.py"),
        *flags.split(),
        "--resume_from_checkpoint",
        "true",
    ]
    again = subprocess.run([sys.executable, *words[1:], "--dry_run"], cwd=tmp_path, capture_output=True, text=True)
    assert f"Going on from out/checkpoint-{run['steps']}." in again.stdout, again.stderr
