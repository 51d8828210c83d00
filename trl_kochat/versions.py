"""The versions of the training stack that the tests pass with, and what to say where another one is in the way."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

from packaging.version import Version


# Package -> the oldest and the newest version that the whole fast suite passes with. pyproject.toml and
# tests/oldest.txt hold the oldest ones too, requirements/lock.txt the newest; a test keeps them equal.
TESTED = {
    "trl": ("1.16.0", "1.16.0"),
    "transformers": ("5.23.0", "5.24.0"),
    "peft": ("0.21.0", "0.21.2"),
    "accelerate": ("1.15.0", "1.15.0"),
    "datasets": ("5.0.0", "5.2.0"),
}


def newer_versions() -> str | None:
    """One sentence on the packages that are newer here than the newest that was tested; `None` where none is."""
    newer = {}
    for package, (_, newest) in TESTED.items():
        try:
            installed = Version(metadata.version(package))
        except metadata.PackageNotFoundError:  # in a folder of sources, say; importing it says more
            continue
        if Version(installed.public) > Version(newest):
            newer[f"{package} {installed}"] = newest
    if not newer:
        return None
    return (
        f"{' and '.join(newer)} {'is' if len(newer) == 1 else 'are'} newer than what trl_kochat was tested with; if "
        f"that is why this failed, {', '.join(newer.values())} will do."
    )


@contextmanager
def noting_newer_versions() -> Iterator[None]:
    """An error that passes through gets [`newer_versions`] as a note below its traceback, and goes on.

    A release that works is no news; where something failed, the sentence is a clue.
    """
    try:
        yield
    except Exception as error:
        sentence = newer_versions()
        if sentence:
            error.add_note(sentence)
        raise
