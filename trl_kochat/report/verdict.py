"""What a person would say of a run after reading its answers: one sentence, behind what the guard warns of.

The words stand in `templates/verdict.yaml`.
"""

import locale
from typing import Any

from .measures import FEWEST_ROWS, format_number, judged, measure
from .record import RunRecord, is_number
from .words import template_data


# Bounds of ours: an answer that so many questions get, and shares below which there is something to look at.
SAME_ANSWER, FEW_RIGHT, WEAK_KIND, FEW_END = 0.2, 0.5, 0.7, 0.9
# More of one sort would be a list and no sentence (ours).
MOST_SAID = 3
# A policy equal to its reference has 0.5 by definition, so that any step at all is "better": named where nothing else is.
_NOT_FOR = {"dpo": {"accuracy"}}


def _words() -> dict[str, Any]:
    return template_data("verdict.yaml")


def verdict_of(record: RunRecord) -> dict[str, str]:
    """What got better, what got worse and what to look at, as `ko` and `en`; nothing while a run goes on.

    What the guard said, and one answer that a fifth of the questions get, stand before every "better".
    """
    if record.run["status"] == "running":
        return {}
    return {language: _alarm(record, language) + _sentence(record, language) for language in ("ko", "en")}


def warning_in(code: str, language: str) -> str | None:
    """What the guard saw, in a few words; `None` of a code that has none."""
    return _words()["warnings"].get(code, {}).get(language)


def reads_korean() -> bool:
    """Whether who runs this has set up a Korean machine, which is then spoken to in Korean."""
    return (locale.getlocale()[0] or "").lower().startswith("ko")


def _alarm(record: RunRecord, language: str) -> str:
    words, run = _words(), record.run
    said = []
    if run["status"] != "finished":
        said.append(words["stopped"][language].format(run["steps"], run["max_steps"]))
    codes = {warning["code"]: warning["message"] for warning in record.warnings if warning["code"] != "look_failed"}
    said += [warning_in(code, language) or message.rstrip(".") for code, message in codes.items()]
    share = record.after.get("most_common")
    if "same_answer" not in codes and _enough(record, "most_common") and share is not None and share >= SAME_ANSWER:
        said.append(words["same"][language].format(_percent(share)))
    if not said:
        return ""
    return f"Warning: {'; '.join(said)}. " if language == "en" else f"주의: {'. '.join(said)}. "


def _sentence(record: RunRecord, language: str) -> str:
    better, worse = _changed(record, "better"), _changed(record, "worse")
    if language == "en":
        parts = [
            " and ".join(_english(record, key, side) for key in keys) for side, keys in enumerate((better, worse))
        ]
        said = ", but ".join(filter(None, parts)) or _unchanged(record, "en")
        return f"{said[0].upper()}{said[1:]}: {_look_at(record, 'en')}."
    clauses = [_korean(record, key, 0) for key in better] + [_korean(record, key, 1) for key in worse]
    if not clauses:
        return f"{_unchanged(record, 'ko')} {_look_at(record, 'ko')}."
    endings = ["고"] * (len(clauses) - 1) + ["으니"]
    if better and worse:
        endings[len(better) - 1] = "지만"
    joined = ", ".join(clause + ending for clause, ending in zip(clauses, endings, strict=True))
    return f"{joined}, {_look_at(record, 'ko')}."


def _unchanged(record: RunRecord, language: str) -> str:
    """What to say where nothing became better or worse."""
    for key in _NOT_FOR.get(record.method, ()):
        if key in record.before and key in record.after and judged(record, key) == "better":
            return _words()["ranked"][language].format(_percent(record.after[key]))
    return _words()["nothing" if record.before.keys() & record.after.keys() else "unmeasured"][language]


def _changed(record: RunRecord, word: str) -> list[str]:
    """Measures that became better or worse, in the order of the words, which is that of their weight."""
    keys = [
        key
        for key in _words()["measures"]
        if key in record.before and key in record.after and key not in _NOT_FOR.get(record.method, ())
    ]
    return [key for key in keys if judged(record, key) == word][:MOST_SAID]


def _english(record: RunRecord, key: str, side: int) -> str:
    before, after = _told(record, key)
    return f"{_words()['measures'][key]['en'][side]} ({before} → {after})"


def _korean(record: RunRecord, key: str, side: int) -> str:
    """The clause up to the stem of its verb, whose ending the sentence adds."""
    subject, *verbs = _words()["measures"][key]["ko"]
    before, after = _told(record, key)
    # Digits whose names end in a consonant other than ㄹ (영, 삼, 육) take 으로; 퍼센트 and words do not.
    to = "으로" if after[-1] in "036" else "로"
    return f"{subject} {before}에서 {after}{to} {verbs[side]}"


def _told(record: RunRecord, key: str) -> tuple[str, str]:
    before, after = record.before[key], record.after[key]
    if not measure(key).share or not is_number(before) or not is_number(after):
        return format_number(before), format_number(after)
    short = _percent(before), _percent(after)
    return short if short[0] != short[1] else (f"{before:.1%}", f"{after:.1%}")


def _percent(share: float | None) -> str:
    return format_number(share) if share is None else f"{share:.0%}"


def _enough(record: RunRecord, key: str) -> bool:
    return record.n.get(key, 0) >= FEWEST_ROWS


def _look_at(record: RunRecord, language: str) -> str:
    """The weakest place after training, where the measures show one."""
    look = {name: texts[language] for name, texts in _words()["look"].items()}

    def below(bound: float, prefix: str) -> list[tuple[float, str]]:
        """Shares under a bound with what follows the prefix in their names, the smallest first."""
        named = {key: share for key, share in record.after.items() if key.startswith(prefix) and _enough(record, key)}
        return sorted(
            (share, key.removeprefix(prefix)) for key, share in named.items() if share is not None and share < bound
        )

    if ways := below(FEW_RIGHT, "right_"):
        share, way = ways[0]
        return look["way"].format(_words()["ways"].get(way, {}).get(language, way), _percent(share))
    if few := below(FEW_RIGHT, "right"):
        return look["right"].format(_percent(few[0][0]))
    if kinds := below(WEAK_KIND, "accuracy_kind_"):
        share, kind = kinds[0]
        return look["kind"].format(_words()["kinds"].get(kind, {}).get(language, kind), _percent(share))
    if few := below(FEW_END, "eos_rate"):
        return look["ends"].format(_percent(few[0][0]))
    return look["read"]
