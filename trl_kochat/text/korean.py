"""The Korean analyser, which is an extra: `pip install "trl_kochat[korean]"`."""

from functools import cache
from importlib.util import find_spec
from typing import Any

from ..errors import InputError


def need_analyser() -> None:
    """Say at once, before anything is loaded, that the analyser is not installed.

    Raises:
        InputError: It is not.
    """
    if find_spec("kiwipiepy") is None:
        raise InputError(
            "Speech levels, fluency, spacing and particles need a Korean analyser, and kiwipiepy is not installed: "
            'pip install "trl_kochat[korean]"'
        )


@cache
def analyser() -> Any:
    """Kiwi (https://github.com/bab2min/kiwipiepy), loaded once in a process, some two seconds.

    Raises:
        InputError: It is not installed.
    """
    need_analyser()
    from kiwipiepy import Kiwi

    return Kiwi()
