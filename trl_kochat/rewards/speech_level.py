"""The speech level that was asked for."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError
from ..text.korean import need_analyser
from ..text.normalize import whole_text
from ..text.speech_level import LEVELS, speech_levels
from .contract import Reward, answer_text


# What may be asked for, and the levels that do it.
ASKED = {level: frozenset({level}) for level in LEVELS} | {
    "존댓말": frozenset(LEVELS[:2]),
    "반말": frozenset(LEVELS[2:]),
}
_SAME = {"높임말": "존댓말", "공손한 말투": "존댓말", "하십시오체": "합쇼체", "격식체": "합쇼체"}
_NAMES = "|".join(sorted({*ASKED, *_SAME}, key=len, reverse=True))
_REQUEST = re.compile(rf"({_NAMES})(?=으?로(?! ?말고)|[을를] (?:써|사용))")


def speech_level(level: str = "prompt") -> Reward:
    """Share of the sentences that are in the level, among those that are in any; needs the extra `korean`.

    From 0 to 1; 0 where no sentence ends. Headings and items of a list are no sentences.

    Args:
        level (`str`, *optional*, defaults to `"prompt"`): 합쇼체, 해요체, 해체, 해라체, 존댓말 (either of the first two),
            반말 (either of the other two), or `"prompt"`: what the last message asks for that asks ("반말로 답해 줘."), and
            `None` where none does.
    """
    if level not in (*ASKED, "prompt"):
        raise InputError(f"No speech level {level!r}; there are {', '.join(ASKED)} and prompt.")
    need_analyser()

    def reward(prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any = None, **columns: Any) -> Any:
        asked = [asked_level(prompt) if level == "prompt" else level for prompt in prompts]
        return [
            None if name is None else _share(answer_text(completion), ASKED[name])
            for name, completion in zip(asked, completions, strict=True)
        ]

    reward.__name__ = "speech_level"
    return reward


def _share(text: str, levels: frozenset[str]) -> float:
    ended = [level for level in speech_levels(text) if level]
    return sum(level in levels for level in ended) / len(ended) if ended else 0.0


def asked_level(prompt: str | Sequence[Mapping[str, Any]]) -> str | None:
    """The level that a prompt asks for, or `None`.

    >>> asked_level("존댓말 말고 반말로 답해 줘."), asked_level("반말이 뭐야?")
    ('반말', None)
    """
    messages = [prompt] if isinstance(prompt, str) else [answer_text([message]) for message in prompt]
    for text in reversed(messages):
        if found := _REQUEST.findall(whole_text(text)):
            return _SAME.get(found[-1], found[-1])
    return None
