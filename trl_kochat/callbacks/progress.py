"""One line for a training run: how far it is, loss, rate, the method's own number and the time left."""

import time
from typing import Any

from rich import get_console
from rich.progress import BarColumn, Progress, TextColumn
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ..report.measures import format_number
from ..report.record import is_number


# Key of a trainer's log -> what the line calls it.
NUMBERS = {
    "loss": "loss",
    "eval_loss": "held-out loss",
    "reward": "reward",
    "kl": "KL",
    "rewards/accuracies": "accuracy",
    "accuracy": "accuracy",
    "mean_token_accuracy": "token accuracy",
    "learning_rate": "rate",
}
# Lines of a whole run where nothing can be written over, in a file or a pipe (ours).
MAX_LINES = 20


class ProgressLineCallback(TrainerCallback):
    """Show a run in one line instead of the trainer's log: a bar on a terminal, a few short lines elsewhere.

    What others print through rich's own console, or plainly, goes above the bar. `close` it after `train()`, so that the
    terminal is given back after an exception too.
    """

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._numbers: dict[str, float] = {}

    @classmethod
    def instead_of_log(cls, trainer: Trainer) -> "ProgressLineCallback":
        """Take the place of transformers' own progress bar or printed log, if the trainer has one (in a notebook it has
        a table, which stays).
        """
        line = cls()
        if trainer.pop_callback(ProgressCallback) or trainer.pop_callback(PrinterCallback):
            trainer.add_callback(line)
        return line

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self._numbers = {}
        self._first_step = state.global_step
        self._next_line: float = state.global_step
        if get_console().is_terminal and not args.disable_tqdm and state.is_world_process_zero:
            text = TextColumn("{task.description}", markup=False)
            self._bar = Progress(BarColumn(20), text, auto_refresh=False)
            self._task = self._bar.add_task(f"step 0/{state.max_steps}", total=state.max_steps)
            self._bar.start()

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        if state.global_step == self._first_step:  # what was measured before is no measure of a step
            self._started = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self._move(state)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        found = {key: value for key, value in (logs or {}).items() if key in NUMBERS and is_number(value)}
        if not found:
            return
        self._numbers |= found
        self._move(state)
        due = state.global_step >= self._next_line or state.global_step >= state.max_steps
        if self._bar is None and state.is_world_process_zero and "loss" in found and due:
            self._next_line = state.global_step + state.max_steps / MAX_LINES
            print(self._line(state), flush=True)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.close()

    def _move(self, state: TrainerState) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=state.global_step, description=self._line(state), refresh=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _line(self, state: TrainerState) -> str:
        width = len(str(state.max_steps))
        parts = [f"step {state.global_step:>{width}}/{state.max_steps}"]
        parts += [
            f"{word} {format_number(self._numbers[key])}" for key, word in NUMBERS.items() if key in self._numbers
        ]
        done = state.global_step - self._first_step
        if done and state.global_step < state.max_steps:
            seconds = (time.perf_counter() - self._started) / done * (state.max_steps - state.global_step)
            parts.append(f"{clock(seconds)} left")
        return "  ".join(parts)


def clock(seconds: float) -> str:
    """
    >>> clock(75.4), clock(3725)
    ('1:15', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
