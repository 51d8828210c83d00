"""Rows that have one of TRL's types already, as they are: texts stay texts, without a chat template."""

from typing import Any

from ...errors import InputError
from ...text.shown import listed
from ..messages import messages_of
from ..rows import Row, text_of
from .registry import formatter


# What TRL's trainers read (https://huggingface.co/docs/trl/dataset_formats), and what they take as it is.
TURNS = ("prompt", "completion", "chosen", "rejected", "messages", "text")
MORE = ("label", "margin", "tools", "chat_template_kwargs")
NEEDED = ({"prompt"}, {"chosen", "rejected"}, {"messages"}, {"text"})


@formatter("trl", type=None)
def to_trl(row: Row) -> list[dict[str, Any]]:
    """TRL's own columns as they are, standard (texts) or conversational, of any of its types; text in parts is joined."""
    there = {name for name in TURNS if row.get(name) is not None}
    if not any(needed <= there for needed in NEEDED):
        raise InputError(f"no type of TRL has the columns {listed(sorted(there)) or '(none)'}")
    made: dict[str, Any] = {}
    for name in TURNS:
        if name in there:
            made[name] = messages_of(row[name], name) if isinstance(row[name], list) else text_of(row, name)
    return [made | {name: row[name] for name in MORE if row.get(name) is not None}]
