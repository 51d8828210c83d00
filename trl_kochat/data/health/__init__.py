"""What is wrong with rows before they are trained on: `check_rows` finds it, `clean_rows` mends what can be."""

from .check import check_rows


__all__ = ["check_rows"]
