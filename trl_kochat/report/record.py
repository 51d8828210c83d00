"""The numbers of one run, and the file they live in (`metrics.json`)."""

import copy
import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from .measures import METHODS
from .shape import check_record, is_number


METRICS_FILE = "metrics.json"
SAMPLES_FILE = "samples.jsonl"


# What `run` holds, before anything is known of it.
RUN: dict[str, Any] = {
    "status": "running",
    "reason": None,
    "command": None,
    "seed": None,
    "device": None,
    "processes": 1,
    "started": None,
    "steps": 0,
    "max_steps": None,
    "resumed_from": [],
    "peak_memory": None,
    "peak_host_memory_mib": None,
    "peak_device_memory_mib": None,
    "output_dir": None,
    "settings": {},
}


@dataclass
class RunRecord:
    """Everything a report says about one run, apart from its samples.

    Args:
        recipe (`str`): Name of the recipe, such as `dpo_orca`.
        method (`str`): One of `sft`, `reward`, `dpo`, `ppo`.
        preset (`str`): `cpu` or `gpu`, or whatever the caller names its settings.
        model (`str`): The model that training started from.
        seconds (`float`): Time spent in training, its measurements included, over all resumed parts.
        rows (`dict`): `read`, `made`, `dropped` (reason -> count), `train`, `eval`; `lengths` holds a histogram per
            token column of the training rows.
        tokenizer (`list[dict]`): Findings about the tokenizer: `code`, `severity`, `fixed` and what else they carry.
        before (`dict`): Measures on the held-out rows before the first step. `None` is a number that was not finite.
        after (`dict`): The same measures after the last step; empty while the run is not finished.
        versions (`dict`): Package -> version.
        run (`dict`): How it went, see `RUN`: `status` is `running`, `finished`, `stopped`, `interrupted` or `failed`,
            `peak_memory` is in bytes (of the device that trained), `peak_host_memory_mib` and
            `peak_device_memory_mib` in MiB, `None` where there is no such memory or nobody tells, `resumed_from` lists
            steps, `settings` are those that are not the defaults.
        distributions (`dict`): `before` and `after` -> name -> list of numbers, one for each held-out row.
        history (`list[dict]`): The trainer's log, one entry per logged event with its `step`.
    """

    recipe: str
    method: str
    preset: str
    model: str
    seconds: float = 0.0
    rows: dict[str, Any] = field(default_factory=dict)
    tokenizer: list[dict[str, Any]] = field(default_factory=list)
    before: dict[str, float | None] = field(default_factory=dict)
    after: dict[str, float | None] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    distributions: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"Unknown method {self.method!r} for a run report; there are {', '.join(METHODS)}.")
        self.run = copy.deepcopy(RUN) | self.run

    def save(self, folder: Path) -> None:
        """Write `metrics.json` into `folder`; a reader never sees half a file."""
        write_atomically(folder / METRICS_FILE, to_json(dataclasses.asdict(self)))

    @classmethod
    def load(cls, folder: Path) -> "RunRecord":
        path = folder / METRICS_FILE
        try:
            content = plain(parse_json(path.read_bytes()))
        except FileNotFoundError:
            raise InputError(
                f"No run report in {folder}: it has no {METRICS_FILE}. Give the --output_dir of a run."
            ) from None
        except ValueError as error:
            raise InputError(f"{path} is not JSON: {error}.") from None
        names = {f.name for f in dataclasses.fields(cls)}
        if not isinstance(content, dict) or not {"recipe", "method", "preset", "model"} <= content.keys():
            raise InputError(f"{path} is not a run report: it has no recipe, method, preset and model.")
        try:
            check_record(content, "its content")
            # A key that a later version added is nothing this version could show.
            return cls(**{key: value for key, value in content.items() if key in names})
        except ValueError as error:
            raise InputError(f"{path} is not a run report: {str(error).rstrip('.')}.") from error


def report_folder(output_dir: str | os.PathLike[str]) -> Path:
    return Path(output_dir) / "report"


def find_report(path: str | os.PathLike[str]) -> Path:
    """The report folder of a run, given as the run's output folder or as the report folder itself.

    Raises:
        ValueError: Neither of them holds a report.
    """
    for folder in (report_folder(path), Path(path)):
        if (folder / METRICS_FILE).is_file():
            return folder
    raise InputError(f"No run report in {path}: there is no report/{METRICS_FILE}. Give the --output_dir of a run.")


def write_atomically(path: Path, text: str) -> None:
    """Write beside the file, then rename: a killed run leaves the last whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    # JSON can hold half a surrogate pair, UTF-8 cannot: it is written as the escape that JSON has for it.
    partial.write_bytes(text.encode("utf-8", "backslashreplace"))
    partial.replace(path)


def parse_json(data: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: It is none, in one class and in words that say where.
    """
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"byte {data[error.start]:#04x} at {error.start} is not UTF-8") from error
    except RecursionError as error:
        raise InputError("it is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise InputError(f"line {error.lineno}, column {error.colno}: {error.msg}") from error


def to_json(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """The value in JSON's own types; NaN, infinity and whole numbers beyond every float become `None`."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, (int, float)):
        return value if is_number(value) else None
    if hasattr(value, "item"):  # a scalar of torch or numpy
        return plain(value.item())
    return str(value)
