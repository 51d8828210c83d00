"""`load_rows` and `split_by_prompt` on whatever a file may hold."""

import copy
import csv
import io
import json

import datasets
import pytest
from hypothesis import strategies as st

from trl_kochat import load_rows, split_by_prompt
from trl_kochat.text.prompts import prompt_key

from .inputs import fuzz, outcome, replacements, texts, whole_texts


BOM = b"\xef\xbb\xbf"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
rows_of_json = st.lists(st.dictionaries(texts, json_values, max_size=3), min_size=1, max_size=4)
suffixes = st.sampled_from((".json", ".jsonl", ".ndjson", ".txt", ".csv", ".tsv", ".parquet", ".zip", "", ".JSON"))
DIALOGUES = "<<start conversation>>\n<사람>: 안녕\n<챗봇>: 네,\n반가워요.\n\n<<start conversation>>\n<사람>: 뭐 해?\n"
VALID = (
    b'[{"prompt": "\xec\x95\x88\xeb\x85\x95?", "completion": "\xeb\x84\xa4"}, {"prompt": "a", "completion": null}]',
    b'{"prompt": "a", "ranking": [0, 1]}\n{"prompt": "\\ud83d", "ranking": [1e999, NaN]}\n',
    b'{\n "a": [{"prompt": "b"}]\n}',
    DIALOGUES.encode(),
    'prompt,completion\n안녕?,"반가워요, 정말.\n또 봐요."\n'.encode(),
)
# What damage looks like: a cut, something foreign in between, a change of encoding.
junk = st.one_of(
    st.binary(max_size=6),
    st.sampled_from((BOM, b"\x00", b"\xff", b"\xc7\xd1\xb1\xdb", b"\xed\xa0\xbd", b'"', b"[", b"[" * 3_000, b"{}")),
    st.sampled_from(
        (b"9" * 5_000, b"1e400", b"-Infinity", b"\xe2\x80\xa8", b"\xef\xbf\xbd", b"<<start conversation>>")
    ),
)
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 20), junk), max_size=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rows")


def damaged(data, changes):
    for place, cut, inserted in changes:
        at = int(place * len(data))
        data = data[:at] + inserted + data[at + cut :]
    return data


def write(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return path


def same(one, other):
    return repr(one) == repr(other)  # NaN is not equal to itself


@fuzz(
    rows=rows_of_json,
    form=st.sampled_from(("array", "indented", "lines", "crlf")),
    ascii_only=st.booleans(),
    bom=st.booleans(),
    suffix=suffixes,
)
def test_rows_written_as_json_come_back(folder, rows, form, ascii_only, bom, suffix):
    def written(value, indent=None):
        text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
        try:
            return text.encode()
        except UnicodeEncodeError:
            return json.dumps(value, indent=indent).encode()

    if form in ("array", "indented"):
        data = written(rows, indent=2 if form == "indented" else None)
    else:
        data = (b"\r\n" if form == "crlf" else b"\n").join(map(written, rows))
    path = write(folder, f"rows{suffix}", bom * BOM + data)
    read, complaint = outcome(lambda: load_rows(path), says=path.name)
    # One object with objects in a list may be a table of rows as well as a row.
    table = len(rows) == 1 and form in ("lines", "crlf") and [v for v in rows[0].values() if isinstance(v, list)]
    if complaint is None:
        assert same(read, rows) or [row for row in table if same(read, row)]
        assert replacements(read) == replacements(rows) or table
    else:
        assert table and ("one JSON object" in complaint or "not an object with columns" in complaint)


@fuzz(
    header=st.lists(whole_texts, min_size=1, max_size=4, unique=True),
    cells=st.lists(st.lists(whole_texts, min_size=4, max_size=4), min_size=1, max_size=3),
    bom=st.booleans(),
)
def test_rows_written_as_csv_come_back(folder, header, cells, bom):
    header = list(dict.fromkeys(name.removeprefix("\ufeff") for name in header))  # U+FEFF in front is the BOM
    text = io.StringIO()
    csv.writer(text).writerows([header, *(row[: len(header)] for row in cells)])
    path = write(folder, "rows.csv", bom * BOM + text.getvalue().encode())
    read, complaint = outcome(lambda: load_rows(path), says=path.name)
    if len(header) == 1 and set(header[0]) & set("\t;|"):
        return  # more than one column, as far as anybody can tell
    if complaint is None:
        assert read == [dict(zip(header, row, strict=False)) for row in cells]
    else:  # told by its content, as any file
        assert text.getvalue().lstrip().startswith(("[", "{", "<<start"))


@fuzz(
    dialogues=st.lists(
        st.lists(st.tuples(st.sampled_from(("사람", "챗봇")), whole_texts), min_size=1, max_size=3),
        min_size=1,
        max_size=3,
    )
)
def test_dialogues_come_back(folder, dialogues):
    text = "".join(
        "<<start conversation>>\n" + "".join(f"<{speaker}>: {said}\n" for speaker, said in turns)
        for turns in dialogues
    )
    path = write(folder, "talk.txt", text.encode())
    read, complaint = outcome(lambda: load_rows(path), says=path.name)
    marked = any("<" in said for turns in dialogues for _, said in turns)  # text that looks like a turn is one
    if complaint is None and not marked:
        assert [[turn["speaker"] for turn in row["conversation"]] for row in read] == [
            [speaker for speaker, _ in turns] for turns in dialogues
        ]
        for row, turns in zip(read, dialogues, strict=True):
            for turn, (_, said) in zip(row["conversation"], turns, strict=True):
                assert turn["text"].strip() == said.strip()
    assert complaint is None or marked


@fuzz(
    2, data=st.sampled_from(VALID), changes=edits, suffix=suffixes, encoding=st.sampled_from((None, "cp949", "utf-16"))
)
def test_a_damaged_file_is_read_or_refused_by_name(folder, data, changes, suffix, encoding):
    if encoding is not None:
        data = data.decode("utf-8").encode(encoding, "ignore")
    data = damaged(data, changes)
    path = write(folder, f"rows{suffix}", data)
    rows, complaint = outcome(lambda: load_rows(path), says=path.name)
    if complaint is None:
        assert rows and all(isinstance(row, dict) for row in rows)
        assert all(all(isinstance(key, str) for key in row) for row in rows)
        # None is made here: it was there as bytes or as an escape.
        assert replacements(rows) <= data.count("\ufffd".encode()) + data.lower().count(b"\\ufffd")
    assert path.read_bytes() == data


@fuzz(data=st.binary(max_size=60), suffix=suffixes)
def test_any_bytes_are_read_or_refused_by_name(folder, data, suffix):
    path = write(folder, f"any{suffix}", data)
    outcome(lambda: load_rows(path), says=path.name)


@fuzz(0.25, data=st.sampled_from(VALID), changes=edits, suffix=suffixes)
def test_a_stream_gives_what_reading_gives(folder, data, changes, suffix):
    path = write(folder, f"stream{suffix}", damaged(data, changes))
    rows, complaint = outcome(lambda: load_rows(path), says=path.name)
    streamed, stream_complaint = outcome(lambda: list(load_rows(path, streaming=True)), says=path.name)
    assert same(rows, streamed) and complaint == stream_complaint


@fuzz(0.05, changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 20), st.binary(max_size=6)), max_size=2))
def test_a_damaged_parquet_file_is_read_or_refused_by_name(folder, changes):
    whole = folder / "whole.parquet"
    if not whole.exists():
        datasets.Dataset.from_list([{"prompt": f"질문 {i}", "completion": "답"} for i in range(50)]).to_parquet(whole)
    path = write(folder, "rows.parquet", damaged(whole.read_bytes(), changes))
    outcome(lambda: list(load_rows(path)), says=path.name)


@fuzz(0.5, source=st.one_of(texts, st.none(), st.integers(), st.lists(texts, max_size=2), st.binary(max_size=5)))
def test_any_name_is_found_or_refused(source):
    outcome(lambda: load_rows(source))


prompts = st.one_of(
    whole_texts,
    st.lists(
        st.fixed_dictionaries({"role": st.sampled_from(("user", "system", "assistant")), "content": whole_texts}),
        min_size=1,
        max_size=3,
    ),
)


@fuzz(
    rows=st.lists(whole_texts, max_size=8) | st.lists(prompts.filter(lambda p: not isinstance(p, str)), max_size=8),
    fraction=st.floats() | st.floats(0, 1) | st.none() | texts,
    seed=st.integers(),
)
def test_a_split_loses_nothing_and_shares_no_prompt(rows, fraction, seed):
    dataset = datasets.Dataset.from_dict({"prompt": rows, "number": list(range(len(rows)))})
    before = copy.deepcopy(dataset.to_dict())
    parts, _ = outcome(lambda: split_by_prompt(dataset, fraction, seed))
    assert dataset.to_dict() == before
    if parts is not None:
        train, held_out = parts
        assert sorted([*train["number"], *held_out["number"]]) == list(range(len(rows)))
        assert len(train) and len(held_out)
        sides = [{prompt_key(prompt) for prompt in part["prompt"]} for part in parts]
        assert not sides[0] & sides[1]


@fuzz(0.5, column=st.lists(json_values, min_size=2, max_size=4), name=st.sampled_from(("prompt", "other")))
def test_a_split_of_other_columns_is_refused(column, name):
    try:
        dataset = datasets.Dataset.from_dict({name: column})
    except Exception:  # not a column at all, says Arrow in its many ways
        return
    outcome(lambda: split_by_prompt(dataset, 0.5))
