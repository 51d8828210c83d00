"""How a recipe ends as a command."""

import signal

import pytest
from transformers import TrainerCallback

from tests.callbacks.training import sft_trainer
from trl_kochat.callbacks import Interrupted
from trl_kochat.run.command import resume_command, run_as_command


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Interrupted("saved", signal.SIGINT), 130),
        (Interrupted("saved", signal.SIGTERM), 143),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_signal_gives_its_usual_status(error, status):
    with pytest.raises(SystemExit) as end:
        run_as_command(raising(error))
    assert end.value.code == status


@pytest.mark.parametrize("error", [ValueError("No rows in x."), OSError("No rows in x.")])
def test_what_a_user_got_wrong_is_one_line(error, monkeypatch):
    monkeypatch.setattr("sys.argv", ["recipes/dpo_orca.py"])
    with pytest.raises(SystemExit) as end:
        run_as_command(raising(error))
    assert end.value.code == "dpo_orca.py: No rows in x."  # a text: status 1


def test_an_error_of_training_keeps_its_traceback(tmp_path):
    class Fail(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run_as_command(sft_trainer(tmp_path, max_steps=1, callbacks=[Fail()]).train)


def test_other_errors_are_no_users_fault():
    with pytest.raises(TypeError):
        run_as_command(raising(TypeError("a bug")))


@pytest.mark.parametrize(
    "given",
    [
        ["--max_steps", "8"],
        ["--resume_from_checkpoint", "runs/x/checkpoint-2", "--max_steps", "8"],
        ["--resume_from_checkpoint=true", "--max_steps", "8"],
    ],
)
def test_the_command_that_goes_on_is_the_same_with_the_flag(given, monkeypatch):
    monkeypatch.setattr("sys.argv", ["recipes/dpo_orca.py", *given])
    assert resume_command(None) == "python recipes/dpo_orca.py --max_steps 8 --resume_from_checkpoint true"


def test_a_notebook_is_told_of_arguments():
    assert resume_command(["--max_steps", "8"]) == 'the same arguments and "--resume_from_checkpoint", "true"'
