"""What is wrong with rows before they are trained on: `check_rows` finds it, `clean_rows` mends what can be."""

from .check import check_rows
from .clean import Mended, clean_rows
from .leaks import check_leaks


__all__ = ["Mended", "check_leaks", "check_rows", "clean_rows"]
