"""Real rows, cut, swapped and spoilt: what the course's files and Orca pairs look like when something went wrong."""

import json
from functools import cache

import pytest
from hypothesis import strategies as st

from tests.conftest import ASSETS
from trl_kochat import load_rows, split_by_prompt
from trl_kochat.data import RowCounts, detect_formatter, format_dataset, get_formatter
from trl_kochat.text.health import summarize_health

from .inputs import PIECES, fuzz, outcome, replacements, values
from .test_formatters import NAMES, check_counts, fingerprint
from .test_loading import damaged, edits, same


pytestmark = pytest.mark.assets
SUFFIXES = (".json", ".jsonl", ".csv")


@cache
def files():
    return sorted(path for path in ASSETS.rglob("*") if path.suffix in SUFFIXES and "kogpt2" not in str(path))


@cache
def heads():
    """The first 40,000 bytes of each file, and its name."""
    return [(path.name, path.read_bytes()[:40_000]) for path in files()]


@cache
def rows():
    """A few hundred rows with the formatter that takes them; ChatbotData.csv belongs to none."""
    found = []
    for path in files():
        some, complaint = outcome(lambda path=path: list(load_rows(path))[:200])
        name, _ = outcome(lambda some=some: detect_formatter(some[0])) if complaint is None else (None, None)
        found += [(name, row) for row in some or () if name is not None]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("assets")


@pytest.fixture(autouse=True)
def _needs_assets(assets):
    pass


@fuzz(0.5, which=st.integers(0, 10**6), changes=edits, cut=st.floats(0, 1), bom=st.booleans())
def test_a_real_file_that_was_cut_or_spoilt_is_read_or_refused_by_name(folder, which, changes, cut, bom):
    name, data = heads()[which % len(heads())]
    data = bom * b"\xef\xbb\xbf" + damaged(data[: int(cut * len(data))], changes)
    path = folder / name
    path.write_bytes(data)
    read, complaint = outcome(lambda: load_rows(path), says=name)
    if complaint is None:
        assert replacements(read) <= data.count("\ufffd".encode()) + data.lower().count(b"\\ufffd")
        assert same(list(load_rows(path, streaming=True)), read)


spoils = st.lists(
    st.tuples(
        st.sampled_from(("swap", "cut", "inject", "replace", "drop")),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
        st.sampled_from(PIECES) | values,
    ),
    max_size=3,
)


def spoilt(row, changes):
    row = json.loads(json.dumps(row))
    for kind, first, second, piece in changes:
        columns = list(row)
        if not columns:
            break
        one, other = columns[first % len(columns)], columns[second % len(columns)]
        if kind == "swap":
            row[one], row[other] = row[other], row[one]
        elif kind == "drop":
            del row[one]
        elif kind == "replace" or not isinstance(row[one], str):
            row[one] = piece
        elif kind == "cut":
            row[one] = row[one][: second % (len(row[one]) + 1)]
        else:
            at = second % (len(row[one]) + 1)
            row[one] = row[one][:at] + str(piece)[:200] + row[one][at:]
    return row


@fuzz(which=st.lists(st.integers(0, 10**6), min_size=1, max_size=4), changes=spoils)
def test_real_rows_that_were_spoilt_add_up_or_are_refused_by_number(which, changes):
    name = rows()[which[0] % len(rows())][0]
    assert name in NAMES
    same_kind = [row for kind, row in rows() if kind == name]
    some = [spoilt(same_kind[number % len(same_kind)], changes if not at else ()) for at, number in enumerate(which)]
    before, counts = fingerprint(some), RowCounts()
    made, complaint = outcome(lambda: format_dataset(some, name, counts=counts))
    assert fingerprint(some) == before
    if complaint is None:
        if name != "orca_pairs" and not any(kind == "drop" for kind, *_ in changes):
            check_counts(name, some, counts)
        assert len(made) == counts.made
        assert not replacements(made.to_list()) or replacements(some)
        outcome(lambda: split_by_prompt(made, 0.5))


@fuzz(0.5, which=st.integers(0, 10**6), changes=spoils)
def test_texts_of_real_rows_have_their_health(which, changes):
    name, row = rows()[which % len(rows())]
    made, _ = outcome(lambda: get_formatter(name)(spoilt(row, changes)))
    for one in made or ():
        texts = [
            message["content"] for column in ("prompt", "completion", "chosen") for message in one.get(column, ())
        ]
        assert all(0 <= share <= 1 for share in summarize_health(texts).values())
