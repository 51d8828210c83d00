"""Pairs of answers, a better and a worse one, in the forms that are in use beside Intel's (`orca_pairs`)."""

import re

from ...text.normalize import is_blank
from ..messages import Messages, first_columns, instruction_turns, preference_row, turns_of
from ..rows import Row, Rows, text_of
from .registry import formatter


ANSWERS = ("chosen", "rejected")
# TRL and UltraFeedback; argilla and LLaMA-Factory (Alpaca form); LLaMA-Factory (ShareGPT form).
PROMPTS = ("prompt", "instruction", "input", "query", "conversations", "messages")
_HH_TURN = re.compile(r"\n\n(Human|Assistant): ?")
_HH_ROLES = {"Human": "user", "Assistant": "assistant"}


@formatter("preference", type="preference", columns=[ANSWERS, *((prompt, *ANSWERS) for prompt in PROMPTS)])
def to_preference(row: Row) -> Rows:
    """`chosen` and `rejected` as texts, messages or whole conversations, with their prompt or without, as one row.

    The prompt is the column `prompt`, `instruction` (with `input` below it), `input`, `query`, `conversations` or
    `messages`; without one, or where the answers are whole conversations, what both begin with. Texts in the form of
    Anthropic's HH-RLHF (`\\n\\nHuman: ... \\n\\nAssistant: ...`) are conversations, too. A `system` text comes first. TRL's own
    conversational rows stay as they are; `--formatter trl` leaves texts as texts, too.
    """
    if all(isinstance(row.get(name), str) and _HH_TURN.match(row[name]) for name in ANSWERS):
        return preference_row(dict(zip(ANSWERS, (_hh_turns(row[name]) for name in ANSWERS), strict=True)), None)
    (prompt,) = first_columns(row, [(name,) for name in PROMPTS])
    if row.get(prompt) is not None:
        return preference_row(
            row, instruction_turns(row) if prompt == "instruction" else turns_of(row, prompt, "user")
        )
    if isinstance(row.get("chosen"), str) and isinstance(row.get("rejected"), str):
        return _texts_with_prompt(row)
    return preference_row(row, None)


def _hh_turns(text: str) -> Messages:
    _, *turns = _HH_TURN.split(text)
    return [
        {"role": _HH_ROLES[who], "content": content.strip()}
        for who, content in zip(turns[::2], turns[1::2], strict=True)
    ]


def _texts_with_prompt(row: Row) -> Rows:
    """Texts that hold their prompt, as TRL takes them apart: they are whole, and no turns can be told."""
    from trl import extract_prompt  # importing trl takes seconds

    chosen, rejected = (text_of(row, name) for name in ANSWERS)
    if chosen == rejected:
        return Rows(dropped=["identical"])
    if is_blank(chosen) or is_blank(rejected):
        return Rows(dropped=["empty_completion"])
    made = {name: str(text) for name, text in extract_prompt({"chosen": chosen, "rejected": rejected}).items()}
    return Rows(dropped=["empty_prompt"]) if is_blank(made["prompt"]) else Rows([made])
