import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from trl_kochat.callbacks.progress import MAX_LINES, ProgressLineCallback

from .test_samples import count_words
from .training import dpo_trainer, ppo_trainer, reward_trainer, sft_trainer


MAKERS = {
    "token accuracy": sft_trainer,
    "accuracy": dpo_trainer,
    " accuracy": reward_trainer,
    "reward": lambda folder, **settings: ppo_trainer(folder, count_words, **settings),
}


def lines_of(trainer, capsys) -> list[str]:
    with closing(ProgressLineCallback.instead_of_log(trainer)):
        trainer.train()
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("number", MAKERS)
@pytest.mark.parametrize("disable_tqdm", [True, False])
def test_the_line_has_loss_rate_the_methods_own_number_and_the_time_left(tmp_path, capsys, number, disable_tqdm):
    lines = lines_of(MAKERS[number](tmp_path, max_steps=3, disable_tqdm=disable_tqdm), capsys)
    steps = [line for line in lines if line.startswith("step ")]
    assert [line.split()[1] for line in steps] == ["1/3", "2/3", "3/3"]
    for line in steps:
        assert re.search(r"loss -?\d", line) and re.search(rf"{number} -?\d", line) and re.search(r"rate \d", line)
        assert len(line) < 120 and "{" not in line
    assert re.search(r"\d:\d\d left", steps[0]) and "left" not in steps[-1]
    assert not [line for line in lines if "grad_norm" in line]


def test_what_is_measured_before_the_first_step_makes_no_step_look_long(tmp_path, capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr("trl_kochat.callbacks.progress.time", SimpleNamespace(perf_counter=lambda: now))

    class Clock(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            nonlocal now
            now += 1000

        def on_step_end(self, args, state, control, **kwargs):
            nonlocal now
            now += 2

    trainer = sft_trainer(tmp_path, max_steps=3)
    with closing(ProgressLineCallback.instead_of_log(trainer)):
        trainer.add_callback(Clock())
        trainer.train()
    assert capsys.readouterr().out.splitlines()[0].endswith("0:04 left")


def test_a_long_run_prints_few_lines_into_a_file(tmp_path, capsys):
    lines = lines_of(sft_trainer(tmp_path, max_steps=3 * MAX_LINES), capsys)
    assert MAX_LINES // 2 < len(lines) <= MAX_LINES + 1
    assert lines[-1].startswith(f"step {3 * MAX_LINES}/")


def test_the_held_out_loss_joins_the_line(tmp_path, capsys):
    class Evaluate(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_evaluate = True

    trainer = sft_trainer(tmp_path, max_steps=3, callbacks=[Evaluate()])
    trainer.eval_dataset = trainer.train_dataset
    assert re.search(r"held-out loss \d", lines_of(trainer, capsys)[-1])


def test_it_takes_the_place_of_the_trainers_own(tmp_path):
    trainer = sft_trainer(tmp_path, max_steps=1)
    ProgressLineCallback.instead_of_log(trainer)
    kinds = [type(callback) for callback in trainer.callback_handler.callbacks]
    assert kinds.count(ProgressLineCallback) == 1
    assert not {PrinterCallback, ProgressCallback} & set(kinds)


def test_a_trainer_that_shows_itself_in_another_way_is_left_alone(tmp_path):
    trainer = sft_trainer(tmp_path, max_steps=1)
    trainer.remove_callback(PrinterCallback)
    ProgressLineCallback.instead_of_log(trainer)
    assert ProgressLineCallback not in [type(callback) for callback in trainer.callback_handler.callbacks]


SCRIPT = """
import logging, sys
from contextlib import closing
from transformers import TrainerCallback
from trl_kochat.callbacks import KoreanSamplesCallback
from trl_kochat.callbacks.progress import ProgressLineCallback
from tests.callbacks.training import sft_trainer

class Fail(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 2:
            logging.warning("a warning")
            raise RuntimeError("out of luck")

trainer = sft_trainer(sys.argv[1], max_steps=4, disable_tqdm=False, callbacks=[Fail(), KoreanSamplesCallback(every=1)])
with closing(ProgressLineCallback.instead_of_log(trainer)):
    trainer.train()
"""
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminal")
def test_on_a_terminal_others_print_above_the_bar_and_an_exception_gives_the_cursor_back(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    root = Path(__file__).parents[2]
    import pty

    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "out")],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "TERM": "xterm", "COLUMNS": "100"},
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    while part := _read(screen):
        shown += part
    assert process.wait() == 1
    text = shown.decode()
    assert "step 2/4" in text and "Samples, step 1" in text and "out of luck" in text
    assert text.count(HIDE) == text.count(SHOW) == 1
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert not re.search(r"step \d/4[^\r\n]*(Samples|WARNING|Traceback)", plain)


def _read(screen: int) -> bytes:
    try:
        return os.read(screen, 65536)
    except OSError:  # Linux: nobody has the terminal open any more
        return b""
