"""A run of a recipe: arguments, presets, checks, checkpoints, and its end."""

from .run import Run


__all__ = ["Run"]
