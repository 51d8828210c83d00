from peft import LoraConfig, get_peft_model
from trl import DPOConfig

from trl_kochat.report.settings import settings_of

from ..tiny_lm import tiny_llama


def test_only_what_was_chosen_is_a_setting():
    args = DPOConfig(output_dir="runs/x", beta=0.3, hub_token="hf_secret", report_to="none", use_cpu=True, bf16=False)
    found = settings_of(args)
    assert found["beta"] == 0.3
    assert not {"output_dir", "max_steps", "hub_token", "report_to"} & found.keys()
    assert "hf_secret" not in str(found)


def test_the_adapter_is_a_setting():
    model = get_peft_model(tiny_llama(), LoraConfig(r=4, target_modules=["v_proj", "q_proj"]))
    args = DPOConfig(output_dir="x", report_to="none", use_cpu=True, bf16=False)
    assert settings_of(args, model)["lora"]["r"] == 4
    assert settings_of(args, model)["lora"]["target_modules"] == ["q_proj", "v_proj"]
    assert "lora" not in settings_of(args, tiny_llama())
