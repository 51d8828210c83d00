"""The embedded default: rows written for this project and the tiny Korean model `tiny-ko`."""

from os import PathLike
from pathlib import Path


SAMPLE_DIR = Path(__file__).parent
ROWS = "sample:"


def embedded(name: str | PathLike[str]) -> str:
    """Where something embedded lies, for its public name; any other name as it is.

    `tiny-ko` is the model, `tiny-ko-sft`, `tiny-ko-sft-early` and `tiny-ko-reward` are its adapters, `sample:FILE` are rows. A folder of
    such a name in the working directory comes first.

    >>> Path(embedded("sample:orca_dpo_pairs.jsonl")) == SAMPLE_DIR / "orca_dpo_pairs.jsonl"
    True
    >>> embedded("skt/kogpt2-base-v2")
    'skt/kogpt2-base-v2'
    """
    text = str(name)
    if text.startswith(ROWS):
        return str(SAMPLE_DIR / text.removeprefix(ROWS))
    of_that_name = SAMPLE_DIR / text
    is_public = text.startswith("tiny-ko") and of_that_name.parent == SAMPLE_DIR and of_that_name.is_dir()
    return str(of_that_name) if is_public and not Path(text).exists() else text
