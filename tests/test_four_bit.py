"""LoRA on a 4-bit base on a CPU, the path of every cpu preset, gets the gradients of the dequantized model."""

import bitsandbytes as bnb
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

from trl_kochat.callbacks.looking import measuring
from trl_kochat.models import keep_4bit_gradients


CONFIG = LlamaConfig(
    vocab_size=128, hidden_size=256, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4
)


def with_lora(model):
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    return get_peft_model(model, config).float()


def gradients(model, ids):
    model(input_ids=ids, labels=ids).loss.backward()
    return torch.cat([p.grad.flatten() for name, p in model.named_parameters() if "lora_" in name])


def keep_and_measure(model, ids):
    """What the recipes do: the measures before training are forward passes in eval mode."""
    keep_4bit_gradients(model)
    model.eval()
    with torch.no_grad():
        model(input_ids=ids)
    model.train()


def only_measure(model, ids):
    """What the callbacks do in anybody's training."""
    model.train()
    with measuring(model):
        model(input_ids=ids)


@pytest.mark.parametrize("measure", [keep_and_measure, only_measure])
@pytest.mark.parametrize("shape", [(2, 24), (1, 24)])
def test_gradients_of_4bit_lora_are_those_of_the_dequantized_model(tmp_path, shape, measure):
    torch.manual_seed(0)
    LlamaForCausalLM(CONFIG).save_pretrained(tmp_path)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    quantized = AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=quantization, dtype=torch.float32)
    plain = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    for name, module in quantized.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            weight = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            plain.get_submodule(name).weight.data = weight.float()

    ids = torch.randint(0, CONFIG.vocab_size, shape)
    # After a forward pass in eval mode, bitsandbytes multiplies with a kernel without a backward on some CPUs.
    measure(quantized, ids)
    found, expected = gradients(with_lora(quantized), ids), gradients(with_lora(plain), ids)
    assert expected.norm() > 0
    # Some CPUs compute the 4-bit product in bf16.
    assert (found - expected).norm() / expected.norm() < 0.03
