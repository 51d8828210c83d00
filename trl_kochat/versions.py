"""The versions of the training stack that the tests pass with, and what to say where another one is in the way."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec

from packaging.version import Version

from .errors import InputError


# Package -> the oldest and the newest version that the whole fast suite passes with. pyproject.toml and
# tests/oldest.txt hold the oldest ones too, requirements/lock.txt the newest; a test keeps them equal.
TESTED = {
    "trl": ("1.16.0", "1.16.0"),
    "transformers": ("5.23.0", "5.24.0"),
    "peft": ("0.21.0", "0.21.2"),
    "accelerate": ("1.15.0", "1.15.0"),
    "datasets": ("5.0.0", "5.2.0"),
}

# Where peft finds an older one installed, it raises at each LoRA layer that is not in 4 bits, whatever torchao is there
# for (0.21: `peft.import_utils.is_torchao_available`). Nothing here uses torchao.
OLDEST_TORCHAO = "0.16.0"


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


def old_torchao() -> str | None:
    """The version of an installed torchao that is too old for peft; `None` without one, or with a newer one."""
    if find_spec("torchao") is None:
        return None
    try:
        version = metadata.version("torchao")
    except metadata.PackageNotFoundError:  # peft goes on as if there were none
        return None
    return version if Version(version) < Version(OLDEST_TORCHAO) else None


def check_torchao() -> None:
    """To be called before anything is loaded onto which an adapter is put.

    Raises:
        ValueError: A torchao is installed that is too old for peft.
    """
    version = old_torchao()
    if version is not None:
        raise InputError(
            f"torchao {version} is installed, and with one older than {OLDEST_TORCHAO} peft loads no adapter; nothing "
            f'here needs it, so remove it (pip uninstall torchao), or raise it (pip install "torchao>={OLDEST_TORCHAO}").'
        )
