"""`Run`: what every recipe does beside its trainer."""

import json
import re

import pytest
import torch

from tests.run.test_checks import finding
from tests.run.test_room import pretend_free
from trl_kochat.errors import InputError
from trl_kochat.recipes import grpo_korean, ppo_kochatgpt, reward_kochatgpt, sft_kochatgpt
from trl_kochat.run import checks
from trl_kochat.run import run as run_module


@pytest.fixture
def dry_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def dry_run(*flags, recipe=sft_kochatgpt):
        return recipe.main(["--preset", "cpu", "--dry_run", *flags])

    return dry_run


def test_a_dry_run_checks_before_it_loads(dry_run, monkeypatch, tmp_path):
    monkeypatch.setattr(run_module, "load_tokenizer_with_findings", lambda *args, **kwargs: pytest.fail("loaded"))
    monkeypatch.setattr(run_module, "formatted_rows", lambda *args, **kwargs: pytest.fail("loaded"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is a file. Give another folder"):
        dry_run("--output_dir", "file")
    with pytest.raises(ValueError, match="There is no checkpoint to go on from in runs"):
        dry_run("--resume_from_checkpoint", "true")
    monkeypatch.setattr(checks, "LEAST_COMPUTE_CAPABILITY", (99, 0))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H")
    with pytest.raises(ValueError, match="4-bit needs 99.0"):
        dry_run()


def test_a_dry_run_checks_what_it_has_built(dry_run, monkeypatch):
    good = run_module.load_tokenizer_with_findings
    monkeypatch.setattr(
        run_module, "load_tokenizer_with_findings", lambda *args, **kwargs: (good(*args, **kwargs)[0], [finding()])
    )
    with pytest.raises(ValueError, match="The tokenizer has a fault .* no_eos"):
        dry_run()
    pretend_free(monkeypatch, 2**20)
    with pytest.raises(ValueError, match="1 MiB free, and the model with 2 checkpoints takes about"):
        dry_run("--accept_findings", "no_eos")


@pytest.mark.parametrize(("recipe", "start"), [(ppo_kochatgpt, "tiny-ko-sft-early"), (grpo_korean, "tiny-ko-sft")])
def test_stage_3_says_which_embedded_adapter_it_starts_from(dry_run, capsys, recipe, start):
    dry_run(recipe=recipe)
    assert f"Stage sft_kochatgpt: the embedded {start} (" in capsys.readouterr().out


def test_a_reward_model_trains_on_whole_rankings_unless_it_is_told_otherwise(dry_run, capsys):
    dry_run(recipe=reward_kochatgpt)
    assert re.search(r"4,6\d\d rankings of 14,0\d\d pairs to train on", capsys.readouterr().out)
    dry_run("--whole_rankings", "false", recipe=reward_kochatgpt)
    assert "rankings of" not in capsys.readouterr().out


def write_rows(path, damaged, number=40):
    rows = [{"prompt": f"{i}번?", "completion": f"{i}번이에요.{'</s>' * (i < damaged)}"} for i in range(number)]
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def test_rows_with_a_fault_that_training_would_teach_stop_the_run_before_the_model_is_loaded(
    dry_run, monkeypatch, tmp_path
):
    write_rows(tmp_path / "rows.json", damaged=30)
    monkeypatch.setattr(sft_kochatgpt.trl, "SFTTrainer", lambda **kwargs: pytest.fail("built"))
    with pytest.raises(InputError, match="The rows have a fault .* rows_control_token: 30 of 40 rows .*--accept_find"):
        dry_run("--dataset_name", "rows.json")


def test_rows_with_a_fault_that_is_accepted_or_rare_are_trained_on_with_a_warning(dry_run, capsys, tmp_path):
    write_rows(tmp_path / "rows.json", damaged=2)
    dry_run("--dataset_name", "rows.json", "--accept_findings", "rows_control_token")
    out = capsys.readouterr().out
    assert "warning rows_control_token: 2 of 40 rows (5.0%)" in out and "example 1" in out


def test_rows_are_mended_when_asked(dry_run, capsys, tmp_path):
    write_rows(tmp_path / "rows.json", damaged=30)
    dry_run("--dataset_name", "rows.json", "--clean")
    out = capsys.readouterr().out
    assert "30 texts mended (control_token 30)" in out and "rows_control_token" not in out


def test_lora_modules_that_are_not_there_at_all_are_an_error(dry_run, monkeypatch):
    with pytest.raises(
        InputError, match="--lora_target_modules c_attn: tiny-ko has no such modules; it has down_proj"
    ):
        dry_run("--lora_target_modules", "c_attn")


def test_lora_on_modules_of_one_name(dry_run):
    dry_run("--lora_target_modules", "q_proj")


def test_rows_that_leave_nothing_to_train_on_or_to_measure_stop_the_run(dry_run, monkeypatch, tmp_path):
    row = {"prompt": "질문", "completion": "답", "completion_0": "가", "completion_1": "나", "ranking": [0, 1]}
    row |= {"question": "질문", "system": "", "chosen": "가", "rejected": "나"}
    (tmp_path / "one.json").write_text(json.dumps([row]), encoding="utf-8")
    with pytest.raises(ValueError, match="1 distinct prompts: at least 2 are needed"):
        dry_run("--dataset_name", "one.json")
    with pytest.raises(ValueError, match="eval_fraction is 0"):
        dry_run("--eval_fraction", "0")


def test_rows_that_are_held_out_by_their_column_are_said_and_rows_without_it_are_split_where_asked(
    dry_run, tmp_path, capsys
):
    rows = [{"prompt": f"{n}번?", "completion": "네.", "held_out": "new_way" if n < 3 else ""} for n in range(10)]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    dialogues = "".join(
        f"<<start conversation>>\n<사람>: {word}?\n<챗봇>: 네, 안녕하세요.\n" for word in ("안녕", "잘 자")
    )
    (tmp_path / "dialogues.txt").write_text(dialogues, encoding="utf-8")
    dry_run("--dataset_name", "rows.json", "dialogues.txt")
    out = capsys.readouterr().out
    assert "3 rows say that they are held out (new_way 3); --eval_fraction is not used." in out
    assert "9 to train on, 3 held out" in out
    dry_run("--dataset_name", "rows.json", "dialogues.txt", "--eval_fraction", "0.5")
    out = capsys.readouterr().out
    assert "3 rows say that they are held out (new_way 3); --eval_fraction is of the rows that do not say." in out
    assert "8 to train on, 4 held out" in out


def test_lengths_that_leave_nothing_stop_the_run(dry_run, monkeypatch):
    with pytest.raises(ValueError, match="No train row is left within --max_length 8 tokens; raise it"):
        dry_run("--max_length", "8")
    with pytest.raises(ValueError, match="--max_prompt_length 8 has no room for a prompt"):
        dry_run("--max_prompt_length", "8", recipe=ppo_kochatgpt)


def test_held_out_rows_beyond_the_number_asked_for_are_counted_and_neither_measured_nor_trained_on(
    dry_run, capsys, tmp_path
):
    write_rows(tmp_path / "rows.json", damaged=0, number=24)
    rows = "24 read, 15 made, dropped: over_max_eval_samples 9; 12 to train on, 3 held out"
    dry_run("--dataset_name", "rows.json", "--eval_fraction", "0.5", "--max_eval_samples", "3")
    assert rows in capsys.readouterr().out
    with pytest.raises(InputError, match="--max_eval_samples 0 leaves no held-out row"):
        dry_run("--dataset_name", "rows.json", "--eval_fraction", "0.5", "--max_eval_samples", "0")


# A recipe of somebody's own


OWN = """
import sys
import trl
from trl_kochat import Run

def to_unpaired(row):
    ask = [{"role": "user", "content": row["prompt"]}]
    good = int(row["ranking"][0] == 0)
    return [{"prompt": ask, "completion": [{"role": "assistant", "content": row["completion_0"]}], "label": bool(good)}]

PRESETS = {
    "cpu": {
        "model_name_or_path": "tiny-ko", "dataset_name": ["sample:kochatgpt_2_RM.jsonl"], "use_peft": True,
        "load_in_4bit": True, "lora_target_modules": ["all-linear"], "max_steps": 2, "logging_steps": 1,
        "per_device_train_batch_size": 4, "report_to": ["none"], "max_length": 128,
    }
}

def main(argv=None):
    run = Run("my_kto", trl.KTOConfig, argv, presets=PRESETS)
    run.rows(to_unpaired)
    run.train(trl.KTOTrainer(**run.trainer_arguments))

if __name__ == "__main__":
    Run.as_command(main)
"""


def test_a_method_of_trl_that_no_recipe_has_is_30_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert OWN.strip().count("\n") < 30
    own = {"__name__": "my_kto"}
    exec(OWN, own)
    own["main"](["--preset", "cpu", "--max_eval_samples", "4"])
    metrics = json.loads((tmp_path / "runs" / "my_kto" / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["recipe"] == "my_kto" and metrics["run"]["steps"] == 2 and metrics["rows"]["train"] > 0
    assert (tmp_path / "runs" / "my_kto" / "adapter_model.safetensors").is_file()


def test_a_formatter_comes_by_name_or_from_a_file(dry_run, tmp_path, capsys):
    (tmp_path / "rows.json").write_text(json.dumps([{"q": f"{n}번?", "a": "네"} for n in range(20)]), encoding="utf-8")
    text = """
def to_prompt_completion(row):
    turns = {"prompt": "q", "completion": "a"}
    return [
        {k: [{"role": "user" if k == "prompt" else "assistant", "content": row[c]}] for k, c in turns.items()}
    ]
"""
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    dry_run("--dataset_name", "rows.json", "--formatter", "mine.py:to_prompt_completion")
    assert "20 read, 20 made" in capsys.readouterr().out
    with pytest.raises(InputError, match="No formatter 'nobody'"):
        dry_run("--formatter", "nobody")
    with pytest.raises(InputError, match="orca_pairs makes preference rows"):
        dry_run("--formatter", "orca_pairs")


def test_packed_rows_are_not_rows_left_out(dry_run, capsys):
    dry_run("--packing", "true", "--padding_free", "false")
    out = capsys.readouterr().out
    assert "left out" not in out and "dropped: none" in out
