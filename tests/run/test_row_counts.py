"""Which rows a run is said to have: those that its trainer kept, those it left out and those it cut."""

from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset

from tests.tiny_lm import tiny_tokenizer
from trl_kochat.data import RowCounts
from trl_kochat.errors import InputError
from trl_kochat.run.rows import at_most, check_rendering, describe, row_summary


TOKENIZER = tiny_tokenizer()
GIVEN = Dataset.from_dict({"prompt": ["가"] * 5})


def ids(*rows):
    return Dataset.from_dict({"input_ids": [list(row) for row in rows]})


def trainer(train, held_out, **args):
    return SimpleNamespace(
        args=SimpleNamespace(**{"max_length": 4} | args),
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=TOKENIZER,
    )


WHOLE, CUT = [5, 6, 7, 0], [5, 6, 7, 8]  # 0 is EOS


def test_rows_left_out_and_cut_are_told_apart_and_taken_off_those_made(capsys):
    counts = RowCounts(read=9, made=8)
    summary = row_summary(counts, GIVEN, GIVEN.select(range(3)), trainer(ids(WHOLE, CUT, WHOLE), ids(CUT, CUT)))
    assert summary["dropped"] == {"too_long": 3} and summary["read"] == 9
    assert (summary["made"], summary["cut"], summary["train"], summary["eval"]) == (5, 3, 3, 2)
    told = capsys.readouterr().out + capsys.readouterr().err
    assert (
        "3 rows left out: too long to learn from within --max_length 4" in told
        and "3 rows cut at --max_length 4" in told
    )


def test_of_rows_that_all_fit_nothing_is_said(capsys):
    counts = RowCounts(read=3, made=3)
    summary = row_summary(counts, GIVEN.select([0, 1]), GIVEN.select([0]), trainer(ids(WHOLE, WHOLE), ids(WHOLE)))
    assert summary == {**counts.as_dict(), "made": 3, "cut": 0, "train": 2, "eval": 1}
    assert capsys.readouterr().out == ""


def test_rows_joined_without_borders_are_none_left_out():
    packed = trainer(ids(WHOLE), ids(WHOLE), packing=True, packing_strategy="wrapped")
    summary = row_summary(RowCounts(made=8), GIVEN, GIVEN.select(range(3)), packed)
    assert (summary["made"], summary["train"], summary["eval"]) == (8, 5, 3) and not summary["dropped"]
    packed.args.packing_strategy = "bfd"
    assert row_summary(RowCounts(made=8), GIVEN, GIVEN.select(range(3)), packed)["dropped"] == {"too_long": 6}
    packed.args.packing, packed.args.packing_strategy = False, "wrapped"
    assert row_summary(RowCounts(made=8), GIVEN, GIVEN.select(range(3)), packed)["dropped"] == {"too_long": 6}


def test_a_trainer_without_a_length_cuts_nothing():
    other = trainer(GIVEN, GIVEN.select(range(3)))
    del other.args.max_length
    assert row_summary(RowCounts(made=8), GIVEN, GIVEN.select(range(3)), other)["cut"] == 0


@pytest.mark.parametrize("side", ["train", "eval"])
def test_no_row_left_is_an_error_that_names_the_side(side):
    left = {"train": ids(WHOLE), "eval": ids(WHOLE)} | {side: ids(WHOLE).select([])}
    with pytest.raises(InputError, match=f"No {side} row is left within --max_length 4"):
        row_summary(RowCounts(), GIVEN, GIVEN, trainer(*left.values()))


def test_held_out_rows_over_the_limit_are_dropped_from_everywhere_and_counted():
    rows = Dataset.from_dict({"number": list(range(10))})
    counts = RowCounts(made=30)
    assert at_most(rows, 4, counts)["number"][:] == [0, 2, 5, 7]
    assert counts.made == 24 and counts.dropped == {"over_max_eval_samples": 6}
    for limit in (None, 10, 11):
        assert at_most(rows, limit, counts) is rows
    assert counts.made == 24
    assert len(at_most(rows, 1, counts)) == 1
    with pytest.raises(InputError, match="--max_eval_samples 0 leaves no held-out row"):
        at_most(rows, 0, counts)


def test_a_dry_run_shows_counts_rows_and_parameters(capsys):
    model = torch.nn.Linear(4, 3)
    model.bias.requires_grad_(False)
    counts = {"read": 1_000, "made": 7, "dropped": {"tie": 2, "identical": 1}, "train": 5, "eval": 2}
    shown = SimpleNamespace(model=model, args=SimpleNamespace(output_dir="out"))
    rows = Dataset.from_list([{"prompt": f"{number}?", "completion": "네"} for number in range(3)])
    describe(shown, TOKENIZER, counts, rows)
    told = capsys.readouterr().out
    assert "rows: 1,000 read, 7 made, dropped: tie 2, identical 1; 5 to train on, 2 held out" in told
    assert "--- example 1, as the model sees it\n0?\n[completion] 네</s>\n--- example 2" in told
    assert "example 3" not in told
    assert told.endswith(
        "trainable parameters: 12 of 15 (80.00%)\noutput: out\n--dry_run: stopped before the first step.\n"
    )
    describe(shown, TOKENIZER, {**counts, "dropped": {}}, rows, num_examples=9)
    told = capsys.readouterr().out
    assert "dropped: none;" in told and "example 3" in told


def test_a_model_that_knows_the_number_of_its_weights_is_asked(capsys):
    model = torch.nn.Linear(4, 3, bias=False)  # a 4-bit layer has more weights than elements
    model.peft_config, model.get_nb_trainable_parameters = {}, lambda: (12, 48)
    shown = SimpleNamespace(model=model, args=SimpleNamespace(output_dir="out"))
    counts = {"read": 1, "made": 1, "dropped": {}, "train": 1, "eval": 0}
    describe(shown, TOKENIZER, counts, Dataset.from_list([{"text": "네"}]))
    assert "trainable parameters: 12 of 48 (25.00%)" in capsys.readouterr().out


def test_a_first_row_that_the_template_refuses_is_named():
    refusing = tiny_tokenizer()
    refusing.chat_template = "{{ raise_exception('no') }}"
    rows = Dataset.from_list([{"prompt": [{"role": "user", "content": "가"}]}])
    with pytest.raises(InputError, match=r"Row 0 \(counted from 0\) of those made"):
        check_rendering(rows, refusing)
