"""Adapters of the stages before PPO, and prompts that fit."""

import json

import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from trl_kochat.ppo.stages import StageArguments, cut_prompts, find_stages
from trl_kochat.sample import SAMPLE_DIR, embedded


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(SAMPLE_DIR / "tiny-ko")


def as_prompts(*texts):
    system = {"role": "system", "content": "짧게 답하세요."}
    return Dataset.from_dict({"prompt": [[system, {"role": "user", "content": text}] for text in texts]})


def test_a_long_prompt_is_cut_to_the_limit_and_counted(tokenizer, capsys):
    short, long = "오늘 뭐 먹지?", "뛟쀍 아주 긴 질문이에요. " * 40
    dataset = cut_prompts(as_prompts(short, long), tokenizer, 60)
    lengths = [
        len(tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)["input_ids"])
        for row in dataset
    ]
    texts = [row["prompt"][-1]["content"] for row in dataset]
    assert texts[0] == short and long.startswith(texts[1]) and len(texts[1]) > 10
    assert 55 <= lengths[1] <= 60
    assert dataset[1]["prompt"][0]["content"] == "짧게 답하세요."
    assert "1 prompts cut to --max_prompt_length 60 tokens" in capsys.readouterr().out


def test_short_prompts_are_left_alone(tokenizer, capsys):
    dataset = as_prompts("오늘 뭐 먹지?")
    assert cut_prompts(dataset, tokenizer, 96)[:] == dataset[:] and capsys.readouterr().out == ""
    assert cut_prompts(dataset, tokenizer, None) is dataset


def test_a_limit_without_room_for_a_prompt_is_an_error(tokenizer):
    with pytest.raises(ValueError, match="no room for a prompt"):
        cut_prompts(as_prompts("오늘 뭐 먹지?"), tokenizer, 10)


def adapter(folder, base="some/base"):
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return str(folder)


def test_earlier_stages_are_found_where_they_were_left(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match="No adapter in runs/sft_kochatgpt. Make it first: trl-kochat sft_kochatgpt --preset gpu"
    ):
        find_stages(StageArguments(), "some/base", "gpu")
    with pytest.raises(ValueError, match="No adapter in elsewhere"):
        find_stages(StageArguments(sft_adapter="elsewhere"), "some/base", "cpu")
    for stage in ("sft", "reward"):
        adapter(tmp_path / "runs" / f"{stage}_kochatgpt")
    adapter(tmp_path / "elsewhere")
    assert find_stages(StageArguments(), "some/base", "gpu") == ("runs/sft_kochatgpt", "runs/reward_kochatgpt")
    given = StageArguments(sft_adapter="elsewhere")
    assert find_stages(given, "moved/base", "cpu") == ("elsewhere", "runs/reward_kochatgpt")


def test_without_earlier_stages_the_cpu_preset_takes_the_embedded_ones(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = find_stages(StageArguments(), embedded("tiny-ko"), "cpu")
    assert found == (str(SAMPLE_DIR / "tiny-ko-sft"), str(SAMPLE_DIR / "tiny-ko-reward"))


@pytest.mark.parametrize("odd", ["sft_adapter", "reward_adapter"])
def test_an_adapter_of_another_base_is_refused(tmp_path, odd):
    stages = {name: adapter(tmp_path / name) for name in ("sft_adapter", "reward_adapter")}
    stages[odd] = adapter(tmp_path / "odd", base="another/model")
    with pytest.raises(ValueError, match="odd was trained on another/model, and this run has some/base"):
        find_stages(StageArguments(**stages), "some/base", "gpu")
