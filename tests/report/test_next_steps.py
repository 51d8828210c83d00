import shlex

import pytest
from peft import LoraConfig, get_peft_model

from trl_kochat.report.next_steps import next_steps

from ..tiny_lm import tiny_llama, tiny_reward_model, tiny_tokenizer
from .runs import make_record


def steps_for(method, folder, settings):
    return next_steps(make_record(method, run={"status": "finished", "output_dir": str(folder), "settings": settings}))


@pytest.mark.parametrize("method", ["sft", "reward", "dpo", "ppo"])
@pytest.mark.parametrize("peft", [True, False])
def test_the_page_tells_how_to_load_what_the_run_saved(tmp_path, monkeypatch, method, peft):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "it's a run"
    model = tiny_reward_model() if method == "reward" else tiny_llama()
    if peft:
        base = tmp_path / "base"
        model.save_pretrained(base)
        model.name_or_path = model.config.name_or_path = str(base)
        task = "SEQ_CLS" if method == "reward" else "CAUSAL_LM"
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type=task))
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    code = steps_for(method, folder, {"lora": {"r": 2}} if peft else {})[0].code
    names: dict = {}
    exec(code, names)  # what a reader would paste
    assert names["model"].num_parameters() > 0
    if method == "reward":
        assert len(names["scores"]) == 1


def test_each_stage_names_the_next(tmp_path):
    assert "reward_kochatgpt" in steps_for("sft", tmp_path, {})[1].code
    assert "ppo_kochatgpt" in steps_for("reward", tmp_path, {})[1].code
    assert "generate" in steps_for("ppo", tmp_path, {})[1].code == steps_for("dpo", tmp_path, {})[1].code


def test_commands_name_the_run_as_a_shell_reads_it():
    _, ppo, report = (shlex.split(step.code) for step in steps_for("reward", "my runs/rm", {}))
    assert ppo[-2:] == ["--reward_adapter", "my runs/rm"] and "my runs/rm" in report


def test_a_run_of_unknown_place_has_no_model_to_load():
    assert next_steps(make_record(run={"status": "finished"})) == []
