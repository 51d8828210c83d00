"""Scores of answers under a reward model."""

import logging
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import torch
from peft import PeftModel, TaskType
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from ..encode import as_turns, tokenize_rows
from ..errors import InputError
from ..models import (
    adapter_keys,
    attach_adapter,
    eval_mode,
    is_adapter,
    load_base,
    max_positions,
    quiet_transformers,
    read_adapter_config,
    saying_which_model,
)
from ..sample import embedded


logger = logging.getLogger(__name__)

Messages = Sequence[Mapping[str, str]]

# What transformers calls the head of a sequence classification model, and PEFT saves for SEQ_CLS.
_HEADS = {"score", "classifier"}


@torch.no_grad()
def score_completions(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str | Messages],
    completions: Sequence[str | Messages],
    *,
    batch_size: int = 8,
    raw: bool = False,
    ended: Sequence[bool] | None = None,
) -> list[float]:
    """Score answers on the rows that TRL's `RewardTrainer` makes of them, also in the middle of training.

    Prompt and completion are one row, padded on the right. It goes through the chat template, or, when there is none
    or with `raw`, is the two strings one after the other and EOS. The modes of the modules are given back.

    Args:
        model ([`~transformers.PreTrainedModel`] or `PeftModel`): A sequence classification model with one label.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Its tokenizer. When padding is EOS, the model reads the
            score one token early, before it has seen whether the answer ended: there is a warning.
        prompts (sequence of `str` or messages): A string is one user turn.
        completions (sequence of `str` or messages): One for each prompt; a string is one turn of the assistant.
        batch_size (`int`, *optional*, defaults to `8`): Rows at a time.
        raw (`bool`, *optional*, defaults to `False`): Score the strings as they are, without the chat template.
        ended (sequence of `bool`, *optional*): `False` for completions that were cut by length, which are then not
            written as if they had ended.

    Returns:
        One score per completion, in order. Only differences of scores for one prompt have a meaning, unless training
        centred them (`center_rewards_coefficient`).

    Raises:
        ValueError: Not as many completions as prompts, another number of labels, no padding token, or a row longer
            than the model's context.
    """
    for name, values in (("prompts", prompts), ("completions", completions)):
        if isinstance(values, str):
            raise InputError(f"{name} is one string; give a list: [{values!r}].")
    if len(prompts) != len(completions):
        raise InputError(f"{len(prompts)} prompts and {len(completions)} completions; give one prompt per completion.")
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be at least 1.")
    if raw or tokenizer.chat_template is None:
        if not all(isinstance(text, str) for text in (*prompts, *completions)):
            raise InputError(
                "Messages need a chat template (see set_chat_template) and raw=False; these are messages."
            )
        if tokenizer.eos_token is None:
            raise InputError("The tokenizer has no EOS token to end a row with; see load_tokenizer.")
    else:
        prompts = [as_turns(prompt, "user") for prompt in prompts]
        completions = [as_turns(completion, "assistant") for completion in completions]
    rows = [{"prompt": p, "completion": c} for p, c in zip(prompts, completions, strict=True)]
    tokenized = tokenize_rows(tokenizer, rows, ended=ended)
    return score_ids(model, tokenizer, [row.sequences["completion"] for row in tokenized], batch_size=batch_size)


@torch.no_grad()
def score_ids(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    sequences: Sequence[Sequence[int]],
    *,
    batch_size: int = 8,
) -> list[float]:
    """Scores of whole rows of ids, in batches of like length; see [`score_completions`]."""
    if model.config.num_labels != 1:
        raise InputError(f"The model has {model.config.num_labels} labels; a reward model has 1, the score.")
    if tokenizer.pad_token_id is None:
        raise InputError("The tokenizer has no padding token, by which the end of a row is found; see load_tokenizer.")
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        logger.warning(
            "Padding is EOS (%r): the score is read one token early and cannot tell whether an answer ended. "
            "load_tokenizer finds a better padding token; train the reward model with it.",
            tokenizer.eos_token,
        )
    positions = max_positions(model)
    for number, ids in enumerate(sequences):
        if positions is not None and len(ids) > positions:
            raise InputError(f"Row {number} has {len(ids)} tokens, the model {positions} positions; shorten the text.")
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    scores: dict[int, float] = {}
    config = model.config.get_text_config()
    pad_token_id = config.pad_token_id
    config.pad_token_id = tokenizer.pad_token_id  # by which the model finds the last token
    try:
        with eval_mode(model):
            for first in range(0, len(order), batch_size):
                batch = order[first : first + batch_size]
                rows = [torch.tensor(sequences[i]) for i in batch]
                input_ids = pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
                attention_mask = pad_sequence([torch.ones_like(ids) for ids in rows], batch_first=True)
                output = model(input_ids=input_ids.to(model.device), attention_mask=attention_mask.to(model.device))
                scores |= zip(batch, output.logits[:, 0].float().tolist(), strict=True)
    finally:
        config.pad_token_id = pad_token_id
    return [scores[i] for i in range(len(sequences))]


def is_reward_model(path: str | PathLike[str], *, trust_remote_code: bool = False) -> bool:
    """Whether an adapter, or a whole model, is there to score."""
    if is_adapter(path):
        return read_adapter_config(path).task_type == TaskType.SEQ_CLS
    path = embedded(path)
    with saying_which_model(path, trust_remote_code=trust_remote_code):
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    return any("SequenceClassification" in kind for kind in config.architectures or ())


def load_reward_model(
    path: str | PathLike[str],
    *,
    base: str | PathLike[str] | None = None,
    load_in_4bit: bool = False,
    trust_remote_code: bool = False,
    **kwargs: Any,
) -> PreTrainedModel | PeftModel:
    """Load a reward model for scoring: an adapter with its score head onto its base, or a whole model.

    Args:
        path (`str`): Folder of an adapter (`task_type="SEQ_CLS"`), or folder or repository id of a whole model with
            one label. With `base`, the adapter may be a repository id too.
        base (`str`, *optional*): Base of the adapter; by default the one that the adapter names.
        load_in_4bit (`bool`, *optional*, defaults to `False`): Quantize the base to NF4; the head stays as it is.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether code that comes with the model may run.
        kwargs: Passed to `from_pretrained`, such as `dtype` or `revision`.

    Raises:
        ValueError: The adapter has no head, generates text, or does not belong to the base; the whole model has no
            head or not one label.
    """
    if base is None and not is_adapter(path):
        return _load_whole(path, load_in_4bit=load_in_4bit, trust_remote_code=trust_remote_code, **kwargs)
    config = read_adapter_config(path)
    if not any(_HEADS & set(key.split(".")) for key in adapter_keys(path)):
        raise InputError(
            f"The adapter {path} has no score head, so it cannot score: its file holds adapter weights only. "
            'RewardTrainer saves the head when LoraConfig has task_type="SEQ_CLS".'
        )
    if config.task_type not in (TaskType.SEQ_CLS, None):
        raise InputError(f"The adapter {path} is for {config.task_type}, not for SEQ_CLS: it is no reward model.")
    name = base or config.base_model_name_or_path
    if not name:
        raise InputError(f"The adapter {path} does not name its base model; pass base=.")
    with quiet_transformers():  # the base has no head, and the adapter brings one
        model = load_base(
            AutoModelForSequenceClassification,
            name,
            load_in_4bit=load_in_4bit,
            trust_remote_code=trust_remote_code,
            num_labels=1,
            **kwargs,
        )
    return attach_adapter(model, path, "default")


def _load_whole(
    name_or_path: str | PathLike[str], *, load_in_4bit: bool, trust_remote_code: bool, **kwargs: Any
) -> PreTrainedModel:
    with saying_which_model(name_or_path, trust_remote_code=trust_remote_code):
        config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=trust_remote_code)
    kind = ", ".join(config.architectures or ("an unknown kind of model",))
    if "SequenceClassification" not in kind:
        raise InputError(f"{name_or_path} is {kind} and no reward model: it has no score head.")
    if config.num_labels != 1:
        raise InputError(
            f"{name_or_path} has {config.num_labels} labels and is no reward model, which has 1, the score."
        )
    with quiet_transformers():
        model, report = load_base(
            AutoModelForSequenceClassification,
            name_or_path,
            load_in_4bit=load_in_4bit,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **kwargs,
        )
    if report["missing_keys"]:
        raise InputError(f"{name_or_path} has no weights for {', '.join(sorted(report['missing_keys']))}.")
    return model.eval()
