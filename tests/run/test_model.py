"""From a recipe's arguments to 4-bit and LoRA."""

import pytest
import torch
from trl import DPOConfig

from trl_kochat.run import model as model_module
from trl_kochat.run.arguments import parse
from trl_kochat.run.model import model_arguments, refuse_lora_settings


def parsed(*argv):
    return parse("some_recipe", DPOConfig, ["--model_name_or_path", "tiny", "--dataset_name", "rows", *argv])


@pytest.mark.parametrize(
    ("given", "targets"), [("q_proj", ["q_proj"]), ("all-linear", "all-linear"), (r".*\.q_proj", r".*\.q_proj")]
)
def test_one_name_of_modules_is_a_name_and_no_pattern(given, targets):
    """TRL makes a text of a list of one, and PEFT holds a text against whole paths, of which none is `q_proj`."""
    run = parsed("--use_peft", "--lora_target_modules", given)
    _, peft = model_arguments(run.model_args, run.config)
    assert peft.target_modules == targets


def test_4bit_lora_arguments_reach_trl():
    argv = [
        "--load_in_4bit",
        "--use_bnb_nested_quant",
        "--use_peft",
        "--lora_r",
        "4",
        "--lora_target_modules",
        "q_proj",
        "v_proj",
    ]
    given = parsed(*argv)
    quantization, peft = model_arguments(given.model_args, given.config)
    assert quantization.load_in_4bit and quantization.bnb_4bit_use_double_quant
    assert quantization.bnb_4bit_quant_type == "nf4" and quantization.bnb_4bit_compute_dtype == torch.float32
    assert (peft.r, set(peft.target_modules)) == (4, {"q_proj", "v_proj"})
    assert given.config.model_init_kwargs["dtype"] == "float32" and given.config.model_init_kwargs["use_safetensors"]


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--lora_r", "8"], "--lora_r"),
        (["--lora_r=16"], "--lora_r"),  # the default's value: the adapters may still have another
        (["--lora-alpha", "8"], "--lora_alpha"),
        (["--use_dora", "--lora_target_modules", "q_proj"], "--lora_target_modules, --use_dora"),
        (["--config", "{config}"], "--lora_dropout"),
        (["--use_peft", "False"], "--use_peft False"),
    ],
)
def test_a_stage_on_earlier_adapters_refuses_what_would_shape_new_ones(tmp_path, argv, named):
    config = tmp_path / "config.yaml"
    config.write_text("lora_dropout: 0.5\n")
    given = parsed("--use_peft", *(word.format(config=config) for word in argv))
    with pytest.raises(ValueError, match=f"^{named} would have no effect: this trains on the LoRA of stage 1"):
        refuse_lora_settings(given.given, given.model_args, "LoRA of stage 1")


def test_what_is_not_about_lora_may_be_given_to_a_stage_on_earlier_adapters():
    given = parsed("--use_peft", "True", "--load_in_4bit", "--learning_rate", "1")
    refuse_lora_settings(given.given, given.model_args, "LoRA of stage 1")


def test_without_bitsandbytes_lora_trains_without_4bit_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr(model_module.importlib.util, "find_spec", lambda name: None)
    given = parsed("--load_in_4bit", "--use_peft")
    quantization, peft = model_arguments(given.model_args, given.config)
    assert quantization is None and peft is not None
    assert capsys.readouterr().out.count("\n") == 1
