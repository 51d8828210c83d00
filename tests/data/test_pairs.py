"""Pairs as answers that are marked good or bad, and back."""

import json

import pytest
from datasets import Dataset

from trl_kochat import format_dataset
from trl_kochat.cli import main
from trl_kochat.data.pairs import paired, unpaired


PAIRS = [
    {"prompt": "하늘은?", "chosen": "파래요.", "rejected": "빨개요."},
    {"prompt": "바다는?", "chosen": "넓어요.", "rejected": "좁아요."},
]


def marked(prompt, completion, label):
    return {"prompt": prompt, "completion": completion, "label": label}


def test_pairs_come_back_from_their_answers():
    pairs = format_dataset(PAIRS)
    answers = unpaired(pairs)
    assert set(answers.column_names) == {"prompt", "completion", "label"} and sorted(answers["label"]) == [0, 0, 1, 1]
    back, dropped = paired(answers)
    assert back.to_list() == pairs.to_list() and not dropped


def test_every_good_answer_meets_every_bad_one_and_the_others_are_counted():
    rows = [marked("가?", text, label) for text, label in (("a", True), ("b", True), ("c", False), ("a", False))]
    rows += [marked("나?", "d", True), marked("다?", "e", False), marked("다?", "f", False)]
    made, dropped = paired(Dataset.from_list(rows))
    assert [(row["chosen"], row["rejected"]) for row in made] == [("a", "c"), ("b", "c"), ("b", "a")]
    assert dropped == {"no_counterpart": 3, "identical": 1}


def test_answers_of_one_kind_make_no_pairs():
    with pytest.raises(ValueError, match="No prompt has both a good and a bad answer .no_counterpart 2"):
        paired(Dataset.from_list([marked("가?", "a", True), marked("나?", "b", False)]))


def test_convert_goes_both_ways(tmp_path, capsys):
    (tmp_path / "pairs.json").write_text(json.dumps(PAIRS), encoding="utf-8")
    ways = (("pairs.json", "answers.jsonl", "unpaired_preference"), ("answers.jsonl", "back.jsonl", "preference"))
    for source, target, kind in ways:
        assert main(["convert", str(tmp_path / source), str(tmp_path / target), "--type", kind]) == 0
    out = capsys.readouterr().out
    assert "answers.jsonl: 4 unpaired_preference rows" in out and "2 pairs, left out: nothing" in out
    lines = (tmp_path / "back.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == format_dataset(PAIRS).to_list()
    (tmp_path / "text.json").write_text('[{"text": "글"}]', encoding="utf-8")
    assert main(["convert", str(tmp_path / "text.json"), str(tmp_path / "no"), "--type", "preference"]) == 2
    assert "gives language_modeling rows; of those --type preference makes nothing" in capsys.readouterr().err
