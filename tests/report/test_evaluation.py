"""Several models on the same rows: a table, lines, JSON and a page of the same numbers."""

import io

import html5lib
import pytest
from rich.console import Console

from trl_kochat.report import RunRecord, Sample
from trl_kochat.report.evaluation import judged_words, lines_of, measures_as_json, write_evaluation
from trl_kochat.report.intervals import add_measures
from trl_kochat.report.table import evaluation_table


def measured(right, length):
    return {
        **{"right": sum(right) / len(right), "right_by_row": right, "n": len(right), "left_out": 1},
        **{"mean_length": sum(length) / len(length), "mean_length_by_row": length},
    }


@pytest.fixture
def records():
    """A model, one that is right more often, and one of which something else is measured."""
    first, better = measured([0.0] * 20, [9.0] * 20), measured([1.0] * 16 + [0.0] * 4, [9.0] * 20)
    made = [RunRecord("eval", "preference", "", model) for model in ("base", "[red]sft", "reward")]
    add_measures(made[0], "after", first)
    for record, own in zip(made[1:], (better, {"accuracy_kind_evasive": 1.0}), strict=True):
        add_measures(record, "before", first)
        add_measures(record, "after", own)
    return made


def test_a_line_for_each_measure_of_each_model_that_has_it(records):
    head, *lines = lines_of(records)
    assert head == ["measure", "model", "value", "low", "high", "n", "against the first"]
    assert [line[:3] for line in lines] == [
        ["right", "base", "0"],
        ["right", "[red]sft", "0.8"],
        ["mean_length", "base", "9"],
        ["mean_length", "[red]sft", "9"],
        ["accuracy_kind_evasive", "reward", "1"],
    ]
    assert [line[5:] for line in lines[:3]] == [["20", ""], ["20", "better"], ["20", ""]]
    assert lines[-1][3:] == ["", "", "", ""]


def test_json_tells_a_model_from_the_first(records):
    first, better, other = map(measures_as_json, records)
    assert first["change"] == {} == other["change"] and first["rows"] == {"n": 20, "left_out": 1}
    low, high = better["change"]["right"]["interval"]
    assert 0 < low < 0.8 < high <= 1 and better["change"]["right"]["judged"] == "better"
    assert better["measures"]["right"]["n"] == 20 and better["change"]["mean_length"]["judged"] == "same"


def test_the_table_has_a_column_for_each_model_and_takes_no_name_for_markup(records):
    console = Console(file=io.StringIO(), width=110, color_system=None)
    console.print(evaluation_table(records))
    head, _, right, ends, *_ = [line for line in console.file.getvalue().splitlines() if line.strip()]
    assert head.split() == ["base", "[red]sft", "reward", "n"]
    assert right.split() == ["right", "answers", "0.0%", "80.0%", "↑", "-", "20"]
    assert ends.split()[:3] == ["0.0%", "–", "0.0%"]


def test_the_page_has_every_measure_answer_and_verdict_in_both_languages(records, tmp_path):
    samples = [[Sample(0, "김치 하면?", f"<b>{answer}</b>", ended=True, tokens=3)] for answer in ("몰라", "한국")]
    verdict = judged_words(
        **{"label": "sft", "against": "base", "rate": 0.75, "low": 0.5, "high": 1.0},
        **{"wins": 2, "losses": 0, "ties": 1, "disagreements": 1},
    )
    write_evaluation(tmp_path / "page.html", records, [*samples, []], facts=["rows.jsonl", verdict], n=20)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)
    words = " ".join("".join(page.itertext()).split())
    for said in (
        "3 models on 20 rows",
        "모델 3개를 데이터 20개로 비교",
        "맞는 답",
        "↑ better",
        "↑ 좋아짐",
        "<b>한국</b>",
    ):
        assert said in words
    assert "sft against base: 75.0% (50.0% to 100.0%); wins 2, losses 0, ties 1" in words
    assert "sft 대 base: 75.0%(50.0%~100.0%), 이김 2, 짐 0, 비김 1" in words
    assert len(page.findall(".//div[@class='card']")) == 1  # both answer one prompt
