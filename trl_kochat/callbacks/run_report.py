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
from rich import get_console
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..report import RunRecord, before_after_table, report_folder, write_page
from ..report.intervals import add_measures
from ..report.lengths import histogram, token_lengths
from ..report.machine import command_line, device_name, installed_versions, peak_memory
from ..report.page import PAGE_FILE
from ..report.record import RUN, plain
from ..report.settings import settings_of
from ..report.table import print_table
from ..report.verdict import reads_korean, verdict_of
from ..tokenizer import check_tokenizer
from .looking import looking, measuring, method_of, model_in, tokenizer_of


logger = logging.getLogger(__name__)

# Writing while training goes on takes at most these shares of its time (ours). The page, which can be made again from
# the numbers, is drawn the more seldom.
WRITING_SHARE, DRAWING_SHARE = 0.01, 0.003


class Throttle:
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

    It needs no argument with any trainer of transformers or TRL. The report is written while training goes on, so that
    a killed run leaves one too. Use it around `train()` as a context manager, and an exception or Ctrl-C is written
    into the report before it goes its way:

    ```python
    report = RunReportCallback()
    trainer = GRPOTrainer(..., callbacks=[report])
    with report:
        trainer.train()
    ```

    What cannot be measured or written is said in one line and stands in the report; training goes on.

    Args:
        recipe (`str`, *optional*): Name of the run; that of `output_dir` if not given.
        method (`str`, *optional*): Name of the method; that of the arguments' class (`DPOConfig`: `dpo`) if not given.
        preset (`str`, *optional*, defaults to `"custom"`): Name of the settings.
        model (`str`, *optional*): The model that training starts from; what its config says if not given.
        rows (`Mapping`, *optional*): `read`, `made`, `dropped` (reason -> count), `train`, `eval`, as far as known; the
            rows that are trained on are counted if not given.
        tokenizer_findings (`Sequence`, *optional*): What the tokenizer check found, mappings or dataclasses; the check
            is made if not given.
        evaluate (`Callable`, *optional*): `evaluate(model)` measures the model on held-out rows. It is called before the
            first step and after the last one, on every process, in evaluation mode. Numbers go to `before` and `after`,
            but for `n`, `left_out` and `cut`, which count the rows. A list `NAME_by_row` is what each row adds to the
            number `NAME`, their mean, and gives it an interval; other lists (scores, say) go to the histograms.
        output_dir (`str` or `Path`, *optional*): Where `report/` goes; the trainer's own if not given.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*): For a trainer that was given none.
    """

    def __init__(
        self,
        *,
        recipe: str | None = None,
        method: str | None = None,
        preset: str = "custom",
        model: str | None = None,
        rows: Mapping[str, Any] | None = None,
        tokenizer_findings: Sequence[Any] | None = None,
        evaluate: Callable[[PreTrainedModel], Mapping[str, float | Sequence[float]]] | None = None,
        output_dir: str | os.PathLike[str] | None = None,
        tokenizer: Any = None,
    ):
        # What is not given is filled in when training begins.
        self.record = RunRecord(
            recipe=recipe or "", method=method or "", preset=preset, model=model or "", rows=plain(rows or {})
        )
        self.folder = None if output_dir is None else report_folder(output_dir)
        self._findings = tokenizer_findings
        self._tokenizer = tokenizer
        self._evaluate = evaluate
        self._state: TrainerState | None = None  # once training began
        self._started = 0.0
        self._seconds_before = 0.0
        self._write_numbers = Throttle(WRITING_SHARE, self._save)
        self._write_page = Throttle(DRAWING_SHARE, self._draw)

    # The context manager: a callback is not told of exceptions.

    def __enter__(self) -> "RunReportCallback":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        run = self.record.run
        if error is None or self._state is None or run["status"] != "running":
            return
        interrupted = isinstance(error, KeyboardInterrupt)
        run["status"] = "interrupted" if interrupted else "failed"
        said = str(error) or "Ctrl-C" if interrupted else f"{type(error).__name__}: {error}"
        run["reason"] = said[:1000]
        self._write()
        if self._state.is_world_process_zero:
            logger.warning("The run did not finish; what it had is in %s", self.folder)

    # Events

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        assert args.output_dir is not None  # TrainingArguments fills it in
        self.folder = self.folder or report_folder(args.output_dir)
        self._state, self._started, self._seconds_before = state, time.perf_counter(), 0.0
        record, model = self.record, model_in(kwargs["model"])
        record.recipe = record.recipe or Path(args.output_dir).resolve().name
        record.method = record.method or method_of(args)
        config = getattr(model, "config", None)
        record.model = record.model or getattr(config, "name_or_path", "") or type(model).__name__
        record.versions = installed_versions()
        record.before, record.after, record.distributions = {}, {}, {}
        record.run = {
            **RUN,
            "command": command_line(),
            "seed": args.seed,
            "device": device_name(),
            "processes": args.world_size,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "max_steps": state.max_steps,
            "output_dir": str(args.output_dir),
        }
        self._describe(args, state, **kwargs)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        if state.global_step > 0:
            self._take_up(state.global_step)
        else:
            self._measure(model, "before")
        self._write()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.record.run["steps"] = state.global_step
        if state.is_world_process_zero:
            self._write_numbers.when_due()
            self._write_page.when_due()

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        dataset = getattr(kwargs.get("eval_dataloader"), "dataset", None)
        if hasattr(dataset, "__len__"):
            self.record.rows.setdefault("eval", len(dataset))  # type: ignore[arg-type]

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        record = self.record
        record.run["steps"] = state.global_step
        self._measure(model, "after")
        record.run["status"] = "finished" if state.global_step >= state.max_steps else "stopped"
        if record.run["status"] == "stopped":
            stopped = [entry["health/message"] for entry in state.log_history if "health/stopped" in entry]
            record.run["reason"] = stopped[-1] if stopped else "a callback asked for it"
        self._write()
        if state.is_world_process_zero:
            console = get_console()
            if record.before or record.after:
                print_table(before_after_table(record))
            # Each on a line of its own however long, so that a terminal makes the address one to click.
            if verdict := record.verdict.get("ko" if reads_korean() else "en"):
                console.print(verdict, markup=False, highlight=False, soft_wrap=True)
            assert self.folder is not None
            page = (self.folder / PAGE_FILE).resolve().as_uri()
            console.print(f"Run report: {page}", markup=False, highlight=False, soft_wrap=True)

    def _describe(
        self,
        args: TrainingArguments,
        state: TrainerState,
        *,
        model: Any = None,
        train_dataloader: Any = None,
        processing_class: Any = None,
        **kwargs: Any,
    ) -> None:
        """What the trainer tells of settings, rows and tokenizer."""
        record = self.record
        with looking("The list of settings", state):
            record.run["settings"] = settings_of(args, model_in(model))
        dataset = getattr(train_dataloader, "dataset", None)
        with looking("Counting the training rows", state):
            if hasattr(dataset, "__len__"):
                record.rows.setdefault("train", len(dataset))  # type: ignore[arg-type]
            if lengths := token_lengths(dataset, self._tokenizer or processing_class):
                record.rows["lengths"] = {name: histogram(values) for name, values in lengths.items()}
        with looking("The tokenizer check", state):
            findings = self._findings
            if findings is None:
                findings = check_tokenizer(tokenizer_of(self._tokenizer or processing_class), model_in(model))
            record.tokenizer = [plain(finding) for finding in findings]

    def _take_up(self, step: int) -> None:
        """On a resumed run the first measures are those of its first part: the model is not the first one any more."""
        assert self.folder is not None
        try:
            earlier = RunRecord.load(self.folder)
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
        assert self._state is not None
        with looking(f"Measuring {moment} training", self._state):
            with measuring(model):
                measured = self._evaluate(model_in(model))
            add_measures(self.record, moment, measured)

    def _write(self) -> None:
        assert self._state is not None
        if self._state.is_world_process_zero:
            self._write_numbers.now()
            self._write_page.now()

    def _save(self) -> None:
        assert self.folder is not None and self._state is not None
        with looking("Writing the report's numbers", self._state):
            self.record.history = self._state.log_history
            self.record.seconds = self._seconds_before + time.perf_counter() - self._started
            self.record.run |= peak_memory()
            self.record.verdict = verdict_of(self.record)
            self.record.save(self.folder)

    def _draw(self) -> None:
        assert self.folder is not None and self._state is not None
        with looking("Drawing the report's page", self._state):
            write_page(self.folder, png=self.record.run["status"] != "running")
