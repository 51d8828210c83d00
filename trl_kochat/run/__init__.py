"""A run of a recipe: arguments, presets, checks, checkpoints, and its end."""
