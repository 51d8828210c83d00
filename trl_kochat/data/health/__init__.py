"""What is wrong with rows before they are trained on."""

from .check import check_rows
from .leaks import check_leaks


__all__ = ["check_leaks", "check_rows"]
