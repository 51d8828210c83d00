"""The numbers of one run, and the file they live in (`metrics.json`)."""

import copy
import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from huggingface_hub.dataclasses import strict, validate_typed_dict, validated_field
from huggingface_hub.errors import StrictDataclassError

from ..errors import InputError
from ..text.shown import cut


METRICS_FILE = "metrics.json"
SAMPLES_FILE = "samples.jsonl"

Number = int | float

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
    "peak_host_memory_mib": None,
    "peak_device_memory_mib": None,
    "output_dir": None,
    "settings": {},
}


class _Run(TypedDict, total=False):
    status: str
    steps: int
    max_steps: int | None
    processes: int
    resumed_from: list[int]
    peak_host_memory_mib: Number | None
    peak_device_memory_mib: Number | None
    output_dir: str | None
    settings: dict[str, Any]


class _Rows(TypedDict, total=False):
    dropped: dict[str, Any] | None
    lengths: dict[str, dict[str, Any]]


class _Histogram(TypedDict):
    counts: list[Number]
    edges: list[Number]
    min: Number
    median: Number
    max: Number


def _check_keys(schema: Any, value: dict[str, Any]) -> None:
    """The keys that a page reads; others may hold anything."""
    validate_typed_dict(schema, {key: value[key] for key in schema.__annotations__ if key in value})


def _check_run(run: dict[str, Any]) -> None:
    _check_keys(_Run, run)


def _check_rows(rows: dict[str, Any]) -> None:
    _check_keys(_Rows, rows)
    for name, one in rows.get("lengths", {}).items():
        if missing := _Histogram.__annotations__.keys() - one.keys():
            raise ValueError(f"the histogram {cut(name)} has no {', '.join(sorted(missing))}")
        _check_keys(_Histogram, one)
        if not one["counts"] or len(one["edges"]) != len(one["counts"]) + 1 or one["edges"] != sorted(one["edges"]):
            raise ValueError(f"{len(one['counts'])} counts between {len(one['edges'])} edges are no histogram")


def _check_intervals(intervals: dict[str, dict[str, list[Any]]]) -> None:
    for of_measures in intervals.values():
        if odd := [name for name, ends in of_measures.items() if len(ends) != 2]:
            raise ValueError(f"the interval of {cut(odd[0])} has not two ends")


def _check_history(history: list[dict[str, Any]]) -> None:
    for number, entry in enumerate(history):
        if not is_number(entry.get("step")):
            raise ValueError(f"entry {number} has no step")


@strict
@dataclass
class RunRecord:
    """Everything a report says about one run, apart from its samples.

    Args:
        recipe (`str`): Name of the recipe, such as `dpo_orca`.
        method (`str`): Such as `sft`, `reward`, `dpo`, `grpo`; `training` where nobody gave it a name.
        preset (`str`): `cpu` or `gpu`, or whatever the caller names its settings.
        model (`str`): The model that training started from.
        seconds (`float`): Time spent in training, its measurements included, over all resumed parts.
        rows (`dict`): `read`, `made`, `dropped` (reason -> count), `train`, `eval`; `lengths` holds a histogram per
            token column of the training rows, `measured` counts the held-out rows that were measured (`n`), left out
            and cut for their length.
        tokenizer (`list[dict]`): Findings about the tokenizer: `code`, `severity`, `fixed` and what else they carry.
        before (`dict`): Measures on the held-out rows before the first step. `None` is a number that was not finite.
        after (`dict`): The same measures after the last step; empty while the run is not finished.
        n (`dict`): Measure -> the number of held-out rows (prompts, pairs) that it is the mean of, where it is one.
        intervals (`dict`): `before`, `after` and `change` -> measure -> `[low, high]`, in which it lies with 95 %
            confidence (bootstrap over the rows); `change` is after less before on the same rows.
        verdict (`dict`): `ko` and `en` -> what a reader of the answers would say of the run, in one sentence.
        versions (`dict`): Package -> version.
        run (`dict`): How it went, see `RUN`: `status` is `running`, `finished`, `stopped`, `interrupted` or `failed`,
            `peak_host_memory_mib` and `peak_device_memory_mib` are `None` where there is no such memory or nobody
            tells, `resumed_from` lists steps, `settings` are those that are not the defaults.
        distributions (`dict`): `before` and `after` -> name -> list of numbers, one for each held-out row; `NAME_by_row`
            is what each row adds to the measure `NAME`.
        history (`list[dict]`): The trainer's log, one entry per logged event with its `step`.
    """

    recipe: str
    method: str
    preset: str
    model: str
    seconds: Number = 0.0
    rows: dict[str, Any] = validated_field(_check_rows, default_factory=dict)
    tokenizer: list[dict[str, Any]] = field(default_factory=list)
    before: dict[str, Number | None] = field(default_factory=dict)
    after: dict[str, Number | None] = field(default_factory=dict)
    n: dict[str, int] = field(default_factory=dict)
    intervals: dict[str, dict[str, list[Number | None]]] = validated_field(_check_intervals, default_factory=dict)
    verdict: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    run: dict[str, Any] = validated_field(_check_run, default_factory=dict)
    distributions: dict[str, dict[str, list[Number | None]]] = field(default_factory=dict)
    history: list[dict[str, Any]] = validated_field(_check_history, default_factory=list)

    def __post_init__(self) -> None:
        self.run = copy.deepcopy(RUN) | self.run

    @property
    def warnings(self) -> list[dict[str, Any]]:
        """What the guard and failed looks said, each once: `code`, `message`, and the `steps` at which it was said."""
        said: dict[tuple[str, str], list[Any]] = {}
        for entry in self.history:
            if "health/message" in entry:
                key = (str(entry.get("health/code")), str(entry["health/message"]))
                said.setdefault(key, []).append(entry["step"])
        return [{"code": code, "message": message, "steps": steps} for (code, message), steps in said.items()]

    def save(self, folder: Path) -> None:
        """Write `metrics.json` into `folder`; a reader never sees half a file."""
        content = {**dataclasses.asdict(self), "warnings": self.warnings}
        write_atomically(folder / METRICS_FILE, to_json(content, indent=1))

    @classmethod
    def load(cls, folder: Path) -> "RunRecord":
        path = folder / METRICS_FILE
        try:
            return from_json(cls, path.read_bytes())
        except FileNotFoundError:
            raise InputError(
                f"No run report in {folder}: it has no {METRICS_FILE}. Give the --output_dir of a run."
            ) from None
        except MALFORMED as error:
            raise InputError(f"{path} is not a run report: {what_is_wrong(error)}.") from error


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


# What reading a file may find that was edited, cut short, or written by something else.
MALFORMED = (StrictDataclassError, TypeError, ValueError)


def what_is_wrong(error: BaseException) -> str:
    """The innermost cause, which names the place, what stands there and what belongs there."""
    while error.__cause__ is not None:
        error = error.__cause__
    return cut(" ".join(str(error).split()), 400).rstrip(".")


def from_json(cls: type[Any], data: bytes) -> Any:
    """A strict dataclass from a JSON object, with `None` for numbers that are not finite.

    A key that a later version added is nothing this version could show, and is passed over.

    Raises:
        One of `MALFORMED`: It is none.
    """
    try:
        content = plain(json.loads(data))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("it is no object")
    fields = {one.name: one for one in dataclasses.fields(cls)}
    needed = [one.name for one in fields.values() if one.default is one.default_factory is dataclasses.MISSING]
    if missing := [name for name in needed if name not in content]:
        raise ValueError(f"it has no {', '.join(missing)}")
    return cls(**{name: content[name] for name in fields.keys() & content.keys()})


def to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(plain(value), ensure_ascii=False, indent=indent, allow_nan=False) + "\n"


def is_number(value: object) -> bool:
    """Whether a value is a number that a float can hold, and neither NaN nor infinite."""
    try:
        return isinstance(value, Number) and math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


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
