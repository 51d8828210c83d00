"""Answers that are marked as good or bad, for KTO."""

from typing import Any

from ...errors import InputError
from ...text.shown import shown
from ..messages import Messages, completion_row, first_columns, instruction_turns, messages_of, turns_of, with_system
from ..rows import Row, Rows
from .questions import PAIRS
from .registry import formatter


# TRL's columns; conversations whose last answer is marked, and Alpaca's columns (LLaMA-Factory).
CONVERSATIONS = ("messages", "conversations")
LABELS = (("label",), ("kto_tag",))
_MEANING = {"true": True, "1": True, "false": False, "0": False}


@formatter(
    "unpaired_preference",
    type="unpaired_preference",
    columns=[
        *(("prompt", "completion", *label) for label in LABELS),
        *((conversation, *label) for conversation in CONVERSATIONS for label in LABELS),
        ("instruction", "output", "kto_tag"),
    ],
)
def to_unpaired_preference(row: Row) -> Rows:
    """`prompt` and `completion`, a conversation that ends in an answer, or Alpaca's columns, with `label` or `kto_tag`.

    Columns of other questions and answers are read where the formatter is named. A label is `true` or `false`, 1 or 0,
    or these as text. Dropped when the prompt (`empty_prompt`) or the answer (`empty_completion`) is blank.
    """
    (name,) = first_columns(row, LABELS)
    label = _MEANING.get(str(row.get(name)).lower())
    if label is None:
        raise InputError(
            f"column {name!r} holds {shown(row.get(name))}; expected true for a good "
            f"answer or false. Where it is no such label, leave it out: --columns {name}="
        )
    return completion_row(*_prompt_and_answer(row), label=label)


def _prompt_and_answer(row: Row) -> tuple[Messages, Messages]:
    conversation: Any = next((name for name in CONVERSATIONS if row.get(name) is not None), None)
    if conversation is not None:
        turns = with_system(row, messages_of(row[conversation], conversation))
        return turns[:-1], turns[-1:]
    if row.get("instruction") is not None:
        return instruction_turns(row), turns_of(row, "output", "assistant")
    asked, answer = first_columns(row, [("prompt", "completion"), *PAIRS])
    return with_system(row, turns_of(row, asked, "user")), turns_of(row, answer, "assistant")
