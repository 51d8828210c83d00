"""What is checked before the first step; each check is made to fail."""

import copy
import importlib
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, MambaConfig
from trl import ModelConfig, RewardConfig, SFTConfig

from tests.families.tiny import tiny_model
from tests.run.test_room import lora_trainer
from tests.tiny_lm import tiny_gpt2, tiny_llama
from trl_kochat.errors import InputError
from trl_kochat.findings import Finding
from trl_kochat.models import keep_4bit_gradients
from trl_kochat.run import checks as preflight
from trl_kochat.run.checks import (
    check_before_loading,
    check_before_training,
    check_bitsandbytes,
    check_findings,
    check_quantized_layers,
    check_target_modules,
)


# 4-bit


def test_bitsandbytes_that_does_not_load_is_said(monkeypatch):
    def fail(name):
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ValueError, match="bitsandbytes does not load, .*libcudart.* --load_in_4bit false"):
        check_bitsandbytes()


@pytest.mark.parametrize(("capability", "good"), [((5, 2), False), ((6, 0), True), ((7, 5), True)])
def test_a_gpu_that_is_too_old_for_4bit_is_said(capability, good, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla M40")
    if good:
        check_bitsandbytes()
    else:
        with pytest.raises(ValueError, match="Tesla M40 has compute capability 5.2; 4-bit needs 6.0"):
            check_bitsandbytes()


def four_bit(folder, **shape):
    tiny_llama(**shape).save_pretrained(folder)
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=config, dtype=torch.float32)
    keep_4bit_gradients(model)
    return model


def test_4bit_layers_that_compute_pass(tmp_path):
    check_quantized_layers(four_bit(tmp_path))


def test_a_4bit_layer_that_does_not_compute_is_named(tmp_path, monkeypatch):
    model = four_bit(tmp_path)
    layer = model.model.layers[0].mlp.down_proj

    def fail(x):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(layer, "forward", fail)
    with pytest.raises(ValueError, match=r"4-bit layer model.layers.0.mlp.down_proj .* no kernel image .*4bit false"):
        check_quantized_layers(model)


def test_without_bitsandbytes_there_is_no_layer_to_try(monkeypatch):
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None)
    check_quantized_layers(tiny_llama())


# Tokenizer


def finding(code="no_eos", severity="error", fixed=False):
    return Finding(code, severity, "It never ends.", fixed=fixed)


def test_a_fault_that_could_not_be_repaired_stops_the_run():
    with pytest.raises(ValueError, match=r"no_eos: It never ends. To train all the same: --accept_findings no_eos b$"):
        check_findings([finding(), finding("b")])


def test_a_fault_that_was_repaired_or_accepted_or_is_no_error_does_not():
    check_findings([finding(fixed=True), finding(severity="warning"), finding("b")], accept=["b"])


# LoRA


def config_alone(folder, model):
    """A folder as it is before the weights come: what is told of it needs none."""
    model.config.save_pretrained(folder)
    return ModelConfig(model_name_or_path=str(folder), lora_target_modules=["q_proj", "v_proj"]), model.config


def test_modules_of_another_family_are_told_before_the_weights_are_loaded(tmp_path):
    model_args, config = config_alone(tmp_path / "gpt2", tiny_gpt2())
    with pytest.raises(
        InputError, match="q_proj v_proj: gpt2 has no such modules; it has c_attn, c_fc, c_proj, lm_head"
    ):
        check_target_modules(
            LoraConfig(target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
            model_args,
            config,
            given={"lora_target_modules"},
        )


@pytest.mark.parametrize("modules", [["q_proj", "v_proj"], ["c_proj", "v_proj"]])
def test_a_presets_modules_that_are_of_another_family_become_all_linear_layers(modules, tmp_path, capsys):
    model_args, config = config_alone(tmp_path / "gpt2", tiny_gpt2())
    peft_config = LoraConfig(target_modules=modules, task_type="CAUSAL_LM")
    check_target_modules(peft_config, model_args, config, given={"lora_r"})
    assert peft_config.target_modules == "all-linear" and model_args.lora_target_modules == ["all-linear"]
    assert "LoRA: gpt2 has no" in (said := capsys.readouterr().out) and "v_proj" in said and "c_proj" not in said


ABSENT = "LoRA: llama has no c_attn, v_prj; the others are trained ("


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ("all-linear", ""),
        (["q_proj", "mlp.up_proj", "embed_tokens"], ""),
        (r".*\.v_proj", ""),
        (["q_proj", "v_prj", "c_attn"], ABSENT),
    ],
    ids=["all-linear", "names", "pattern", "some absent"],
)
@pytest.mark.parametrize("task_type", ["CAUSAL_LM", "SEQ_CLS"])
def test_modules_of_which_some_are_there_are_trained_and_the_others_named(modules, said, task_type, tmp_path, capsys):
    model_args, config = config_alone(tmp_path / "llama", tiny_llama())
    peft_config = LoraConfig(target_modules=modules, task_type=task_type, modules_to_save=["score"])
    before = copy.deepcopy(peft_config)
    check_target_modules(peft_config, model_args, config, given={"lora_target_modules"})
    out = capsys.readouterr().out
    assert peft_config == before and out.startswith(said) and bool(out) == bool(said)


@pytest.fixture
def experts(tmp_path):
    return config_alone(tmp_path / "solar", tiny_model("solar_open"))


def test_a_preset_leaves_experts_that_are_one_tensor_alone(experts, capsys):
    """PEFT would adapt them as parameters, which take no dropout and no second adapter on the same base."""
    peft_config = LoraConfig(target_modules="all-linear", lora_dropout=0.05, task_type="CAUSAL_LM")
    check_target_modules(peft_config, *experts)
    attention = {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert peft_config.target_modules == attention == set(experts[0].lora_target_modules)
    assert (
        "solar keeps its experts in one tensor: adapters on k_proj, o_proj, q_proj, v_proj" in capsys.readouterr().out
    )
    adapted = get_peft_model(tiny_model("solar_open"), peft_config)
    assert not adapted.targeted_parameter_names and set(adapted.targeted_module_names)


def test_experts_that_one_asks_for_take_no_dropout(experts):
    def check(dropout: float):
        peft_config = LoraConfig(target_modules="all-linear", lora_dropout=dropout, task_type="CAUSAL_LM")
        check_target_modules(peft_config, *experts, given={"lora_target_modules"})
        return peft_config

    assert check(0.0).target_modules == "all-linear"
    with pytest.raises(InputError, match="no dropout: --lora_dropout 0, or .* --lora_target_modules k_proj o_proj"):
        check(0.05)


def test_a_model_that_cannot_score_is_told_before_its_weights_are_loaded(tmp_path):
    MambaConfig().save_pretrained(tmp_path / "mamba")
    model_args = ModelConfig(model_name_or_path=str(tmp_path / "mamba"))
    with pytest.raises(InputError, match="A model of type mamba cannot score"):
        check_before_loading(RewardConfig(output_dir=str(tmp_path / "run"), bf16=False), model_args, None)
    check_before_loading(SFTConfig(output_dir=str(tmp_path / "run"), bf16=False), model_args, None)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "model is no model that can be loaded; .*config.json"),
        ({"config.json": "[]"}, "model is no model that can be loaded; .*config.json"),
        ({"config.json": '{"model_type": "of_tomorrow"}'}, "model is no model that can be loaded; .*`of_tomorrow`"),
        ({"adapter_config.json": "{}"}, "it is an adapter: `trl-kochat merge .*model merged`"),
        (None, "model is a file; a model is a folder"),
    ],
    ids=["empty", "list", "unknown type", "adapter", "file"],
)
def test_what_is_no_model_is_said_before_anything_is_loaded(files, said, tmp_path):
    model = tmp_path / "model"
    if files is None:
        model.touch()
    else:
        model.mkdir()
        for name, text in files.items():
            (model / name).write_text(text)
    with pytest.raises(InputError, match=said):
        config = SFTConfig(output_dir=str(tmp_path / "run"), bf16=False)
        check_before_loading(config, ModelConfig(model_name_or_path=str(model)), None)


# All of them


class Refused(Exception):
    pass


@pytest.mark.parametrize(
    "check",
    [
        "check_findings",
        "check_quantized_layers",
        "check_room",
        "leave_earlier_run",
    ],
)
def test_every_check_is_made_before_training(check, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise Refused

    trainer = lora_trainer(tmp_path)
    arguments = SimpleNamespace(accept_findings=[], dry_run=True)
    trainer.model.save_pretrained(tmp_path / "checkpoint-2")
    check_before_training(trainer, arguments, [], str(tmp_path / "checkpoint-2"))
    monkeypatch.setattr(preflight, check, refuse)
    with pytest.raises(Refused):
        check_before_training(trainer, arguments, [], str(tmp_path / "checkpoint-2"))
