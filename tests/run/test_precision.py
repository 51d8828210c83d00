"""What is computed in half precision, and what is trained in float32."""

from dataclasses import dataclass, make_dataclass

import pytest
import torch
import trl
from peft import LoraConfig, get_peft_model
from transformers import BitsAndBytesConfig

from tests.test_recipes import RECIPES
from tests.test_versions import CONFIGS
from tests.tiny_lm import tiny_llama
from trl_kochat import format_dataset, load_rows, load_tokenizer
from trl_kochat.measure.logps import feed_in_one_block
from trl_kochat.models import train_in_float32
from trl_kochat.run.arguments import parse
from trl_kochat.run.presets import preset_values
from trl_kochat.sample import embedded


@dataclass
class Machine:
    cuda: bool
    bf16: bool


MACHINES = {"no GPU": Machine(False, False), "T4": Machine(True, False), "bf16 card": Machine(True, True)}
FORMATS = {
    "no GPU": ("float32", False, False),
    "T4": ("float16", False, True),
    "bf16 card": ("bfloat16", True, False),
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_computes_in_the_same_formats(path, machine, monkeypatch):
    pretended = MACHINES[machine]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pretended.cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: pretended.bf16)
    config_class, *kinds = CONFIGS[path.stem]
    arguments = make_dataclass("Arguments", [], bases=tuple(kinds))
    found = parse(path.stem, config_class, ["--use_cpu", "true", "--report_to", "none"], arguments_class=arguments)
    assert found.preset == ("gpu" if pretended.cuda else "cpu")
    assert (found.model_args.dtype, found.config.bf16, found.config.fp16) == FORMATS[machine]


def test_no_weight_stands_still_in_bf16_with_a_4bit_base(tmp_path):
    """Without float32 weights updates smaller than bf16's 8 bits are rounded away: 60 % of these stood still."""
    values = preset_values("reward_kochatgpt", "cpu")
    lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="SEQ_CLS")
    args = trl.RewardConfig(
        output_dir=str(tmp_path),
        bf16=True,
        use_cpu=True,
        max_steps=8,
        learning_rate=5e-5,
        per_device_train_batch_size=4,
        max_length=128,
        report_to="none",
        save_strategy="no",
        gradient_checkpointing=False,
        model_init_kwargs={"dtype": "bfloat16"},
    )
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    trainer = trl.RewardTrainer(
        model=embedded("tiny-ko"),
        args=args,
        train_dataset=format_dataset(load_rows(values["dataset_name"][0]), "kochatgpt_rm"),
        processing_class=load_tokenizer("tiny-ko"),
        quantization_config=quantization,
        peft_config=lora,
    )
    train_in_float32(trainer.model)
    trained = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32} and any("score" in name for name in trained)
    before = {name: p.detach().clone() for name, p in trained.items()}
    trainer.train()
    still = {name: (before[name] == p).float().mean().item() for name, p in trained.items()}
    # Adam moves every weight that ever had a gradient; rounding float32 keeps few of them.
    assert max(share for name, share in still.items() if "lora_A" in name or "score" in name) < 0.02, still


def test_the_output_layer_reads_a_slice_of_a_batch_in_one_block():
    """Else torch copies frozen weights once for each row on a CPU, which for Gemma's vocabulary takes minutes."""
    model = get_peft_model(tiny_llama(), LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
    ids, read = torch.arange(12).view(2, 6), []
    slices = model(input_ids=ids, logits_to_keep=3).logits
    feed_in_one_block(model)
    model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    torch.testing.assert_close(model(input_ids=ids, logits_to_keep=3).logits, slices)  # another kernel: to rounding
    assert [(tuple(hidden.shape[:2]), hidden.is_contiguous()) for hidden in read] == [((2, 3), True)]
