import logging
from collections import UserDict

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_kochat import format_dataset
from trl_kochat.data import RowCounts
from trl_kochat.data.columns import TrackedRow, parse_columns


ROWS = [{"물음": f"질문 {i}", "대답": f"답 {i}", "번호": i} for i in range(3)]
NAMES = {"물음": "prompt", "대답": "completion"}


def source(kind):
    dataset = datasets.Dataset.from_list(ROWS)
    return {
        "list": ROWS,
        "iterator": iter(ROWS),
        "mapping": [UserDict(row) for row in ROWS],
        "dataset": dataset,
        "stream": dataset.to_iterable_dataset(),
    }[kind]


@pytest.mark.parametrize("kind", ["list", "iterator", "mapping", "dataset", "stream"])
@pytest.mark.parametrize("name", ["kochatgpt_sft", None])
def test_columns_by_other_names_give_the_same_rows(kind, name):
    made = list(format_dataset(source(kind), name, columns=NAMES))
    assert [row["completion"][0]["content"] for row in made] == [row["대답"] for row in ROWS]


def test_two_columns_may_change_places():
    (row,) = format_dataset(
        [{"prompt": "답", "completion": "질문"}], columns=parse_columns(["prompt=completion", "completion=prompt"])
    )
    assert (row["prompt"][0]["content"], row["completion"][0]["content"]) == ("질문", "답")


def test_words_of_a_command_line():
    assert parse_columns(["질문=prompt", "a=b=c", "label="]) == {"질문": "prompt", "a=b": "c", "label": ""}
    assert parse_columns(None) == {}


@pytest.mark.parametrize("words", [["질문"], ["=prompt"], ["a=b", "a=c"]])
def test_words_of_another_form_are_refused(words):
    with pytest.raises(ValueError, match="--columns"):
        parse_columns(words)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"뭐야": "prompt"}, "There is no column '뭐야' to call prompt; there are 물음, 대답, 번호"),
        ({"물음들": "prompt"}, "Is 물음 meant"),
        ({"물음": "prompt", "대답": "prompt"}, "columns 물음, 대답 would all be 'prompt'"),
        ({"물음": "번호"}, "columns 물음, 번호 would all be '번호'"),
        ({"물음": 3}, "give a dict of names"),
        (["물음=prompt"], "give a dict of names"),
    ],
)
def test_names_that_cannot_be_meant_are_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        format_dataset(ROWS, "kochatgpt_sft", columns=columns)


def test_columns_that_are_not_read_are_named_and_counted(caplog):
    labels = ("", "일상", "일상")
    rows = [{"prompt": f"{i}?", "completion": "나", "출처": "위키", "label": label} for i, label in enumerate(labels)]
    counts = RowCounts()
    with caplog.at_level(logging.INFO):
        format_dataset([*rows, {"prompt": "가", "completion": "나"}], "kochatgpt_sft", counts=counts)
    assert counts.unread == {"출처": 3, "label": 2} and counts.as_dict()["unread"] == {"출처": 3, "label": 2}
    (record,) = caplog.records
    assert "columns not read (출처 3, label 2)" in record.message and record.levelname == "WARNING"


def test_columns_of_no_weight_are_told_quietly(caplog):
    with caplog.at_level(logging.INFO):
        format_dataset([{"prompt": "가", "completion": "나", "url": "x"}], "kochatgpt_sft")
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_columns_that_are_carried_on_or_left_out_by_name_are_not_told():
    counts = RowCounts()
    row = {"prompt": "가", "completion": "나", "fact": "x", "label": True}
    format_dataset([row], "kochatgpt_sft", columns={"label": ""}, counts=counts)
    assert not counts.unread


@pytest.mark.parametrize("num_proc", [1, 2])
def test_the_count_is_the_same_from_several_processes_and_from_a_stream(num_proc):
    counts, streamed = RowCounts(), RowCounts()
    format_dataset(ROWS, "kochatgpt_sft", columns=NAMES, counts=counts, num_proc=num_proc)
    list(format_dataset(source("stream"), "kochatgpt_sft", columns=NAMES, counts=streamed))
    assert counts.unread == streamed.unread == {"번호": 3}


@pytest.mark.parametrize("copied", [dict, lambda row: {**row}, lambda row: row.copy(), lambda row: dict(row.items())])
def test_a_formatter_that_copies_a_row_has_read_it(copied):
    row = TrackedRow(ROWS[0])
    assert copied(row) == ROWS[0] and not row.unread()


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=3), st.none() | st.integers() | st.text(max_size=2)), st.data())
def test_read_and_unread_are_the_whole_row(row, data):
    read = data.draw(st.sets(st.sampled_from(sorted(row)))) if row else set()
    tracked = TrackedRow(row)
    for number, name in enumerate(read):
        assert (tracked[name] if number % 2 else tracked.get(name)) == row[name]
    assert list(tracked) == list(row) and tracked == row
    assert tracked.unread() == {
        name: value for name, value in row.items() if name not in read and value not in (None, "")
    }


@pytest.mark.parametrize("label", [True, False, 0, 1, "true", "False", "1"])
@pytest.mark.parametrize(
    "name", ["kochatgpt_sft", lambda row: [{"prompt": row["prompt"], "completion": row["completion"]}]]
)
def test_good_and_bad_answers_are_not_learned_alike(label, name):
    row = {"prompt": "가", "completion": "나", "label": label}
    if not isinstance(name, str):
        name.__name__ = "to_prompt_completion"
    with pytest.raises(ValueError, match=r"Row 0 .*column 'label' is .* bad would be learned.*--columns label="):
        format_dataset([row], name)
    assert len(format_dataset([row], name, columns={"label": ""})) == 1


@pytest.mark.parametrize("label", ["일상", "2", 2, None, ""])
def test_another_label_is_only_counted(label):
    assert len(format_dataset([{"prompt": "가", "completion": "나", "label": label}], "kochatgpt_sft")) == 1


@pytest.mark.parametrize("row", [{"image": "a.png"}, {"images": ["a.png"], "id": 1}, {"audio": {"path": "a.wav"}}])
@pytest.mark.parametrize("answer", [{"completion": "네"}, {"chosen": "네", "rejected": "아니요"}, {}])
def test_pictures_and_sounds_are_refused_with_the_row(row, answer):
    rows = [{"prompt": "안녕?", **answer}, {"prompt": "이건 뭐야?", **answer, **row}]
    name = next(iter(row))
    with pytest.raises(
        ValueError, match=rf"Row 1 .*column '{name}' is .*only text can be trained on.*--columns {name}="
    ):
        format_dataset(rows)
    assert len(format_dataset([{**rows[0], name: None}, rows[1]], columns={name: ""})) == 2
