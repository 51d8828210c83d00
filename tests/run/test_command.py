"""How a recipe ends as a command."""

import signal

import pytest

from trl_kochat.callbacks import Interrupted
from trl_kochat.errors import InputError
from trl_kochat.run.command import noted_as_training, resume_command, run_as_command


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


@pytest.mark.parametrize("error", [InputError("No rows in x."), OSError("No rows in x.")])
def test_what_a_user_got_wrong_is_one_line(error, monkeypatch):
    monkeypatch.setattr("sys.argv", ["recipes/dpo_orca.py"])
    with pytest.raises(SystemExit) as end:
        run_as_command(raising(error))
    assert end.value.code == "dpo_orca.py: No rows in x."  # a text: status 1


def test_an_error_of_training_keeps_its_traceback():
    def main():
        with noted_as_training():
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        run_as_command(main)


@pytest.mark.parametrize("error", [ValueError("a bug"), TypeError("a bug")])
def test_other_errors_are_no_users_fault(error):
    with pytest.raises(type(error)):
        run_as_command(raising(error))


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
