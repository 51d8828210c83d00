import pickle

import datasets
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from trl_kochat import (
    detect_formatter,
    format_dataset,
    formatter,
    formatter_names,
    get_formatter,
)
from trl_kochat.data import RowCounts
from trl_kochat.data.formatters.kochatgpt import to_preference
from trl_kochat.data.formatters.registry import Formatter


SFT = [{"prompt": f"질문 {i}", "completion": f"답 {i}", "tokens": 2} for i in range(7)]


def test_the_named_formatters_are_there():
    assert {
        "kochatgpt_sft",
        "kochatgpt_conversation",
        "kochatgpt_rm",
        "kochatgpt_ppo",
        "orca_pairs",
    } <= set(formatter_names())
    assert get_formatter("kochatgpt_rm").type == "preference"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="No formatter 'kochatgpt'; there are .*kochatgpt_sft"):
        get_formatter("kochatgpt")


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        (["prompt", "completion", "tokens"], "kochatgpt_sft"),
        (["prompt", "completion_0", "completion_1", "completion_2", "ranking"], "kochatgpt_rm"),
        (["prompt"], "kochatgpt_ppo"),
        (["conversation"], "kochatgpt_conversation"),
        (["system", "question", "chosen", "rejected"], "orca_pairs"),
        (["system", "question", "chatgpt", "llama2-13b-chat"], "orca_pairs"),
        (["input", "preferred_output", "non_preferred_output"], "orca_pairs"),
    ],
)
def test_columns_tell_the_formatter(columns, name):
    assert detect_formatter(columns) == name


def test_unknown_columns_are_shown():
    with pytest.raises(ValueError, match=r"knows the columns a \(text\), b \(text\)\."):
        detect_formatter(["a", "b"])


RANKING = {"prompt": "q", "completion_0": "a", "completion_1": "b", "ranking": [0, 1]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {key: value for key, value in RANKING.items() if key != "ranking"},
            "nearest to kochatgpt_rm, .* needs ranking",
        ),
        ({"prompt": "q", "chosen": "a"}, "nearest to preference, which also needs rejected"),
        ({"prompt": "q", "chosen": "a", "note": "n"}, "nearest to preference, which also needs rejected"),
    ],
)
def test_a_row_short_of_a_column_is_not_taken_for_a_mere_prompt(row, message):
    with pytest.raises(ValueError, match=message):
        format_dataset([row])
    assert format_dataset([row], "kochatgpt_ppo").column_names == ["prompt"]  # when that is what is meant


def test_columns_that_have_numbers_for_names_are_shown():
    with pytest.raises(ValueError, match=r"knows the columns 0 \(text\), 1 \(text\)"):
        format_dataset([{0: "q", 1: "a"}])
    assert len(format_dataset([{**RANKING, 0: "q"}], "kochatgpt_rm")) == 1


def test_columns_beside_a_prompt_that_are_left_out_are_named(caplog):
    format_dataset([{"prompt": "q", "reply": "a"}], "kochatgpt_ppo")
    assert "kochatgpt_ppo: 1 rows read" in caplog.text and "columns not read (reply 1)" in caplog.text
    with pytest.raises(ValueError, match="a prompt and reply, which no formatter knows"):
        format_dataset([{"prompt": "q", "reply": "a"}])


@pytest.mark.parametrize(
    "rows",
    [SFT, iter(SFT), datasets.Dataset.from_list(SFT), datasets.Dataset.from_list(SFT).to_iterable_dataset()],
    ids=["list", "iterator", "Dataset", "IterableDataset"],
)
@pytest.mark.parametrize("how", ["kochatgpt_sft", None, get_formatter("kochatgpt_sft").function])
def test_every_kind_of_rows_gives_the_same(rows, how):
    rows = iter(SFT) if not isinstance(rows, list | datasets.Dataset | datasets.IterableDataset) else rows
    made = list(format_dataset(rows, how))
    assert [row["completion"][0]["content"] for row in made] == [row["completion"] for row in SFT]


@pytest.mark.parametrize("form", ["numpy", "torch", "pandas", "arrow"])
@pytest.mark.parametrize("streaming", [False, True])
def test_the_format_of_the_given_dataset_does_not_matter(form, streaming):
    rows = datasets.Dataset.from_list([RANKING] * 3)
    rows = (rows.to_iterable_dataset() if streaming else rows).with_format(form)
    assert [row["margin"] for row in format_dataset(rows)] == [1.0] * 3


def test_the_result_is_a_dataset_with_trl_columns():
    dataset = format_dataset(SFT, "kochatgpt_sft")
    assert isinstance(dataset, datasets.Dataset) and dataset.column_names == ["prompt", "completion"]


def test_counts_say_what_was_read_made_dropped_and_mended(caplog):
    rows = [
        {"prompt": "q", "completion_0": "'a", "completion_1": "b", "completion_2": "b", "ranking": [0, 1, 2]},
        {"prompt": "q", "completion_0": "a", "completion_1": "b", "completion_2": "", "ranking": [0, 0, 1]},
    ]
    counts = RowCounts()
    dataset = format_dataset(rows, "kochatgpt_rm", counts=counts)
    assert len(dataset) == counts.made == 2
    assert counts.as_dict() == {
        "read": 2,
        "made": 2,
        "dropped": {"empty_completion": 2, "identical": 1, "tie": 1},
        "cleaned": {"stray_quote": 1},
        "unread": {},
        "found": {"rows_duplicate": 1},
    }
    assert "2 rows read, 2 made, 4 dropped (empty_completion 2, identical 1, tie 1)" in caplog.text


def test_a_stream_counts_while_it_is_read():
    counts = RowCounts()
    stream = format_dataset(datasets.Dataset.from_list(SFT).to_iterable_dataset(), "kochatgpt_sft", counts=counts)
    assert isinstance(stream, datasets.IterableDataset)
    next(iter(stream))
    assert 0 < counts.read < len(SFT)


def test_every_pass_over_a_stream_counts_anew():
    counts = RowCounts(read=10, made=10)  # of another file
    stream = format_dataset(datasets.Dataset.from_list(SFT).to_iterable_dataset(), "kochatgpt_sft", counts=counts)
    next(iter(stream))  # trainers look at the first row
    for _ in range(2):
        list(stream)
        assert counts.read == counts.made == 10 + len(SFT)


@pytest.mark.parametrize(("shards", "workers", "read"), [(1, 2, 7), (3, 1, 7), (3, 2, None)])
def test_processes_of_a_dataloader_lose_no_row(shards, workers, read):
    stream = format_dataset(datasets.Dataset.from_list(SFT).to_iterable_dataset(num_shards=shards), "kochatgpt_sft")
    loader = DataLoader(stream, batch_size=None, num_workers=workers)
    if read is None:
        with pytest.raises(ValueError, match="stream of 3 shards .* dataloader_num_workers"):
            list(loader)
    else:
        assert len(list(loader)) == read


def test_options_reach_the_formatter():
    rows = format_dataset([{"prompt": "q", "completion": "'a"}], "kochatgpt_sft", clean=False)
    assert rows[0]["completion"][0]["content"] == "'a"


def test_processes_give_what_one_process_gives():
    rows = [
        {"prompt": f"q{i}", "completion_0": "a", "completion_1": "b" if i % 3 else "a", "ranking": [i % 2, 1]}
        for i in range(5000)
    ]
    one, two = RowCounts(), RowCounts()
    alone = format_dataset(rows, to_preference, counts=one)
    together = format_dataset(datasets.Dataset.from_list(rows), to_preference, num_proc=2, counts=two)
    assert alone[:] == together[:]
    assert one == two and one.read == 5000


def test_an_option_that_the_formatter_does_not_take_is_an_error():
    with pytest.raises(ValueError, match="kochatgpt_sft: .*'cleen'; its options: clean"):
        format_dataset(SFT, "kochatgpt_sft", cleen=False)


@pytest.mark.parametrize("num_proc", [0, -1, 1.5, "2"])
def test_what_is_no_number_of_processes_is_an_error(num_proc):
    with pytest.raises(ValueError, match=f"num_proc is {num_proc!r}"):
        format_dataset(SFT, "kochatgpt_sft", num_proc=num_proc)


def test_a_function_that_no_other_process_can_find_is_an_error():
    with pytest.raises(ValueError, match="cannot be sent to another process .*leave num_proc out"):
        format_dataset(SFT, lambda row: [{"text": row["prompt"]}], num_proc=2)


def test_a_stream_takes_one_process():
    with pytest.raises(ValueError, match="num_proc=2: a stream is formatted by one process"):
        format_dataset(datasets.Dataset.from_list(SFT).to_iterable_dataset(), "kochatgpt_sft", num_proc=2)


def test_an_error_in_a_process_keeps_its_row_number():
    rows = [*SFT, *({"prompt": "q", "completion": "a"} for _ in range(4000)), {"prompt": "q", "completion": None}]
    with pytest.raises(ValueError, match="Row 4007 .*'completion' is None"):
        format_dataset(rows, "kochatgpt_sft", num_proc=2)


def test_a_hundred_thousand_rows():
    counts = RowCounts()
    rows = ({"prompt": f"질문 {i}", "completion": "답" if i % 10 else " "} for i in range(100_000))
    assert len(format_dataset(rows, "kochatgpt_sft", counts=counts)) == 90_000
    assert counts.read == 100_000 and counts.dropped == {"empty_completion": 10_000}


EMPTY = datasets.Dataset.from_dict({"prompt": []})


@pytest.mark.parametrize("rows", [[], iter([]), EMPTY, datasets.Dataset.from_list(SFT).to_iterable_dataset().take(0)])
def test_no_rows_is_an_error(rows):
    with pytest.raises(ValueError, match="no rows"):
        format_dataset(rows, "kochatgpt_ppo")


def test_nothing_to_learn_at_all_is_an_error_with_the_reasons():
    with pytest.raises(ValueError, match="made no row: 2 rows read.*empty_prompt 2"):
        format_dataset([{"prompt": " "}, {"prompt": ""}], "kochatgpt_ppo")


def test_a_dict_of_splits_is_an_error_that_names_them():
    splits = datasets.DatasetDict({"train": datasets.Dataset.from_list(SFT), "test": datasets.Dataset.from_list(SFT)})
    with pytest.raises(ValueError, match="one split; there are train, test"):
        format_dataset(splits, "kochatgpt_sft")


@pytest.mark.parametrize("formatter_name", ["kochatgpt_sft", None])
def test_a_row_that_is_no_row_is_an_error(formatter_name):
    with pytest.raises(ValueError, match="Row 1 .*is 'text', not a row"):
        format_dataset([SFT[0], "text"], formatter_name)
    with pytest.raises(ValueError, match="Row 0 .*is 3, not a row"):
        format_dataset([3], formatter_name)


@pytest.mark.parametrize("rows", [SFT[0], "rows.jsonl", None, pandas.DataFrame(SFT)])
def test_one_row_or_a_file_name_is_not_a_list_of_rows(rows):
    with pytest.raises(ValueError, match="is not a list of rows; load_rows reads a file"):
        format_dataset(rows, "kochatgpt_sft")


def test_half_a_character_is_an_error_with_its_row():
    with pytest.raises(ValueError, match=r"Row 1 .*'completion' holds half a character \('\\ud83d', at 1\)"):
        format_dataset([SFT[0], {"prompt": "q", "completion": "네\ud83d"}], "kochatgpt_sft")


def test_an_error_does_not_repeat_a_whole_row():
    with pytest.raises(ValueError) as error:
        format_dataset([{"prompt": "q", "completion": ["a"] * 10_000}], "kochatgpt_sft")
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda row: None, "Row 0 .*made None of it, not a list of rows"),
        (lambda row: {"prompt": "q"}, "Row 0 .*not a list of rows"),
        (lambda row: row["prompt"].content, "Row 0 .*has no attribute 'content'"),
        (lambda row: [{"text": row["prompt"] if row["prompt"] == "질문 0" else [1]}], "rows 0 to 6 .*one table"),
        ("kochatgpt_sft ", "No formatter 'kochatgpt_sft '"),
        (3, "3 is no formatter"),
    ],
)
def test_a_formatter_that_makes_no_rows_is_an_error(made, message):
    with pytest.raises(ValueError, match=message):
        format_dataset(SFT, made)


def test_a_column_that_the_first_row_lacks_is_kept():
    made = format_dataset(SFT[:2], lambda row: [{"text": row["prompt"], **({"n": 1} if "1" in row["prompt"] else {})}])
    assert made["n"][:] == [None, 1]


def test_another_package_adds_a_formatter_with_the_decorator():
    @formatter("test_pairs", type="preference", columns=[{"q", "good", "bad"}])
    def to_test_pairs(row):
        return [{"prompt": row["q"], "chosen": row["good"], "rejected": row["bad"]}] if row["good"] else []

    counts = RowCounts()
    rows = [{"q": "1", "good": "2", "bad": "3"}, {"q": "1", "good": "", "bad": "3"}]
    assert format_dataset(rows, counts=counts)[:] == {"prompt": ["1"], "chosen": ["2"], "rejected": ["3"]}
    assert counts.dropped == {"nothing_to_learn": 1}
    with pytest.raises(ValueError, match="Row 0 .*no column 'good'"):
        format_dataset([{"x": 1}], "test_pairs")
    with pytest.raises(ValueError, match="'kochatgpt_sft' is taken by"):
        formatter("kochatgpt_sft", type="preference")(to_test_pairs)


def test_the_same_function_defined_again_takes_the_place_of_the_first():
    for answer in ("1", "2"):  # a notebook's cell

        @formatter("test_again", type="prompt_only")
        def to_prompt_only(row, answer=answer):
            return [{"prompt": answer}]

    assert format_dataset([{"a": 1}], "test_again")["prompt"][:] == ["2"]


def test_of_many_column_sets_a_message_names_four():
    def told(number):
        return Formatter("x", None, to_preference, tuple(frozenset({f"{i}"}) for i in range(number))).expected()

    assert told(4) == "(0) or (1) or (2) or (3)"
    assert told(5) == "(0) or (1) or (2) or (3) or one of 1 more sets"


def test_a_prompt_that_stands_beside_something_else_is_not_what_is_meant():
    assert detect_formatter(["prompt", "text"]) == "text"


def test_columns_that_two_formatters_explain_equally_well_need_a_name():
    with pytest.raises(ValueError, match="fit kochatgpt_sft and questions; name the one you mean"):
        detect_formatter(["prompt", "completion", "answer"])


OWN_FILE = """
def to_prompt_only(row):
    if not row["q"]:
        raise ValueError("nothing is asked")
    return [{"prompt": row["q"]}]

number = 3
"""


@pytest.fixture
def own_file(tmp_path):
    (tmp_path / "my_rows.py").write_text(OWN_FILE, encoding="utf-8")
    return tmp_path / "my_rows.py"


@pytest.mark.parametrize("num_proc", [None, 2])
def test_a_formatter_of_a_file(own_file, num_proc):
    rows = [{"q": f"질문 {i}"} for i in range(3)]
    assert get_formatter(f"{own_file}:to_prompt_only").type == "prompt_only"  # as its name says
    made = format_dataset(rows, f"{own_file}:to_prompt_only", num_proc=num_proc)
    assert made["prompt"][:] == ["질문 0", "질문 1", "질문 2"]


def test_what_a_formatter_of_a_file_raises_has_the_rows_number(own_file):
    with pytest.raises(ValueError, match=r"Row 1 \(counted from 0\): nothing is asked"):
        format_dataset([{"q": "질문"}, {"q": ""}], f"{own_file}:to_prompt_only")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.py:to_preference", "There is no file none.py"),
        ("{file}:to_preference", "has no function 'to_preference'; there are to_prompt_only"),
        ("{file}:number", "has no function 'number'"),
        ("{file}:", "has no function ''"),
    ],
)
def test_a_file_or_function_that_is_not_there_is_an_error(own_file, name, message):
    with pytest.raises(ValueError, match=message):
        format_dataset(SFT, name.format(file=own_file))


def test_another_process_gets_a_formatter_of_a_file_by_its_name(own_file):
    formatter = pickle.loads(pickle.dumps(get_formatter(f"{own_file}:to_prompt_only")))
    assert formatter({"q": "왜?"}) == [{"prompt": "왜?"}]


def test_options_of_a_formatter_stand_behind_its_name():
    rows = [{"prompt": "왜?", "completion": "'그래서."}]
    plain = pickle.loads(pickle.dumps(get_formatter("kochatgpt_sft:clean=false")))
    assert format_dataset(rows, plain).to_list() == format_dataset(rows, "kochatgpt_sft", clean=False).to_list()
    assert format_dataset(rows, plain)[0]["completion"] != format_dataset(rows)[0]["completion"]
    with pytest.raises(
        ValueError, match="'klean=false' is no option of the formatter kochatgpt_sft; .*: clean: bool = True"
    ):
        get_formatter("kochatgpt_sft:klean=false")
    with pytest.raises(ValueError, match="'clean=maybe' is no option"):
        get_formatter("kochatgpt_sft:clean=maybe")
    with pytest.raises(ValueError, match="'x=1' is no option of the formatter alpaca; there are: none"):
        get_formatter("alpaca:x=1")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.fixed_dictionaries({"prompt": st.text(max_size=5), "completion": st.text(max_size=5)}), min_size=1))
def test_counts_always_add_up(rows):
    counts = RowCounts()
    try:
        made = len(format_dataset(rows, "kochatgpt_sft", counts=counts))
    except ValueError:
        made = 0
    assert counts.made == made and counts.read == len(rows) == counts.made + counts.dropped.total()


@pytest.mark.parametrize("made", [{"number": 2**63}, {0: "text"}, {"a": b"x", "b": {1: 2}}])
def test_what_no_table_holds_is_refused_with_the_rows_number(made):
    with pytest.raises(ValueError, match=r"[Rr]ows? 0 .*\(counted from 0\)"):
        format_dataset([{"a": 1}], lambda row: [made])


def test_names_and_values_of_any_length_leave_a_message_that_can_be_read():
    row = {"가" * 5_000 + str(i): "나" * 5_000 for i in range(100)} | {"prompt": 10**5_000}
    for name in (None, "kochatgpt_ppo"):
        with pytest.raises(ValueError) as refused:
            format_dataset([row], name)
        assert 20 < len(str(refused.value)) < 2_500


# What raw rows say of themselves.

WAYS = {
    "kochatgpt_sft": {"prompt": "딸기는?", "completion": "빨강이요."},
    "kochatgpt_conversation": {
        "conversation": [{"speaker": "사람", "text": "응?"}, {"speaker": "챗봇", "text": "네."}]
    },
    "kochatgpt_ppo": {"prompt": "딸기는?"},
    "kochatgpt_rm": {"prompt": "딸기는?", "completion_0": "빨강", "completion_1": "파랑", "ranking": [0, 1]},
    "orca_pairs": {"question": "딸기는?", "chosen": "빨강", "rejected": "파랑"},
}


@pytest.mark.parametrize("name", WAYS)
def test_fact_kind_and_held_out_go_on_to_the_rows_made(name):
    about = {"fact": "color/딸기", "held_out": "new_way", "kind": "wrong_fact"}
    made = format_dataset([{**WAYS[name], **about}, WAYS[name]], name)
    assert {column: made[0][column] for column in about} == about
    assert not any(made[1][column] for column in about)
    assert not set(about) & set(format_dataset([WAYS[name]], name).column_names)


def test_a_pair_of_a_ranking_has_the_kind_of_its_rejected_answer():
    row = {"prompt": "딸기는?", "completion_0": "몰라", "completion_1": "빨강", "completion_2": "파랑"}
    row |= {"ranking": [2, 0, 1], "kinds": ["evasive", "", "wrong_fact"]}
    made = format_dataset([row], "kochatgpt_rm")
    kinds = {(pair["chosen"][0]["content"], pair["rejected"][0]["content"]): pair["kind"] for pair in made}
    assert kinds == {("빨강", "몰라"): "evasive", ("파랑", "몰라"): "evasive", ("빨강", "파랑"): "wrong_fact"}


def test_other_columns_of_such_a_name_mean_something_else():
    made = format_dataset([{**WAYS["kochatgpt_sft"], "kind": 3, "fact": {"a": 1}}], "kochatgpt_sft")
    assert set(made.column_names) == {"prompt", "completion"}
    row = {**WAYS["kochatgpt_rm"], "kinds": ["only one"], "kind": ["a"]}
    assert "kind" not in format_dataset([row], "kochatgpt_rm").column_names


def test_what_was_dropped_is_counted_also_where_rows_carry_something():
    counts = RowCounts()
    rows = [{"prompt": "가", "completion": text, "fact": "x"} for text in ("'네", "")]
    format_dataset(rows, "kochatgpt_sft", counts=counts)
    assert (counts.made, counts.dropped, counts.cleaned) == (1, {"empty_completion": 1}, {"stray_quote": 1})


def damaged(number):
    return [{"prompt": f"{i}번?", "completion": f"{i}번이에요.{'&amp;' * (i < 3)}"} for i in range(number)]


def test_what_is_wrong_with_the_rows_made_is_counted_and_logged(caplog):
    counts = RowCounts()
    format_dataset(damaged(100), "kochatgpt_sft", counts=counts)
    assert counts.found == counts.as_dict()["found"] == {"rows_markup": 3}
    assert "rows_markup: 3 of 100 rows (3.0%)" in caplog.text and "found (rows_markup 3)" in str(counts)


def test_rows_are_not_checked_where_that_is_not_wanted(caplog):
    counts = RowCounts()
    stream = datasets.Dataset.from_list(damaged(10)).to_iterable_dataset()
    format_dataset(damaged(100), "kochatgpt_sft", counts=counts, check=False)
    list(format_dataset(stream, "kochatgpt_sft", counts=counts))
    assert counts.found == {} and "rows_markup" not in caplog.text


def test_a_stream_is_checked_when_asked(caplog):
    counts = RowCounts()
    stream = datasets.Dataset.from_list(damaged(10)).to_iterable_dataset()
    formatted = format_dataset(stream, "kochatgpt_sft", counts=counts, check=True)
    assert counts.found == {"rows_markup": 3} and len(list(formatted)) == counts.made == 10


def test_rows_for_something_else_than_a_trainer_of_trl_are_left_alone():
    def to_vectors(row):
        return [{"vector": [1.0, 2.0]}]

    assert format_dataset([{"a": 1}], to_vectors).column_names == ["vector"]
