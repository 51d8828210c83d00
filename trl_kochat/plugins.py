"""What other packages and files add: entry points of installed packages, and functions by `FILE.py:NAME`."""

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from inspect import Parameter
from pathlib import Path
from typing import Any

from .errors import InputError


def entry_points_of(kind: str) -> dict[str, EntryPoint]:
    """Entry points that installed packages have in the group `trl_kochat.<kind>`, by name; none is imported.

    Raises:
        ValueError: Two packages have different things under one name.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=f"trl_kochat.{kind}"):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise InputError(
                f"Two packages have {entry.name!r} among their trl_kochat.{kind}: {_package(other)} ({other.value}) and "
                f"{_package(entry)} ({entry.value}). Uninstall one of them."
            )
    return found


def load_entry_point(entry: EntryPoint) -> Any:
    """The object that an entry point names.

    Raises:
        ValueError: Its module cannot be imported, or has no such object.
    """
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"{entry.name!r} of the package {_package(entry)} ({entry.value}) cannot be loaded: {error}."
        ) from error


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "(unknown)"


def names_function_of_file(name: str) -> bool:
    """Whether a name is meant as `FILE.py:NAME`.

    >>> names_function_of_file("my_rows.py:to_preference"), names_function_of_file("orca_pairs")
    (True, False)
    """
    return ".py:" in name


def function_of_file(name: str) -> Callable[..., Any]:
    """The function that `FILE.py:NAME` names. The file is run anew with each call; what it raises is raised.

    Raises:
        ValueError: There is no such file, or no such function in it.
    """
    file, _, function_name = name.rpartition(":")
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise InputError(f"There is no file {file}, of which {name} would be a function.")
    spec = spec_from_file_location(f"{path.stem} ({path})", path)  # a name that no import statement can take
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look their module up
    spec.loader.exec_module(module)
    function = getattr(module, function_name, None)
    if not callable(function):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == spec.name]
        raise InputError(f"{file} has no function {function_name!r}; there are {', '.join(own) or 'none'}.")
    return function


_KINDS: dict[Any, Callable[[str], Any]] = {int: int, float: float, bool: {"true": True, "false": False}.__getitem__}


def as_annotated(parameter: Parameter, value: Any) -> Any:
    """What a command line gives for a parameter, as the number or truth value that its annotation asks for.

    Raises:
        ValueError, KeyError: It is none.
    """
    kind = _KINDS.get(parameter.annotation)
    return kind(value) if kind and isinstance(value, str) else value
