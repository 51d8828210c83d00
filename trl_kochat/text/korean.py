"""The Korean analyser, which is an extra: `pip install "trl_kochat[korean]"`."""

from functools import cache
from typing import Any

from ..errors import InputError


@cache
def analyser() -> Any:
    """Kiwi (https://github.com/bab2min/kiwipiepy), loaded once in a process, some two seconds.

    Raises:
        InputError: It is not installed.
    """
    try:
        from kiwipiepy import Kiwi
    except ModuleNotFoundError as error:
        raise InputError(
            f"Speech levels, fluency, spacing and particles need a Korean analyser, and {error.name} is not installed: "
            'pip install "trl_kochat[korean]"'
        ) from error
    return Kiwi()
