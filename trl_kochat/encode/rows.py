"""TRL's row types (https://huggingface.co/docs/trl/dataset_formats), and whether rows are of one."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import InputError
from ..text.normalize import refuse_half_characters
from ..text.shown import listed, shown


Row = Mapping[str, Any]
Messages = Sequence[Mapping[str, Any]]

# Type -> the columns it needs, the most telling type first, and those of them that hold answers.
_TYPES = {
    "preference": ({"chosen", "rejected"}, ("chosen", "rejected")),
    "unpaired_preference": ({"prompt", "completion", "label"}, ("completion",)),
    "prompt_completion": ({"prompt", "completion"}, ("completion",)),
    "language_modeling": ({"messages"}, ("messages",)),
    "language_modeling_text": ({"text"}, ("text",)),
    "prompt_only": ({"prompt"}, ()),
}


def row_type(columns: set[str]) -> tuple[str, tuple[str, ...]]:
    """TRL's name for rows with these columns, and the columns that hold answers.

    Raises:
        ValueError: No type that can be tokenized has these columns.
    """
    for name, (needed, answers) in _TYPES.items():
        if needed <= columns:
            return name.removesuffix("_text"), answers
    raise InputError(
        f"Rows with the columns {listed(sorted(map(str, columns)))} are no rows of TRL; expected prompt and completion "
        "(and label), chosen and rejected with or without prompt, prompt alone, messages, or text."
    )


def is_conversational(row: Row) -> bool:
    """Whether a row holds messages, which need a chat template, rather than text."""
    _, answers = row_type(set(row))
    return not isinstance(row[answers[0] if answers else "prompt"], str)


def texts_of(row: Row) -> list[str]:
    """The texts that people wrote in a row, without the template."""
    _, answers = row_type(set(row))
    values = [row[column] for column in dict.fromkeys(("prompt", *answers)) if column in row]
    return [text for value in values for text in _contents(value)]


def _contents(value: str | Messages) -> list[str]:
    return [value] if isinstance(value, str) else [message["content"] for message in value if message.get("content")]


def as_turns(said: str | Messages, role: str) -> list[dict[str, Any]]:
    """Messages as they are, and what a person types as one turn of `role`.

    >>> as_turns("안녕?", "user")
    [{'role': 'user', 'content': '안녕?'}]
    """
    return [{"role": role, "content": said}] if isinstance(said, str) else [dict(message) for message in said]


def checked_rows(rows: Iterable[Row], *, first: int = 0) -> list[Row]:
    """The rows as a list, all of one TRL type, standard or conversational like the first of them.

    Raises:
        ValueError: A row differs, or holds something else than text; with its number.
    """
    rows = list(rows)
    for number, row in enumerate(rows, start=first):
        try:
            if not isinstance(row, Mapping):
                raise InputError(f"{shown(row)} is not a row with named columns")
            if number == first:
                _, answers = row_type(set(row))
                columns = [column for column in dict.fromkeys(("prompt", *answers)) if column in row]
                read = _check_messages if is_conversational(row) else _check_text
            for column in columns:
                read(row.get(column), column)
        except ValueError as error:
            raise InputError(f"Row {number} (counted from 0): {error}".rstrip(".") + ".") from error
    return rows


def _check_text(text: object, column: str) -> None:
    if not isinstance(text, str):
        raise InputError(f"column {column!r} holds {shown(text)}, not text, as all rows of these columns must")
    refuse_half_characters(text)


def _check_messages(messages: object, column: str) -> None:
    if not isinstance(messages, list) or not messages:
        raise InputError(f"column {column!r} holds {shown(messages)}, not a list of messages {{role, content}}")
    for message in messages:
        content = message.get("content") if isinstance(message, Mapping) else None
        # A message that calls a tool has no content.
        if not isinstance(message, Mapping) or "role" not in message or not isinstance(content, str | None):
            raise InputError(f"column {column!r} has {shown(message)}, not a message {{role, content}} with text")
        refuse_half_characters(content or "")
