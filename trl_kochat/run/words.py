"""Flags and keys that nobody knows: the one that was meant, in the words of other tools or by its spelling."""

import difflib
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path

from ..errors import InputError
from .presets import read_yaml


@cache
def words_of_others() -> dict[str, list[str]]:
    """What users of other tools type -> the words of TRL for it, the first that a recipe has is meant."""
    by_ours = read_yaml(Path(__file__).with_name("words.yaml"))
    return {word: ours.split() for ours, theirs in by_ours.items() for word in theirs.split()}


def refuse_unknown(keys: Iterable[str], known: Collection[str], where: str) -> None:
    """
    Args:
        keys (`Iterable[str]`): Flags or keys of a file, with or without their dashes.
        known (`Collection[str]`): Names that the recipe takes.
        where (`str`): Where they stood, e.g. "on the command line".

    Raises:
        ValueError: One of the keys is not known; the name that was meant is given, if it can be told.
    """
    for key in sorted(keys):
        name = key.lstrip("-").replace("-", "_")
        if name in known:
            continue
        meant = meant_by(name, known)
        raise InputError(
            f"Unknown key {name!r} {where}" + (f"; did you mean {meant!r}?" if meant else "; --help_all lists all.")
        )


def meant_by(name: str, known: Collection[str]) -> str | None:
    """
    >>> meant_by("lr", ["lora_r", "learning_rate"]), meant_by("lerning_rate", ["lora_r", "learning_rate"])
    ('learning_rate', 'learning_rate')
    """
    by_word = [word for word in words_of_others().get(name.lower(), ()) if word in known]
    return next(iter(by_word + difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)), None)
