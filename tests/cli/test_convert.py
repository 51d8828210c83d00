import json
import os
import re
import shlex
import subprocess
import sys

import pytest
from datasets import Dataset, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_lm import tiny_llama, tiny_tokenizer
from trl_kochat import format_dataset, load_rows
from trl_kochat.cli import main
from trl_kochat.cli.convert import COMMANDS, write
from trl_kochat.data.formatters import formatter_names, get_formatter
from trl_kochat.sample import SAMPLE_DIR
from trl_kochat.text.prompts import prompt_key


RANKINGS = [
    {
        "prompt": "한우에요?",
        "completion_0": "네.",
        "completion_1": "몰라요.",
        "completion_2": "아뇨.",
        "ranking": [0, 2, 1],
    },
    {
        "prompt": "어때?",
        "completion_0": "맑아요.",
        "completion_1": "흐려요.",
        "completion_2": "글쎄요.",
        "ranking": [0, 1, 1],
    },
]
ORCA = [
    {"system": "", "question": f"질문 {i}", "chosen": f"좋은 답 {i}", "rejected": f"나쁜 답 {i}"} for i in range(20)
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rankings.json").write_text(json.dumps(RANKINGS), encoding="utf-8-sig")
    (tmp_path / "orca.jsonl").write_text("\n".join(map(json.dumps, ORCA)), encoding="utf-8")


def convert(*arguments) -> int:
    return main(["convert", *map(str, arguments)])


@pytest.mark.parametrize("output", ["rows", "rows/train.parquet", "deep/my folder/train.jsonl"])
def test_trl_reads_the_folder_as_rows_of_its_own(output, tmp_path, capsys):
    assert convert("rankings.json", output) == 0
    out = capsys.readouterr().out
    folder = output.removesuffix("/train.parquet").removesuffix("/train.jsonl")
    assert out.splitlines()[-1] == f"trl dpo --model_name_or_path MODEL --dataset_name {shlex.quote(folder)}"
    # What TRL's scripts do with --dataset_name and --dataset_train_split.
    rows = load_dataset(folder, cache_dir=tmp_path / "cache")["train"]
    assert rows.to_list() == format_dataset(RANKINGS, "kochatgpt_rm").to_list()


def test_what_became_of_the_rows_is_told_by_reason(capsys):
    assert convert("rankings.json", "rows") == 0
    captured = capsys.readouterr()
    assert "rankings.json as kochatgpt_rm: 2 rows read, 5 made, 1 dropped (tie 1)" in captured.out
    assert captured.err == ""


DAMAGED = [{"prompt": f"{i}번?", "completion": f"{i}번이에요.{'</s>' * (i < 5)}"} for i in range(40)]


@pytest.mark.parametrize("clean", [True, False])
def test_texts_are_mended_when_asked_and_shown_before_and_after(clean, tmp_path, capsys):
    (tmp_path / "damaged.json").write_text(json.dumps(DAMAGED, ensure_ascii=False), encoding="utf-8")
    assert convert("damaged.json", "rows.jsonl", *(["--clean"] if clean else [])) == 0
    written = (tmp_path / "rows.jsonl").read_text(encoding="utf-8")
    out = capsys.readouterr().out
    assert written.count("</s>") == (0 if clean else 5)
    if clean:
        assert "5 texts mended (control_token 5)" in out and "'0번이에요.</s>' -> '0번이에요.'" in out
    assert ("warning rows_control_token: 5 of 40 rows" in out) is not clean


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_one_file_by_suffix_with_how_to_read_it(suffix, tmp_path, capsys):
    assert convert("--formatter", "orca_pairs", "orca.jsonl", f"rows{suffix}") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    rows = eval(last, {"load_dataset": lambda *args, **kwargs: load_dataset(*args, **kwargs, cache_dir="cache")})
    assert rows.to_list() == format_dataset(ORCA, "orca_pairs").to_list()
    assert (tmp_path / f"rows{suffix}").read_bytes().startswith(b"PAR1") == (suffix == ".parquet")


def test_a_formatter_of_a_file_of_ones_own(tmp_path, capsys):
    (tmp_path / "own.py").write_text("def to_prompt_only(row):\n    return [{'prompt': row['question']}]\n")
    assert convert("orca.jsonl", "rows", "--formatter", "own.py:to_prompt_only") == 0
    out = capsys.readouterr().out
    assert "as own.py:to_prompt_only: 20 rows read, 20 made" in out and "trl grpo" in out
    assert load_rows("rows/train.jsonl") == [{"prompt": row["question"]} for row in ORCA]


def test_a_function_whose_name_tells_no_type_is_known_by_its_rows(tmp_path, capsys):
    (tmp_path / "own.py").write_text("def made(row):\n    return [{'text': row['question']}]\n")
    assert convert("orca.jsonl", "rows", "--formatter", "own.py:made") == 0
    assert "trl sft" in capsys.readouterr().out


def test_several_inputs_of_one_kind_follow_each_other(tmp_path, capsys):
    (tmp_path / "more.json").write_text(json.dumps(ORCA[:3]), encoding="utf-8")
    assert convert("orca.jsonl", "more.json", "rows.jsonl") == 0
    assert [row["prompt"] for row in load_rows("rows.jsonl")] == [
        row["prompt"] for row in format_dataset(ORCA + ORCA[:3], "orca_pairs")
    ]
    out = capsys.readouterr().out
    assert "orca.jsonl as orca_pairs: 20 rows read" in out and "more.json as orca_pairs: 3 rows read" in out


def test_inputs_of_two_kinds_are_refused(tmp_path, capsys):
    assert convert("orca.jsonl", "rankings.json", "rows") == 2
    error = capsys.readouterr().err
    assert "orca.jsonl gives preference rows" in error and "rankings.json preference rows" in error
    assert "margin" in error and "one by one" in error and not (tmp_path / "rows").exists()


def test_held_out_prompts_that_training_nearly_sees_are_told(tmp_path, capsys):
    cities = "서울 부산 대구 인천 광주 대전 울산 세종 수원 창원".split()
    asked = [f"{city}에서 가장 높은 산과 가장 긴 강을 알려 줘{end}" for city in cities for end in (".", "요")]
    rows = [{"prompt": text, "completion": "네."} for text in asked]
    (tmp_path / "near.json").write_text(json.dumps(rows), encoding="utf-8")
    assert convert("near.json", "rows", "--eval_fraction", "0.3") == 0
    assert "warning rows_leak" in capsys.readouterr().out


@pytest.mark.parametrize(("output", "suffix"), [("rows", "jsonl"), ("rows/train.parquet", "parquet")])
def test_no_prompt_is_on_both_sides_of_a_split(output, suffix, tmp_path):
    (tmp_path / "twice.json").write_text(json.dumps(ORCA * 2), encoding="utf-8")
    assert convert("twice.json", output, "--eval_fraction", "0.2") == 0
    rows = load_dataset("rows", cache_dir=tmp_path / "cache")
    assert sorted(path.name for path in (tmp_path / "rows").iterdir()) == [f"test.{suffix}", f"train.{suffix}"]
    sides = [{prompt_key(prompt) for prompt in rows[side]["prompt"]} for side in ("train", "test")]
    assert not sides[0] & sides[1] and [len(side) for side in sides] == [16, 4]
    assert len(rows["train"]) + len(rows["test"]) == 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.json", "rows"], "There is no file or folder missing.json"),
        (["orca.jsonl", "rows", "--formatter", "orca"], "No formatter 'orca'; there are .*orca_pairs"),
        (["orca.jsonl", "rows", "--formatter", "kochatgpt_rm"], r"orca.jsonl: Row 0 .*completion"),
        (["odd.json", "rows"], "odd.json: No formatter knows the columns a"),
        (["orca.jsonl", "rows.csv"], "OUT ends in .csv; give a folder, or a file that ends in .jsonl or .parquet"),
        (["orca.jsonl", "rows.json"], "OUT ends in .json"),
        (["orca.jsonl", "orca.jsonl"], "orca.jsonl exists; give another name"),
        (["orca.jsonl", "."], "exists and is not an empty folder"),
        (["orca.jsonl", "LICENSE"], "LICENSE exists and is not an empty folder"),
        (["orca.jsonl", "rows.jsonl", "--eval_fraction", "0.1"], "OUT must be a folder, not the file rows.jsonl"),
        (["orca.jsonl", "rows", "--eval_fraction", "1.5"], "eval_fraction is 1.5"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(arguments, message, tmp_path, capsys):
    (tmp_path / "odd.json").write_text('[{"a": 1}]')
    (tmp_path / "LICENSE").write_text("text")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert convert(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("trl-kochat convert: ") and re.search(message, error)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "rows").exists()


def test_every_kind_of_row_has_a_command():
    assert {get_formatter(name).type for name in formatter_names()} - {None} <= COMMANDS.keys()


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_a_row_is_one_line_whatever_its_text(texts, tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write(Dataset.from_dict({"text": texts}), path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == texts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "kind"),
    [("dpo", "preference"), pytest.param("kto", "unpaired_preference", marks=pytest.mark.long)],
)
def test_trl_trains_on_it_from_its_own_command_line(method, kind, tmp_path, capsys):
    rows = [dict(row) for row in load_rows(SAMPLE_DIR / "orca_dpo_pairs.jsonl")][:40]
    (tmp_path / "orca.json").write_text(json.dumps(rows), encoding="utf-8")
    assert convert("orca.json", "rows", "--eval_fraction", "0.1", "--type", kind) == 0
    tiny_llama().save_pretrained("model")
    tiny_tokenizer().save_pretrained("model")
    command = capsys.readouterr().out.splitlines()[-1].replace("MODEL", "model").split()
    assert command[:2] == ["trl", method]
    flags = "--max_steps 2 --per_device_train_batch_size 2 --max_length 256 --use_cpu --bf16 False --report_to none"
    result = subprocess.run(
        [sys.executable, "-m", "trl.cli.main", *command[1:], *flags.split(), "--output_dir", "out"],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_columns_by_other_names(tmp_path, capsys):
    (tmp_path / "own.json").write_text(
        json.dumps([{"물음": "안녕?", "대답": "네", "label": True}] * 2), encoding="utf-8"
    )
    assert convert("own.json", "rows", "--columns", "물음=prompt", "대답=completion") == 0
    assert "own.json as unpaired_preference: 2 rows read" in capsys.readouterr().out
    assert convert("own.json", "sft", "--columns", "물음=prompt", "대답=completion", "label=") == 0
    assert "own.json as kochatgpt_sft: 2 rows read" in capsys.readouterr().out
    assert convert("own.json", "no", "--columns", "질문=prompt") == 2
    assert "There is no column '질문' to call prompt" in capsys.readouterr().err


def test_an_answer_in_two_speech_levels_is_a_pair(tmp_path, capsys):
    rows = [{"prompt": "수도?", "completion": "서울입니다."}, {"prompt": "뭐?", "completion": "글쎄, 뭘까?"}]
    (tmp_path / "sft.json").write_text(json.dumps(rows), encoding="utf-8")
    assert convert("sft.json", "pairs", "--speech_pairs", "해요체") == 0
    assert "1 pairs in two speech levels, left out as not certain: 1" in capsys.readouterr().out
    (row,) = load_rows("pairs/train.jsonl")
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("서울이에요.", "서울이야.")
    assert convert("orca.jsonl", "more", "--speech_pairs", "해요체") == 2
    assert "--speech_pairs takes prompts with answers" in capsys.readouterr().err
