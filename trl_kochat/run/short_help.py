"""What a recipe's `--help` shows: the twelve flags that people use."""

import argparse
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any


USAGE = "%(prog)s [--config FILE.yaml] [--FLAG VALUE ...]"
# Flag -> what is said of it; of several in one entry the first that the recipe takes is shown.
OFTEN: tuple[dict[str, str], ...] = (
    {"preset": "cpu, gpu, or auto: gpu where there is a CUDA device"},
    {"model_name_or_path": "folder or Hub id of the model"},
    {"dataset_name": "files, folders, URLs or Hub ids with the raw rows, one or more"},
    {"formatter": "what reads the rows: a formatter's name, or FILE.py:FUNCTION"},
    {"output_dir": "where adapter, checkpoints and report go"},
    {"learning_rate": "at its peak"},
    {"per_device_train_batch_size": "rows of one step on each device"},
    {"max_steps": "updates of the weights; -1 leaves it to --num_train_epochs"},
    {
        "max_length": "tokens of a row; what is longer is cut or left out, and counted",
        "max_completion_length": "tokens of an answer",
    },
    {"sft_adapter": "the adapter to go on with; runs/sft_kochatgpt if not given", "lora_r": "rank of the adapter"},
    {"resume_from_checkpoint": "true goes on from the last whole checkpoint in --output_dir; or a path"},
    {"dry_run": "check and build everything, show examples, and stop before the first step"},
)


def short_help(recipe: str, known: Collection[str], presets: Mapping[str, Mapping[str, Any]]) -> str:
    """
    Args:
        recipe (`str`): Its name.
        known (`Collection[str]`): All flags that it takes.
        presets (`Mapping`): Preset -> its values, which are shown.
    """
    parser = argparse.ArgumentParser(
        prog=f"{recipe}.py",
        usage=USAGE,
        add_help=False,
        epilog=f"--help_all lists all {len(known)}. A flag is a key of --config FILE.yaml, too: preset < file < flags.",
    )
    flags = parser.add_argument_group("flags that people use")
    for entry in OFTEN:
        name = next((name for name in entry if name in known), None)
        if name is not None:
            values = ", ".join(f"{preset} {_shown(of[name])}" for preset, of in presets.items() if name in of)
            text = entry[name] + (f" ({values})" if values else "")
            flags.add_argument(f"--{name}", metavar="", help=text.replace("%", "%%"))
    return parser.format_help()


def _shown(value: Any) -> str:
    """
    >>> _shown(["/some/where/rows.jsonl"]), _shown("owner/name"), _shown(0.1)
    ('rows.jsonl', 'owner/name', '0.1')
    """
    if isinstance(value, list):
        return " ".join(map(_shown, value))
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else str(value)
