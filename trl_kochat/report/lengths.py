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


def token_lengths(dataset: Any, max_rows: int = MAX_ROWS) -> dict[str, list[int]]:
    """Tokens per row, for each column of token ids that the tokenized dataset has.

    A streamed dataset gives nothing: looking at it would use its rows up.
    """
    columns = [name for name in TOKEN_COLUMNS if name in (getattr(dataset, "column_names", None) or ())]
    if not columns or not hasattr(dataset, "__len__"):
        return {}
    rows = dataset.select(range(min(max_rows, len(dataset)))).with_format(None)
    return {name: [len(ids) for ids in rows[name]] for name in columns}


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
