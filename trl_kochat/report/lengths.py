"""How long the rows are that training sees."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..encode import column_lengths, prompt_ids


# Enough for a histogram; reading more would only take longer.
MAX_ROWS = 5_000
# Names that may become text of a drawing: those of `column_lengths`. A file that was edited may hold any other.
DRAWN = ("prompt and completion", "prompt", "completion", "chosen", "rejected")


def first_rows(dataset: Any, max_rows: int = MAX_ROWS) -> Any:
    """The first rows of a dataset with columns; `None` where there is none, it is empty, or looking would use it up."""
    if not getattr(dataset, "column_names", None) or not hasattr(dataset, "__len__") or not len(dataset):
        return None
    return dataset.select(range(min(max_rows, len(dataset)))).with_format(None)


def token_lengths(dataset: Any, tokenizer: Any = None) -> dict[str, list[int]]:
    """Tokens per row, by what a reader calls the columns of ids that a trainer keeps, or else of its prompts."""
    rows = first_rows(dataset)
    if rows is None:
        return {}
    lengths = column_lengths(rows)
    if not lengths and "prompt" in rows.column_names and tokenizer is not None:
        return {"prompt": [len(ids) for ids in prompt_ids(tokenizer, rows["prompt"])]}
    return lengths


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
