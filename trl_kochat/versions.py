"""The versions of the training stack that the tests pass with; a newer one is told of, and used all the same."""

import logging
from functools import cache
from importlib import metadata

from packaging.version import Version

from .processes import is_main_process


logger = logging.getLogger(__name__)

# Package -> the oldest and the newest version that the whole fast suite passes with. pyproject.toml and
# tests/oldest.txt hold the oldest ones too; a test keeps them equal.
TESTED = {
    "trl": ("1.16.0", "1.16.0"),
    "transformers": ("5.23.0", "5.23.0"),
    "peft": ("0.21.0", "0.21.2"),
    "accelerate": ("1.15.0", "1.15.0"),
    "datasets": ("5.0.0", "5.2.0"),
}


@cache
def warn_of_newer_versions() -> None:
    """Log one sentence if a package is newer than the newest that was tested; once a process, on the main one only."""
    newer = {}
    for package, (_, newest) in TESTED.items():
        try:
            installed = Version(metadata.version(package))
        except metadata.PackageNotFoundError:  # in a folder of sources, say; importing it says more
            continue
        if Version(installed.public) > Version(newest):
            newer[f"{package} {installed}"] = newest
    if newer and is_main_process():
        logger.warning(
            "%s newer than what trl_kochat was tested with (%s); if something breaks, try %s first.",
            " and ".join(newer) + (" is" if len(newer) == 1 else " are"),
            ", ".join(newer.values()),
            "that version" if len(newer) == 1 else "those versions",
        )
