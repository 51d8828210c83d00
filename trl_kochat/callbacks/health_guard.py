"""The callback that watches a run and says when it goes wrong."""

import logging
from collections.abc import Collection
from statistics import median
from typing import Any, Literal

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..encode import answer_lengths, count_cut, count_rows
from ..errors import InputError
from ..report.lengths import first_rows
from .health_rules import COLLAPSE, RULES, Log
from .looking import looking


logger = logging.getLogger(__name__)


class HealthGuardCallback(TrainerCallback):
    """Say in one sentence, once for each cause, what goes wrong in a run: the number, and the way out.

    It reads the trainer's log and the rounds of [`KoreanSamplesCallback`], and looks at the tokenized rows before the
    first step. Its sentences go to the Python log and to the run report. The causes:

    | code | what |
    |---|---|
    | `not_finite` | a loss, gradient norm or reward is NaN or infinite |
    | `rows_cut` | half of the training rows or more lose their end to `max_length` |
    | `kl_too_large` | KL to the reference is above `max_kl` |
    | `entropy_collapse` | an online policy says the same every time |
    | `no_signal` | GRPO, RLOO: nearly all groups get one and the same reward, and the reward has not risen |
    | `reward_hacking` | reward rises while completions double in length, shrink to under three fifths or repeat themselves |
    | `reward_without_variety` | reward rises while fewer of the sampled answers differ |
    | `reward_traded` | the sum of several rewards rises, and one of them falls |
    | `same_answer` | many different prompts get the same answer |
    | `own_answer_at_chance` | answers have lost touch with their questions |
    | `repetition_rises` | the sampled answers repeat themselves more than before training |
    | `foreign_script_rises` | Chinese characters or Latin letters take over the sampled answers |
    | `never_ends` | no answer ends by itself |
    | `likelihood_displacement` | DPO: chosen answers lose probability together with the rejected ones |
    | `accuracy_at_chance` | reward model or DPO: pairs are still ordered by chance after half of the run |

    Args:
        action (`"warn"` or `"stop"`, *optional*, defaults to `"warn"`): Whether to end the training after a warning. The
            model of that step is what the trainer is left with.
        stop_on_collapse (`bool`, *optional*, defaults to `False`): End the training after a warning of collapse alone:
            `entropy_collapse`, `reward_without_variety`, `same_answer` and `own_answer_at_chance`.
        max_kl (`float`, *optional*, defaults to `20.0`): Bound for `kl_too_large`, in nats a completion.
        ignore (`Collection[str]`, *optional*): Codes to leave out.

    Raises:
        ValueError: There is no such action or code.
    """

    def __init__(
        self,
        *,
        action: Literal["warn", "stop"] = "warn",
        stop_on_collapse: bool = False,
        max_kl: float = 20.0,
        ignore: Collection[str] = (),
    ):
        if action not in ("warn", "stop"):
            raise InputError(f"action is {action!r}; it is 'warn' or 'stop'.")
        unknown = sorted({ignore} if isinstance(ignore, str) else set(ignore) - RULES.keys())
        if unknown:
            raise InputError(f"ignore has {', '.join(unknown)}; it is a list of codes, which are {', '.join(RULES)}.")
        self.stopping = set(RULES) if action == "stop" else COLLAPSE if stop_on_collapse else set()
        self.max_kl = max_kl
        self._rules = {code: rule for code, rule in RULES.items() if code not in ignore}

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        processing_class: Any = None,
        train_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        dataset = getattr(train_dataloader, "dataset", None)
        max_length = getattr(args, "max_length", None)
        rows_cut, answer_length = None, None
        with looking("A look at the training rows", state):
            rows_cut, answer_length = look_at_rows(
                dataset,
                getattr(processing_class, "tokenizer", processing_class),
                max_length=max_length,
                packed=getattr(args, "packing", False),
            )
        self._log = Log(
            max_steps=state.max_steps,
            max_kl=self.max_kl,
            beta=getattr(args, "beta", None),
            rows_cut=rows_cut,
            max_length=max_length,
            answer_length=answer_length,
            fp16=args.fp16,
        )
        # On a resumed run, what was logged before is where it came from, and what was said is not said again.
        for entry in state.log_history:
            self._log.add(entry)
        self._log.fired |= {str(entry["health/code"]) for entry in state.log_history if "health/code" in entry}
        if not any("health/warnings" in entry for entry in state.log_history):
            state.log_history.append({"step": state.global_step, "health/warnings": 0})  # the report's proof of watch
        self._read = len(state.log_history)
        self._judge(state, control)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self._judge(state, control)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        if len(state.log_history) > self._read:
            self._judge(state, control)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.on_step_end(args, state, control)

    def _judge(self, state: TrainerState, control: TrainerControl) -> None:
        for logged in state.log_history[self._read :]:
            self._log.add(logged)
        self._read = len(state.log_history)
        for code, rule in self._rules.items():
            if code in self._log.fired:
                continue
            message = rule(self._log)
            if message is None:
                continue
            self._log.fired.add(code)
            entry: dict[str, Any] = {
                "epoch": state.epoch,
                "health/code": code,
                "health/message": message,
                "step": state.global_step,
            }
            if code in self.stopping:
                entry["health/stopped"] = 1
                control.should_training_stop = True
            state.log_history.append(entry)
            self._read = len(state.log_history)
            if state.is_world_process_zero:
                logger.warning("Step %d: %s", state.global_step, message)


def look_at_rows(
    dataset: Any, tokenizer: Any, *, max_length: int | None = None, packed: bool = False
) -> tuple[float | None, float | None]:
    """Share of the tokenized rows that lose their end to `max_length`, and the median length of their answers.

    `None` where the rows do not tell: prompts alone, a streamed dataset, no tokens yet; packed rows have no length.
    """
    rows = first_rows(dataset)
    if rows is None or not (lengths := answer_lengths(rows)):
        return None, None
    cut = None if max_length is None else count_cut(rows, tokenizer, max_length) / count_rows(rows)
    return cut, None if packed else median(lengths)
