"""A reward model as a function."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..encode import end_token_ids
from ..measure.score import load_reward_model, score_completions
from ..models import tokenizer_source
from ..sample import embedded
from ..tokenizer import load_tokenizer
from .contract import Reward, answer_text


def reward_model(
    folder: str | PathLike[str],
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    batch_size: int = 8,
    load_in_4bit: bool = False,
    **kwargs: Any,
) -> Reward:
    """The scores of a reward adapter or a whole reward model, by the template and at the place it was trained with.

    Any number; only differences between answers to one prompt have a meaning.

    Args:
        folder (`str`): As [`load_reward_model`] takes it.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*): The policy's, by which answers that were cut are
            told: they are not scored as if they had ended. Without it every answer counts as ended.
        batch_size (`int`, *optional*, defaults to `8`): Rows at a time.
        load_in_4bit (`bool`, *optional*, defaults to `False`): Quantize the base to NF4.
        kwargs: Passed to [`load_reward_model`].
    """
    path = embedded(folder)
    model = load_reward_model(path, load_in_4bit=load_in_4bit, **kwargs)
    trust = {"trust_remote_code": kwargs.get("trust_remote_code", False)}
    own = load_tokenizer(tokenizer_source(path, kwargs.get("base")), **trust)
    end_ids = frozenset(end_token_ids(tokenizer)) if tokenizer is not None else frozenset()

    def reward(
        prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Sequence[Any] | None = None, **columns: Any
    ) -> list[float | None]:
        texts = [answer_text(completion) for completion in completions]
        ended = None
        if end_ids and completion_ids is not None:
            ended = [len(ids) > 0 and int(ids[-1]) in end_ids for ids in completion_ids]
        return [*score_completions(model, own, prompts, texts, batch_size=batch_size, ended=ended)]

    reward.__name__ = "reward_model"
    return reward
