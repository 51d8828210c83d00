"""Answers to the same prompts at several steps, one JSON line each (`samples.jsonl`)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub.dataclasses import strict

from ..errors import InputError
from ..text.health import summarize_health
from ..text.shown import shown
from .record import MALFORMED, SAMPLES_FILE, Number, from_json, to_json, what_is_wrong, write_atomically


def _check_prompt(prompt: Any) -> None:
    turns = [] if isinstance(prompt, str) else prompt
    if not isinstance(turns, list) or not all(isinstance(t, dict) and {"role", "content"} <= t.keys() for t in turns):
        raise ValueError(f"prompt is {shown(prompt)}, neither text nor messages")


@strict
@dataclass
class Sample:
    """One answer at one step.

    Args:
        step (`int`): Optimizer steps before it.
        prompt (`str` or messages): As it was asked.
        answer (`str`): Generated, or, for a reward model, the answer of the row that is scored.
        side (`str`): `chosen` or `rejected` for an answer of a row, empty for a generated one.
        ended (`bool`, *optional*): Whether the model ended it with EOS.
        tokens (`int`, *optional*): Its length.
        repetition, hanja, latin (`float`, *optional*): Shares between 0 and 1.
        score (`float`, *optional*): What the reward model or function says.
        held_out (`str`): Why training never saw the prompt, where its row says so.
    """

    step: int
    prompt: Any = field(metadata={"validator": _check_prompt})
    answer: str
    side: str = ""
    ended: bool | None = None
    tokens: int | None = None
    repetition: Number | None = None
    hanja: Number | None = None
    latin: Number | None = None
    score: Number | None = None
    held_out: str = ""


def sample_of(answer: Any, *, step: int = 0, score: float | None = None, held_out: str = "") -> Sample:
    """An answer as `generate_answers` gives it, with what its text is like."""
    return Sample(
        step=step,
        prompt=answer.prompt,
        answer=answer.text,
        ended=answer.ended,
        tokens=len(answer.ids),
        score=score,
        held_out=held_out,
        **dict[str, Any](summarize_health([answer.text])),
    )


def write_samples(folder: Path, samples: Iterable[Sample]) -> None:
    """Replace the file by these samples."""
    write_atomically(folder / SAMPLES_FILE, "".join(to_json(asdict(sample)) for sample in samples))


def append_samples(folder: Path, samples: Iterable[Sample]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / SAMPLES_FILE).open("ab") as file:
        file.write("".join(to_json(asdict(sample)) for sample in samples).encode("utf-8", "backslashreplace"))


def read_samples(folder: Path) -> list[Sample]:
    """All samples of a run in the order written; none when the run kept none.

    A line without its end is what a killed run left of it, and is passed over.
    """
    path = folder / SAMPLES_FILE
    if not path.exists():
        return []
    samples = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            samples.append(from_json(Sample, line))
        except MALFORMED as error:
            raise InputError(f"{path}, line {number} is no sample: {what_is_wrong(error)}.") from error
    return samples


def prompt_text(prompt: str | Sequence[Mapping[str, Any]]) -> str:
    """What a reader takes for the prompt: the text, or the turns of a conversation, the only user turn unmarked."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return str(prompt[0]["content"] or "")
    return "\n".join(f"[{message['role']}] {message['content']}" for message in prompt if message["content"])
