"""What a chat template writes, and the ids of texts."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from ..text.shown import cut, listed, shown


# What rendering may raise: a template is a program, and divides by zero or looks for the fifth turn.
TEMPLATE_ERRORS = (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, Any]],
    *,
    generation: bool = False,
    continued: bool = False,
    tools: Any = None,
    **template_kwargs: Any,
) -> str:
    """A conversation as the chat template writes it, special tokens included.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Its template is taken.
        messages (sequence of `Mapping`): `{"role", "content"}`.
        generation (`bool`, *optional*, defaults to `False`): Open the assistant's turn after the last message.
        continued (`bool`, *optional*, defaults to `False`): Leave the last message open, to be gone on with.
        tools (`list`, or `str` with JSON, *optional*): As in TRL's column of that name.
        template_kwargs: More for the template, as in TRL's column `chat_template_kwargs`.

    Raises:
        ValueError: There is no template, or it does not render these messages, or their tools.
    """
    if not tokenizer.chat_template:
        raise InputError(
            "a conversation needs a chat template and the tokenizer has none: use load_tokenizer, or "
            "set_chat_template(tokenizer, 'ko_instruct')."
        )
    options: dict[str, Any] = {"add_generation_prompt": generation, "continue_final_message": continued}
    options |= {"tokenize": False, **template_kwargs}
    turns: list[dict[str, Any]] = [dict(message) for message in messages]
    try:
        text = str(tokenizer.apply_chat_template(turns, tools=_tools(tools), **options))
        if tools and text == tokenizer.apply_chat_template(turns, tools=None, **options):
            raise InputError("the chat template leaves out tools: nothing of them would be seen")
        _refuse_dropped_calls(text, turns)
        return text
    except InputError as error:
        raise InputError(
            f"a conversation with tools: {error}. Take a template that knows them, or --columns tools="
        ) from error
    except TEMPLATE_ERRORS as error:  # TypeError: a message without content
        roles = listed(message.get("role") for message in messages)
        raise InputError(
            f"a conversation with the roles {roles}: the chat template does not render it: {cut(str(error), 300)}"
        ) from error


def _tools(tools: Any) -> Any:
    return json.loads(tools) if isinstance(tools, str) else tools


def _refuse_dropped_calls(text: str, messages: Sequence[Mapping[str, Any]]) -> None:
    """Raise for a template that writes nothing of the tools that a message calls."""
    for message in messages:
        for call in message.get("tool_calls") or ():
            name = str((call.get("function") or call).get("name"))
            if name not in text:
                raise InputError(f"the chat template leaves out the call of {shown(name)}")


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], **kwargs: Any) -> list[list[int]]:
    """Ids of each text; rendered text needs `add_special_tokens=False`, for the template wrote them.

    Raises:
        ValueError: The tokenizer has no writing for a text and no token for the unknown.
    """
    try:
        return tokenizer(list(texts), return_attention_mask=False, verbose=False, **kwargs)["input_ids"]
    except Exception as error:
        if type(error) is not Exception:  # `tokenizers` raises a bare one
            raise
        raise InputError(
            f"The tokenizer has no writing for a text such as {shown(texts[0])}: {cut(str(error), 200)}. The unk_token "
            "of its vocabulary is missing."
        ) from error
