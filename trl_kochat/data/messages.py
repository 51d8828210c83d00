"""Messages in the spellings that files have, as TRL's `{"role", "content"}`, and the rows that are made of them."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import InputError
from ..text.normalize import is_blank, refuse_half_characters
from ..text.shown import listed, shown
from .rows import Row, Rows, text_of


Messages = list[dict[str, Any]]

# Who speaks, as files call him (OpenAI, ShareGPT, LLaMA-Factory, Open Assistant, KoChatGPT) -> TRL's word.
ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "사람", "사용자"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "챗봇", "어시스턴트"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "observation", "function"), "tool"),
}
_WRITTEN_TURN = re.compile(r"\n\n(Human|Assistant): ?")
_WHO, _WHAT = ("role", "from", "speaker"), ("content", "value", "text")
# After whom the assistant speaks.
ASKS = ("user", "tool")
_ABOUT_TOOLS = ("tool_calls", "tool_call_id", "name")


def said(role: str, text: str) -> Messages:
    """One turn."""
    return [{"role": role, "content": text}]


def text_of_parts(content: Any, column: str) -> str | None:
    """The content of a message as one text: parts are joined as templates join them.

    Raises:
        ValueError: A part is no text, a picture say, or the text holds half a character.
    """
    if isinstance(content, list):
        texts = []
        for part in content:
            kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
            text = part.get("text") if isinstance(part, Mapping) else part
            if kind != "text" or not isinstance(text, str):
                raise InputError(
                    f"column {column!r} has a part of a message that is {shown(kind if kind != 'text' else part)}, and "
                    "only text can be trained on here: leave rows with pictures and sounds out"
                )
            texts.append(text)
        content = "".join(texts)
    if content is not None and not isinstance(content, str):
        raise InputError(f"column {column!r} has a message that holds {shown(content)}, not text")
    refuse_half_characters(content or "", column)
    return content


def messages_of(value: Any, column: str) -> Messages:
    """The messages in a column: a list of them, one alone, or `{"messages": [...]}`; blank system texts are left out.

    Raises:
        ValueError: It holds something else, somebody unknown speaks, or a message is no text.
    """
    if isinstance(value, Mapping):
        value = value["messages"] if "messages" in value else [value]
    if not isinstance(value, list) or not all(isinstance(message, Mapping) for message in value):
        raise InputError(f"column {column!r} does not hold a list of messages {{role, content}}, but {shown(value)}")
    messages = [_message(message, column) for message in value]
    return [message for message in messages if message["role"] != "system" or not is_blank(message["content"] or "")]


def _message(given: Mapping[str, Any], column: str) -> dict[str, Any]:
    who = next((given[key] for key in _WHO if given.get(key) is not None), None)
    role = ROLES.get(who.lower()) if isinstance(who, str) else None
    if role is None:
        raise InputError(f"column {column!r} has role {shown(who)}; expected {listed(ROLES)}")
    content = text_of_parts(next((given[key] for key in _WHAT if given.get(key) is not None), None), column)
    if given.get("weight") == 0:  # OpenAI's word on an answer that is there as context alone
        raise InputError(
            f"column {column!r} has a message of weight 0, and every answer would be learned: leave it out"
        )
    about_tools = {key: given[key] for key in _ABOUT_TOOLS if given.get(key)}
    if content is None and "tool_calls" not in about_tools:
        raise InputError(f"column {column!r} has a message of role {role} without content")
    return {"role": role, "content": content, **about_tools}


def written_turns(text: str) -> Messages:
    """The turns of a text that has the form of HH-RLHF, `\\n\\nHuman: ... \\n\\nAssistant: ...`; none of any other."""
    if not _WRITTEN_TURN.match(text):
        return []
    _, *turns = _WRITTEN_TURN.split(text)
    said_by = [(ROLES[who.lower()], turn.strip()) for who, turn in zip(turns[::2], turns[1::2], strict=True)]
    if said_by[-1] == ("assistant", ""):  # opened, for an answer in another column
        said_by.pop()
    return [{"role": role, "content": content} for role, content in said_by]


def turns_of(row: Row, column: str, role: str) -> Messages:
    """What a column holds as messages; a text is one turn of `role`, or the turns of the user that it holds (HH-RLHF).

    Raises:
        ValueError: It holds neither text nor messages.
    """
    value = row.get(column)
    if isinstance(value, list | Mapping):
        return messages_of(value, column)
    text = text_of(row, column)
    return (written_turns(text) if role == "user" else []) or said(role, text)


def with_system(row: Row, prompt: Messages) -> Messages:
    """The prompt behind the system text that the row has in a column of its own; a blank one gives no message.

    A system turn is a turn of the conversation: rendered apart and glued on, templates with a system text of their own
    show two.
    """
    name = "system" if row.get("system") is not None else "system_prompt"
    text = text_of(row, name) if row.get(name) is not None else ""
    if is_blank(text) or (prompt[:1] and prompt[0] == said("system", text)[0]):
        return prompt
    if prompt[:1] and prompt[0]["role"] == "system":
        raise InputError(
            f"the system text {shown(text)} stands beside another one in the messages; leave it out: --columns {name}="
        )
    return said("system", text) + prompt


def tools_of(row: Row) -> dict[str, str]:
    """TRL's column `tools`, as the JSON that it takes, where the row has tools."""
    tools = row.get("tools")
    return {"tools": tools if isinstance(tools, str) else json.dumps(tools, ensure_ascii=False)} if tools else {}


def has_nothing(messages: Messages) -> bool:
    """Whether a turn says nothing: the last message has neither text nor a call of a tool."""
    return not messages or (is_blank(messages[-1]["content"] or "") and "tool_calls" not in messages[-1])


def completion_row(prompt: Messages, completion: Messages, *, cleaned: Iterable[str] = (), **more: Any) -> Rows:
    """One prompt-completion row; dropped when the prompt (`empty_prompt`) or the completion says nothing."""
    check_turns(prompt, completion)
    for reason, turns in (("empty_prompt", prompt), ("empty_completion", completion)):
        if has_nothing(turns):
            return Rows(dropped=[reason], cleaned=cleaned)
    return Rows([{"prompt": prompt, "completion": completion, **more}], cleaned=cleaned)


def preference_row(row: Row, asked: Messages | None, columns: Sequence[str] = ("chosen", "rejected")) -> Rows:
    """One preference row of a prompt and the two columns with answers, texts or messages, the better one first.

    Without a prompt, or where the answers are whole conversations, it is what both begin with; the row's system text
    comes before it. Dropped when the prompt (`empty_prompt`) or an answer (`empty_completion`) says nothing, or when both
    answers are the same (`identical`).

    Raises:
        ValueError: A column holds neither text nor messages, or the prompt does not end where somebody asks.
    """
    answers = [turns_of(row, column, "assistant") for column in columns]
    for column, answer in zip(columns, answers, strict=True):
        if not answer:
            raise InputError(f"column {column!r} holds no message")
    if asked is None or all(answer[0]["role"] != "assistant" for answer in answers):
        asked, *answers = split_off_prompt(*answers)
    asked = with_system(row, asked)
    check_turns(asked, *answers)
    if has_nothing(asked):
        return Rows(dropped=["empty_prompt"])
    if any(map(has_nothing, answers)):
        return Rows(dropped=["empty_completion"])
    if answers[0] == answers[1]:
        return Rows(dropped=["identical"])
    margin = {"margin": row["margin"]} if row.get("margin") is not None else {}
    return Rows([{"prompt": asked, "chosen": answers[0], "rejected": answers[1], **tools_of(row), **margin}])


def split_off_prompt(chosen: Messages, rejected: Messages) -> tuple[Messages, Messages, Messages]:
    """The turns that both conversations begin with, and what follows them in each."""
    shorter = min(len(chosen), len(rejected))
    border = next((i for i in range(shorter) if chosen[i] != rejected[i]), shorter - 1)
    return chosen[:border], chosen[border:], rejected[border:]


def check_turns(prompt: Messages, *answers: Messages) -> None:
    """Raise `ValueError` unless the prompt ends where somebody asks and each answer is the assistant's."""
    if not prompt:
        raise InputError("there is no prompt: no message, or none that both conversations begin with")
    if prompt[-1]["role"] not in ASKS:
        raise InputError(f"the prompt ends with role {prompt[-1]['role']!r}; expected user, who asks")
    for answer in answers:
        if answer and answer[0]["role"] != "assistant":
            raise InputError(f"the answer begins with role {answer[0]['role']!r}; expected assistant")


def instruction_turns(row: Row) -> Messages:
    """Alpaca's columns as turns: the pairs of `history`, then `instruction` with its `input` or `context` below it."""
    turns: Messages = []
    history = row.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in history):
        raise InputError(f"column 'history' holds {shown(history)}, not a list of [question, answer]")
    for pair in history:
        texts = [text_of(dict(enumerate(pair)), number) for number in (0, 1)]  # type: ignore[arg-type]
        turns += said("user", texts[0]) + said("assistant", texts[1])
    return with_system(row, turns + said("user", with_context(row, text_of(row, "instruction"))))


def with_context(row: Row, text: str, names: Sequence[str] = ("input", "context")) -> str:
    """What is asked, with the texts below it that it is about."""
    below = [text_of(row, name) for name in names if row.get(name) is not None]
    return "\n\n".join([text, *(text for text in below if not is_blank(text))])


def first_columns(row: Row, sets: Sequence[Sequence[str]]) -> Sequence[str]:
    """The first set of columns that all hold something, else the first that are all there; the first for none."""
    filled = [names for names in sets if all(row.get(name) is not None for name in names)]
    there = [names for names in sets if all(name in row for name in names)]
    return (filled or there or list(sets))[0]
