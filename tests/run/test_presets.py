"""Presets, where they lie, and the number formats of the machine."""

import pytest
import torch
from transformers import Gemma3Config, GPT2Config, LlamaConfig

from trl_kochat.errors import InputError
from trl_kochat.run.presets import LEAST_WIDTH, choose_preset, precision, preset_values


@pytest.fixture
def cuda(monkeypatch):
    """Pretends a CUDA device with (or without) bf16."""

    def pretend(bf16):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)

    return pretend


def test_auto_takes_gpu_with_cuda(cuda):
    cuda(bf16=True)
    assert choose_preset("auto") == ("gpu", "a CUDA device is there")


BF16 = {"dtype": "bfloat16", "bf16": True, "fp16": False}
FP16 = {"dtype": "float16", "bf16": False, "fp16": True}
FP32 = {"dtype": "float32", "bf16": False, "fp16": False}


@pytest.mark.parametrize(("bf16", "expected"), [(True, BF16), (False, FP16)], ids=["bf16", "T4"])
def test_the_gpu_preset_computes_in_what_the_card_has(cuda, bf16, expected):
    cuda(bf16=bf16)
    assert precision("gpu") == expected
    assert precision("gpu", "auto") == {**expected, "dtype": "auto"}


@pytest.mark.parametrize("asked", [BF16, FP16, FP32], ids=lambda formats: formats["dtype"])
def test_a_number_format_that_is_asked_for_is_the_one_of_autocast(cuda, asked):
    cuda(bf16=True)
    assert precision("gpu", asked["dtype"]) == asked


def test_a_cpu_trains_in_float32_or_bfloat16():
    assert precision("cpu") == {**FP32, "use_cpu": True}
    assert precision("cpu", "bfloat16") == {**BF16, "use_cpu": True}
    with pytest.raises(InputError, match="nothing trains in it on a CPU"):
        precision("cpu", "float16")


@pytest.fixture
def bf16_processor(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)


CONFIGS = {
    "wide": (LlamaConfig(hidden_size=LEAST_WIDTH), BF16),
    "narrow": (LlamaConfig(hidden_size=LEAST_WIDTH - 64), FP32),
    "of another name": (GPT2Config(n_embd=768), BF16),
    "of a text model inside": (Gemma3Config(text_config={"hidden_size": 640}), BF16),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_cpu_trains_in_bfloat16_what_is_wide_enough_for_it_to_pay(case, bf16_processor, tmp_path):
    config, expected = CONFIGS[case]
    config.save_pretrained(tmp_path)
    assert precision("cpu", model=str(tmp_path)) == {**expected, "use_cpu": True}
    assert precision("cpu", "auto", model=str(tmp_path)) == {**expected, "dtype": "auto", "use_cpu": True}
    assert precision("cpu", "float32", model=str(tmp_path)) == {**FP32, "use_cpu": True}


def test_a_cpu_trains_in_float32_the_embedded_models_and_what_it_does_not_know(bf16_processor, tmp_path):
    for model in ("tiny-ko", "tiny-ko-chat", str(tmp_path), None):
        assert precision("cpu", model=model) == {**FP32, "use_cpu": True}


@pytest.mark.parametrize("capabilities", [None, {"avx512_f": True, "avx512_bf16": False}])
def test_a_processor_without_bfloat16_trains_in_float32(capabilities, monkeypatch, tmp_path):
    if capabilities is None:  # a torch that does not tell
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    LlamaConfig(hidden_size=2048).save_pretrained(tmp_path)
    assert precision("cpu", model=str(tmp_path)) == {**FP32, "use_cpu": True}


def test_presets_are_a_folder_a_mapping_or_those_of_a_recipe(tmp_path):
    (tmp_path / "cpu.yaml").write_text("max_steps: 7  # ours\n")
    assert preset_values("mine", "cpu", tmp_path) == {"max_steps": 7}
    assert preset_values("mine", "cpu", {"cpu": {"max_steps": 8}}) == {"max_steps": 8}
    assert preset_values("mine", "gpu", {"cpu": {"max_steps": 8}}) == {}
    assert preset_values("mine", "cpu") == {}
    assert preset_values("dpo_orca", "gpu")["model_name_or_path"] == "LGAI-EXAONE/EXAONE-4.0-1.2B"
    with pytest.raises(InputError, match="There is no file .*gpu.yaml"):
        preset_values("mine", "gpu", tmp_path)
