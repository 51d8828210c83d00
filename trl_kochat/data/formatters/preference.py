"""Pairs of answers, a better and a worse one, in the forms that are in use beside Intel's (`orca_pairs`)."""

from ...errors import InputError
from ...text.normalize import is_blank
from ..advice import prompts_of
from ..messages import first_columns, instruction_turns, preference_row, turns_of, written_turns
from ..rows import Row, Rows, text_of
from .registry import formatter


ANSWERS = ("chosen", "rejected")
# TRL and UltraFeedback; argilla and LLaMA-Factory (Alpaca form); LLaMA-Factory (ShareGPT form).
PROMPTS = ("prompt", "instruction", "input", "query", "conversations", "messages")


@formatter("preference", type="preference", columns=[ANSWERS, *((prompt, *ANSWERS) for prompt in PROMPTS)])
def to_preference(row: Row) -> Rows:
    """`chosen` and `rejected` as texts, messages or whole conversations, with their prompt or without, as one row.

    The prompt is the column `prompt`, `instruction` (with `input` below it), `input`, `query`, `conversations` or
    `messages`; without one, or where the answers are whole conversations, what both begin with. Texts in the form of
    Anthropic's HH-RLHF (`\\n\\nHuman: ... \\n\\nAssistant: ...`) are conversations, too. A `system` text comes first. TRL's own
    conversational rows stay as they are; `--formatter trl` leaves texts as texts, too.
    """
    (prompt,) = first_columns(row, [(name,) for name in PROMPTS])
    if row.get(prompt) is not None:
        return preference_row(
            row, instruction_turns(row) if prompt == "instruction" else turns_of(row, prompt, "user")
        )
    talks = {name: written_turns(row[name]) for name in ANSWERS if isinstance(row.get(name), str)}
    if len(talks) == 2 and all(talks.values()):
        return preference_row(talks, None)
    if len(talks) == 2:
        return _texts_with_prompt(row)
    return preference_row(row, None)


def _texts_with_prompt(row: Row) -> Rows:
    """Texts that hold their prompt, as TRL takes them apart: they are whole, and no turns can be told."""
    from trl import extract_prompt  # importing trl takes seconds

    chosen, rejected = (text_of(row, name) for name in ANSWERS)
    for name in prompts_of(row):
        if row[name] not in chosen:
            raise InputError(
                f"column {name!r} looks like the prompt: --columns {name}=prompt, or {name}= where it is none"
            )
    if chosen == rejected:
        return Rows(dropped=["identical"])
    if is_blank(chosen) or is_blank(rejected):
        return Rows(dropped=["empty_completion"])
    made = {name: str(text) for name, text in extract_prompt({"chosen": chosen, "rejected": rejected}).items()}
    return Rows(dropped=["empty_prompt"]) if is_blank(made["prompt"]) else Rows([made])
