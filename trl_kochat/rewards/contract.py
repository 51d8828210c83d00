"""What rewards share: TRL's contract, and the text of an answer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..text.normalize import drop_half_syllable, whole_text


# f(prompts, completions, completion_ids, log_metric=None, **columns) -> one number, or None, for each completion
Reward = Callable[..., list[float | None]]


def answer_text(completion: str | Sequence[Mapping[str, Any]]) -> str:
    """The text of an answer, or of the messages of one, in NFC and without the half syllable that a cut leaves.

    >>> answer_text([{"role": "assistant", "content": "네."}])
    '네.'
    """
    text = completion if isinstance(completion, str) else "\n".join(map(_content, completion))
    return drop_half_syllable(whole_text(text))


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""  # a message that calls a tool may have none
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def of_text(name: str, score: Callable[[str], float | None]) -> Reward:
    """A reward of TRL that gives each answer the score of its text; `name` is that of its metrics."""

    def reward(prompts: Any, completions: Sequence[Any], completion_ids: Any = None, **columns: Any) -> list[Any]:
        return [score(answer_text(completion)) for completion in completions]

    reward.__name__ = name
    return reward
