"""How long the rows are that training sees."""

from collections.abc import Sequence
from typing import Any

import numpy as np


# Enough for a histogram; reading more would only take longer.
MAX_ROWS = 5_000

# TRL's columns of token ids and what a reader calls them.
TOKEN_COLUMNS = {
    "input_ids": "prompt and completion",
    "prompt_ids": "prompt",
    "completion_ids": "completion",
    "chosen_ids": "chosen",
    "rejected_ids": "rejected",
}


def token_lengths(dataset: Any, tokenizer: Any = None, max_rows: int = MAX_ROWS) -> dict[str, list[int]]:
    """Tokens per row, for each column of token ids that the dataset has, or else of its prompts.

    A streamed dataset gives nothing: looking at it would use its rows up.
    """
    names = getattr(dataset, "column_names", None) or ()
    if not hasattr(dataset, "__len__") or not len(dataset):
        return {}
    columns = [name for name in TOKEN_COLUMNS if name in names]
    rows = dataset.select(range(min(max_rows, len(dataset)))).with_format(None)
    if columns:
        return {name: [len(ids) for ids in rows[name]] for name in columns}
    if "prompt" in names and tokenizer is not None:
        return {"prompt_ids": [len(_prompt_ids(prompt, tokenizer)) for prompt in rows["prompt"]]}
    return {}


def _prompt_ids(prompt: Any, tokenizer: Any) -> list[int]:
    if isinstance(prompt, str):
        return tokenizer(prompt)["input_ids"]
    return tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)


def histogram(lengths: Sequence[int], bins: int = 24) -> dict[str, Any]:
    """Counts between edges, with the numbers a reader asks for: smallest, middle and largest."""
    counts, edges = np.histogram(lengths, bins=min(bins, max(1, max(lengths) - min(lengths) + 1)))
    return {
        "counts": counts.tolist(),
        "edges": edges.tolist(),
        "min": int(min(lengths)),
        "median": float(np.median(lengths)),
        "max": int(max(lengths)),
        "rows": len(lengths),
    }
