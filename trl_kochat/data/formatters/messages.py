"""Whole conversations: `messages` (OpenAI, TRL) and `conversations` (ShareGPT), of one turn or of many."""

from ..messages import ASKS, Messages, completion_row, first_columns, messages_of, tools_of, with_system
from ..rows import Row, Rows
from .registry import formatter


COLUMNS = (("messages",), ("conversations",))
ANSWERED = Rows(dropped=["no_question"])


def _conversation(row: Row) -> Messages:
    (column,) = first_columns(row, COLUMNS)
    turns = row.get(column)
    if isinstance(turns, list) and turns and all(isinstance(text, str) for text in turns):  # LIMA: a question first
        turns = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(turns)]
    return with_system(row, messages_of(turns, column))


@formatter("messages", type="prompt_completion", columns=COLUMNS)
def to_prompt_completion(row: Row) -> Rows:
    """A conversation as one row for each answer of the assistant, with all turns before it as the prompt.

    Dropped, by reason: an answer before the first question or after another answer (`no_question`), a conversation without
    answer (`no_answer`), and blank questions and answers.
    """
    made, prompt = Rows(), []
    for message in _conversation(row):
        if message["role"] != "assistant":
            prompt.append(message)
        elif not any(turn["role"] == "user" for turn in prompt):  # a greeting, which no prompt begins with
            made.dropped["no_question"] += 1
        else:
            one = (
                ANSWERED
                if prompt[-1]["role"] not in ASKS
                else completion_row(list(prompt), [message], **tools_of(row))
            )
            made.extend(one)
            made.dropped += one.dropped
            prompt.append(message)
    if not made and not made.dropped:
        made.dropped["no_answer"] += 1
    return made


@formatter("whole_messages", type="language_modeling")
def to_language_modeling(row: Row) -> Rows:
    """A conversation as one row, of which all turns are learned; dropped when it has no answer (`no_answer`)."""
    conversation = _conversation(row)
    if not any(message["role"] == "assistant" for message in conversation):
        return Rows(dropped=["no_answer"])
    return Rows([{"messages": conversation, **tools_of(row)}])
