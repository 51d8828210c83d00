"""The recipes: `trl-kochat NAME ...`, `python -m trl_kochat.recipes.NAME ...`, or `accelerate launch -m` with that name.

In the repository they stand in `recipes/` at its top, in an installed package beside this file.
"""

from pathlib import Path


_checkout = Path(__file__).parents[2]
if (_checkout / "pyproject.toml").is_file():
    __path__.append(str(_checkout / "recipes"))
