"""KoChatGPT's files (https://github.com/airobotlab/KoChatGPT, folder `data_kochatgpt`) as TRL rows.

Completions there often begin with a stray `'` and hold a literal backslash-n where a line break was meant; the
clean-up mends that and nothing else, and `clean=False` leaves every text as it is.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from ...errors import InputError
from ...text.normalize import is_blank
from ...text.shown import shown
from ..messages import Messages, completion_row, has_nothing, said, tools_of, turns_of, with_system
from ..ranking import check_ranks, ranked_rows
from ..rows import Row, Rows, text_of
from .registry import formatter


USER, ASSISTANT = "사람", "챗봇"

# The look behind keeps a text of carriage returns alone from costing quadratic time.
_CRLF = re.compile(r"(?<!\r)\r++\n")
# A quotation mark as opposed to an apostrophe, which stands between two letters.
_QUOTE = re.compile(r"(?<![A-Za-z])'|'(?![A-Za-z])")


def clean_text(text: str, *, answer: bool = False) -> tuple[str, list[str]]:
    """Mend what KoChatGPT's export did to a text, and say which kinds of change were made.

    The changes: `unicode_form` (to NFC), `literal_newline` (backslash-n to a line feed), `crlf` (to line feed),
    `outer_space` (stripped) and, with `answer`, `stray_quote` (a leading `'` that nothing closes).

    >>> clean_text("'네, 맞아요.\\\\n고마워요. ", answer=True)
    ('네, 맞아요.\\n고마워요.', ['literal_newline', 'outer_space', 'stray_quote'])
    >>> clean_text("'사과'는 과일이에요.", answer=True)
    ("'사과'는 과일이에요.", [])
    """
    kinds = []

    def change(kind: str, new: str) -> None:
        nonlocal text
        if new != text:
            text = new
            kinds.append(kind)

    change("unicode_form", unicodedata.normalize("NFC", text))
    change("literal_newline", text.replace("\\n", "\n"))
    change("crlf", _CRLF.sub("\n", text))
    change("outer_space", text.strip())
    if answer and text.startswith("'") and len(_QUOTE.findall(text)) % 2:
        change("stray_quote", text[1:].strip())
    return text, kinds


class _Cleaner:
    """Reads texts from a raw row, cleaned unless told not to, and remembers the kinds of change made."""

    def __init__(self, clean: bool) -> None:
        self.clean = clean
        self.kinds: list[str] = []

    def __call__(self, text: str, *, answer: bool = False) -> str:
        if self.clean:
            text, kinds = clean_text(text, answer=answer)
            self.kinds += kinds
        return text

    def turns(self, row: Row, column: str, role: str) -> Messages:
        """A column as messages: a text is cleaned and becomes a turn of `role`, TRL's messages are left as they are."""
        if isinstance(row.get(column), list):
            return turns_of(row, column, role)
        return said(role, self(text_of(row, column), answer=role == "assistant"))


@formatter("kochatgpt_sft", type="prompt_completion", columns=[{"prompt", "completion"}])
def to_prompt_completion(row: Row, *, clean: bool = True) -> Rows:
    """One row of `kochatgpt_1_SFT.jsonl`, `{prompt, completion, tokens}`; dropped when either text is empty."""
    cleaner = _Cleaner(clean)
    prompt = with_system(row, cleaner.turns(row, "prompt", "user"))
    return completion_row(
        prompt, cleaner.turns(row, "completion", "assistant"), cleaned=cleaner.kinds, **tools_of(row)
    )


def _turns(row: Row) -> list[tuple[str, str]]:
    turns = row.get("conversation")
    if not isinstance(turns, list):
        raise InputError(f"column 'conversation' holds {shown(turns)}, not a list of turns {{speaker, text}}")
    for turn in turns:
        if not isinstance(turn, Mapping) or turn.get("speaker") not in (USER, ASSISTANT):
            raise InputError(f"turn {shown(turn)} is not {{speaker, text}} with speaker {USER!r} or {ASSISTANT!r}")
    return [(turn["speaker"], text_of(turn, "text")) for turn in turns]


@formatter("kochatgpt_conversation", type="prompt_completion", columns=[{"conversation"}])
def dialogue_to_prompt_completion(row: Row, *, clean: bool = True) -> Rows:
    """One dialogue of `kochatgpt_1_SFT_conversation.jsonl` as one row for each answer, with all turns before it.

    The raw row is `{"conversation": [{"speaker": "사람" or "챗봇", "text": ...}, ...]}`, as `load_rows` reads it.
    Turns of one speaker that follow each other are joined (`joined_turns`). Dropped, by reason: an answer before the
    first question (`no_question`), a question without answer (`no_answer`), and from an empty turn on, every answer
    whose context is broken by it (`empty_turn`).
    """
    cleaner = _Cleaner(clean)
    turns: list[tuple[str, str]] = []
    for speaker, text in _turns(row):
        text = cleaner(text, answer=speaker == ASSISTANT)
        if turns and turns[-1][0] == speaker and not is_blank(text) and not is_blank(turns[-1][1]):
            turns[-1] = (speaker, f"{turns[-1][1]}\n{text}")
            cleaner.kinds.append("joined_turns")
        else:
            turns.append((speaker, text))

    made: list[dict[str, Any]] = []
    dropped: list[str] = []
    messages: list[dict[str, str]] = []
    for number, (speaker, text) in enumerate(turns):
        if is_blank(text):
            dropped += ["empty_turn"] * max(1, sum(speaker == ASSISTANT for speaker, _ in turns[number:]))
            return Rows(made, dropped=dropped, cleaned=cleaner.kinds)
        if speaker == USER:
            messages += said("user", text)
        elif messages:
            made.append({"prompt": list(messages), "completion": said("assistant", text)})
            messages += said("assistant", text)
        else:
            dropped.append("no_question")
    if not turns or turns[-1][0] == USER:
        dropped.append("no_answer")
    return Rows(made, dropped=dropped, cleaned=cleaner.kinds)


@formatter("kochatgpt_rm", type="preference", columns=[{"prompt", "completion_0", "completion_1", "ranking"}])
def to_preference(row: Row, *, clean: bool = True) -> Rows:
    """One row of `kochatgpt_2_RM.jsonl`, `{prompt, completion_0, ..., ranking}`, as a row for each pair of answers.

    `ranking[i]` is the rank of `completion_i`, 0 the best, so K answers offer `K * (K - 1) / 2` preference rows. Each
    has a `margin` (the distance of the two ranks) and a `prompt_id` shared by all pairs of the prompt, and where the
    raw row has `kinds`, what is wrong with each answer, the `kind` of the rejected one. A pair is dropped when an answer is empty (`empty_completion`), the ranks are equal (`tie`) or the answers are (`identical`).
    """
    cleaner = _Cleaner(clean)
    ranking = row.get("ranking")
    num_answers = sum(row[column] is not None for column in row if re.fullmatch(r"completion_\d+", str(column)))
    ranks = check_ranks(ranking, num_answers)
    if num_answers < 2:
        raise InputError(f"{num_answers} answers; a ranking needs completion_0, completion_1, ...")
    prompt = cleaner(text_of(row, "prompt"))
    answers = [cleaner(text_of(row, f"completion_{i}"), answer=True) for i in range(num_answers)]

    kinds = row.get("kinds")
    if not (isinstance(kinds, list) and len(kinds) == num_answers and all(isinstance(kind, str) for kind in kinds)):
        kinds = None
    turns = [said("assistant", answer) for answer in answers]
    return ranked_rows(said("user", prompt), turns, ranks, kinds=kinds, cleaned=cleaner.kinds)


@formatter("kochatgpt_ppo", type="prompt_only", columns=[{"prompt"}])
def to_prompt_only(row: Row, *, clean: bool = True) -> Rows:
    """One row of `kochatgpt_3_PPO.jsonl`, `{prompt}`; dropped when it is empty."""
    cleaner = _Cleaner(clean)
    prompt = with_system(row, cleaner.turns(row, "prompt", "user"))
    if has_nothing(prompt):
        return Rows(dropped=["empty_prompt"], cleaned=cleaner.kinds)
    return Rows([{"prompt": prompt, **tools_of(row)}], cleaned=cleaner.kinds)
