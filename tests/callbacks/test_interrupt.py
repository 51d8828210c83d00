"""Signals that end a run."""

import json
import os
import signal
import threading
import time

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from trl_kochat.callbacks import InterruptCallback, Interrupted, RunReportCallback
from trl_kochat.run.checkpoints import find_checkpoint, list_checkpoints

from .training import run_two_processes, sft_trainer


SIGNALS = [signal.SIGINT, signal.SIGTERM]
ROWS = {"read": 8, "made": 8, "dropped": {}, "train": 8, "eval": 0}


class Send(TrainerCallback):
    """Sends this process signals when an event comes at a step."""

    def __init__(self, event, step, *signals):
        setattr(self, event, self.send)
        self.step, self.signals = step, signals

    def send(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            for signum in self.signals:
                os.kill(os.getpid(), signum)


def train(output_dir, *callbacks, resume=None, interrupt=None, **settings):
    interrupt = interrupt or InterruptCallback()
    trainer = sft_trainer(
        output_dir,
        **{"max_steps": 5, "dropout": 0.1, "save_strategy": "no"} | settings,
        callbacks=[*callbacks, interrupt],
    )
    with interrupt:
        trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.fixture(autouse=True)
def handlers():
    """Python's own handlers, also where pytest runs in the background with SIGINT ignored; others find theirs again."""
    own = [signal.default_int_handler, signal.SIG_DFL]
    found = [signal.signal(signum, handler) for signum, handler in zip(SIGNALS, own, strict=True)]
    yield own
    after = [signal.signal(signum, handler) for signum, handler in zip(SIGNALS, found, strict=True)]
    assert after == own


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_saves_a_checkpoint_from_which_the_same_end_is_reached(signum, tmp_path, capsys):
    whole = train(tmp_path / "whole")
    with pytest.raises(Interrupted) as stop:
        train(tmp_path / "run", Send("on_step_begin", 2, signum), interrupt=InterruptCallback(go_on="the command"))
    assert stop.value.signum == signum and isinstance(stop.value, KeyboardInterrupt)
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path / "run")] == [3]
    name = "Ctrl-C" if signum == signal.SIGINT else "SIGTERM"
    assert str(stop.value).startswith(f"Interrupted by {name} at step 3 of 5: saved ")
    assert str(stop.value).endswith("checkpoint-3. Go on with: the command")
    assert capsys.readouterr().out.count(str(stop.value)) == 1
    checkpoint = find_checkpoint(tmp_path / "run", "true")
    resumed = train(tmp_path / "run", resume=str(checkpoint))
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name])


def test_a_signal_while_a_checkpoint_is_written_takes_that_one(tmp_path):
    with pytest.raises(Interrupted, match="at step 2 .*checkpoint-2"):
        train(tmp_path, Send("on_save", 2, signal.SIGINT), save_strategy="steps", save_steps=2)
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path)] == [2]


def test_a_second_signal_ends_at_once(tmp_path):
    with pytest.raises(Interrupted, match="Ended at once by Ctrl-C; no checkpoint was saved"):
        train(tmp_path, Send("on_step_begin", 2, signal.SIGTERM, signal.SIGINT))
    assert not list_checkpoints(tmp_path)


@pytest.mark.parametrize(
    ("event", "step", "saved"), [("on_train_begin", 0, "no checkpoint"), ("on_train_end", 5, "checkpoint-5")]
)
def test_outside_of_the_steps_the_first_signal_ends_at_once(event, step, saved, tmp_path):
    with pytest.raises(Interrupted, match=f"at once by SIGTERM; .*{saved}"):
        train(tmp_path, Send(event, step, signal.SIGTERM), save_strategy="steps", save_steps=5)


def test_a_signal_in_the_last_step_is_not_lost(tmp_path):
    with pytest.raises(Interrupted, match="at step 5 of 5"):
        train(tmp_path, Send("on_step_begin", 4, signal.SIGTERM))


def test_a_job_under_nohup_goes_on_ignoring(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert train(tmp_path, Send("on_step_begin", 2, signal.SIGINT)).state.global_step == 5
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_error_in_training_leaves_no_handler_behind(tmp_path, handlers):
    class Fail(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        train(tmp_path, Fail())
    assert [signal.getsignal(signum) for signum in SIGNALS] == handlers


def test_in_a_thread_training_runs_and_signals_are_left_alone(tmp_path, handlers):
    steps = []
    thread = threading.Thread(target=lambda: steps.append(train(tmp_path, max_steps=2).state.global_step))
    thread.start()
    thread.join()
    assert steps == [2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize(("signum", "expected"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 7)])
def test_a_forked_worker_ends_as_it_would_without(signum, expected):
    with InterruptCallback():
        pid = os.fork()
        if pid == 0:  # never leaves this block
            try:
                os.kill(os.getpid(), signum)
                time.sleep(10)
            except KeyboardInterrupt:
                os._exit(7)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == expected


def test_the_report_says_interrupted_where_and_how_to_go_on(tmp_path):
    def report():
        return RunReportCallback(
            recipe="r",
            method="sft",
            preset="cpu",
            model="m",
            rows=ROWS,
            evaluate=lambda model: {"eval_loss": float(sum(p.double().norm() for p in model.parameters()))},
        )

    def metrics(name):
        return json.loads((tmp_path / name / "report" / "metrics.json").read_text(encoding="utf-8"))

    def run(name, *callbacks, **settings):
        callback = report()
        with callback:
            train(tmp_path / name, callback, *callbacks, **settings)

    run("whole")
    with pytest.raises(Interrupted):
        run("run", Send("on_step_begin", 2, signal.SIGTERM), interrupt=InterruptCallback(go_on="python <go> on"))
    found = metrics("run")
    assert found["run"]["status"] == "interrupted" and found["run"]["steps"] == 3 and found["after"] == {}
    assert found["run"]["reason"].startswith("Interrupted by SIGTERM at step 3 of 5")
    page = (tmp_path / "run" / "report" / "index.html").read_text(encoding="utf-8")
    assert "Interrupted by SIGTERM at step 3 of 5" in page and "python &lt;go&gt; on" in page

    run("run", resume=str(tmp_path / "run" / "checkpoint-3"))
    found, whole = metrics("run"), metrics("whole")
    assert found["run"]["status"] == "finished" and found["run"]["reason"] is None
    assert (found["before"], found["after"]) == (whole["before"], whole["after"])

    def losses(record):
        return [(entry["step"], entry["loss"]) for entry in record["history"] if "loss" in entry]

    assert losses(found) == losses(whole) and [step for step, _ in losses(found)] == [1, 2, 3, 4, 5]


SCRIPT = """
import os, sys
from tests.callbacks.test_interrupt import Send, train
from trl_kochat.callbacks import Interrupted
import signal

callbacks = [Send("on_step_begin", 3, signal.SIGTERM)] if os.environ["RANK"] == "1" else []
try:
    train(sys.argv[1], *callbacks, max_steps=50)
except Interrupted as stop:
    sys.exit(128 + stop.signum)
"""


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch is built without distributed")
def test_a_signal_to_one_process_ends_all_after_the_same_step(tmp_path):
    outputs = run_two_processes(SCRIPT, tmp_path)
    assert [status for status, *_ in outputs] == [143, 143], outputs
    assert outputs[0][1].count("Interrupted by SIGTERM at step 4 of 50") == 1
    assert "Interrupted" not in outputs[1][1]
    (checkpoint,) = list_checkpoints(tmp_path / "out")
    assert checkpoint.step == 4 and load_file(checkpoint.folder / "model.safetensors")
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {file.name for file in checkpoint.folder.iterdir()}
    assert find_checkpoint(tmp_path / "out", "true") == checkpoint.folder
