"""Instruction rows in Alpaca's columns, as KoAlpaca, KULLM and Dolly have them."""

from ..messages import completion_row, first_columns, instruction_turns, said
from ..rows import Row, Rows, text_of
from .registry import formatter


ANSWERS = (("output",), ("response",))


@formatter("alpaca", type="prompt_completion", columns=[("instruction", *answer) for answer in ANSWERS])
def to_prompt_completion(row: Row) -> Rows:
    """`instruction` and `output` (or `response`) as one row; `input` or `context` stands below the instruction.

    A `system` text comes first, then the pairs of `history`. Dropped when the last question or the answer is blank.
    """
    (answer,) = first_columns(row, ANSWERS)
    return completion_row(instruction_turns(row), said("assistant", text_of(row, answer)))
