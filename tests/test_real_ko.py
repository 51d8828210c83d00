"""The script behind `make real-ko`: its stages are recipes with values that they take, done ones are passed over."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from trl_kochat.cli import build_parser, main
from trl_kochat.sample import SAMPLE_DIR


ROOT = Path(__file__).parent.parent
QUESTIONS = "Q,A,label\n" + "".join(f"{number}번 먹었어?,네 먹었어요.,0\n" for number in range(12))


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "scripts" / "real_ko.py"))


@pytest.fixture
def stages(script, tmp_path):
    (tmp_path / "ChatbotData.csv").write_text(QUESTIONS, encoding="utf-8")
    model, out = Path("models/gemma-3-270m"), tmp_path / "out"
    return {stage.name: stage for stage in script["plan"](model, out, str(tmp_path / "ChatbotData.csv"))}


def test_nothing_is_fetched_before_the_terms_are_agreed_to(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "real_ko.py"), "--model", str(tmp_path / "gemma")]
    done = subprocess.run(
        [*command, "--output_dir", str(tmp_path)], capture_output=True, text=True, encoding="utf-8", timeout=120
    )
    assert done.returncode and not (tmp_path / "gemma").exists()
    assert "Gemma Terms of Use, https://ai.google.dev/gemma/terms" in done.stdout
    assert "Nothing was fetched. If you agree to these terms: --agree" in done.stderr
    assert "Stopped in model" in done.stderr and "== 2" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sft", "reward", "ppo", "dpo", "grpo"])
def test_a_stage_is_a_recipe_that_takes_its_rows_and_values(name, stages, capsys):
    """With tiny-ko and its adapters in place of the model and of the stages before."""
    words = stages[name].command
    recipe, flags = Path(words[0]).stem, words[1:]
    stand_in = {
        "--model_name_or_path": "tiny-ko",
        "--sft_adapter": "tiny-ko-sft",
        "--reward_adapter": "tiny-ko-reward",
    }
    for flag, value in stand_in.items():
        if flag in flags:
            flags[flags.index(flag) + 1] = value
    assert main([recipe.partition("_")[0], *flags, "--max_eval_samples", "4", "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert "stopped before the first step" in out and "bfloat16" in out and "4-bit" not in out


def test_a_stage_is_done_when_its_report_says_so_and_its_adapter_is_there(stages):
    stage = stages["sft"]
    assert not stage.is_done()
    (stage.folder / "report").mkdir(parents=True)
    (stage.folder / "adapter_model.safetensors").touch()
    for status, done in (("interrupted", False), ("finished", True)):
        (stage.folder / "report" / "metrics.json").write_text(json.dumps({"run": {"status": status}}))
        assert stage.is_done() is done
    (stage.folder / "adapter_model.safetensors").unlink()
    assert not stage.is_done()


def test_a_stopped_stage_goes_on_and_one_that_fails_stops_the_chain(script, stages, monkeypatch, tmp_path):
    commands = []

    def failing(command, **kwargs):
        commands.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", failing)
    for _ in range(2):
        with pytest.raises(SystemExit, match="Stopped in sft with status 1. Run the same command again"):
            script["run"](stages["sft"], tmp_path, agree=False)
        (stages["sft"].folder / "checkpoint-10").mkdir(parents=True, exist_ok=True)
    assert [command[-2:] == ["--resume_from_checkpoint", "true"] for command in commands] == [False, True]


def test_commands_between_the_stages_are_ours(stages):
    for name in ("sft-merged", "answers", "comparison"):
        assert stages[name].command[:2] == ["-m", "trl_kochat"]
        build_parser().parse_args(stages[name].command[2:])


def test_the_prompts_are_not_trained_on_but_for_one_of_the_course(script):
    prompts = (script["CONFIGS"] / "prompts.txt").read_text(encoding="utf-8").splitlines()
    assert len(prompts) == len(set(prompts)) == 24
    rows = json.loads((SAMPLE_DIR / "kochatgpt_1_SFT.jsonl").read_text(encoding="utf-8-sig"))
    assert not {row["prompt"] for row in rows if not row["held_out"]} & set(prompts)
