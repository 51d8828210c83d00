"""A chat template for training, `{% generation %}` marks included, out of what the tokenizer's own template writes.

No family is known by its name here. The own template is asked to render a few conversations, what it puts around texts
becomes a template of ours, and that one is taken only if it renders every conversation byte for byte as the own one does.
"""

import json
import logging
import re
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase
from trl import get_training_chat_template

from ..encode import render
from ..errors import InputError
from ..findings import Finding


logger = logging.getLogger(__name__)

_FRAME = Path(__file__).parent / "chat_templates" / "frame" / "training.jinja"
# Words that no template contains.
_SYSTEM, _WORDS = "가갸거겨", ("나냐너녀", "다댜더뎌", "라랴러려", "마먀머며", "바뱌버벼")
# What a template might trim, escape or take for its own.
_ODD = (" \n\t가 나\n ", "\"'\\{{ x }}{% if %}\\n", "끝\n\n- <b>&amp;</b>")


@dataclass(frozen=True)
class Frame:
    """What a template puts around the texts of a conversation; each is written as it stands.

    Args:
        opening (`str`): Before the first question where there is no system text.
        system (`tuple`, *optional*): Before and after a system text, up to the first question. Without it rows that have
            one are refused.
        empty_system (`str`, *optional*): Instead of these for a system text that is empty.
        asked (`str`): After a question.
        header (`str`): Between question and answer, the generation prompt.
        opened (`str`): What stands before the text of an answer, and the model writes itself.
        stop (`str`): What ends an answer and is learned.
        tail (`str`): After the last answer of a conversation.
        next (`str`): Between answer and next question.
        trimmed (`frozenset`): Roles whose texts are stripped of white space at both ends.
    """

    opening: str
    system: tuple[str, str] | None
    empty_system: str | None
    asked: str
    header: str
    opened: str
    stop: str
    tail: str
    next: str
    trimmed: frozenset[str]

    def template(self, *, thinks: bool) -> str:
        """The template in jinja. With `thinks`, answers that hold reasoning are refused: the own one leaves it out."""
        before, after = self.system or ("", "")
        literals = {"before": before, "after": after, "empty": self.empty_system or ""}
        for name in ("opening", "asked", "header", "opened", "stop", "tail", "next"):
            literals[name] = getattr(self, name)
        flags = {"has_system": self.system is not None, "has_empty": self.empty_system is not None, "thinks": thinks}
        written = {name: json.dumps(literal, ensure_ascii=False) for name, literal in literals.items()}
        written |= {name: "true" if flag else "false" for name, flag in flags.items()}
        for role in ("system", "user", "assistant"):
            written[role] = "message['content']" + (" | trim" if role in self.trimmed else "")
        text = _FRAME.read_text(encoding="utf-8").rstrip("\n")
        return re.sub(r"@(\w+)@", lambda name: written[name[1]], text)


class _Irregular(Exception):
    """Why a template cannot be written as a frame."""


def training_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """A chat template with `{% generation %}` marks that renders as the tokenizer's own, for `assistant_only_loss`.

    It is the own one where that has marks, TRL's where TRL ships one for it, else one of ours. Marked are the text of an
    answer and the token that ends it; an earlier part of a conversation renders the same whatever follows. Where the own
    template writes no token after an answer, ours writes EOS there, and that is the one difference.

    Raises:
        ValueError: There is no template, or none of this form renders as the own one does; it says where they part.
    """
    if not tokenizer.chat_template:
        raise InputError("There is no chat template to train with: set_chat_template(tokenizer, 'ko_instruct') first.")
    try:
        return get_training_chat_template(tokenizer) or str(tokenizer.chat_template)
    except ValueError:  # none of those that TRL knows
        pass
    try:
        frame = _checked(tokenizer, _frame_of(tokenizer))
    except _Irregular as reason:
        raise InputError(
            f"No training template can be written for this chat template: {reason}. Give rows of prompt and completion, "
            "whose loss is on the completion with any template, or another template: "
            "set_chat_template(tokenizer, 'ko_instruct')."
        ) from None
    if not any(token in frame.stop for token in _specials(tokenizer)):
        logger.warning(
            "The chat template writes no token after an answer, so nothing would teach the model to stop: the training "
            "template writes %s there.",
            tokenizer.eos_token,
        )
        frame = replace(frame, stop=str(tokenizer.eos_token), tail=frame.stop + frame.tail)
    if "strftime_now" in str(tokenizer.chat_template):
        logger.warning("The chat template writes the date; the training template keeps that of today.")
    return frame.template(thinks="</think>" in str(tokenizer.chat_template))


def training_findings(tokenizer: PreTrainedTokenizerBase) -> list[Finding]:
    """Whether `assistant_only_loss` needs another template than the tokenizer's own, and which."""
    code, template = "template_unmarked", str(tokenizer.chat_template or "")
    try:
        if not template or training_template(tokenizer) == template:
            return []
    except InputError as error:
        return [Finding(code, "info", str(error))]
    said = (
        "The chat template does not mark what an answer teaches, which assistant_only_loss needs: recipes put one in its "
        "place that renders the same, and so does load_tokenizer(..., chat_template='training')."
    )
    return [Finding(code, "info", said)]


def _specials(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return special | {str(tokenizer.eos_token)}


def _turns(texts: Sequence[str], system: str | None = None) -> list[dict[str, str]]:
    roles = ("user", "assistant") * len(texts)
    turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return turns if system is None else [{"role": "system", "content": system}, *turns]


def _pieces(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]], **options: bool) -> list[str]:
    """What is rendered around the texts of a conversation, one piece more than there are texts."""
    pieces, rest = [], render(tokenizer, turns, **options)
    for turn in turns:
        piece, found, rest = rest.partition(turn["content"])
        if not found:
            raise _Irregular(f"it does not write what the {turn['role']} says")
        pieces.append(piece)
    return [*pieces, rest]


def _frame_of(tokenizer: PreTrainedTokenizerBase) -> Frame:
    opening, answered, between, _, end = _pieces(tokenizer, _turns(_WORDS[:4]))
    _, asked = _pieces(tokenizer, _turns(_WORDS[:1]))
    _, prompt = _pieces(tokenizer, _turns(_WORDS[:1]), generation=True)
    if not (prompt.startswith(asked) and answered.startswith(prompt) and between.startswith(end)):
        raise _Irregular("it renders a turn in another way once another follows")
    specials = [token for token in _specials(tokenizer) if token in end]
    learned = max((end.rindex(token) + len(token) for token in specials), default=0)
    try:
        before, after, *_ = _pieces(tokenizer, _turns(_WORDS[:2], _SYSTEM))
        system = (before, after)
        whole = render(tokenizer, _turns(_WORDS[:2], ""))
        nothing = whole.partition(_WORDS[0])[0]
        empty = nothing if nothing != before + after else None
    except (InputError, _Irregular):  # it refuses system texts, or leaves them out
        system, empty = None, None
    return Frame(
        opening=opening,
        system=system,
        empty_system=empty,
        asked=asked,
        header=prompt[len(asked) :],
        opened=answered[len(prompt) :],
        stop=end[:learned],
        tail=end[learned:],
        next=between[len(end) :],
        trimmed=frozenset(_trimmed(tokenizer, system is not None)),
    )


def _trimmed(tokenizer: PreTrainedTokenizerBase, has_system: bool) -> Iterator[str]:
    padded = "\n 가갸거겨 \n"
    for role in ("user", "assistant", *(["system"] if has_system else [])):
        turns = _turns(_WORDS[:2], _SYSTEM if has_system else None)
        texts = [padded if turn["role"] == role else turn["content"] for turn in turns]
        turns = [{**turn, "content": text} for turn, text in zip(turns, texts, strict=True)]
        if padded not in render(tokenizer, turns):
            yield role


def _checked(tokenizer: PreTrainedTokenizerBase, frame: Frame) -> Frame:
    """The frame, if a template of it renders as the tokenizer's own one does."""
    ours = copy(tokenizer)
    ours.chat_template = frame.template(thinks=False)
    systems: list[str | None] = [None, *(["", _SYSTEM, *_ODD] if frame.system else [])]
    texts = [_WORDS[:length] for length in (1, 2, 3, 4, 5)] + [(odd,) * 4 for odd in _ODD]
    for system in systems:
        for words in texts:
            for generation in (False, True) if len(words) % 2 else (False,):
                turns = _turns(words, system)
                expected, got = (render(one, turns, generation=generation) for one in (tokenizer, ours))
                if expected != got:
                    raise _Irregular(_where(expected, got))
    return frame


def _where(expected: str, got: str) -> str:
    start = next(
        (i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), min(len(expected), len(got))
    )
    start = max(start - 10, 0)
    return f"the own template writes {expected[start : start + 40]!r} where a regular one would write {got[start : start + 40]!r}"
