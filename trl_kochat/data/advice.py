"""A way on for rows that no formatter knows: columns by other names, or a formatter of one's own, ready to paste."""

import re
import shlex
from collections.abc import Callable, Mapping
from string import Template
from typing import Any

from ..errors import InputError
from ..text.shown import cut, listed
from .columns import renamed
from .rows import Row


# What a column is for -> what it may be called; the first that fits a name counts, so "dispreferred" is not "preferred".
_CALLED = {
    "rejected": "reject dispreferred _lose bad worse worst negative 거절 거부 나쁜 비선호",
    "chosen": "chosen preferred accept _win good better best positive 선택 채택 좋은 선호",
    "completion": "completion answer response output reply candidate generation assistant bot 답 응답 출력",
    "prompt": "prompt question instruct query input user human request 질문 물음 질의 지시 명령 입력 요청 문제",
    "text": "text content document body 본문 내용 글 문서",
}
# What makes a row -> the formatter of one's own for it.
_OWN = {
    ("prompt", "chosen", "rejected"): """def to_preference(row):
    user = {"role": "user", "content": row[$prompt]}
    chosen = {"role": "assistant", "content": row[$chosen]}
    rejected = {"role": "assistant", "content": row[$rejected]}
    return [{"prompt": [user], "chosen": [chosen], "rejected": [rejected]}]""",
    ("prompt", "completion"): """def to_prompt_completion(row):
    user = {"role": "user", "content": row[$prompt]}
    answer = {"role": "assistant", "content": row[$completion]}
    return [{"prompt": [user], "completion": [answer]}]""",
    ("text",): """def to_language_modeling(row):
    return [{"text": row[$text]}]""",
}
# A name as long as a sentence is none that can be typed.
_LONGEST = 30


def described(row: Row) -> str:
    """Columns with what they hold.

    >>> described({"물음": "하늘은?", "번호": 3, "대화": [{"role": "user"}]})
    '물음 (text), 번호 (number), 대화 (messages)'
    """
    return listed(f"{cut(str(name), _LONGEST)} ({_kind(value)})" for name, value in row.items()) or "(none)"


def _kind(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return "messages" if {"role", "from", "speaker"} & value[0].keys() else "list"
    kinds = {str: "text", bool: "true or false", int: "number", float: "number", list: "list", type(None): "nothing"}
    return kinds.get(type(value), "object")


def way_on(row: Row, detect: Callable[[Row], str]) -> str:
    """What to do with a row of unknown columns: `--columns` that make a formatter fit, where `detect` says so, and a
    formatter of one's own with the columns filled in."""
    usable = {name: value for name, value in row.items() if isinstance(name, str) and len(name) <= _LONGEST}
    guessed = _guessed(usable)
    answers = answers_of(usable)
    if len(answers) > 1 and not {"chosen", "rejected"} <= guessed.keys():  # which one is better, nobody knows here
        guessed.pop("completion", None)
    if [_kind(value) for value in usable.values()].count("messages") > 1:  # nor here
        return "Which column is meant can be said with --columns NAME=messages, or NAME=chosen OTHER=rejected."
    columns = {name: meant for meant, name in guessed.items() if name != meant}
    try:
        fitting = detect(renamed(row, columns)) if columns else ""
    except InputError:
        fitting = ""
    ways = []
    if fitting:
        words = " ".join(_quoted(f"{name}={meant}") for name, meant in columns.items())
        ways.append(f"They fit {fitting} with --columns {words} (in Python: columns={columns}).")
    else:
        ways.append("What they hold can be said with --columns NAME=prompt OTHER=completion.")
    texts = [name for name, value in usable.items() if isinstance(value, str)]
    if len(answers) > 1:
        guessed = {"chosen": answers[0], "rejected": answers[1]} | guessed
    needed = next((names for names in _OWN if set(names) <= guessed.keys()), None)
    if needed is None and texts:
        needed = ("text",) if len(texts) == 1 else ("prompt", "completion")
        guessed = dict(zip(needed, texts, strict=False))
    if needed is not None:
        own = Template(_OWN[needed]).substitute({meant: repr(name) for meant, name in guessed.items()})
        name = own[len("def ") : own.index("(")]
        ways.append(f"A formatter of your own is this in my_rows.py, and --formatter my_rows.py:{name}\n\n{own}\n")
    return " ".join(ways)


def answers_of(row: Row) -> list[str]:
    """Columns with texts or messages, or lists of them, that are called like answers."""
    texts = {name: "" if _kind(value) == "list" else value for name, value in row.items()}
    return [name for name, value in texts.items() if _meant(name, value) in ("completion", "chosen", "rejected")]


def prompts_of(row: Row) -> list[str]:
    """Columns with texts that are called like prompts, and like no number of one."""
    texts = [name for name in row.keys() if isinstance(name, str) and not re.search("(^|_)id$", name.lower())]
    return [name for name in texts if _meant(name, "") == "prompt" and isinstance(row[name], str)]


def _quoted(word: str) -> str:
    return word if re.fullmatch(r"[\w=-]+", word) else shlex.quote(word)


def _guessed(row: Row) -> dict[str, str]:
    """Columns by what they are for, as far as their names tell; each is for one thing, and one is for each."""
    guessed: dict[str, str] = {}
    for name, value in row.items():
        if (meant := _meant(name, value)) is not None:
            guessed.setdefault(meant, name)
    return guessed


def _meant(name: str, value: Any) -> str | None:
    kind = _kind(value)
    if kind not in ("text", "messages", "nothing"):
        return None
    meant = next(
        (meant for meant, words in _CALLED.items() if any(word in name.lower() for word in words.split())), None
    )
    return "messages" if kind == "messages" and meant in (None, "text") else meant
