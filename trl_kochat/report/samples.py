"""Answers to the same prompts at several steps, one JSON line each (`samples.jsonl`)."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import InputError
from .record import SAMPLES_FILE, parse_json, plain, write_atomically
from .shape import check_sample


@dataclass(frozen=True)
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
    """

    step: int
    prompt: Any
    answer: str
    side: str = ""
    ended: bool | None = None
    tokens: int | None = None
    repetition: float | None = None
    hanja: float | None = None
    latin: float | None = None
    score: float | None = None


def write_samples(folder: Path, samples: Iterable[Sample]) -> None:
    """Replace the file by these samples."""
    write_atomically(folder / SAMPLES_FILE, "".join(_line(sample) for sample in samples))


def append_samples(folder: Path, samples: Iterable[Sample]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / SAMPLES_FILE).open("ab") as file:
        file.write("".join(_line(sample) for sample in samples).encode("utf-8", "backslashreplace"))


def read_samples(folder: Path) -> list[Sample]:
    """All samples of a run in the order written; none when the run kept none.

    A line without its end is what a killed run left of it, and is passed over.
    """
    path = folder / SAMPLES_FILE
    if not path.exists():
        return []
    names = {field.name for field in fields(Sample)}
    samples = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            sample = plain(parse_json(line))
            check_sample(sample, "it")
            samples.append(Sample(**{key: value for key, value in sample.items() if key in names}))
        except ValueError as error:
            raise InputError(f"{path}, line {number} is no sample: {error}.") from None
    return samples


def _line(sample: Sample) -> str:
    return json.dumps(plain(asdict(sample)), ensure_ascii=False, allow_nan=False) + "\n"


def prompt_text(prompt: str | Sequence[Mapping[str, str]]) -> str:
    """What a reader takes for the prompt: the text, or the turns of a conversation, the only user turn unmarked."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return prompt[0]["content"] or ""
    return "\n".join(f"[{message['role']}] {message['content']}" for message in prompt if message["content"])
