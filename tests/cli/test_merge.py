import shlex

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from tests.tiny_lm import tiny_llama, tiny_reward_model, tiny_tokenizer
from trl_kochat.cli import main
from trl_kochat.sample import SAMPLE_DIR


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_llama(hidden_size=64).save_pretrained("base")
    tiny_tokenizer().save_pretrained("base")
    torch.manual_seed(3)
    for name, task, model_class in (
        ("policy", "CAUSAL_LM", AutoModelForCausalLM),
        ("reward", "SEQ_CLS", type(tiny_reward_model())),
    ):
        base = model_class.from_pretrained("base", **({} if task == "CAUSAL_LM" else {"num_labels": 1}))
        config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False, task_type=task)
        get_peft_model(base, config).save_pretrained(name)
    return tmp_path


def merge(*arguments) -> int:
    return main(["merge", *map(str, arguments)])


def test_the_difference_is_printed_with_its_bound_and_how_to_serve(models, capsys):
    assert merge("policy", "my model") == 0
    first, difference, serve = capsys.readouterr().out.splitlines()
    assert first == "my model: policy merged into base, float32"
    assert "log-probability" in difference and "the adapter itself makes one of up to" in difference
    assert shlex.split(serve.removeprefix("Serve it: ").partition(",")[0]) == ["vllm", "serve", "my model"]
    assert main(["generate", "my model", "--prompt", "한우에요?", "--max_new_tokens", "4"]) == 0


def test_a_merged_reward_adapter_scores(models, capsys):
    asked = ["--prompt", "한우에요?", "--completion", "네.", "몰라요."]
    assert main(["score", "reward", *asked]) == 0
    expected = capsys.readouterr().out
    assert merge("reward", "merged") == 0
    out = capsys.readouterr().out
    assert "in a score" in out and "vllm serve merged --runner pooling" in out
    assert main(["score", "merged", *asked]) == 0
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("name", ["tiny-ko-sft", "tiny-ko-reward"])
def test_an_embedded_adapter_merges_into_the_embedded_model(name, tmp_path, capsys):
    assert merge(SAMPLE_DIR / name, tmp_path / "out", "--base", "tiny-ko") == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_change_that_rounding_drowns_is_refused_with_the_way_out(models, capsys):
    base = AutoModelForCausalLM.from_pretrained("base").bfloat16()
    base.save_pretrained("base")
    peft_model = get_peft_model(base, LoraConfig(r=1, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    for name, parameter in peft_model.named_parameters():
        if "lora_B" in name:
            parameter.data += 1e-5
    peft_model.save_pretrained("faint")
    assert merge("faint", "merged") == 2
    assert "Rounding to bfloat16 may drown so small a change: serve the adapter beside" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["policy", "base"], "base exists and is not an empty folder"),
        (["./nowhere", "out"], "There is no folder ./nowhere"),
        (["policy", "out", "--base", "./nowhere"], "There is no folder ./nowhere"),
        (["base", "out"], "base is no adapter that can be loaded"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, message, models, capsys):
    assert merge(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("trl-kochat merge: ") and message in error and error.count("\n") == 1
    assert {path.name for path in models.iterdir()} == {"base", "policy", "reward"}
