"""Presets, where they lie, and the number formats of the machine."""

import pytest
import torch

from trl_kochat.errors import InputError
from trl_kochat.run.presets import choose_preset, precision, preset_values


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


def test_presets_are_a_folder_a_mapping_or_those_of_a_recipe(tmp_path):
    (tmp_path / "cpu.yaml").write_text("max_steps: 7  # ours\n")
    assert preset_values("mine", "cpu", tmp_path) == {"max_steps": 7}
    assert preset_values("mine", "cpu", {"cpu": {"max_steps": 8}}) == {"max_steps": 8}
    assert preset_values("mine", "gpu", {"cpu": {"max_steps": 8}}) == {}
    assert preset_values("mine", "cpu") == {}
    assert preset_values("dpo_orca", "gpu")["model_name_or_path"] == "LGAI-EXAONE/EXAONE-4.0-1.2B"
    with pytest.raises(InputError, match="There is no file .*gpu.yaml"):
        preset_values("mine", "gpu", tmp_path)
