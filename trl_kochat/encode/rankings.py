"""Which pairs of a reward model's dataset of ids are of one ranking."""

from typing import Any


def whole_rankings(pairs: Any) -> list[list[int]]:
    """Numbers of the pairs of each ranking: those that follow each other and share an answer.

    Args:
        pairs ([`~datasets.Dataset`] or `dict`): A reward model's pairs as ids, whose prompt is part of both answers.

    Returns:
        Every pair once and in order, one of no ranking in a list of its own; nothing at all where the rows are others.

    >>> whole_rankings({"chosen_ids": [[1], [1], [2], [4], [1]], "rejected_ids": [[2], [3], [3], [5], [6]]})
    [[0, 1, 2], [3], [4]]
    """
    columns = set(getattr(pairs, "column_names", None) or pairs)
    if not {"chosen_ids", "rejected_ids"} <= columns or "prompt_ids" in columns:  # DPO's prompt is apart
        return []
    rankings: list[list[int]] = []
    before: set[tuple[int, ...]] = set()
    for number, pair in enumerate(zip(pairs["chosen_ids"], pairs["rejected_ids"], strict=True)):
        answers = {tuple(ids) for ids in pair}
        if answers & before:
            rankings[-1].append(number)
        else:
            rankings.append([number])
        before = answers
    return rankings
