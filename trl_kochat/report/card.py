"""The model card of an output folder: what was trained, on what, how it changed, and how to use it."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from ..sample import embedded
from .machine import installed_versions, without_folders
from .measures import format_number, measure
from .record import RunRecord


_CAUSAL, _SCORES = "AutoModelForCausalLM", "AutoModelForSequenceClassification"
_ANSWER = """tokenizer = AutoTokenizer.from_pretrained(folder)
inputs = tokenizer.apply_chat_template(
    [{"role": "user", "content": "오늘 미세먼지 어때?"}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
)
output = model.generate(**inputs, max_new_tokens=64)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))"""
_SCORE = """tokenizer = AutoTokenizer.from_pretrained(folder)
inputs = tokenizer.apply_chat_template(
    [{"role": "user", "content": "오늘 미세먼지 어때?"}, {"role": "assistant", "content": "오늘은 공기가 맑아요."}],
    return_dict=True,
    return_tensors="pt",
)
print(model(**inputs).logits.item())  # only differences between answers to one prompt have a meaning"""
_LICENCE = """The weights carry the licence of the base model, and the terms of the rows they were trained on hold beside it. Look
both up before you pass them on: KoChatGPT's rows state no licence, and KoGPT2 may not be used commercially."""


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
    method = [record.method] if record else []
    metadata = ModelCardData(
        language="ko",
        library_name="peft" if is_adapter else "transformers",
        base_model=base if "/" in base else None,  # what the Hub can link to
        pipeline_tag="text-classification" if scores else "text-generation",
        tags=["trl", "trl_kochat", *method, *(["lora"] if is_adapter else [])],
    )
    kind = ("A reward " if scores else "An " if is_adapter else "A ") + ("adapter" if is_adapter else "model")
    parts = [
        f"# {title or folder.resolve().name}",
        f"{kind} made from `{base}` by `{made_by}` with trl_kochat.",
        *([notes] if notes else []),
        *(_of_run(record, list(data)) if record else []),
        f"## Use\n\nWith this folder as the working directory:\n\n```python\n{_snippet(base, is_adapter, scores)}\n```",
        "## Versions\n\n" + ", ".join(f"{name} {version}" for name, version in _versions(record).items()),
        f"## Licence\n\n{_LICENCE}",
    ]
    card = ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n", ignore_metadata_errors=True)
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


def _of_run(record: RunRecord, data: list[str]) -> list[str]:
    rows = record.rows
    counts = [f"{rows[key]:,} {word}" for key, word in _COUNTS.items() if isinstance(rows.get(key), int)]
    dropped = ", ".join(f"{reason}: {count:,}" for reason, count in (rows.get("dropped") or {}).items())
    names = ", ".join(f"`{_public(name)}`" for name in data) or "rows of its user"
    told = f"## Data\n\n{names}" + (f": {', '.join(counts)}" if counts else "") + "."
    told += f" Left out: {dropped}." if dropped else ""
    parts = [told]
    if record.run.get("command"):
        settings = f"Method {record.method}, preset {record.preset}, {record.run['steps']:,} steps."
        parts.insert(0, f"## Training\n\n{settings}\n\n```bash\n{without_folders(record.run['command'])}\n```")
    if record.before or record.after:
        parts.append("## Measures on held-out rows\n\n" + _table(record.before, record.after))
    return parts


_COUNTS = {"read": "rows read", "train": "to train on", "eval": "held out"}


def _table(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> str:
    lines = ["| | before | after |", "|---|---|---|"]
    for key in dict(before) | dict(after):
        cells = [format_number(side[key]) if key in side else "-" for side in (before, after)]
        lines.append(f"| {measure(key).label} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def _versions(record: RunRecord | None) -> Mapping[str, str]:
    return (record.versions if record else None) or installed_versions()


def _snippet(base: str, is_adapter: bool, scores: bool) -> str:
    auto_class = _SCORES if scores else _CAUSAL
    labels = ", num_labels=1" if scores else ""
    use = _SCORE if scores else _ANSWER
    if not is_adapter:
        load = f'folder = "."\nmodel = {auto_class}.from_pretrained(folder)'
        return f"from transformers import {auto_class}, AutoTokenizer\n\n{load}\n{use}"
    imports = f"from peft import PeftModel\nfrom transformers import {auto_class}, AutoTokenizer\n"
    where = f'"{base}"'
    if embedded(base) != base:  # plain peft does not know this name
        imports += "from trl_kochat.sample import embedded\n"
        where = f'embedded("{base}")'
    load = f"base = {auto_class}.from_pretrained({where}{labels})"
    return f'{imports}\nfolder = "."\n{load}\nmodel = PeftModel.from_pretrained(base, folder)\n{use}'
