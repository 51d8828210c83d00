"""Answers to prompts, and the tokens behind a text."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from peft import PeftModel, TaskType
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForCausalLM,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SuppressTokensLogitsProcessor,
)

from ..encode import as_turns, end_token_ids, prompt_ids, tokenize_rows, unused_ids
from ..errors import InputError
from ..models import attach_adapter, eval_mode, load_base, max_positions, read_adapter_config
from ..text.normalize import drop_half_syllable, refuse_half_characters


Messages = Sequence[Mapping[str, str]]

# What the KoChatGPT course asks its models after every stage.
COURSE_PROMPTS = (
    "불고기용 고기 한우에요?",
    "리처드 닉슨이 43대 부통령직을 수행한 년도는?",
    "시카고 오헤어 국제공항은 어디에 있어?",
    "오늘 미세먼지 어때?",
)
# Settings of `generate` that nothing but sampling reads.
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")


@dataclass(frozen=True)
class Generation:
    """One answer."""

    prompt: str | Messages
    """The prompt as it was given."""
    text: str
    """The answer for a reader: no control tokens, no half syllable at the end, nothing from the stop string on."""
    ids: list[int]
    """Its tokens as the model emitted them, with EOS and stop string, without padding."""
    ended: bool
    """Whether the model ended it, with EOS or a stop string; `False` when the length limit cut it."""


@torch.no_grad()
def generate_answers(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str | Messages],
    *,
    max_new_tokens: int = 64,
    batch_size: int = 8,
    stop_strings: str | Sequence[str] | None = None,
    seed: int | None = None,
    raw: bool = False,
    **generation_kwargs: Any,
) -> list[Generation]:
    """Let a model answer prompts, also in the middle of training: modes, tokenizer and random state are given back.

    Greedy unless `do_sample=True`. Decoding settings that are not given are the model's own (`generation_config`).

    Args:
        model ([`~transformers.PreTrainedModel`] or `PeftModel`): A causal language model, 4-bit or not.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Its tokenizer.
        prompts (sequence of `str` or messages): A string is one user turn of the chat template, or plain text to
            continue when the tokenizer has no template. Messages go through the template; when the last one is the
            assistant's, it is continued.
        max_new_tokens (`int`, *optional*, defaults to `64`): Longest answer, in tokens.
        batch_size (`int`, *optional*, defaults to `8`): Prompts at a time.
        stop_strings (`str` or sequence of `str`, *optional*): Strings that end an answer. They hold where the id of
            a token would not: 1,459 tokens of KoGPT2 contain a newline, so use `"\\n"` and not id 375.
        seed (`int`, *optional*): Seed of the sampling, without touching the global random state. The same call gives
            the same answers; another batch size or device gives others.
        raw (`bool`, *optional*, defaults to `False`): Continue the strings as they are, without the chat template.
        generation_kwargs: Passed to `model.generate`: `do_sample`, `temperature`, `top_k`, `top_p`, `num_beams`,
            `no_repeat_ngram_size`, `repetition_penalty`, ...

    Returns:
        One [`Generation`] per prompt, in order.

    Raises:
        ValueError: A prompt has no tokens, or more than the model's context allows with `max_new_tokens`; messages meet
            a tokenizer without a chat template, or one that does not render them; a setting would have no effect.
    """
    if isinstance(prompts, str):
        raise InputError(f"prompts is one string; give a list: [{prompts!r}].")
    if batch_size < 1 or max_new_tokens < 1:
        raise InputError(f"batch_size is {batch_size} and max_new_tokens {max_new_tokens}; both must be at least 1.")
    idle = [name for name in _SAMPLING if generation_kwargs.get(name) is not None]
    if idle and not generation_kwargs.get("do_sample"):
        raise InputError(f"{', '.join(idle)} has no effect without sampling; pass do_sample=True as well.")
    if generation_kwargs.get("num_return_sequences", 1) != 1:
        raise InputError(
            "There is one answer per prompt; for several, repeat the prompt instead of num_return_sequences."
        )
    stops = [stop_strings] if isinstance(stop_strings, str) else list(stop_strings or ())
    if not all(stops):
        raise InputError("A stop string is empty, and would end every answer before it begins.")
    encoded = encode_prompts(tokenizer, prompts, raw=raw)
    _check_lengths(model, encoded, max_new_tokens)

    given = generation_kwargs.pop("eos_token_id", None)
    eos_ids = end_token_ids(tokenizer, model.generation_config.eos_token_id)
    if given is not None:
        eos_ids = [given] if isinstance(given, int) else list(given)
    if not eos_ids:
        raise InputError("Neither tokenizer nor model has an EOS token: an answer could not end. See load_tokenizer.")
    pad_id = eos_ids[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    settings = {"do_sample": False, "use_cache": True, "eos_token_id": eos_ids, "pad_token_id": pad_id}
    if stops:
        settings |= {"stop_strings": stops, "tokenizer": tokenizer}
    settings |= generation_kwargs
    if unused := unused_ids(tokenizer, model.config.get_text_config().vocab_size):
        never = SuppressTokensLogitsProcessor(unused, device=str(model.device))
        settings["logits_processor"] = LogitsProcessorList([*generation_kwargs.get("logits_processor", ()), never])
    control_ids = control_token_ids(tokenizer)

    generations = []
    with eval_mode(model), _seeded(seed):
        for start in range(0, len(encoded), batch_size):
            batch = [torch.tensor(ids) for ids in encoded[start : start + batch_size]]
            input_ids = pad_sequence(batch, batch_first=True, padding_value=pad_id, padding_side="left")
            masks = [torch.ones_like(ids) for ids in batch]
            attention_mask = pad_sequence(masks, batch_first=True, padding_value=0, padding_side="left")
            output = model.generate(  # type: ignore[operator]
                input_ids=input_ids.to(model.device),
                attention_mask=attention_mask.to(model.device),
                max_new_tokens=max_new_tokens,
                **settings,
            )
            rows = output[:, input_ids.shape[1] :].tolist()
            for prompt, row in zip(prompts[start : start + batch_size], rows, strict=True):
                ids, ended = _cut(tokenizer, row, eos_ids=eos_ids, pad_id=pad_id, stop_strings=stops)
                text = _before(stops, decode_answer(tokenizer, ids, control_ids=control_ids))
                generations.append(Generation(prompt=prompt, text=text, ids=ids, ended=ended))
    return generations


def decode_answer(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], *, control_ids: Collection[int] | None = None
) -> str:
    """The text of an answer for a reader: without BOS, EOS, padding, the template's control tokens and a half syllable
    at the end.

    `decode(skip_special_tokens=True)` drops more than that: all emoji and `:)` of KoGPT2 are special tokens.
    """
    dropped = control_token_ids(tokenizer) if control_ids is None else control_ids
    kept = [i for i in ids if i not in dropped]
    return drop_half_syllable(_decode(tokenizer, kept))


def _decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    text: Any = tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def control_token_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """BOS, EOS, padding, and the special tokens with which the chat template marks turns."""
    ids = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id} - {None}
    if tokenizer.chat_template is not None:
        question, answer = as_turns("가", "user"), as_turns("나", "assistant")
        added = tokenizer.added_tokens_decoder
        (asked,) = prompt_ids(tokenizer, [question])
        (answered,) = tokenize_rows(tokenizer, [{"messages": question + answer}])
        ids |= {i for i in (*asked, *answered.sequences["messages"]) if i in added and added[i].special}
    return frozenset(ids)


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str | Messages], *, raw: bool = False
) -> list[list[int]]:
    """Ids of what people ask: a string is a user's turn, or plain text with `raw` or where there is no chat template."""
    if raw and not all(isinstance(prompt, str) for prompt in prompts):
        raise InputError("raw=True takes strings; there are lists of messages among these prompts.")
    if tokenizer.chat_template is not None and not raw:
        prompts = [as_turns(prompt, "user") for prompt in prompts]
    encoded = prompt_ids(tokenizer, prompts)
    for prompt, ids in zip(prompts, encoded, strict=True):
        if not ids:
            raise InputError(f"The prompt {prompt!r} has no tokens to start from.")
    return encoded


def _check_lengths(model: PreTrainedModel | PeftModel, encoded: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    positions = max_positions(model)
    for number, ids in enumerate(encoded):
        if positions is not None and len(ids) + max_new_tokens > positions:
            raise InputError(
                f"Prompt {number} has {len(ids)} tokens; with max_new_tokens={max_new_tokens} that is more than the "
                f"{positions} positions of the model. Shorten the prompt or the answer."
            )


def _cut(
    tokenizer: PreTrainedTokenizerBase,
    ids: list[int],
    *,
    eos_ids: Collection[int],
    pad_id: int,
    stop_strings: Sequence[str],
) -> tuple[list[int], bool]:
    """Cut what `generate` filled a finished row up with; also whether the row had finished."""
    eos = next((position for position, token_id in enumerate(ids) if token_id in eos_ids), None)
    if eos is not None:
        ids = ids[: eos + 1]

    def stopped(ids: list[int]) -> bool:
        text = _decode(tokenizer, ids)
        return any(stop in text for stop in stop_strings)

    if not stop_strings:
        return ids, eos is not None
    if stopped(ids):
        while stopped(ids[:-1]):
            ids = ids[:-1]
        return ids, True
    padding = 0  # a stop string that began in the prompt leaves no more trace than this
    while eos is None and padding < len(ids) and ids[-1 - padding] == pad_id:
        padding += 1
    return ids[: len(ids) - padding], eos is not None or padding > 0


def _before(stop_strings: Sequence[str], text: str) -> str:
    positions = [position for stop in stop_strings if (position := text.find(stop)) >= 0]
    return text[: min(positions)] if positions else text


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    if seed is None:
        yield
        return
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def token_table(tokenizer: PreTrainedTokenizerBase, text: str) -> list[tuple[str, int]]:
    """The tokens of a text with their ids, as the model reads it.

    Tokens of byte-level vocabularies, which are named in an alphabet of their own (`ìĺ¤ëĬĺ`), are written as text, with
    `▁` for a space and `\\xeb` for a byte that is only part of a syllable.
    """
    refuse_half_characters(text)
    ids = tokenizer(text)["input_ids"]
    tokens = tokenizer.convert_ids_to_tokens(ids)
    if "ByteLevel" in repr(getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)):
        tokens = [_readable(token) for token in tokens]
    return list(zip(tokens, ids, strict=True))


# GPT-2's alphabet for bytes: printable Latin-1 stands for itself, the other bytes for the letters from U+0100 on.
# https://github.com/openai/gpt-2/blob/master/src/encoder.py
_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_HIDDEN = (byte for byte in range(256) if byte not in _PRINTABLE)
_BYTES = {chr(byte): byte for byte in _PRINTABLE} | {chr(0x100 + n): byte for n, byte in enumerate(_HIDDEN)}


def _readable(token: str) -> str:
    if any(character not in _BYTES for character in token):  # an added token, which is written plainly
        return token
    return bytes(_BYTES[character] for character in token).decode(errors="backslashreplace").replace(" ", "▁")


def load_generator(
    name_or_path: str | PathLike[str],
    adapters: Sequence[str | PathLike[str]] = (),
    *,
    load_in_4bit: bool = False,
    **kwargs: Any,
) -> PreTrainedModel | PeftModel:
    """Load a causal language model once, with any number of adapters on it; [`use_adapter`] picks one.

    Args:
        name_or_path (`str`): Folder, or repository id on the Hub, of the base model.
        adapters (sequence of `str`, *optional*): Folders or repository ids of adapters that were trained on this base.
        load_in_4bit (`bool`, *optional*, defaults to `False`): Quantize the base to NF4.
        kwargs: Passed to `from_pretrained`, such as `dtype`, `revision` or `trust_remote_code`.

    Raises:
        ValueError: An adapter is of another kind, is not complete, or does not belong to this base.
    """
    for path in adapters:  # all of them before the base, which takes time
        refuse_reward_adapter(path)
    model = load_base(AutoModelForCausalLM, name_or_path, load_in_4bit=load_in_4bit, **kwargs).eval()
    for number, path in enumerate(adapters):
        model = attach_adapter(model, path, f"adapter_{number}")
    return model


def refuse_reward_adapter(path: str | PathLike[str]) -> None:
    """Raise `ValueError` for an adapter that gives scores, or for what is none."""
    if read_adapter_config(path).task_type == TaskType.SEQ_CLS:
        raise InputError(f"The adapter {path} gives scores, not text: it is a reward model, see `trl-kochat score`.")


def use_adapter(model: PreTrainedModel | PeftModel, number: int | None) -> AbstractContextManager[None]:
    """Inside the `with` block, adapter `number` of [`load_generator`] is active, or none of them for `None`."""
    if number is None:
        return model.disable_adapter() if isinstance(model, PeftModel) else nullcontext()
    model.set_adapter(f"adapter_{number}")
    return nullcontext()
