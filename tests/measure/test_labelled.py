"""On a CPU a trainer's loss is that of TRL, from the labelled positions alone."""

from functools import partial

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PromptTuningConfig
from torch.utils.flop_counter import FlopCounterMode
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer

from tests.callbacks.training import PAIRS, ROWS, quiet
from tests.tiny_lm import tiny_llama, tiny_tokenizer
from trl_kochat.measure import score_labelled_positions


LORA = LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], init_lora_weights=False)
MARKED = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] }}{{ eos_token }}{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
)
TEXTS = [{"text": row["prompt"] + row["completion"]} for row in ROWS]
TURNS = [
    {
        "messages": [
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": row["completion"]},
        ]
    }
    for row in ROWS
]
JUDGED = [{**row, "label": i % 2 == 0} for i, row in enumerate(ROWS)]
# Weighted unlike each other, so that no two can make up for each other.
LOSSES = (
    "sigmoid hinge ipo exo_pair nca_pair robust bco_pair sppo_hard aot aot_unpaired apo_zero apo_down discopop sft "
    "sigmoid_norm"
).split()
EVERY_LOSS = {"loss_type": LOSSES, "loss_weights": [1 + i / 10 for i in range(len(LOSSES))], "label_smoothing": 0.1}


def one_step(folder, **settings):
    """A step of which the weights tell the gradient."""
    step = {"max_steps": 1, "optim": "sgd", "learning_rate": 1.0, "lr_scheduler_type": "constant", "max_grad_norm": 0}
    return quiet(folder, bf16=False, per_device_train_batch_size=4, **step) | settings


def sft(folder, rows=ROWS, peft_config=None, template=None, **settings):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template or tokenizer.chat_template
    return SFTTrainer(
        tiny_llama(),
        args=SFTConfig(**one_step(folder, **settings)),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=peft_config,
    )


def dpo(folder, trainer=DPOTrainer, config=DPOConfig, rows=PAIRS, ref_model=None, peft_config=LORA, **settings):
    torch.manual_seed(0)  # of the adapter
    return trainer(
        tiny_llama(),
        ref_model,
        args=config(**one_step(folder, **settings)),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_tokenizer(),
        peft_config=peft_config,
    )


CASES = {
    "completions": sft,
    "every token": partial(sft, rows=TEXTS),
    "packed": partial(sft, packing=True, packing_strategy="wrapped", max_length=24),
    "assistant_only_loss": partial(sft, rows=TURNS, template=MARKED, assistant_only_loss=True),
    "dft": partial(sft, loss_type="dft"),
    "prompt tuning": partial(sft, peft_config=PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)),
    "every loss of DPO": partial(dpo, **EVERY_LOSS),
    "a reference of its own": partial(dpo, ref_model=tiny_llama(1), peft_config=None),
    "references computed before": partial(dpo, precompute_ref_log_probs=True),
    "tails weighted": partial(dpo, ld_alpha=0.5),
    "pairs weighted": partial(dpo, use_weighting=True),
    "KTO": partial(dpo, trainer=KTOTrainer, config=KTOConfig, rows=JUDGED),
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_is_that_of_trl(case, tmp_path):
    found = []
    for ours in (False, True):
        trainer = CASES[case](tmp_path)
        if ours:
            score_labelled_positions(trainer)
        trainer.train()
        found.append((trainer.state.log_history[0], dict(trainer.model.named_parameters())))
    (log, weights), (our_log, our_weights) = found
    assert {"loss", "grad_norm", "entropy"} <= log.keys()
    assert our_log == pytest.approx(log, rel=1e-5, abs=1e-5)
    for name, weight in weights.items():
        torch.testing.assert_close(our_weights[name], weight, rtol=1e-5, atol=1e-5)


def test_what_has_no_label_costs_no_output_layer(tmp_path):
    flops = []
    for ours in (False, True):
        trainer = sft(tmp_path, rows=[{**row, "prompt": row["prompt"] * 5} for row in ROWS])
        if ours:
            score_labelled_positions(trainer)
        batch = next(iter(trainer.get_train_dataloader()))
        with FlopCounterMode(display=False) as counted:
            trainer.compute_loss(trainer.model, dict(batch))
        flops.append(counted.get_total_flops())
    labels = batch["labels"][:, 1:]
    of_a_position = 2 * trainer.model.config.hidden_size * trainer.model.config.vocab_size
    assert flops[0] - flops[1] == (labels == -100).sum() * of_a_position > 0


def test_a_batch_without_a_label_is_a_loss_of_zero_that_can_be_learned_from(tmp_path):
    trainer = sft(tmp_path)
    score_labelled_positions(trainer)
    batch = next(iter(trainer.get_train_dataloader()))
    batch["labels"].fill_(-100)
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    assert loss == 0 and all(p.grad is None or not p.grad.any() for p in trainer.model.parameters())


def test_other_passes_are_as_they_were(tmp_path):
    trainer = dpo(tmp_path)
    ids = torch.arange(12).view(2, 6)
    before = trainer.model(input_ids=ids, labels=ids)
    score_labelled_positions(trainer)
    after = trainer.model(input_ids=ids, labels=ids)
    assert torch.equal(before.logits, after.logits) and before.loss == after.loss
