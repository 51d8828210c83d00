import doctest
import io
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from rich.cells import cell_len
from rich.console import Console
from safetensors.torch import load_file, save_file

import trl_kochat.cli.score
from tests.tiny_lm import tiny_llama, tiny_reward_model, tiny_tokenizer
from trl_kochat.cli import main
from trl_kochat.cli.score import Scored, rank, row_completions, show_scores
from trl_kochat.measure.score import load_reward_model, score_completions


COMPLETIONS = ["네, 한우입니다.", "몰라요.", "네, 한우 목심으로 만든 불고기용 고기예요."]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny_llama().save_pretrained(folder / "base")
    tiny_llama(hidden_size=64).save_pretrained(folder / "other")
    tiny_reward_model().save_pretrained(folder / "whole")
    for name in ("base", "other", "whole"):
        tiny_tokenizer().save_pretrained(folder / name)
    torch.manual_seed(0)
    model = type(tiny_reward_model()).from_pretrained(folder / "base", num_labels=1)
    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False, task_type="SEQ_CLS")
    get_peft_model(model, config).save_pretrained(folder / "reward")
    return folder


def score(*arguments) -> int:
    return main(["score", *map(str, arguments)])


@pytest.mark.parametrize("name", ["reward", "whole"])
def test_scores_are_those_of_the_library(name, models, capsys):
    assert score(models / name, "--prompt", "한우에요?", "--completion", *COMPLETIONS, "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    model = load_reward_model(models / name)
    expected = score_completions(model, tiny_tokenizer(), ["한우에요?"] * 3, COMPLETIONS)
    assert [row["score"] for row in rows] == pytest.approx(expected, abs=1e-5)
    assert [row["completion"] for row in rows] == COMPLETIONS and {row["prompt"] for row in rows} == {"한우에요?"}
    assert sorted(row["rank"] for row in rows) == [1, 2, 3]
    assert min(rows, key=lambda row: row["rank"]) == max(rows, key=lambda row: row["score"])


def test_texts_without_a_prompt_are_scored_by_themselves(models, capsys):
    assert score(models / "whole", "--completion", *COMPLETIONS, "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = score_completions(tiny_reward_model(), tiny_tokenizer(), [""] * 3, COMPLETIONS, raw=True)
    assert [row["score"] for row in rows] == pytest.approx(expected, abs=1e-5)


def test_the_best_answer_comes_first(models, capsys):
    assert score(models / "whole", "--prompt", "한우에요?", "--completion", *COMPLETIONS) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines() if "\t" in line]
    assert [int(line[0]) for line in lines] == [1, 2, 3]
    assert [float(line[1]) for line in lines] == sorted((float(line[1]) for line in lines), reverse=True)
    assert {line[2] for line in lines} == set(COMPLETIONS)


@pytest.mark.parametrize("shape", ["one a row", "a list a row", "ranking", "messages", "array with a BOM"])
def test_every_shape_of_file_gives_the_same_scores(shape, models, tmp_path, capsys):
    prompt = "한우에요?"
    rows = {
        "one a row": [{"prompt": prompt, "completion": completion} for completion in COMPLETIONS],
        "a list a row": [{"prompt": prompt, "completions": COMPLETIONS}],
        "ranking": [
            {"prompt": prompt, **{f"completion_{i}": c for i, c in enumerate(COMPLETIONS)}, "ranking": [0] * 3}
        ],
        "messages": [
            {
                "prompt": [{"role": "user", "content": prompt}],
                "completion": [{"role": "assistant", "content": completion}],
            }
            for completion in COMPLETIONS
        ],
        "array with a BOM": [{"prompt": prompt, "completion": COMPLETIONS}],
    }[shape]
    file = tmp_path / "answers.jsonl"
    if shape.startswith("array"):
        file.write_text("\ufeff" + json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    else:
        file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    assert score(models / "whole", "--file", file, "--json") == 0
    scored = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = score_completions(tiny_reward_model(), tiny_tokenizer(), [prompt] * 3, COMPLETIONS)
    assert [row["score"] for row in scored] == pytest.approx(expected, abs=1e-4)
    assert sorted(row["rank"] for row in scored) == [1, 2, 3]


def test_answers_in_the_encoding_that_is_said(models, tmp_path, capsys):
    (tmp_path / "answers.csv").write_bytes("prompt,completion\n안녕?,네\n".encode("cp949"))
    assert score(models / "whole", "--file", tmp_path / "answers.csv") == 2
    assert "--encoding cp949" in capsys.readouterr().err
    assert score(models / "whole", "--file", tmp_path / "answers.csv", "--encoding", "cp949") == 0
    assert capsys.readouterr().out.startswith("# 안녕?\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--prompt", "가"],
        ["--completion", "가", "--file", "f"],
        ["--file", "f", "--prompt", "가"],
    ],
)
def test_either_completions_or_a_file(arguments, models, capsys):
    assert score(models / "whole", *arguments) == 2
    assert "Give either --completion" in capsys.readouterr().err


@pytest.mark.parametrize("row", [{"prompt": "가"}, {"completion": "가"}, {"prompt": "가", "completions": []}])
def test_a_row_that_cannot_be_scored_is_named(row, models, tmp_path, capsys):
    (tmp_path / "f.jsonl").write_text('{"prompt": "가", "completion": "나"}\n' + json.dumps(row))
    assert score(models / "whole", "--file", tmp_path / "f.jsonl") == 2
    assert "Row 1 of" in capsys.readouterr().err


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": 3, "completion": "가"},
        {"prompt": None, "completion": "가"},
        {"prompt": "가", "completion": 3},
        {"prompt": "가", "completions": ["나", None]},
        {"prompt": "가", "completion": [{"role": "assistant", "content": None}]},
    ],
)
def test_a_row_that_is_no_text_is_named(row, models, tmp_path, capsys):
    (tmp_path / "f.jsonl").write_text('{"prompt": "가", "completion": "나"}\n' + json.dumps(row))
    assert score(models / "whole", "--file", tmp_path / "f.jsonl") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "Row 1 of" in error and "neither text nor messages" in error


def test_an_empty_answer_has_a_score_too(models, tmp_path, capsys):
    (tmp_path / "f.jsonl").write_text('{"prompt": "가", "completion": ""}\n')
    assert score(models / "whole", "--file", tmp_path / "f.jsonl", "--json") == 0
    assert json.loads(capsys.readouterr().out)["completion"] == ""


def test_a_reward_adapter_without_its_head_is_said_in_one_line(models, tmp_path, capsys):
    weights = load_file(models / "reward" / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text((models / "reward" / "adapter_config.json").read_text())
    save_file({k: v for k, v in weights.items() if "score" not in k}, tmp_path / "adapter_model.safetensors")
    assert score(tmp_path, "--completion", "가") == 2
    assert "no score head" in capsys.readouterr().err.strip().splitlines()[-1]


def test_another_base_is_said_in_one_line(models, capsys):
    assert score(models / "reward", "--base", models / "other", "--completion", "가") == 2
    assert "does not belong to the base model" in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_language_model_does_not_score(models, capsys):
    assert score("tiny-ko", "--completion", "가") == 2
    assert "no reward model" in capsys.readouterr().err


def test_examples_in_the_docstrings_hold():
    results = doctest.testmod(trl_kochat.cli.score)
    assert results.attempted >= 2 and results.failed == 0


SCORES = st.lists(st.tuples(st.sampled_from("가나다"), st.sampled_from([-1.0, 0.0, 0.5, 2.0])), max_size=12)


@given(SCORES)
def test_a_rank_counts_the_better_answers_to_the_same_prompt(prompts_and_scores):
    pairs = [(prompt, "x") for prompt, _ in prompts_and_scores]
    scored = rank(pairs, [score for _, score in prompts_and_scores])
    for row in scored:
        rivals = [other for other in scored if other.prompt == row.prompt]
        assert row.rank == 1 + len([other for other in rivals if other.score > row.score])
        assert min(other.rank for other in rivals) == 1


def test_completions_of_a_row():
    messages = [{"role": "assistant", "content": "가"}]
    assert row_completions({"completion": "가"}) == ["가"]
    assert row_completions({"completion": messages}) == [messages]
    assert row_completions({"completions": [messages, messages]}) == [messages, messages]
    assert row_completions({"completion_0": "가", "completion_1": "나", "completion_3": "라"}) == ["가", "나"]
    assert row_completions({"ranking": [0]}) == []


def test_borders_of_the_table_line_up_and_nothing_is_obeyed():
    console = Console(file=io.StringIO(), force_terminal=True, width=60, color_system=None, markup=False)
    long = "불고기용 고기는 보통 한우 목심이나 설도를 얇게 썬 것이고 정육점에서 원산지를 알려 줍니다. \x1b[2J[red]"
    show_scores(console, [Scored(2, -1.25, "한우에요?", "네 😀"), Scored(1, 3.5, "한우에요?", long)])
    lines = console.file.getvalue().splitlines()
    bordered = [line for line in lines if line[:1] in ("┏", "┃", "┡", "│", "├", "└")]
    assert len({cell_len(line) for line in bordered}) == 1
    text = "\n".join(lines)
    assert text.index("+3.500") < text.index("-1.250") and r"\x1b[2J[red]" in text.replace("\n", "")
