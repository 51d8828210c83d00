"""When two prompts are the same prompt."""

import unicodedata
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

from ..errors import InputError
from .normalize import refuse_half_characters
from .shown import shown


def prompt_key(prompt: str | Iterable[Mapping[str, str]]) -> str:
    """What two equal prompts share: the text, or the first user turn, without white space and in one Unicode form.

    People space Korean words as they like, and full-width letters are the same letters.

    >>> prompt_key("오늘  뭐 먹지？\\n") == prompt_key([{"role": "user", "content": "오늘 뭐먹지?"}])
    True

    Raises:
        ValueError: It is neither text nor messages with text.
    """
    return "".join(unicodedata.normalize("NFKC", first_user_text(prompt)).split())


def first_user_text(prompt: str | Iterable[Mapping[str, str]]) -> str:
    """The text by which a prompt is known, its first user turn, in NFC and with white space collapsed.

    Raises:
        ValueError: It is neither text nor messages with text, or holds half a character.
    """
    if not isinstance(prompt, str):
        messages = list(prompt) if isinstance(prompt, Iterable) else []
        if not messages or not all(isinstance(message, Mapping) and _has_text(message) for message in messages):
            raise InputError(f"the prompt {shown(prompt)} is neither text nor messages {{role, content}} with text")
        texts = [message for message in messages if message.get("content") is not None]
        contents = [message["content"] for message in texts if message.get("role") == "user"]
        prompt = contents[0] if contents else "\n".join(message["content"] for message in texts)
    refuse_half_characters(prompt)
    return " ".join(unicodedata.normalize("NFC", prompt).split())


def _has_text(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    return isinstance(content, str) or (content is None and bool(message.get("tool_calls")))


def prompt_id(prompt: str | Iterable[Mapping[str, str]]) -> str:
    """A short name for a prompt, the same in every run and for every spelling that `prompt_key` takes as equal."""
    return blake2b(prompt_key(prompt).encode(), digest_size=8).hexdigest()
