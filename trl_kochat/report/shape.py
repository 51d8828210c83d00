"""What the files of a report must look like to be shown: they may have been edited, cut, or written by something else.

Every check raises `ValueError` with the place, what stands there and what belongs there.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import InputError
from ..text.shown import cut, shown


Check = Callable[[Any, str], None]


def is_number(value: object) -> bool:
    """Whether a value is a number that a float can hold, and neither NaN nor infinite."""
    try:
        return isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _kind(wanted: str, fits: Callable[[Any], bool]) -> Check:
    def check(value: Any, place: str) -> None:
        if not fits(value):
            raise InputError(f"{cut(place, 200)} holds {shown(value)}, not {wanted}")

    return check


_TEXT = _kind("text", lambda value: isinstance(value, str))
_TEXT_OR_NULL = _kind("text or null", lambda value: value is None or isinstance(value, str))
_WHOLE = _kind("a whole number", lambda value: isinstance(value, int))
_WHOLE_OR_NULL = _kind("a whole number or null", lambda value: value is None or isinstance(value, int))
_NUMBER = _kind("a number", is_number)
_NUMBER_OR_NULL = _kind("a number or null", lambda value: value is None or is_number(value))
_SECONDS = _kind("a number of seconds", lambda value: is_number(value) and value >= 0)
_MAPPING = _kind("an object", lambda value: isinstance(value, dict))
_LIST = _kind("a list", lambda value: isinstance(value, list))


def _each(check: Check) -> Check:
    """Every item of a list, or every value of an object."""

    def checks(value: Any, place: str) -> None:
        _kind("a list or an object", lambda value: isinstance(value, (list, dict)))(value, place)
        items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            check(item, f"{place}.{key}")

    return checks


def _object(optional: Mapping[str, Check], required: Mapping[str, Check] | None = None) -> Check:
    """An object with these keys; other keys may hold anything."""

    def checks(value: Any, place: str) -> None:
        _MAPPING(value, place)
        for key, check in {**(required or {}), **optional}.items():
            if key in value:
                check(value[key], f"{place}.{key}")
            elif required and key in required:
                raise InputError(f"{cut(place, 200)} has no {key!r}")

    return checks


def _list_of(check: Check) -> Check:
    def checks(value: Any, place: str) -> None:
        _LIST(value, place)
        _each(check)(value, place)

    return checks


def _object_of(check: Check) -> Check:
    def checks(value: Any, place: str) -> None:
        _MAPPING(value, place)
        _each(check)(value, place)

    return checks


def _histogram(value: Any, place: str) -> None:
    numbers = _list_of(_NUMBER)
    _object({}, {"counts": numbers, "edges": numbers, "min": _NUMBER, "median": _NUMBER, "max": _NUMBER})(value, place)
    counts, edges = value["counts"], value["edges"]
    if not counts or len(edges) != len(counts) + 1 or edges != sorted(edges):
        raise InputError(f"{place} has {len(counts)} counts between {len(edges)} edges, which is no histogram")


_OBJECT_OR_NULL: Check = lambda value, place: None if value is None else _MAPPING(value, place)  # noqa: E731

check_record = _object(
    {
        "seconds": _SECONDS,
        "rows": _object({"dropped": _OBJECT_OR_NULL, "lengths": _object_of(_histogram)}),
        "tokenizer": _list_of(_object({})),
        "before": _object_of(_NUMBER_OR_NULL),
        "after": _object_of(_NUMBER_OR_NULL),
        "versions": _MAPPING,
        "run": _object(
            {
                "status": _TEXT,
                "steps": _WHOLE,
                "max_steps": _WHOLE_OR_NULL,
                "processes": _WHOLE,
                "resumed_from": _LIST,
                "peak_memory": _WHOLE_OR_NULL,
                "peak_host_memory_mib": _NUMBER_OR_NULL,
                "peak_device_memory_mib": _NUMBER_OR_NULL,
                "output_dir": _TEXT_OR_NULL,
                "settings": _MAPPING,
            }
        ),
        "distributions": _object_of(_object_of(_list_of(_NUMBER_OR_NULL))),
        "history": _list_of(_object({}, {"step": _NUMBER})),
    },
    {"recipe": _TEXT, "method": _TEXT, "preset": _TEXT, "model": _TEXT},
)


def _prompt(value: Any, place: str) -> None:
    if not isinstance(value, str):
        _list_of(_object({}, {"role": _TEXT, "content": _TEXT_OR_NULL}))(value, place)


check_sample = _object(
    {
        "side": _TEXT,
        "tokens": _WHOLE_OR_NULL,
        "repetition": _NUMBER_OR_NULL,
        "hanja": _NUMBER_OR_NULL,
        "latin": _NUMBER_OR_NULL,
        "score": _NUMBER_OR_NULL,
    },
    {"step": _WHOLE, "prompt": _prompt, "answer": _TEXT},
)
