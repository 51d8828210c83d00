"""Which of two answers is better: what a judge says, asked in both orders, and how often which side wins."""

import json
import shlex
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import InputError
from ..text.diversity import bootstrap_interval
from ..text.shown import cut, shown
from .shared import transcript


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..measure.generate import Generation

# Takes prompts and two answers to each; gives "a" where the first is better, "b" where the second is, or "tie".
Judge = Callable[[Sequence[Any], Sequence["Generation"], Sequence["Generation"]], list[str]]
_SWAPPED = {"a": "b", "b": "a", "tie": "tie"}


class Verdicts(NamedTuple):
    """How answers of one side fare against those of another."""

    label: str
    against: str
    wins: int
    losses: int
    ties: int
    disagreements: int
    """The judge said something else when the two changed places."""
    rate: float
    """Share of wins, where neither tie nor disagreement counts for a side: each is half a win."""
    low: float
    high: float


def compare(
    judge: Judge,
    sides: tuple[str, str],
    prompts: Sequence[Any],
    ours: Sequence["Generation"],
    theirs: Sequence["Generation"],
) -> Verdicts:
    """What a judge says of two answers to each prompt, in both orders; two answers that are the same text are a tie.

    Args:
        sides: What the two are called.
    """
    numbers = [number for number, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a.text != b.text]
    asked, a, b = ([values[number] for number in numbers] for values in (prompts, ours, theirs))
    forward, backward = (judge(asked, a, b), judge(asked, b, a)) if asked else ([], [])
    said = ["tie"] * (len(prompts) - len(numbers))
    said += [one if one == _SWAPPED[other] else "swapped" for one, other in zip(forward, backward, strict=True)]
    values = [{"a": 1.0, "b": 0.0}.get(verdict, 0.5) for verdict in said]
    times = Counter(said)
    label, against = sides
    low, high = bootstrap_interval(values)
    return Verdicts(
        label,
        against,
        wins=times["a"],
        losses=times["b"],
        ties=times["tie"],
        disagreements=times["swapped"],
        rate=sum(values) / len(values),
        low=low,
        high=high,
    )


def reward_judge(model: Any, tokenizer: "PreTrainedTokenizerBase") -> Judge:
    """The answer with the higher score of a reward model; one that was cut is not scored as if it had ended."""
    from ..measure.score import score_completions

    def judge(prompts: Sequence[Any], *sides: Sequence["Generation"]) -> list[str]:
        first, second = (
            score_completions(
                model, tokenizer, prompts, [answer.text for answer in side], ended=[answer.ended for answer in side]
            )
            for side in sides
        )
        return ["a" if a > b else "b" if b > a else "tie" for a, b in zip(first, second, strict=True)]

    return judge


def command_judge(command: str) -> Judge:
    """A program that reads lines `{"prompt", "a", "b"}` and writes a line `{"verdict": "a"|"b"|"tie"}` for each."""

    def judge(prompts: Sequence[Any], first: Sequence["Generation"], second: Sequence["Generation"]) -> list[str]:
        pairs = [
            {"prompt": transcript(prompt), "a": a.text, "b": b.text}
            for prompt, a, b in zip(prompts, first, second, strict=True)
        ]
        lines = "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
        try:
            done = subprocess.run(
                shlex.split(command), input=lines, stdout=subprocess.PIPE, text=True, encoding="utf-8"
            )
        except (OSError, ValueError) as error:
            raise InputError(f"--judge_command {shown(command)} does not run: {error}.") from error
        if done.returncode:
            raise InputError(f"--judge_command {shown(command)} ended with status {done.returncode}.")
        written = done.stdout.splitlines()
        if len(written) != len(pairs):
            raise InputError(
                f"--judge_command {shown(command)} wrote {len(written)} lines for {len(pairs)} pairs; one for each is needed."
            )
        return [_verdict(line, number) for number, line in enumerate(written, start=1)]

    return judge


def _verdict(line: str, number: int) -> str:
    try:
        verdict = json.loads(line)["verdict"]
    except (ValueError, KeyError, TypeError):
        verdict = None
    if verdict not in _SWAPPED:
        raise InputError(
            f'--judge_command wrote {cut(shown(line))} in line {number}; a verdict is {{"verdict": "a"}}, "b" or "tie".'
        )
    return str(verdict)
