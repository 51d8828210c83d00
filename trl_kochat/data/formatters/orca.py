"""Orca pairs (https://huggingface.co/datasets/Intel/orca_dpo_pairs) as TRL preference rows."""

from ..messages import preference_row, turns_of
from ..rows import Row, Rows
from .registry import formatter


# Answer columns of the dataset today, and before its columns were renamed (as the DPO post uses them).
NEW, OLD = ("chosen", "rejected"), ("chatgpt", "llama2-13b-chat")
# The same rows in message form, as files for preference fine-tuning services have them.
MESSAGES = ("input", "preferred_output", "non_preferred_output")


@formatter("orca_pairs", type="preference", columns=[{"question", *NEW}, {"question", *OLD}, MESSAGES])
def to_preference(row: Row) -> Rows:
    """One Orca pair, with the columns of today, those of before, or in message form, as one preference row.

    A blank system text gives no system message. A row is dropped when the question (`empty_prompt`) or an answer
    (`empty_completion`) is blank, or when both answers are the same (`identical`).
    """
    prompt, *answers = MESSAGES
    if row.get(prompt) is not None:
        return preference_row(row, turns_of(row, prompt, "user"), answers)
    is_new = any(row.get(column) is not None for column in NEW) or OLD[0] not in row
    return preference_row(row, turns_of(row, "question", "user"), NEW if is_new else OLD)
