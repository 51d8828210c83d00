"""Where an answer ends, and where a reward model reads its score."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

from transformers import PreTrainedTokenizerBase

from .render import encode_texts, render


@dataclass(frozen=True)
class AnswerEnd:
    """What stands after an answer in the rows that a model is trained on.

    Args:
        text (`str`): `"<|im_end|>\\n"` in ChatML, EOS in rows of text.
        stop_id (`int`, *optional*): The first special token in it, with which the model ends its answer.
        tail_ids (`tuple[int, ...]`): What follows that token: the line feed of ChatML, nothing in most templates. The
            model does not write it, and a reward model has read it behind every answer.
    """

    text: str
    stop_id: int | None
    tail_ids: tuple[int, ...]


def answer_end(
    tokenizer: PreTrainedTokenizerBase, *, conversational: bool = True, **template_kwargs: Any
) -> AnswerEnd:
    """How answers end in conversations (with a tokenizer that has a chat template), or in rows of text."""
    if not (conversational and tokenizer.chat_template):
        return AnswerEnd(tokenizer.eos_token or "", tokenizer.eos_token_id, ())
    # What is left the same, from the end, when the answer changes.
    question = {"role": "user", "content": "가"}
    rendered = [
        render(tokenizer, [question, {"role": "assistant", "content": answer}], **template_kwargs) for answer in "01"
    ]
    text = commonprefix([whole[::-1] for whole in rendered])[::-1]
    pair: list[Any] = [ids[::-1] for ids in encode_texts(tokenizer, rendered, add_special_tokens=False)]
    ids = commonprefix(pair)[::-1]
    special = _special_ids(tokenizer)
    start = next((i for i, token_id in enumerate(ids) if token_id in special), None)
    return AnswerEnd(text, None, ()) if start is None else AnswerEnd(text, ids[start], tuple(ids[start + 1 :]))


def end_token_ids(tokenizer: PreTrainedTokenizerBase, declared: int | Iterable[int] | None = None) -> list[int]:
    """Every token that ends an answer: EOS, the stop of the chat template, and what the model declares beside them.

    A config may name an id that is an ordinary token of this tokenizer, so of the declared ones only special tokens count.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): The model's.
        declared (`int` or iterable of `int`, *optional*): `model.generation_config.eos_token_id`.
    """
    special = _special_ids(tokenizer)
    given = [declared] if isinstance(declared, int) else list(declared or ())
    ids = [tokenizer.eos_token_id, answer_end(tokenizer).stop_id, *(i for i in given if i in special)]
    return [token_id for token_id in dict.fromkeys(ids) if token_id is not None]


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    return {i for i, token in tokenizer.added_tokens_decoder.items() if token.special} | {tokenizer.eos_token_id}


def score_position(ids: Sequence[int], pad_token_id: int | None) -> int:
    """Index of the token at which a reward model reads the score of a row, as it was trained to.

    It is the last one that is not padding, told by its id, as in transformers' sequence classification and so in
    `RewardTrainer`: the token before EOS where padding is EOS. In a row that has ended it stands after
    [`AnswerEnd.tail_ids`], in one that was cut at the last token of the answer.

    >>> score_position([5, 6, 2], pad_token_id=3), score_position([5, 6, 2], pad_token_id=2)
    (2, 1)
    """
    return next((i for i in reversed(range(len(ids))) if ids[i] != pad_token_id), 0)
