"""Held-out prompts that training sees, or nearly: near-duplicates by MinHash over pairs of characters (Broder 1997,
https://www.cs.princeton.edu/courses/archive/spring13/cos598C/broder97resemblance.pdf), in time linear in the rows."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ...findings import Finding
from ...text.prompts import first_user_text, prompt_key
from ...text.shown import shown
from ..split import HELD_OUT
from .batches import KEPT_NUMBERS, Batch, batches


if TYPE_CHECKING:
    import numpy as np

# Of the pairs of neighbouring characters of two prompts, the share they have in common (Jaccard) from which on they are
# near-identical, and the share of the held-out prompts that such may be before it is a warning (ours).
NEAR, NOTABLE = 0.75, 0.05
RUN = 2
# 11 and 111 have the same pairs of characters and are not the same.
LESS_THAN_SAME = 0.99
# 8 bands of 4 hashes: two prompts at 0.75 share a band with a probability of 0.95, two at 0.4 with 0.19.
BANDS, BAND = 8, 4
# Comparisons for one held-out prompt at the most: where many are alike, one of them is soon found.
MOST_COMPARED = 16
_NOT_WORD = re.compile(r"[\W_]+")


def check_leaks(dataset: Iterable[Any], held_out: Iterable[Any]) -> Iterator[Finding]:
    """How many prompts of `held_out` are near-identical to one of `dataset`."""
    asked: dict[str, tuple[int, str]] = {}  # key -> the first row's number, its text
    stated = False
    for batch in batches(held_out):
        stated = stated or any(reason for reason in batch.rows.get(HELD_OUT, ()))
        for number, key, text in _prompts(batch):
            asked.setdefault(key, (number, text))
    if not asked:
        return
    near = _nearest(list(asked), dataset)
    if not near:
        return
    share, same = len(near) / len(asked), sum(likeness == 1 for likeness, _, _ in near.values())
    key = max(near, key=lambda key: near[key][0] if near[key][0] < 1 else 0)
    (number, text), (likeness, train_number, train_text) = asked[key], near[key]
    yield Finding(
        "rows_leak",
        "warning" if share >= NOTABLE and not stated else "info",
        f"{len(near):,} of {len(asked):,} held-out prompts ({share:.1%}) are near-identical to a training prompt, {same:,} "
        f"of them the same (held-out row {number} and row {train_number}, counted from 0, {likeness:.0%} alike: "
        f"{shown(text, 60)} and {shown(train_text, 60)}). "
        + (
            f"The rows say themselves what is held out (column {HELD_OUT!r})."
            if stated
            else "Held-out numbers then tell less than they seem to."
        ),
        measured={
            "prompts": len(asked),
            "rows": len(near),
            "same": same,
            "share": round(share, 4),
            "pairs": [
                {"held_out": asked[key][0], "row": row, "alike": round(likeness, 3)}
                for key, (likeness, row, _) in list(near.items())[:KEPT_NUMBERS]
            ],
        },
    )


def _prompts(batch: Batch) -> Iterator[tuple[int, str, str]]:
    """Number, key and text of each prompt. A key is letters and digits alone, in small letters, with bounds."""
    column = "prompt" if "prompt" in batch.rows else "messages"
    for number, prompt in enumerate(batch.rows.get(column, ()), start=batch.first):
        try:
            key, text = prompt_key(prompt), first_user_text(prompt)
        except InputError as error:
            raise InputError(f"Row {number} (counted from 0): {error}.") from error
        yield number, f"\2{_NOT_WORD.sub('', key).lower() or key}\2", text


def _nearest(keys: list[str], dataset: Iterable[Any]) -> dict[str, tuple[float, int, str]]:
    """The keys that a prompt of `dataset` is near to, with how near it is, its row's number and its text."""
    import numpy as np

    bands_of = _bands(keys).tolist()
    open_places: dict[int, set[int]] = {}  # band -> the keys that have it and may still be compared
    for place, bands in enumerate(bands_of):
        for band in bands:
            open_places.setdefault(band, set()).add(place)
    known = np.array(sorted(open_places), dtype=np.uint64)
    runs = {key: _runs(key) for key in keys}
    compared: Counter[int] = Counter()
    near: dict[str, tuple[float, int, str]] = {}
    for batch in batches(dataset):
        prompts = {key: (number, text) for number, key, text in _prompts(batch)}
        for key in prompts.keys() & runs.keys():
            near[key] = (1.0, *prompts[key])
        order = list(prompts)
        bands = _bands(order)
        hits = np.isin(bands, known)
        for index in np.flatnonzero(hits.any(axis=1)).tolist():
            own = _runs(order[index])
            for place in set().union(*(open_places[band] for band in bands[index][hits[index]].tolist())):
                likeness = len(own & runs[keys[place]]) / len(own | runs[keys[place]])
                likeness = min(likeness, LESS_THAN_SAME)
                if likeness >= NEAR and likeness > near.get(keys[place], (0.0,))[0]:
                    near[keys[place]] = (likeness, *prompts[order[index]])
                compared[place] += 1
                if compared[place] == MOST_COMPARED:
                    for band in bands_of[place]:
                        open_places[band].discard(place)
    return near


def _runs(key: str) -> set[str]:
    return {key[i : i + RUN] for i in range(len(key) - RUN + 1)}


def _bands(keys: list[str]) -> "np.ndarray":
    """A hash for each band of each key, `(len(keys), BANDS)`: alike keys are likely to share one."""
    import numpy as np

    if not keys:
        return np.zeros((0, BANDS), dtype=np.uint64)
    joined = np.frombuffer("".join(keys).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    ends = np.cumsum([len(key) for key in keys])
    starts = np.concatenate([[0], ends[:-1]])
    runs = joined[:-1] << np.uint64(32) | joined[1:]
    crossing = ends[:-1] - 1  # a pair across two keys is none
    draw = np.random.default_rng(0)
    least = []
    for factor in draw.integers(1, 2**63, BANDS * BAND, dtype=np.uint64) * np.uint64(2) + np.uint64(1):
        mixed = runs * factor
        mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0x94D049BB133111EB)
        mixed[crossing] = np.iinfo(np.uint64).max
        least.append(np.minimum.reduceat(mixed, starts))
    bands = np.zeros((BANDS, len(keys)), dtype=np.uint64)
    for place, hashes in enumerate(least):
        band = place // BAND
        bands[band] = (bands[band] + hashes + np.uint64(band)) * np.uint64(0x9E3779B97F4A7C15)
        bands[band] ^= bands[band] >> np.uint64(31)
    return bands.T
