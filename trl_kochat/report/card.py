"""The model card of an output folder: what was trained, on what, how it changed, and how to use it."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from ..sample import embedded
from .machine import installed_versions, without_folders
from .measures import format_number, measure
from .record import RunRecord


_COUNTS = {"read": "rows read", "train": "to train on", "eval": "held out"}


def write_card(
    folder: str | os.PathLike[str],
    *,
    base: str,
    made_by: str,
    title: str | None = None,
    record: RunRecord | None = None,
    data: Iterable[str] = (),
    notes: str = "",
) -> Path:
    """Write `README.md` into a folder with weights, in place of what was there; gives its path.

    Args:
        folder (`str`): Where an adapter or a whole model was saved.
        base (`str`): The model it was made of, as the user named it; of a path on this machine only the last part is
            told.
        made_by (`str`): The recipe or the command that made it.
        title (`str`, *optional*): Heading; the folder's name if not given.
        record ([`RunRecord`], *optional*): The run: command, counts of rows, measures, versions.
        data (iterable of `str`, *optional*): Names of the data sets; of a path only the last part is told.
        notes (`str`, *optional*): A paragraph more.
    """
    folder = Path(folder)
    base = _public(base)
    is_adapter = (folder / "adapter_config.json").is_file()
    scores = _gives_scores(folder, is_adapter)
    metadata = ModelCardData(
        language="ko",
        library_name="peft" if is_adapter else "transformers",
        base_model=base if "/" in base else None,  # what the Hub can link to
        pipeline_tag="text-classification" if scores else "text-generation",
        tags=["trl", "trl_kochat", *([record.method] if record else []), *(["lora"] if is_adapter else [])],
    )
    versions = (record.versions if record else None) or installed_versions()
    card = ModelCard.from_template(
        metadata,
        template_path=str(Path(__file__).with_name("templates") / "card.md.jinja"),
        title=title or folder.resolve().name,
        kind=("A reward " if scores else "An " if is_adapter else "A ") + ("adapter" if is_adapter else "model"),
        base=base,
        made_by=made_by,
        notes=notes,
        record=record,
        data=", ".join(f"`{_public(name)}`" for name in data) or "rows of its user",
        is_adapter=is_adapter,
        is_embedded=embedded(base) != base,  # plain peft does not know this name
        scores=scores,
        auto_class="AutoModelForSequenceClassification" if scores else "AutoModelForCausalLM",
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
        **(_of_run(record) if record else {}),
    )
    path = folder / "README.md"
    card.save(path)
    return path


def _public(name: str) -> str:
    """A name that says nothing of this machine.

    >>> _public("skt/kogpt2-base-v2"), _public("/home/me/models/mine"), _public(embedded("tiny-ko"))
    ('skt/kogpt2-base-v2', 'mine', 'tiny-ko')
    """
    is_local = Path(name).is_absolute() or Path(name).exists() or name.startswith((".", "~")) or name.count("/") > 1
    return Path(name).name if is_local else name


def _gives_scores(folder: Path, is_adapter: bool) -> bool:
    config = (folder / ("adapter_config.json" if is_adapter else "config.json")).read_text(encoding="utf-8")
    return "SEQ_CLS" in config or "SequenceClassification" in config


def _of_run(record: RunRecord) -> dict[str, Any]:
    """What the card tells of a run, as text."""
    rows = record.rows
    sides = (record.before, record.after)
    return {
        "command": without_folders(record.run["command"] or ""),
        "counts": ", ".join(
            f"{rows[key]:,} {word}" for key, word in _COUNTS.items() if isinstance(rows.get(key), int)
        ),
        "dropped": ", ".join(f"{reason}: {count:,}" for reason, count in (rows.get("dropped") or {}).items()),
        "measures": [
            (measure(key).label, *(format_number(side[key]) if key in side else "-" for side in sides))
            for key in record.before | record.after
        ],
    }
