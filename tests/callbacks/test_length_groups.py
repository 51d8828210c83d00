import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from trl_kochat.callbacks.length_groups import group_by_length, sort_held_out_pairs

from ..tiny_lm import tiny_llama, tiny_reward_model, tiny_tokenizer
from .training import quiet


def pairs(lengths):
    """Pairs whose chosen or rejected side has `length` words, each with a number of its own."""
    sides = [("답 " * length + str(i), str(i)) for i, length in enumerate(lengths)]
    return [
        {"prompt": f"질문 {i}", "chosen": long if i % 2 else short, "rejected": short if i % 2 else long}
        for i, (long, short) in enumerate(sides)
    ]


def dpo_trainer(folder, rows, **more):
    config = DPOConfig(**quiet(folder, bf16=False, gradient_checkpointing=False, max_length=64, **more))
    dataset = Dataset.from_list(rows)
    return DPOTrainer(tiny_llama(), tiny_llama(), config, train_dataset=dataset, processing_class=tiny_tokenizer())


def reward_trainer(folder, rows, **more):
    config = RewardConfig(**quiet(folder, bf16=False, gradient_checkpointing=False, max_length=None, **more))
    dataset = Dataset.from_list(rows)
    return RewardTrainer(tiny_reward_model(), args=config, train_dataset=dataset, processing_class=tiny_tokenizer())


def sft_trainer(folder, rows, **more):
    config = SFTConfig(**quiet(folder, bf16=False, gradient_checkpointing=False, max_length=64, **more))
    rows = [{"prompt": row["prompt"], "completion": row["chosen"] + row["rejected"]} for row in rows]
    dataset = Dataset.from_list(rows)
    return SFTTrainer(tiny_llama(), args=config, train_dataset=dataset, processing_class=tiny_tokenizer())


def watch(trainer):
    """The batches that the trainer makes from here on, as the shape of their ids."""
    shapes, collate = [], trainer.data_collator

    def collated(rows):
        batch = collate(rows)
        shapes.append((*batch["input_ids"].shape, int(batch["attention_mask"].sum())))
        return batch

    trainer.data_collator = collated
    return shapes


LENGTHS = [1, 30, 2, 28, 3, 26, 4, 24, 5, 22, 6, 20, 7, 18, 8, 16] * 4


@pytest.mark.parametrize("make", [dpo_trainer, reward_trainer, sft_trainer])
def test_grouped_batches_hold_every_row_once_and_less_padding(make, tmp_path):
    padding, real = {}, {}
    for strategy in ("random", "group_by_length"):
        trainer = make(tmp_path, pairs(LENGTHS), train_sampling_strategy=strategy, num_train_epochs=1)
        group_by_length(trainer)
        shapes = watch(trainer)
        trainer.train()
        real[strategy] = sum(tokens for _, _, tokens in shapes)
        padding[strategy] = sum(rows * length for rows, length, _ in shapes) - real[strategy]
    assert real["group_by_length"] == real["random"]
    assert padding["group_by_length"] < 0.7 * padding["random"]


@pytest.mark.parametrize("make", [dpo_trainer, reward_trainer])
def test_held_out_pairs_are_evaluated_with_less_padding_and_the_same_loss(make, tmp_path):
    trainer = make(tmp_path, pairs(LENGTHS), per_device_eval_batch_size=8)
    trainer.eval_dataset = trainer.train_dataset
    shapes = watch(trainer)
    as_given = trainer.evaluate()["eval_loss"]
    padded = sum(rows * length for rows, length, _ in shapes)
    sort_held_out_pairs(trainer)
    shapes.clear()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(as_given, rel=1e-5)
    assert sum(rows * length for rows, length, _ in shapes) < 0.9 * padded


def test_other_held_out_rows_stay_in_their_order(tmp_path):
    trainer = sft_trainer(tmp_path, pairs(LENGTHS))
    trainer.eval_dataset = trainer.train_dataset
    sort_held_out_pairs(trainer)
    assert trainer.eval_dataset[:] == trainer.train_dataset[:]


def losses(trainer):
    return {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}


@pytest.mark.parametrize("stop", [10, 16], ids=["within an epoch", "between epochs"])
def test_a_resumed_run_goes_on_with_the_rows_that_are_left(tmp_path, stop):
    rows = pairs(LENGTHS[:16])
    settings = {"train_sampling_strategy": "group_by_length", "num_train_epochs": 3, "save_steps": stop}
    whole = dpo_trainer(tmp_path, rows, **settings)
    group_by_length(whole)
    whole.train()
    again = dpo_trainer(tmp_path, rows, **settings)
    group_by_length(again)
    torch.rand(7)  # what a run does before it goes on differs
    again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{stop}"))
    assert len(losses(again)) == 24 and losses(again) == pytest.approx(losses(whole), abs=1e-4)


def test_another_strategy_changes_nothing(tmp_path):
    trainer = dpo_trainer(tmp_path, pairs([1, 2, 3, 4]))
    columns, callbacks = trainer.train_dataset.column_names, list(trainer.callback_handler.callbacks)
    group_by_length(trainer)
    assert trainer.train_dataset.column_names == columns and trainer.args.remove_unused_columns
    assert trainer.callback_handler.callbacks == callbacks


@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(min_value=0, max_value=80), min_size=1, max_size=12))
def test_a_pair_is_as_long_as_its_longer_side_cut_at_max_length(lengths, tmp_path_factory):
    trainer = dpo_trainer(tmp_path_factory.mktemp("out"), pairs(lengths), train_sampling_strategy="group_by_length")
    group_by_length(trainer)
    for row in trainer.train_dataset:
        batch = trainer.data_collator([row])
        assert row["length"] == batch["input_ids"].shape[1]
