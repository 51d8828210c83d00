"""Callbacks without arguments in every public trainer of TRL, and in a plain one of transformers."""

import json

import pytest
from datasets import Dataset
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments
from trl import GRPOConfig, GRPOTrainer, KTOConfig, KTOTrainer, RLOOConfig, RLOOTrainer

from trl_kochat.callbacks import HealthGuardCallback, KoreanSamplesCallback, RunReportCallback
from trl_kochat.measure.generate import COURSE_PROMPTS
from trl_kochat.report import RunRecord, read_samples

from ..tiny_lm import tiny_llama, tiny_reward_model, tiny_tokenizer
from .training import ROWS, dpo_trainer, ppo_trainer, quiet, reward_trainer, sft_trainer


PROMPTS = Dataset.from_list([{"prompt": row["prompt"]} for row in ROWS * 2])


def length(completion_ids, **columns):
    return [float(len(ids)) for ids in completion_ids]


def saved(folder):
    """A model with a name, which TRL's online trainers ask for."""
    tiny_llama().save_pretrained(folder / "base")
    return str(folder / "base")


def settings(folder, **more):
    return quiet(folder, bf16=False, gradient_checkpointing=False, max_steps=2, **more)


def grpo(folder, callbacks, trainer=GRPOTrainer, config=GRPOConfig):
    args = config(**settings(folder, num_generations=2, max_completion_length=4))
    return trainer(saved(folder), [length], args, PROMPTS, processing_class=tiny_tokenizer(), callbacks=callbacks)


def kto(folder, callbacks):
    rows = Dataset.from_list([{**row, "label": bool(i % 2)} for i, row in enumerate(ROWS)])
    args, tokenizer = KTOConfig(**settings(folder)), tiny_tokenizer()
    return KTOTrainer(saved(folder), args=args, train_dataset=rows, processing_class=tokenizer, callbacks=callbacks)


def plain(folder, callbacks, model=None, tokenizer=None):
    tokenizer = tokenizer or tiny_tokenizer()
    rows = Dataset.from_list([tokenizer(row["prompt"] + row["completion"]) for row in ROWS])
    rows = rows.add_column("labels", rows["input_ids"] if model is None else [0, 1, 0, 1])
    return Trainer(
        model or tiny_llama(),
        TrainingArguments(**settings(folder) | {"per_device_train_batch_size": 1}),
        train_dataset=rows,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=callbacks,
    )


TRAINERS = {
    "sft": lambda folder, callbacks: sft_trainer(folder, max_steps=2, callbacks=callbacks),
    "reward": lambda folder, callbacks: reward_trainer(folder, max_steps=2, callbacks=callbacks),
    "dpo": lambda folder, callbacks: dpo_trainer(folder, max_steps=2, callbacks=callbacks),
    "ppo": lambda folder, callbacks: ppo_trainer(
        folder, lambda completion_ids, **columns: length(completion_ids), max_steps=2, callbacks=callbacks
    ),
    "grpo": grpo,
    "rloo": lambda folder, callbacks: grpo(folder, callbacks, RLOOTrainer, RLOOConfig),
    "kto": kto,
    "training": plain,
}


@pytest.mark.parametrize("method", TRAINERS)
def test_a_page_without_arguments(tmp_path, method):
    output_dir = tmp_path / "my_run"
    report = RunReportCallback()
    trainer = TRAINERS[method](output_dir, [KoreanSamplesCallback(max_new_tokens=3), HealthGuardCallback(), report])
    with report:
        trainer.train()
    found = json.loads((output_dir / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert (found["recipe"], found["method"], found["preset"]) == ("my_run", method, "custom")
    assert found["rows"]["train"] == len(trainer.train_dataset)
    assert found["model"] and found["versions"]["trl"] and found["run"]["status"] == "finished"
    page = (output_dir / "report" / "index.html").read_text(encoding="utf-8")
    failed = [warning["message"] for warning in found["warnings"] if warning["code"] == "look_failed"]
    if method == "reward":  # it writes nothing, and was given no answers to score
        assert len(failed) == 1 and "preference rows" in page
    else:
        assert {s.step for s in read_samples(output_dir / "report")} == {0, 1, 2}
        assert COURSE_PROMPTS[0] in page and not failed


def test_a_method_that_nobody_described_is_drawn_by_what_it_logged(tmp_path):
    report = RunReportCallback()
    grpo(tmp_path, [report]).train()
    pictures = {path.stem for path in (tmp_path / "report").glob("*.png")}
    assert pictures >= {"reward", "completion_length", "log_reward_std", "log_rewards_length"}
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "group relative policy optimization" in page.lower() and "rewards length" in page


def test_without_a_tokenizer_one_sentence_says_what_to_give(tmp_path, caplog):
    for name, given in (("without", {}), ("with", {"tokenizer": tiny_tokenizer()})):
        caplog.clear()
        output_dir = tmp_path / name
        callbacks = [KoreanSamplesCallback(max_new_tokens=3, **given), RunReportCallback(**given)]
        trainer = plain(output_dir, callbacks)
        trainer.processing_class = trainer.callback_handler.processing_class = None
        trainer.train()
        said = [record.getMessage() for record in caplog.records if "tokenizer=" in record.getMessage()]
        assert len(said) == (2 if name == "without" else 0)  # of samples and of the tokenizer check
        assert bool(read_samples(output_dir / "report")) == (name == "with")


def test_a_classifier_writes_no_answers_and_is_trained_all_the_same(tmp_path):
    model = tiny_reward_model(num_labels=2)
    trainer = plain(tmp_path, [KoreanSamplesCallback(), RunReportCallback()], model=model)
    trainer.train()
    (warning,) = RunRecord.load(tmp_path / "report").warnings
    assert trainer.state.global_step == 2 and "writes no answers" in warning["message"]
