"""Rewards by name, for a command line."""

from importlib import import_module
from inspect import signature
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from ..plugins import as_annotated, entry_points_of, function_of_file, load_entry_point, names_function_of_file
from .contract import Reward


# What this package has beside factories of rewards.
_NO_FACTORIES = {"Reward", "combine", "gate", "get_reward", "reward_names"}


def _own_factories() -> dict[str, Any]:
    package: Any = import_module(__package__)
    return {name: getattr(package, name) for name in package.__all__ if name not in _NO_FACTORIES}


def reward_names() -> list[str]:
    """Names of all rewards, those of other packages too (entry points `trl_kochat.rewards`), in alphabetical order."""
    return sorted({*_own_factories(), *entry_points_of("rewards")})


def get_reward(name: str, tokenizer: PreTrainedTokenizerBase | None = None) -> Reward:
    """The reward that `NAME`, `NAME:ARGUMENT,...` or `FILE.py:FUNCTION` names.

    `speech_level:해요체`, `length:20,60,words`, `korean_script:latin=0.5`. A function of a file is the reward itself, what
    an entry point names is a factory, as ours are.

    Args:
        name (`str`): As above.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*): The policy's, for those that ask for one.

    Raises:
        InputError: There is no such reward (with the names there are), or it does not take these arguments.
    """
    if names_function_of_file(name):
        return function_of_file(name)
    name, _, given = name.partition(":")
    entry = entry_points_of("rewards").get(name)
    factory = _own_factories().get(name) or (load_entry_point(entry) if entry else None)
    if factory is None:
        known = ", ".join(reward_names())
        raise InputError(f"No reward {name!r}; there are {known}, and functions of files: FILE.py:NAME.")
    parameters = signature(factory).parameters
    own = [parameter for key, parameter in parameters.items() if key != "tokenizer"]
    # One argument may be anything, commas too (a regular expression).
    is_one = len(own) == 1 and own[0].kind is own[0].POSITIONAL_OR_KEYWORD
    parts = [argument.partition("=") for argument in ([given] if is_one else given.split(",")) if argument]
    options: dict[str, Any] = {key: value for key, sign, value in parts if sign and key in parameters}
    args = ["".join(part) for part in parts if part[0] not in options]
    if "tokenizer" in parameters and tokenizer is not None:
        options["tokenizer"] = tokenizer
    try:
        bound = signature(factory).bind(*args, **options)
        for key, value in bound.arguments.items():
            bound.arguments[key] = as_annotated(parameters[key], value)
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(
            f"The reward {name} is {name}{signature(factory)}; {given!r} does not fit: {error}."
        ) from error
    return factory(*bound.args, **bound.kwargs)
