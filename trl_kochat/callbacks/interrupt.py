"""The callback that lets Ctrl-C and SIGTERM end a run without losing it."""

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..processes import say


NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
# Ctrl-C reaches the processes of a launcher twice: from the terminal, and from the launcher.
SAME_SIGNAL_SECONDS = 2.0


class Interrupted(KeyboardInterrupt):
    """A signal ended training; the message says what was saved and how to go on.

    Args:
        message (`str`): One or two sentences for the user.
        signum (`int`): The signal; a command ends with status `128 + signum`.
    """

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum


class InterruptCallback(TrainerCallback):
    """End at the next step with a checkpoint when Ctrl-C (SIGINT) or SIGTERM comes; a second one ends at once.

    ```python
    interrupt = InterruptCallback()
    trainer = SFTTrainer(..., callbacks=[interrupt])
    with interrupt:
        trainer.train()  # raises Interrupted, a KeyboardInterrupt, once the checkpoint is written
    ```

    Signals are taken between entering and leaving the `with`, in the main thread alone, and one that is ignored (a job
    under `nohup`) stays ignored. While the model is measured before the first step or after the last one, there is
    nothing to save, and the first signal ends the run. With several processes, a signal to any of them ends all of them
    after the same step. It replaces `--enable_jit_checkpoint`, which knows neither Ctrl-C nor other processes.

    Args:
        go_on (`str`, *optional*): What to type to go on, for the message; by default the call of `trainer.train`.
    """

    def __init__(self, go_on: str | None = None):
        self._go_on = go_on
        self._handlers: dict[signal.Signals, Any] = {}
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._asked: signal.Signals | None = None
        self._asked_at = 0.0
        self._agreed: signal.Signals | None = None  # by all processes
        self._in_steps = False
        self._processes = 1
        self._saved: str | None = None

    def __enter__(self) -> "InterruptCallback":
        self._forget()
        if threading.current_thread() is threading.main_thread():
            for signum in NAMES:
                if signal.getsignal(signum) not in (signal.SIG_IGN, None):
                    self._handlers[signum] = signal.signal(signum, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)
        self._handlers.clear()
        if isinstance(error, Interrupted):
            say(str(error))

    def _take(self, number: int, frame: FrameType | None) -> None:
        signum = signal.Signals(number)
        if os.getpid() != self._pid:  # a worker of a DataLoader, forked with this handler
            signal.signal(signum, self._handlers[signum])
            os.kill(os.getpid(), signum)
            return
        name = NAMES[signum]
        echo = self._processes > 1 and time.monotonic() - self._asked_at < SAME_SIGNAL_SECONDS
        if self._asked is not None and echo:
            return
        if self._asked is not None or not self._in_steps:
            saved = f"the last checkpoint is {self._saved}" if self._saved else "no checkpoint was saved"
            raise Interrupted(f"Ended at once by {name}; {saved}.", signum)
        self._asked, self._asked_at = signum, time.monotonic()
        # Not `print`: the signal may have come in the middle of one.
        os.write(2, f"\n{name}: saving a checkpoint after this step; once more ends at once.\n".encode())

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self._processes = args.world_size

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self._in_steps = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self._agreed = self._agree(args)
        if self._agreed is not None:
            control.should_log = control.should_save = True

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        if control.should_training_stop:
            self._in_steps = False
        self.on_step_end(args, state, control)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self._saved = f"{args.output_dir}/checkpoint-{state.global_step}"
        if args.world_size == 1:
            self._agreed = self._asked  # a signal that came while the checkpoint was written
        if self._agreed is None:
            return
        PartialState().wait_for_everyone()  # a process that leaves early has the others ended by the launcher
        go_on = self._go_on or f'trainer.train(resume_from_checkpoint="{self._saved}")'
        message = (
            f"Interrupted by {NAMES[self._agreed]} at step {state.global_step} of {state.max_steps}: saved "
            f"{self._saved}. Go on with: {go_on}"
        )
        raise Interrupted(message, self._agreed)

    def _agree(self, args: TrainingArguments) -> signal.Signals | None:
        """The signal that any of the processes has got; a collective call."""
        if args.world_size == 1:
            return self._asked
        got = torch.tensor([float(self._asked == signum) for signum in NAMES], device=args.device)
        counts = reduce(got, reduction="sum").tolist()
        return next((signum for signum, count in zip(NAMES, counts, strict=True) if count), None)
