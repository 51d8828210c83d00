"""Every family goes through every stage, as docs/models.md says."""

import json
from dataclasses import fields
from typing import Any

import pytest
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig
from trl import ModelConfig, get_peft_config

from tests.families.matrix import run_family
from tests.families.memory import PUBLISHED, memory_of, memory_row
from tests.families.page import PAGE, page, stage_row
from tests.families.tiny import ALL_KNOWN, FAMILIES, SHAPES, tiny_model
from trl_kochat.errors import InputError
from trl_kochat.recipes import sft_kochatgpt
from trl_kochat.run.checks import check_target_modules
from trl_kochat.run.presets import preset_values


TEXT = PAGE.read_text(encoding="utf-8")
# One of each architecture that is unlike the others; the rest are llamas to the code.
QUICK = ("EXAONE 4", "HyperCLOVA X SEED", "Solar Open", "Gemma 3", "Polyglot-Ko, KoAlpaca, KULLM 2", "KoGPT2")
if not ALL_KNOWN:
    QUICK = ("HyperCLOVA X SEED", "KoGPT2")  # an older transformers: one with a head of ours and one with its own
# Experts, a window with tied weights, and the course's own.
SHORT = ("Solar Open", "Gemma 3", "KoGPT2")


def marks(name):
    return [*([] if name in QUICK else [pytest.mark.slow]), *([] if name in SHORT else [pytest.mark.long])]


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in FAMILIES])
def test_a_family_goes_through_every_stage_as_the_page_says(name):
    assert stage_row(name, run_family(name)) in TEXT.splitlines()


@pytest.mark.skipif(not ALL_KNOWN, reason="this transformers does not know all families")
def test_the_rest_of_the_page_is_what_is_measured_here():
    """Its stages are held by the test above."""
    starts = tuple(f"| {name} | `{family.model_type}` |" for name, family in FAMILIES.items())
    assert page([line for line in TEXT.splitlines() if line.startswith(starts)]) == TEXT


@pytest.mark.skipif(not ALL_KNOWN, reason="this transformers does not know all families")
def test_both_readmes_have_the_memory_of_each_family():
    for name in ("README.md", "README.ko.md"):
        lines = (PAGE.parents[1] / name).read_text(encoding="utf-8").splitlines()
        assert {memory_row(family) for family in PUBLISHED} <= set(lines)


def test_the_published_shapes_give_the_published_sizes():
    """Billions of parameters, as the models' cards have them."""
    cards = {"EXAONE 3.5": 2.4, "EXAONE 4": 1.28, "HyperCLOVA X SEED": 1.59, "Mi:dm 2": 2.3, "SOLAR 10.7B": 10.7}
    cards |= {"Solar Open": 102.6}
    cards |= {"Kanana 1.5": 8.0, "Qwen 3": 4.0, "Gemma 3": 1.0, "KoGPT2": 0.125}
    for name, billions in ((name, size) for name, size in cards.items() if name in FAMILIES):
        assert memory_of(name).parameters / 1e9 == pytest.approx(billions, rel=0.02)


KANANA = {
    "hidden_size": 56,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "num_hidden_layers": 2,
}


def test_a_config_that_transformers_refuses_is_one_sentence(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(KANANA | {"model_type": "llama"}))
    flags = ["--preset", "cpu", "--model_name_or_path", str(tmp_path), "--output_dir", str(tmp_path / "run")]
    with pytest.raises(InputError, match=r"refuses the config.json of .*heads \(3\). docs/models.md"):
        sft_kochatgpt.main(flags)


def test_such_a_llama_is_the_same_model_as_a_mistral():
    shape: dict[str, Any] = SHAPES["llama"] | {"vocab_size": 300, "head_dim": 32}
    rope = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    shape["rope_parameters"] = rope | {"original_max_position_embeddings": 64}
    llama = AutoModelForCausalLM.from_config(LlamaConfig(**shape)).eval()
    mistral = AutoModelForCausalLM.from_config(MistralConfig(**shape, sliding_window=None)).eval()
    mistral.load_state_dict(llama.state_dict())
    input_ids = torch.arange(2, 202)[None]
    with torch.no_grad():
        assert torch.equal(llama(input_ids).logits, mistral(input_ids).logits)
    AutoModelForCausalLM.from_config(MistralConfig(**KANANA, vocab_size=300, sliding_window=None))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("recipe", ["sft_kochatgpt", "reward_kochatgpt", "dpo_orca"])
def test_the_gpu_presets_adapt_modules_of_every_family(recipe, name, tmp_path):
    """By `--model_name_or_path` alone; PPO takes the adapters of the first two."""
    known = {field.name for field in fields(ModelConfig)}
    values = {key: value for key, value in preset_values(recipe, "gpu").items() if key in known}
    model_args = ModelConfig(**values | {"model_name_or_path": str(tmp_path)})
    model = tiny_model(FAMILIES[name].model_type)
    peft_config = get_peft_config(model_args)
    check_target_modules(peft_config, model_args, model.config)
    adapted = get_peft_model(model, peft_config)
    layers = {
        path.partition(".lora_A")[0].rpartition(".")[2] for path, _ in adapted.named_parameters() if "lora_A" in path
    }
    assert len(layers) >= 3
