"""Adapters and rewards of the stages before the last, and prompts that fit."""

import json
import sys
from types import SimpleNamespace

import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from trl_kochat import stages
from trl_kochat.errors import InputError
from trl_kochat.sample import SAMPLE_DIR, embedded
from trl_kochat.stages import StageArguments, cut_prompts, find_rewards, find_sft_adapter


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


def run_of(base, preset, *, reward_weights=None, **arguments):
    """As much of a `Run` as is asked about stages."""
    return SimpleNamespace(
        arguments=StageArguments(**arguments),
        config=SimpleNamespace(reward_weights=reward_weights),
        model_args=SimpleNamespace(model_name_or_path=base),
        preset=preset,
        tokenizer=None,
    )


def find_stages(run):
    return find_sft_adapter(run), *find_rewards(run)


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
        find_stages(run_of("some/base", "gpu"))
    with pytest.raises(ValueError, match="No adapter in elsewhere"):
        find_stages(run_of("some/base", "cpu", sft_adapter="elsewhere"))
    for stage in ("sft", "reward"):
        adapter(tmp_path / "runs" / f"{stage}_kochatgpt")
    adapter(tmp_path / "elsewhere")
    assert find_stages(run_of("some/base", "gpu")) == ("runs/sft_kochatgpt", "runs/reward_kochatgpt")
    given = run_of("moved/base", "cpu", sft_adapter="elsewhere")
    assert find_stages(given) == ("elsewhere", "runs/reward_kochatgpt")


def test_without_earlier_stages_the_cpu_preset_takes_the_embedded_ones(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = find_stages(run_of(embedded("tiny-ko"), "cpu"))
    assert found == (str(SAMPLE_DIR / "tiny-ko-sft"), str(SAMPLE_DIR / "tiny-ko-reward"))
    early = find_sft_adapter(run_of(embedded("tiny-ko"), "cpu"), embedded_name="tiny-ko-sft-early")
    assert early == str(SAMPLE_DIR / "tiny-ko-sft-early")


@pytest.mark.parametrize("odd", ["sft_adapter", "reward_adapter"])
def test_an_adapter_of_another_base_is_refused(tmp_path, odd):
    stages = {name: adapter(tmp_path / name) for name in ("sft_adapter", "reward_adapter")}
    stages[odd] = adapter(tmp_path / "odd", base="another/model")
    with pytest.raises(ValueError, match="odd was trained on another/model, and this run has some/base"):
        find_stages(run_of("some/base", "gpu", **stages))


def test_rewards_are_named_and_the_adapter_is_one_of_them(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run = run_of(embedded("tiny-ko"), "cpu", rewards=["korean_script", "reward_model"])
    function, folder = find_rewards(run)
    assert function.__name__ == "korean_script" and folder == str(SAMPLE_DIR / "tiny-ko-reward")
    # Without it no stage 2 is asked for.
    assert len(find_rewards(run_of("some/base", "gpu", rewards=["ends", "length:1,9"]))) == 2


def test_without_the_analyser_one_sentence_says_so_before_a_model_is_loaded(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "kiwipiepy", None)
    monkeypatch.setattr(stages, "reward_model", None)
    run = run_of(embedded("tiny-ko"), "cpu", rewards=["reward_model", "speech_level:해요체"])
    with pytest.raises(InputError, match=r"kiwipiepy is not installed: pip install \"trl_kochat\[korean\]\"$"):
        find_rewards(run, as_functions=True)


def test_two_rewards_of_a_kind_have_two_names():
    rewards = find_rewards(run_of("some/base", "gpu", rewards=["keyword:가", "ends", "keyword:나"]))
    assert [reward.__name__ for reward in rewards] == ["keyword", "ends", "keyword_2"]


def test_rewards_without_a_weight_are_refused():
    with pytest.raises(ValueError, match="1 --reward_weights for 2 --rewards"):
        find_rewards(run_of("some/base", "gpu", reward_weights=[1.0], rewards=["ends", "length:1,9"]))
    with pytest.raises(ValueError, match="--reward_weights 1.0 nan: give a finite number"):
        find_rewards(run_of("some/base", "gpu", reward_weights=[1.0, float("nan")], rewards=["ends", "length:1,9"]))
