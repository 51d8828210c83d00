"""Korean post-training on TRL: formatters, tokenizer repairs, callbacks, a PPO trainer and recipes.

Public names are loaded on first use (PEP 562), so that `import trl_kochat` loads neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any


__version__ = "0.1.0"

# Public name -> the module that defines it.
_PUBLIC = {
    "load_rows": "loading",
    "split_by_prompt": "loading",
    "format_dataset": "formatters",
    "formatter": "formatters",
    "get_formatter": "formatters",
    "formatter_names": "formatters",
    "detect_formatter": "formatters",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from .formatters import (
        detect_formatter,
        format_dataset,
        formatter,
        formatter_names,
        get_formatter,
    )
    from .loading import load_rows, split_by_prompt
