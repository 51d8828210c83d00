"""When two prompts are the same prompt."""

import unicodedata
from collections.abc import Iterable, Mapping
from hashlib import blake2b


def prompt_key(prompt: str | Iterable[Mapping[str, str]]) -> str:
    """What two equal prompts share: the text, or the first user turn, in NFC and with white space collapsed.

    >>> prompt_key("오늘  뭐 먹지?\\n") == prompt_key([{"role": "user", "content": "오늘 뭐 먹지?"}])
    True
    """
    if not isinstance(prompt, str):
        messages = list(prompt)
        contents = [message["content"] for message in messages if message["role"] == "user"]
        prompt = contents[0] if contents else "\n".join(message["content"] for message in messages)
    return " ".join(unicodedata.normalize("NFC", prompt).split())


def prompt_id(prompt: str | Iterable[Mapping[str, str]]) -> str:
    """A short name for a prompt, the same in every run and for every spelling that `prompt_key` takes as equal."""
    return blake2b(prompt_key(prompt).encode(), digest_size=8).hexdigest()
