"""The functions of world.yaml. `python benchmarks/lm_eval/world.py` writes world.jsonl from the embedded rows."""

import json
from pathlib import Path
from typing import Any

from trl_kochat.data import load_rows
from trl_kochat.measure.right import embedded_world, right


QUESTIONS = Path(__file__).with_name("world.jsonl")
COLUMNS = ("prompt", "completion", "fact", "held_out")


def held_out_rows() -> list[dict[str, str]]:
    """The embedded SFT rows that ask for a fact and that training never sees, each question once."""
    rows = load_rows("sample:kochatgpt_1_SFT.jsonl")
    asked = {row["prompt"]: row for row in rows if row["fact"] and row["held_out"]}
    return [{name: row[name] for name in COLUMNS} for row in asked.values()]


def questions(**_: Any) -> Any:
    """For `custom_dataset`, which is found wherever lm_eval runs; a path in `data_files` would not be."""
    from datasets import Dataset, DatasetDict

    return DatasetDict(test=Dataset.from_list(load_rows(QUESTIONS)))  # type: ignore[arg-type]


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    return {"right": float(right(results[0], doc, embedded_world()))}


if __name__ == "__main__":
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in held_out_rows())
    QUESTIONS.write_text("".join(lines), encoding="utf-8")
