"""Answers of the form that was asked for."""

import json
import re

from ..errors import InputError
from .contract import Reward, of_text


_ITEM = re.compile(r"^\s*(?:[-*•·]|\d+[.)]|[①-⑳]|[가-하][.)])\s*\S", re.MULTILINE)


def format(kind: str | int) -> Reward:
    """1 for answers of a form, from 0 to 1 for a list that has not the right number of items.

    Args:
        kind (`str` or `int`): `"json"`; a number N: a list of N items, one a line, with bullets or numbers; else a regular
            expression that the whole answer fits, without white space around it.
    """
    if isinstance(kind, int):
        kind = str(kind)
    if kind == "json":
        return of_text("format", lambda text: float(_is_json(text)))
    if kind.isdecimal():
        number = int(kind)
        if number < 1:
            raise InputError(f"A list of {kind} items; give 1 or more.")
        return of_text("format", lambda text: max(0.0, 1 - abs(len(_ITEM.findall(text)) - number) / number))
    try:
        pattern = re.compile(kind, re.DOTALL)
    except re.error as error:
        raise InputError(
            f"{kind!r} is no form: json, a number of items, or a regular expression ({error})."
        ) from error
    return of_text("format", lambda text: float(pattern.fullmatch(text.strip()) is not None))


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)  # a bare number or word is too easy
    except (ValueError, RecursionError):
        return False
