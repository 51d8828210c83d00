"""Orca pairs (https://huggingface.co/datasets/Intel/orca_dpo_pairs) as TRL preference rows."""

from collections.abc import Mapping
from typing import Any

from ...errors import InputError
from ...text.normalize import is_blank
from ...text.shown import shown
from ..rows import Row, Rows, text_of
from .registry import formatter


# Answer columns of the dataset today, and before its columns were renamed (as the DPO post uses them).
NEW, OLD = ("chosen", "rejected"), ("chatgpt", "llama2-13b-chat")
# The same rows in message form, as files for preference fine-tuning services have them.
MESSAGES = ("input", "preferred_output", "non_preferred_output")


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _column_form(row: Row) -> dict[str, Any]:
    columns = NEW if any(row.get(column) is not None for column in NEW) or OLD[0] not in row else OLD
    question = text_of(row, "question")
    system = text_of(row, "system") if row.get("system") is not None else ""
    chosen, rejected = (text_of(row, column) for column in columns)
    # A system turn is a turn of the conversation: rendered apart and glued on, as the post does it, templates with a
    # system text of their own show two.
    prompt = [_message("system", system)] if not is_blank(system) else []
    return {
        "prompt": [*prompt, _message("user", question)],
        "chosen": [_message("assistant", chosen)],
        "rejected": [_message("assistant", rejected)],
    }


def _messages_of(value: object, column: str, roles: set[str]) -> list[dict[str, str]]:
    if isinstance(value, Mapping):
        value = value.get("messages")
    if not isinstance(value, list) or not all(isinstance(message, Mapping) for message in value):
        raise InputError(f"column {column!r} does not hold a list of messages {{role, content}}")
    for message in value:
        if message.get("role") not in sorted(roles):  # a list, since data may hold a role that cannot be hashed
            raise InputError(
                f"column {column!r} has role {shown(message.get('role'))}; expected {', '.join(sorted(roles))}"
            )
    messages = [_message(message["role"], text_of(message, "content")) for message in value]
    return [message for message in messages if message["role"] != "system" or not is_blank(message["content"])]


def _message_form(row: Row) -> dict[str, Any]:
    prompt, chosen, rejected = MESSAGES
    made = {
        "prompt": _messages_of(row[prompt], prompt, {"system", "user", "assistant"}),
        "chosen": _messages_of(row.get(chosen), chosen, {"assistant"}),
        "rejected": _messages_of(row.get(rejected), rejected, {"assistant"}),
    }
    if not made["prompt"]:
        raise InputError(f"column {prompt!r} holds no message")
    if made["prompt"][-1]["role"] != "user":
        raise InputError(f"column {prompt!r} ends with role {made['prompt'][-1]['role']!r}; expected user, who asks")
    for column, answer in ((chosen, made["chosen"]), (rejected, made["rejected"])):
        if len(answer) != 1:
            raise InputError(f"column {column!r} holds {len(answer)} messages; expected one answer")
    return made


@formatter("orca_pairs", type="preference", columns=[{"question", *NEW}, {"question", *OLD}, MESSAGES])
def to_preference(row: Row) -> Rows:
    """One Orca pair, with the columns of today, those of before, or in message form, as one preference row.

    A blank system text gives no system message. A row is dropped when the question (`empty_prompt`) or an answer
    (`empty_completion`) is blank, or when both answers are the same (`identical`).
    """
    made = _message_form(row) if row.get(MESSAGES[0]) is not None else _column_form(row)
    if is_blank(made["prompt"][-1]["content"]):
        return Rows(dropped=["empty_prompt"])
    if any(is_blank(made[answer][-1]["content"]) for answer in NEW):
        return Rows(dropped=["empty_completion"])
    if made["chosen"] == made["rejected"]:
        return Rows(dropped=["identical"])
    return Rows([made])
