"""Checks of the chat template, by rendering it."""

import os
import re
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

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
_DATE = re.compile(
    r"\b(?:\d{4}-\d\d-\d\d|\d{4}년 \d\d월 \d\d일|\d\d [A-Z][a-z]{2,8} \d{4}|[A-Z][a-z]{2,8} \d\d, \d{4})"
)
_DATE_FORMS = ("%Y-%m-%d", "%Y년 %m월 %d일", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y")


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
        answered = _render(examined, _TURNS[:2])
        render(tokenizer, _TURNS[:1], generation=True)
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
    end = answered.partition(_ASSISTANT)[2]
    yield from _check_stop(examined, frame, end)
    _, eos, tail = end.rpartition(tokenizer.eos_token or "\0")
    if eos and (tail := tail.strip()) and prompt.strip().endswith(tail):
        yield Finding(
            "template_opens_always",
            "warning",
            f"{tail!r} stands behind every conversation, add_generation_prompt or not, and so behind the end of every answer "
            "that is trained on. Take a template that writes it when asked: set_chat_template(tokenizer, 'ko_instruct').",
            measured={"tail": tail},
        )
    yield from _check_opening(examined)
    yield from _check_date(examined, prompt)
    yield from _check_own_system(examined, prompt, frame)
    yield from _check_given_system(examined)
    yield from _check_bos(examined, prompt)


def _render(examined: ExaminedTokenizer, messages: Sequence[dict[str, str]]) -> str:
    return render(examined.tokenizer, messages)


def _check_stop(examined: ExaminedTokenizer, frame: str, end: str) -> Iterator[Finding]:
    """
    Args:
        frame (`str`): What stands between an answer and the next question.
        end (`str`): What stands behind the last answer, which is the one that is trained on.
    """
    eos = examined.tokenizer.eos_token
    if eos is None or eos in end:
        return
    stop = min((token for token in examined.added if token in end), key=end.index, default=None)
    severity: Severity
    if stop is not None and examined.vocab[stop] in examined.generation_eos_ids:
        severity, way_out = "info", "The model's generation_config stops there, trainers that add EOS do not."
    elif stop is not None:
        severity, way_out = "warning", f"Train with SFTConfig(eos_token={stop!r})."
    else:
        seen = " It stands only where another question follows." if eos in frame else ""
        severity = "warning"
        way_out = f"Nothing teaches the model to stop; load_tokenizer writes EOS there if it can.{seen}"
    yield Finding(
        "template_stop",
        severity,
        f"The chat template ends an answer with {stop or repr(end[:20])}, and eos_token is {eos}. {way_out}",
        measured={"stop": stop, "eos": eos},
    )


def _check_opening(examined: ExaminedTokenizer) -> Iterator[Finding]:
    """Whether what opens an answer when the model is asked is what opened the answers that it was trained on."""
    prompt, opened, trained = _openings(examined)
    missing = trained.removeprefix(opened).strip()
    if trained.startswith(opened):
        if opened == prompt and missing:
            yield Finding(
                "template_opens_nothing",
                "warning",
                f"add_generation_prompt writes nothing, and an answer begins with {cut(missing)!r}: asked, the model has "
                "to write that itself. Take a template that writes it: set_chat_template(tokenizer, 'ko_instruct').",
                measured={"missing": missing},
            )
        return
    same = len(os.path.commonprefix([opened, trained]))
    way_out = "Take a template that opens both alike: set_chat_template(tokenizer, 'ko_instruct')."
    if "enable_thinking" in str(examined.tokenizer.chat_template):
        _, without, answer = _openings(examined, enable_thinking=False)
        if answer.startswith(without):
            way_out = 'Rows with a column chat_template_kwargs, {"enable_thinking": false}, open both alike.'
    yield Finding(
        "template_opens_otherwise",
        "warning",
        f"Asked, the model reads {opened[same:][:40]!r} where its training rows have {trained[same:][:40]!r}: it is asked "
        f"for what it was not trained on. {way_out}",
        measured={"asked": opened[same:], "trained": trained[same:]},
    )


def _openings(examined: ExaminedTokenizer, **kwargs: Any) -> tuple[str, str, str]:
    """A question as it is written, as it is asked, and as it stands before its answer."""
    asked, answered = _TURNS[:1], _TURNS[:2]
    return (
        render(examined.tokenizer, asked, **kwargs),
        render(examined.tokenizer, asked, generation=True, **kwargs),
        render(examined.tokenizer, answered, **kwargs).partition(_ASSISTANT)[0],
    )


def _check_date(examined: ExaminedTokenizer, prompt: str) -> Iterator[Finding]:
    dates = _DATE.findall(prompt)
    today = {date.today().strftime(form) for form in _DATE_FORMS}
    of_today = next((written for written in dates if written in today), None)
    if of_today:
        read = "date_string" in str(examined.tokenizer.chat_template)
        way_out = (
            'Rows with a column chat_template_kwargs, {"date_string": ...}, keep one.'
            if read
            else "Write one into it."
        )
        yield Finding(
            "template_date",
            "warning",
            f"The chat template writes the date of the day, {of_today!r}: tomorrow the model is asked with another prompt "
            f"than it was trained on. {way_out}",
            measured={"date": of_today, "today": True},
        )
    elif dates:
        yield Finding(
            "template_date",
            "info",
            f"The chat template writes a date, {dates[0]!r}, whatever the day is.",
            measured={"date": dates[0], "today": False},
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
