"""An answer that comes to its end."""

from collections.abc import Sequence
from typing import Any

import regex
from transformers import PreTrainedTokenizerBase

from ..encode import end_token_ids
from .contract import Reward, answer_text


# A mark that ends a sentence; after it quotes, brackets, emoji, laughter.
_WHOLE = regex.compile(r"(?:[.?!。…~)\]]|```)[\p{P}\p{S}\p{Cf}\p{M}ㄱ-ㅣ\s]*$")
_MARKLESS = regex.compile(r"(?:[ㅋㅎㅠㅜ]{2}|\p{Emoji_Presentation})[\p{P}\p{S}\p{Cf}\p{M}\s]*$")


def ends(tokenizer: PreTrainedTokenizerBase | None = None) -> Reward:
    """Half for a token that ends the answer, half for a whole last sentence: 0, 0.5 or 1.

    A last sentence is whole with a mark behind it (`.`, `?`, `!`, `…`, `~`), and quotes, brackets or emoji after that.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*): The policy's, whose [`end_token_ids`] count.
            Without it, or where a trainer gives no `completion_ids`, the sentence alone decides: 0 or 1.
    """
    end_ids = frozenset(end_token_ids(tokenizer)) if tokenizer is not None else frozenset()

    def reward(
        prompts: Any, completions: Sequence[Any], completion_ids: Sequence[Any] | None = None, **columns: Any
    ) -> list[float | None]:
        whole = [float(is_whole(answer_text(completion))) for completion in completions]
        if not end_ids or completion_ids is None:
            return [*whole]
        ended = [len(ids) > 0 and int(ids[-1]) in end_ids for ids in completion_ids]
        return [(a + b) / 2 for a, b in zip(ended, whole, strict=True)]

    reward.__name__ = "ends"
    return reward


def is_whole(text: str) -> bool:
    """Whether the last sentence has its mark.

    >>> [is_whole(text) for text in ("그래요.", "좋아요! 😀", "그는 '가자.'라고", "그래서 저는")]
    [True, True, False, False]
    """
    return bool(_WHOLE.search(text[-200:]) or _MARKLESS.search(text[-200:]))
