"""The callback that lets a model answer the same prompts again and again while it trains."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from accelerate.utils import broadcast_object_list
from peft import PeftModel
from rich.table import Table
from rich.text import Text
from transformers import (
    GenerationMixin,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ..data.load import load_rows
from ..errors import InputError
from ..measure.generate import COURSE_PROMPTS, generate_answers
from ..measure.score import score_completions
from ..models import max_positions
from ..report import Sample, append_samples, read_samples, report_folder, write_samples
from ..report.samples import prompt_text, sample_of
from ..report.table import print_table
from ..text.shown import printable
from .looking import looking, measuring, model_in, tokenizer_of
from .trackers import send_to_trackers
from .watched import SHOWN, how_answers_differ, own_answers, short_enough, watched_rows


# More would make a page that nobody reads, and a training that waits for it (ours).
MAX_PROMPTS = 64
HEALTH = ("repetition", "hanja", "latin")
# Rounds of a run beside the one before the first step, unless `every` says otherwise (ours).
ROUNDS = 4
# Prompts in the terminal of the first and the last round and of those between; the page has all (ours).
PRINTED, PRINTED_BETWEEN = 4, 2
# Terminal cells of a prompt and of an answer with its notes: two lines of a narrow terminal each (ours).
PROMPT_CELLS, ANSWER_CELLS = 52, 84
COLUMNS = ["step", "prompt", "side", "answer", "ended", "tokens", *HEALTH, "score"]

Messages = Sequence[Mapping[str, str]]


class KoreanSamplesCallback(TrainerCallback):
    """Show what the model says to the same prompts before, while and after it trains.

    It needs no argument with a trainer of a language model. Answers go to the terminal, to
    `<output_dir>/report/samples.jsonl`, and as a table to wandb, trackio and TensorBoard where the run reports to them.
    Their means (`samples/repetition`, `samples/hanja`, `samples/latin`, `samples/eos_rate`, `samples/mean_length`,
    `samples/score`; of eight prompts or more, `samples/distinct` and `samples/most_common`) also go to the trainer's log
    history, where [`HealthGuardCallback`] and the run report find them.

    A reward model generates nothing: given preference rows, it scores their chosen and rejected answers. A round that
    fails is said in one line and stands in the report; training goes on.

    Args:
        prompts: Strings, conversations, or rows with a `prompt` (a list or a dataset); or a file of such rows, see
            [`load_rows`]. The four prompts of the KoChatGPT course if not given. For a reward model, rows with
            `prompt`, `chosen` and `rejected`.
        every (`int`, *optional*): Optimizer steps between two rounds; one after each quarter of the run if not given.
            There is always one round before the first step and one after the last.
        max_new_tokens (`int`, *optional*, defaults to `64`): Longest answer, in tokens.
        batch_size (`int`, *optional*, defaults to `32`): Prompts at a time.
        score (`Callable`, *optional*): `score(prompts, answers)` gives a number, or `None`, for each answer: the reward
            of PPO with `score=trainer.score_answers`.
        output_dir (`str` or `Path`, *optional*): Where `report/` goes; the trainer's own if not given.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*): For a trainer that was given none.
        generation_kwargs: Passed to [`generate_answers`]: `stop_strings`, `do_sample`, `temperature`, `seed`, ...
            Greedy unless told otherwise, so that two rounds differ by the model alone.

    Raises:
        ValueError: There are no prompts or too many, or a row has no prompt.
    """

    def __init__(
        self,
        prompts: str | os.PathLike[str] | Iterable[str | Messages | Mapping[str, Any]] | None = None,
        *,
        every: int | None = None,
        max_new_tokens: int = 64,
        batch_size: int = 32,
        score: Callable[[Sequence[Any], Sequence[str]], Sequence[float | None]] | None = None,
        output_dir: str | os.PathLike[str] | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        **generation_kwargs: Any,
    ):
        if every is not None and every < 1:
            raise InputError(f"every is {every}; it counts optimizer steps and is at least 1.")
        self.rows = _rows(COURSE_PROMPTS if prompts is None else prompts)
        self.every = every
        self.score = score
        self.folder = None if output_dir is None else report_folder(output_dir)
        self._tokenizer = tokenizer
        self._generation = {
            "max_new_tokens": max_new_tokens,
            "batch_size": batch_size,
            "seed": 0,  # rounds with do_sample=True draw the same numbers
            **generation_kwargs,
        }
        self.watched: list[Mapping[str, Any]] = []
        self._last_round = -1
        self._printed: list[str] = []  # answers of the latest round in the terminal

    def watch(self, held_out: Any) -> None:
        """Also answer some of these held-out rows in every round, of which a few are shown, for the means of the log:
        whether different questions get different answers (`samples/distinct`, `samples/most_common`) and the reference
        that belongs to a question gains the most by it, of ten (`samples/own_answer`).

        Args:
            held_out (dataset or list of `Mapping`): Rows with a `prompt`, and a `completion` or `chosen` where there is
                one.
        """
        self.watched = watched_rows(held_out)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        assert args.output_dir is not None  # TrainingArguments fills it in
        self.folder = self.folder or report_folder(args.output_dir)
        quarters = {round(state.max_steps * part / ROUNDS) for part in range(1, ROUNDS + 1)}
        self._rounds = quarters if self.every is None else range(0, state.max_steps + 1, self.every)
        if state.is_world_process_zero:
            with looking("Keeping earlier samples", state):
                # A resumed run goes on from its checkpoint: what an earlier run answered after it is answered again.
                earlier = read_samples(self.folder) if state.global_step else []
                write_samples(self.folder, [sample for sample in earlier if sample.step <= state.global_step])
        self._last_round = state.global_step
        if state.global_step == 0:
            self._round(args, state, **kwargs)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        # The last round comes before the end of training, at which trackers close their runs.
        if state.global_step in self._rounds or state.global_step >= state.max_steps:
            self._round(args, state, **kwargs)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        if self._last_round != state.global_step:  # stopped early
            self._round(args, state, tracked=False, **kwargs)

    def _round(
        self,
        args: TrainingArguments,
        state: TrainerState,
        *,
        model: Any,
        processing_class: Any = None,
        tracked: bool = True,
        **kwargs: Any,
    ) -> None:
        self._last_round = step = state.global_step
        samples: list[Sample] = []
        numbers: dict[str, float] = {}
        with looking("A round of samples", state):
            tokenizer = self._tokenizer or tokenizer_of(processing_class)
            with measuring(model):
                samples, numbers = self._answers(model_in(model), tokenizer, state)
        if args.world_size > 1:  # every process says what the first one does, so that all of them judge alike
            said: list[Any] = [samples, numbers]
            broadcast_object_list(said)
            samples, numbers = said
        if not samples:
            return
        state.log_history.append({"epoch": state.epoch, **numbers, "step": step})
        if not state.is_world_process_zero:
            return
        assert self.folder is not None
        with looking("Keeping the samples", state):
            append_samples(self.folder, samples)
            self._print(samples, PRINTED if step == 0 or step >= state.max_steps else PRINTED_BETWEEN)
            if tracked:
                rows = [_cells(sample) for sample in read_samples(self.folder)]
                send_to_trackers(args, step, numbers, "samples/table", COLUMNS, rows)

    def _print(self, samples: Sequence[Sample], count: int) -> None:
        # A scored answer stays the same and its score does not.
        answers = [f"{sample.answer}{_number(sample.score)}" for sample in samples]
        if answers[:count] == self._printed[:count]:
            print(f"Samples, step {samples[0].step}: the same answers as before", flush=True)
        else:
            print_table(samples_table(samples, count))
        self._printed = answers

    def _answers(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, state: TrainerState
    ) -> tuple[list[Sample], dict[str, float]]:
        """The answers to show, and the means over all."""
        inner = model.get_base_model() if isinstance(model, PeftModel) else model
        if not isinstance(inner, GenerationMixin):
            scored = self._score_rows(model, tokenizer, state.global_step)
            return scored, summarize(scored)
        positions = max_positions(model)
        room = None if positions is None else positions - self._generation["max_new_tokens"]
        watched = short_enough(tokenizer, self.watched, room)
        prompts = [row["prompt"] for row in (*self.rows, *watched)]
        answers = generate_answers(model, tokenizer, prompts, **self._generation)
        scores: Sequence[float | None] = [None] * len(answers)
        if self.score is not None:
            with looking("Scoring the samples", state):  # a reward may need a column that these prompts do not have
                given = self.score(prompts, [answer.text for answer in answers])
                scores = [None if score is None else float(score) for score in given]
        samples = [
            sample_of(answer, step=state.global_step, score=score, held_out=str(row.get("held_out") or ""))
            for row, answer, score in zip((*self.rows, *watched), answers, scores, strict=True)
        ]
        return samples[: len(self.rows) + SHOWN], summarize(samples) | own_answers(model, tokenizer, watched)

    def _score_rows(self, model: Any, tokenizer: PreTrainedTokenizerBase, step: int) -> list[Sample]:
        if not all({"chosen", "rejected"} <= row.keys() for row in self.rows):
            raise InputError(
                f"{type(model).__name__} writes no answers, and a reward model scores those it is given: give "
                "KoreanSamplesCallback preference rows with 'prompt', 'chosen' and 'rejected', such as "
                "held_out.select(range(4))."
            )
        # Pairs of one ranking share their answers.
        pairs = {
            (prompt_text(row["prompt"]), side, prompt_text(row[side])): (row["prompt"], side, row[side])
            for row in self.rows
            for side in ("chosen", "rejected")
        }
        prompts, sides, answers = zip(*pairs.values(), strict=True)
        scores = score_completions(model, tokenizer, prompts, answers, batch_size=self._generation["batch_size"])
        return [
            Sample(step=step, prompt=prompt, answer=prompt_text(answer), side=side, score=score)
            for prompt, side, answer, score in zip(prompts, sides, answers, scores, strict=True)
        ]


def _rows(prompts: Any) -> list[dict[str, Any]]:
    """Rows with a `prompt`, from all that `prompts` may be."""
    if isinstance(prompts, (str, os.PathLike)):
        prompts = load_rows(Path(prompts))
    rows = [dict(item) if isinstance(item, Mapping) else {"prompt": item} for item in prompts]
    if not 1 <= len(rows) <= MAX_PROMPTS:
        raise InputError(
            f"{len(rows)} prompts for KoreanSamplesCallback; give 1 to {MAX_PROMPTS}, such as rows.select(range(8))."
        )
    for number, row in enumerate(rows):
        if not row.get("prompt"):
            raise InputError(
                f"Row {number} of the sample prompts has no 'prompt'; it has {', '.join(row) or 'nothing'}."
            )
    return rows


def summarize(samples: Sequence[Sample]) -> dict[str, float]:
    """Means of a round, for the log; what no sample has is left out."""
    numbers: dict[str, float] = {}
    names = {**{key: key for key in HEALTH}, "eos_rate": "ended", "mean_length": "tokens"}
    for name, attribute in names.items():
        values = [value for sample in samples if (value := getattr(sample, attribute)) is not None]
        if values:
            numbers[f"samples/{name}"] = fmean(values)
    for side in ("", "chosen", "rejected"):
        scores = [sample.score for sample in samples if sample.side == side and sample.score is not None]
        if scores:
            numbers[f"samples/score_{side}".rstrip("_")] = fmean(scores)
    return numbers | how_answers_differ([sample.answer for sample in samples if not sample.side])


def samples_table(samples: Sequence[Sample], count: int = PRINTED) -> Table:
    """A round for the terminal: its first prompts and answers, each in a line or two, and what is odd about them."""
    title = f"Samples, step {samples[0].step}"
    table = Table(title=title, title_justify="left", box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(max_width=PROMPT_CELLS // 2 + 2, overflow="fold")
    table.add_column(overflow="fold")
    above = None
    for sample in samples[:count]:
        notes = [] if sample.score is None else [f"score {_number(sample.score)}"]
        notes += ["cut"] if sample.ended is False else []
        notes += [f"{name} {share:.0%}" for name in HEALTH if (share := getattr(sample, name))]
        note = f" ({', '.join(notes)})" if notes else ""
        answer = _short(f"[{sample.side}] {sample.answer}" if sample.side else sample.answer, ANSWER_CELLS - len(note))
        prompt = prompt_text(sample.prompt)
        table.add_row(_short("" if prompt == above else prompt, PROMPT_CELLS), answer.append(note, style="dim"))
        above = prompt
    return table


def _short(text: str, cells: int) -> Text:
    # Text, not markup: answers hold square brackets.
    line = Text(" ".join(printable(text).split()))
    line.truncate(cells, overflow="ellipsis")
    return line


def _number(score: float | None) -> str:
    return "" if score is None else f"{score:.3g}"


def _cells(sample: Sample) -> list[Any]:
    return [prompt_text(sample.prompt) if name == "prompt" else getattr(sample, name) for name in COLUMNS]
