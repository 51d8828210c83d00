"""How a recipe ends as a command, and the command that goes on with it."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import PartialState

from ..callbacks.interrupt import Interrupted
from ..errors import InputError
from ..report.machine import command_line
from ..startup import end_imports
from ..versions import noting_newer_versions


_WHILE_TRAINING = "This happened while the model was trained."


def run_as_command(main: Callable[[], None]) -> None:
    """Run a recipe's `main` as a command: what a user got wrong is one line and exit status 1, a signal 128 + its number.

    What a user got wrong is an [`InputError`], and a file or repository that is not there (`OSError`) before training.
    """
    end_imports()
    try:
        with noting_newer_versions():
            main()
    except Interrupted as stop:
        PartialState().destroy_process_group()
        sys.exit(128 + stop.signum)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except (InputError, OSError) as error:
        if _WHILE_TRAINING in getattr(error, "__notes__", ()):
            raise
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")


@contextmanager
def noted_as_training() -> Iterator[None]:
    """Around training: an `OSError` in the middle of it keeps its traceback."""
    try:
        yield
    except OSError as error:
        error.add_note(_WHILE_TRAINING)
        raise


def resume_command(argv: Sequence[str] | None) -> str:
    """What to type to go on with an interrupted run of a recipe."""
    flag = "--resume_from_checkpoint"
    if argv is not None:  # called from a notebook or a script
        return f'the same arguments and "{flag}", "true"'
    words = _without_flag(sys.argv, flag)
    command = command_line([*words, flag, "true"])
    processes = torch.distributed.is_initialized()
    return command.replace("python", "accelerate launch", 1) if processes else command


def _without_flag(argv: Sequence[str], flag: str) -> list[str]:
    """
    >>> _without_flag(["a.py", "--x", "last", "--y=1", "--x=2", "--z"], "--x")
    ['a.py', '--y=1', '--z']
    """
    kept, after_flag = [], False
    for word in argv:
        is_flag = word == flag
        if not (is_flag or word.startswith(f"{flag}=") or (after_flag and not word.startswith("--"))):
            kept.append(word)
        after_flag = is_flag
    return kept
