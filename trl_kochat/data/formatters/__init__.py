"""From raw rows to TRL's row types: one file per dataset family, found by name or by columns."""

from importlib import import_module
from pkgutil import iter_modules

from ..rows import Rows
from .registry import Formatter, detect_formatter, formatter, formatter_names, get_formatter


__all__ = [
    "Formatter",
    "Rows",
    "detect_formatter",
    "formatter",
    "formatter_names",
    "get_formatter",
]

# A new dataset family is a new file here and nothing else.
for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
