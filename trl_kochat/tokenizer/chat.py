"""Checks of the chat template, by rendering it."""

import os
import re
from collections.abc import Iterator, Sequence

from ..encode import render
from ..errors import InputError
from ..findings import Finding, Severity
from ..text.shown import cut
from .examined import ExaminedTokenizer


# Words that no template contains.
_SYSTEM, _USER, _ASSISTANT, _USER_2 = "가갸거겨", "나냐너녀", "다댜더뎌", "라랴러려"
_TURNS = (
    {"role": "user", "content": _USER},
    {"role": "assistant", "content": _ASSISTANT},
    {"role": "user", "content": _USER_2},
)


def check_template(examined: ExaminedTokenizer) -> Iterator[Finding]:
    tokenizer = examined.tokenizer
    if not tokenizer.chat_template:
        yield Finding(
            "no_chat_template",
            "info",
            "No chat template, so TRL cannot render conversational rows: load_tokenizer installs 'ko_instruct', or "
            "set_chat_template(tokenizer, name).",
        )
        return
    try:
        conversation = _render(examined, _TURNS)
        prompt = _render(examined, _TURNS[:1])
    except InputError as error:
        yield Finding(
            "template_fails", "error", f"The chat template does not render a conversation: {cut(str(error), 300)}"
        )
        return
    unwritten = [str(turn["role"]) for turn in _TURNS if turn["content"] not in conversation]
    if unwritten or _USER not in prompt:
        yield Finding(
            "template_loses_text",
            "error",
            f"The chat template does not write what is said ({', '.join(dict.fromkeys(unwritten)) or 'user'}): the model "
            "would never see it. Take another template: set_chat_template(tokenizer, 'ko_instruct').",
            measured={"roles": unwritten},
        )
        return
    frame = conversation.partition(_ASSISTANT)[2].partition(_USER_2)[0]  # end of an answer, start of a question
    yield from _check_stop(examined, frame)
    yield from _check_own_system(examined, prompt, frame)
    yield from _check_given_system(examined)
    yield from _check_bos(examined, prompt)


def _render(examined: ExaminedTokenizer, messages: Sequence[dict[str, str]]) -> str:
    return render(examined.tokenizer, messages)


def _check_stop(examined: ExaminedTokenizer, frame: str) -> Iterator[Finding]:
    eos = examined.tokenizer.eos_token
    if eos is None or eos in frame:
        return
    # The first added token after the answer, before the next turn opens.
    stop = min((token for token in examined.added if token in frame), key=frame.index, default=None)
    severity: Severity
    if stop is not None and examined.vocab[stop] in examined.generation_eos_ids:
        severity, way_out = "info", "The model's generation_config stops there, trainers that add EOS do not."
    else:
        severity, way_out = (
            "warning",
            (
                f"Train with SFTConfig(eos_token={stop!r})."
                if stop
                else "Nothing teaches the model to stop; load_tokenizer writes EOS there if it can."
            ),
        )
    yield Finding(
        "template_stop",
        severity,
        f"The chat template ends an answer with {stop or repr(frame[:20])}, and eos_token is {eos}. {way_out}",
        measured={"stop": stop, "eos": eos},
    )


def _check_own_system(examined: ExaminedTokenizer, prompt: str, frame: str) -> Iterator[Finding]:
    head = prompt.partition(_USER)[0]
    common = os.path.commonprefix([head[::-1], frame[::-1]])  # the part that opens every question
    own = head.removesuffix(common[::-1])
    for token in examined.added:
        own = own.replace(token, " ")
    words = re.findall(r"\w+", own)
    if len(words) > 2:  # more than the name of a role
        yield Finding(
            "template_adds_system",
            "info",
            f"The chat template puts a system text of its own before rows without one: {' '.join(own.split())[:80]!r}.",
            measured={"text": own.strip()},
        )


def _check_given_system(examined: ExaminedTokenizer) -> Iterator[Finding]:
    """Whether the system texts of rows (Orca pairs have them) reach the model."""
    try:
        lost = _SYSTEM not in _render(examined, [{"role": "system", "content": _SYSTEM}, *_TURNS])
    except InputError as error:
        yield Finding(
            "template_refuses_system",
            "info",
            f"The chat template takes no rows with a system text: {cut(str(error), 300)}",
        )
        return
    if lost:
        yield Finding(
            "template_loses_system",
            "warning",
            "The chat template leaves the system text of a row out, so the model never sees it: put it before the "
            "question, or take a template that writes it.",
        )


def _check_bos(examined: ExaminedTokenizer, prompt: str) -> Iterator[Finding]:
    bos, bos_id = examined.tokenizer.bos_token, examined.tokenizer.bos_token_id
    if bos is None or not prompt.startswith(bos):
        return
    if prompt.removeprefix(bos).lstrip().startswith(bos):
        yield Finding("template_bos_twice", "warning", f"The chat template writes {bos} twice at the start.")
    elif examined.tokenizer("가")["input_ids"][:1] == [bos_id]:
        yield Finding(
            "template_bos_twice",
            "info",
            f"The chat template writes {bos} and so does the tokenizer: pass rendered text with "
            "add_special_tokens=False, or rows of messages, which TRL renders once.",
        )
