"""The callback that keeps the run report."""

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..report import RunRecord, before_after_table, report_folder, write_page
from ..report.lengths import histogram, token_lengths
from ..report.machine import (
    command_line,
    device_name,
    in_mib,
    installed_versions,
    peak_device_memory,
    peak_host_memory,
    peak_memory,
)
from ..report.record import RUN, plain
from ..report.settings import settings_of
from .measuring import measuring, policy_of


logger = logging.getLogger(__name__)

# Writing while training goes on takes at most these shares of its time (ours). The page, which can be made again from
# the numbers, is drawn the more seldom.
WRITING_SHARE, DRAWING_SHARE = 0.01, 0.003


class Paced:
    """Do something again and again, at most for a given share of the time."""

    def __init__(self, share: float, action: Callable[[], None]):
        self._share = share
        self._action = action
        self._next = math.inf  # nothing is due before the first time, which `now` is

    def when_due(self) -> None:
        if time.perf_counter() >= self._next:
            self.now()

    def now(self) -> None:
        start = time.perf_counter()
        self._action()
        end = time.perf_counter()
        self._next = end + (end - start) / self._share


class RunReportCallback(TrainerCallback):
    """Keep `<output_dir>/report/`: measures before and after on the same rows, curves, what ran and on what.

    The report is written while training goes on, so that a killed run leaves one too. Use it around `train()` as a
    context manager, and an exception or Ctrl-C is written into the report before it goes its way:

    ```python
    report = RunReportCallback(recipe="dpo_orca", method="dpo", preset="cpu", model=name, rows=rows, evaluate=measure)
    trainer = DPOTrainer(..., callbacks=[report])
    with report:
        trainer.train()
    ```

    Args:
        recipe (`str`): Name of the recipe.
        method (`str`): `sft`, `reward`, `dpo` or `ppo`: decides which curves the page shows.
        preset (`str`): Name of the settings.
        model (`str`): The model that training starts from.
        rows (`Mapping`): `read`, `made`, `dropped` (reason -> count), `train`, `eval`; what is not known may be absent.
        tokenizer_findings (`Sequence`): What the tokenizer check found: mappings or dataclasses.
        evaluate (`Callable`, *optional*): `evaluate(model)` measures the model on held-out rows. It is called before the
            first step and after the last one, on every process, in evaluation mode. Numbers go to `before` and `after`;
            lists of numbers (scores of every row, say) go to the histograms.
        output_dir (`str` or `Path`, *optional*): Where `report/` goes; the trainer's own if not given.
    """

    def __init__(
        self,
        *,
        recipe: str,
        method: str,
        preset: str,
        model: str,
        rows: Mapping[str, Any],
        tokenizer_findings: Sequence[Any] = (),
        evaluate: Callable[[PreTrainedModel], Mapping[str, float | Sequence[float]]] | None = None,
        output_dir: str | os.PathLike[str] | None = None,
    ):
        self.record = RunRecord(
            recipe=recipe,
            method=method,
            preset=preset,
            model=model,
            rows=plain(rows),
            tokenizer=[plain(finding) for finding in tokenizer_findings],
        )
        self.folder = None if output_dir is None else report_folder(output_dir)
        self._evaluate = evaluate
        self._writes = False  # true on the main process, once training began
        self._started = 0.0
        self._seconds_before = 0.0
        self._write_numbers = Paced(WRITING_SHARE, self._save)
        self._write_page = Paced(DRAWING_SHARE, self._draw)

    # The context manager: a callback is not told of exceptions.

    def __enter__(self) -> "RunReportCallback":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or not self._writes or self.record.run["status"] != "running":
            return
        interrupted = isinstance(error, KeyboardInterrupt)
        self.record.run["status"] = "interrupted" if interrupted else "failed"
        said = str(error) or "Ctrl-C" if interrupted else f"{type(error).__name__}: {error}"
        self.record.run["reason"] = said[:1000]
        self._write()
        logger.warning("The run did not finish; what it had is in %s", self.folder)

    # Events

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        train_dataloader: Any = None,
        processing_class: Any = None,
        **kwargs: Any,
    ) -> None:
        assert args.output_dir is not None  # TrainingArguments fills it in
        folder = self.folder = self.folder or report_folder(args.output_dir)
        self._writes = state.is_world_process_zero
        self._started = time.perf_counter()
        record = self.record
        record.versions = installed_versions()
        record.history = state.log_history
        record.before, record.after, record.distributions, self._seconds_before = {}, {}, {}, 0.0
        record.run = {
            **RUN,
            "command": command_line(),
            "seed": args.seed,
            "device": device_name(),
            "processes": args.world_size,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "max_steps": state.max_steps,
            "output_dir": str(args.output_dir),
            "settings": settings_of(args, policy_of(model)),
        }
        dataset = getattr(train_dataloader, "dataset", None)
        lengths = {name: histogram(values) for name, values in token_lengths(dataset, processing_class).items()}
        if lengths:
            record.rows["lengths"] = lengths
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

        if state.global_step > 0:
            self._take_up(folder, state.global_step)
        else:
            self._measure(model, "before")
        if self._writes:
            self._write()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.record.history = state.log_history
        self.record.run["steps"] = state.global_step
        if self._writes:
            self._write_numbers.when_due()
            self._write_page.when_due()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        record = self.record
        record.history = state.log_history
        record.run["steps"] = state.global_step
        self._measure(model, "after")
        record.run["status"] = "finished" if state.global_step >= state.max_steps else "stopped"
        if record.run["status"] == "stopped":
            warnings = [entry["health/message"] for entry in state.log_history if "health/message" in entry]
            record.run["reason"] = warnings[-1] if warnings else "a callback asked for it"
        if self._writes:
            self._write()
            console = Console()
            if record.before or record.after:
                console.print(before_after_table(record))
            console.print(f"Run report: {self.folder}", markup=False, highlight=False, soft_wrap=True)

    def _take_up(self, folder: Path, step: int) -> None:
        """On a resumed run the first measures are those of its first part: the model is not the first one any more."""
        try:
            earlier = RunRecord.load(folder)
        except ValueError as error:
            logger.warning("Resuming at step %d without the measures from before training. %s", step, error)
            return
        self.record.before = earlier.before
        self.record.distributions = {name: d for name, d in earlier.distributions.items() if name == "before"}
        self._seconds_before = earlier.seconds
        self.record.run["started"] = earlier.run.get("started", self.record.run["started"])
        self.record.run["resumed_from"] = [*earlier.run.get("resumed_from", []), step]

    def _measure(self, model: Any, moment: str) -> None:
        if self._evaluate is None:
            return
        with measuring(model):
            measured = plain(self._evaluate(policy_of(model)))
        numbers = {name: value for name, value in measured.items() if not isinstance(value, list)}
        setattr(self.record, moment, numbers)
        lists = {name: value for name, value in measured.items() if isinstance(value, list)}
        if lists:
            self.record.distributions[moment] = lists

    def _write(self) -> None:
        self._write_numbers.now()
        self._write_page.now()

    def _save(self) -> None:
        assert self.folder is not None
        self.record.seconds = self._seconds_before + time.perf_counter() - self._started
        self.record.run["peak_memory"] = peak_memory()
        self.record.run["peak_host_memory_mib"] = in_mib(peak_host_memory())
        self.record.run["peak_device_memory_mib"] = in_mib(peak_device_memory())
        self.record.save(self.folder)

    def _draw(self) -> None:
        assert self.folder is not None
        write_page(self.folder, png=self.record.run["status"] != "running")
