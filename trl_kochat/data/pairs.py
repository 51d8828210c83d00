"""Pairs of answers as answers that are marked good or bad, and back."""

import json
from collections import Counter
from itertools import product
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..text.shown import listed
from ..text.speech_rewrite import in_level


if TYPE_CHECKING:
    from datasets import Dataset


def unpaired(pairs: "Dataset") -> "Dataset":
    """Preference rows as two rows each, `{prompt, completion, label}`, as [`~trl.unpair_preference_dataset`] makes them.

    An answer that stands in several pairs, of a ranking say, is there as often, and the second of three both ways.
    """
    from trl import unpair_preference_dataset

    return unpair_preference_dataset(pairs)


def paired(rows: "Dataset") -> tuple["Dataset", Counter[str]]:
    """Each good answer with each bad one to the same prompt, as preference rows.

    Returns:
        [`~datasets.Dataset`] and what was left out: answers whose prompt has none of the other kind (`no_counterpart`), and
        pairs of the same text (`identical`).

    Raises:
        ValueError: No pair is left.
    """
    from datasets import Dataset

    by_prompt: dict[str, tuple[list[Any], list[Any]]] = {}
    for row in rows:
        about = {name: row[name] for name in ("prompt", "tools") if row.get(name) is not None}
        by_prompt.setdefault(json.dumps(about, sort_keys=True), ([], []))[not row["label"]].append(row["completion"])
    made, dropped = [], Counter[str]()
    for key, (good, bad) in by_prompt.items():
        if not good or not bad:
            dropped["no_counterpart"] += len(good) + len(bad)
        for chosen, rejected in product(good, bad):
            if chosen == rejected:
                dropped["identical"] += 1
            else:
                made.append({**json.loads(key), "chosen": chosen, "rejected": rejected})
    if not made:
        told = listed(f"{reason} {count:,}" for reason, count in dropped.items())
        raise InputError(f"No prompt has both a good and a bad answer ({told}): there are no pairs.")
    return Dataset.from_list(made), dropped


def speech_pairs(rows: "Dataset", level: str) -> tuple["Dataset", int]:
    """Each answer in a speech level as the chosen one, and the same answer in another level as the rejected one.

    The other level is 해체, or 해요체 where 해체 is asked for. Only endings are written anew (see [`in_level`]).

    Args:
        rows ([`~datasets.Dataset`]): Prompt-completion rows, as text or with one message as the answer.
        level (`str`): 합쇼체, 해요체 or 해체.

    Returns:
        Preference rows, and the number of rows left out since something is not certain in them.

    Raises:
        ValueError: There is no such level, or no answer can be written in both.
    """
    from datasets import Dataset

    other = "해요체" if level == "해체" else "해체"
    made = []
    for row in rows:
        answer = row["completion"]
        in_turns = not isinstance(answer, str)
        if in_turns and len(answer) != 1:
            continue
        said = answer[0]["content"] if in_turns else answer
        written = [in_level(said, one) for one in (level, other)]
        if None not in written:
            sides = [[{**answer[0], "content": text}] if in_turns else text for text in written]
            about = {name: row[name] for name in ("prompt", "tools") if row.get(name) is not None}
            made.append({**about, "chosen": sides[0], "rejected": sides[1]})
    if not made:
        raise InputError(f"None of {len(rows):,} answers can be written in {level} and {other} with certainty.")
    return Dataset.from_list(made), len(rows) - len(made)
