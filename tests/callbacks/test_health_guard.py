"""The guard in real trainers: bad runs planted, healthy runs silent."""

import logging
from statistics import median

import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback

from trl_kochat.callbacks import HealthGuardCallback, KoreanSamplesCallback, RunReportCallback
from trl_kochat.callbacks.health_guard import look_at_rows
from trl_kochat.report import RunRecord

from ..tiny_lm import tiny_tokenizer
from .training import PAIRS, ROWS, dpo_trainer, ppo_trainer, reward_trainer, sft_trainer


def said(trainer) -> list[str]:
    return [entry["health/code"] for entry in trainer.state.log_history if "health/code" in entry]


class Damage(TrainerCallback):
    """Do something to the model after a step."""

    def __init__(self, step, damage):
        self.step, self.damage = step, damage

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.step:
            with torch.no_grad():
                self.damage(model)


def make_nan(model):
    next(model.parameters()).fill_(torch.nan)


def always_say_the_same(model):
    """One token wins whatever was said: no answer ends, and all of them repeat it."""
    model.model.norm.weight.zero_()
    model.lm_head = torch.nn.Linear(model.config.hidden_size, model.config.vocab_size)
    model.lm_head.bias.zero_()
    model.lm_head.bias[tiny_tokenizer().convert_tokens_to_ids("a")] = 100.0


def short(prompts, completions, completion_ids, **columns):
    return [-float(len(ids)) for ids in completion_ids]


def test_weights_that_become_nan(tmp_path, caplog):
    guard = HealthGuardCallback()
    trainer = sft_trainer(tmp_path, max_steps=6, callbacks=[Damage(2, make_nan), guard])
    with caplog.at_level(logging.WARNING, "trl_kochat"):
        trainer.train()
    assert said(trainer) == ["not_finite"]  # once, though every later step shows it too
    assert caplog.text.count("training has diverged") == 1


def test_answers_that_never_end_and_loop(tmp_path):
    samples = KoreanSamplesCallback(every=1, max_new_tokens=64)
    trainer = sft_trainer(
        tmp_path,
        max_steps=6,
        learning_rate=0.0,
        callbacks=[Damage(1, always_say_the_same), HealthGuardCallback(), samples],
    )
    # So that healthy answers end, without a training that would take minutes: EOS wins from the start.
    head = trainer.model.lm_head
    trainer.model.lm_head = torch.nn.Linear(head.in_features, head.out_features)
    with torch.no_grad():
        trainer.model.lm_head.bias.zero_()
        trainer.model.lm_head.bias[trainer.processing_class.eos_token_id] = 100.0
    trainer.train()
    assert sorted(said(trainer)) == ["foreign_script_rises", "never_ends", "repetition_rises"]


# What is also true of a model that says one thing to everybody.
OTHERS = ["repetition_rises", "foreign_script_rises", "own_answer_at_chance"]
QUESTIONS = [{"prompt": f"{n}번 문제의 답은?", "completion": f"{n * 7}입니다."} for n in range(12)]


@pytest.mark.parametrize("stop", [False, True])
def test_a_model_that_says_one_thing_to_everybody_and_a_run_that_may_end_with_it(tmp_path, stop):
    samples = KoreanSamplesCallback(every=1, max_new_tokens=8)
    samples.watch(QUESTIONS)
    guard = HealthGuardCallback(stop_on_collapse=stop, ignore=OTHERS)
    trainer = sft_trainer(
        tmp_path, max_steps=8, learning_rate=0.0, callbacks=[samples, Damage(1, always_say_the_same), guard]
    )
    trainer.train()
    assert said(trainer) == ["same_answer"]
    assert trainer.state.global_step == (4 if stop else 8)  # from half of the run on
    assert any("health/stopped" in entry for entry in trainer.state.log_history) == stop


def test_what_is_no_collapse_does_not_stop_a_run_that_stops_on_collapse(tmp_path):
    guard = HealthGuardCallback(stop_on_collapse=True)
    trainer = sft_trainer(tmp_path, max_steps=3, max_length=24, callbacks=[guard])
    trainer.train()
    assert said(trainer) == ["rows_cut"] and trainer.state.global_step == 3


def test_a_reward_model_that_learns_nothing(tmp_path):
    contradictions = PAIRS + [{**pair, "chosen": pair["rejected"], "rejected": pair["chosen"]} for pair in PAIRS]
    settings = {"max_steps": 24, "per_device_train_batch_size": 16, "callbacks": [HealthGuardCallback()]}
    trainer = reward_trainer(tmp_path, rows=contradictions, **settings)
    trainer.train()
    assert said(trainer) == ["accuracy_at_chance"]


def test_rows_that_are_cut(tmp_path):
    trainer = sft_trainer(tmp_path, max_steps=1, max_length=24, callbacks=[HealthGuardCallback()])
    trainer.train()
    assert said(trainer) == ["rows_cut"]
    assert trainer.state.log_history[1]["step"] == 0  # said before the first step


def test_pairs_that_are_cut(tmp_path):
    trainer = dpo_trainer(tmp_path, max_steps=1, max_length=36, callbacks=[HealthGuardCallback()])
    trainer.train()
    assert said(trainer) == ["rows_cut"]


def test_chosen_answers_that_are_unlearnt(tmp_path):
    # Pairs that differ in one syllable, and steps far too long: pushing one answer down takes the other along.
    rows = [{**row, "chosen": row["completion"] + " 네.", "rejected": row["completion"] + " 예."} for row in ROWS]
    rows = [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in rows]
    settings = {"max_steps": 16, "per_device_train_batch_size": 8, "beta": 0.1, "learning_rate": 0.1}
    trainer = dpo_trainer(tmp_path, rows=rows, callbacks=[HealthGuardCallback()], **settings)
    trainer.train()
    assert "likelihood_displacement" in said(trainer)


def test_a_policy_that_leaves_its_reference(tmp_path):
    trainer = ppo_trainer(
        tmp_path,
        lambda prompts, completions, completion_ids, **columns: [float(ids.count(97)) for ids in completion_ids],
        max_steps=12,
        kl_coef=1e-6,
        num_ppo_epochs=2,
        learning_rate=0.03,
        callbacks=[HealthGuardCallback(max_kl=5.0, ignore=["never_ends"])],
    )
    trainer.train()
    assert "kl_too_large" in said(trainer)


@pytest.mark.parametrize("action", ["warn", "stop"])
def test_stop_ends_the_run_and_the_report_says_why(tmp_path, action):
    report = RunReportCallback(recipe="r", method="sft", preset="cpu", model="m", rows={})
    callbacks = [report, Damage(2, make_nan), HealthGuardCallback(action=action)]
    trainer = sft_trainer(tmp_path, max_steps=6, callbacks=callbacks)
    with report:
        trainer.train()
    run = RunRecord.load(tmp_path / "report").run
    if action == "stop":
        assert trainer.state.global_step == 3  # the first step on damaged weights
        assert run["status"] == "stopped" and "training has diverged" in run["reason"]
    else:
        assert trainer.state.global_step == 6 and run["status"] == "finished"
    assert "training has diverged" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("method", ["sft", "reward", "dpo", "ppo"])
def test_a_healthy_run_is_silent(tmp_path, method, caplog):
    makers = {
        "sft": lambda **settings: sft_trainer(tmp_path, **settings),
        "reward": lambda **settings: reward_trainer(tmp_path, **settings),
        "dpo": lambda **settings: dpo_trainer(tmp_path, **settings),
        "ppo": lambda **settings: ppo_trainer(tmp_path, short, max_completion_length=64, **settings),
    }
    settings = {"max_steps": 16, "per_device_train_batch_size": 8, "learning_rate": 1e-3}
    trainer = makers[method](callbacks=[HealthGuardCallback()], **settings)
    with caplog.at_level(logging.WARNING, "trl_kochat"):
        trainer.train()
    assert said(trainer) == []
    assert not [r for r in caplog.records if r.name.startswith("trl_kochat.callbacks")]
    assert trainer.state.log_history[0] == {"step": 0, "health/warnings": 0}


def test_a_resumed_run_does_not_say_it_again(tmp_path):
    settings = {"max_length": 24, "save_steps": 2}
    sft_trainer(tmp_path, max_steps=2, callbacks=[HealthGuardCallback()], **settings).train()
    trainer = sft_trainer(tmp_path, max_steps=4, callbacks=[HealthGuardCallback()], **settings)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert said(trainer) == ["rows_cut"]


def test_a_cause_can_be_left_out(tmp_path):
    guard = HealthGuardCallback(ignore=["rows_cut"])
    trainer = sft_trainer(tmp_path, max_steps=1, max_length=24, callbacks=[guard])
    trainer.train()
    assert said(trainer) == []


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"action": "abort"}, "'warn' or 'stop'"),
        ({"ignore": ["kl_to_large"]}, "ignore has kl_to_large.*kl_too_large"),
        ({"ignore": "kl_too_large"}, "a list of codes"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        HealthGuardCallback(**settings)


def test_what_rows_tell_before_training():
    tokenizer = tiny_tokenizer()
    eos = tokenizer.eos_token_id

    def look(max_length=4, **columns):
        return look_at_rows(Dataset.from_dict(columns) if columns else None, tokenizer, max_length=max_length)

    labels = [[-100, 7, 8, eos], [-100, 7, 8, 9], [-100, 7, eos]]
    rows = [[6, 7, 8, eos], [6, 7, 8, 9], [6, 7, eos]]  # as long as allowed and whole, cut, short
    assert look(input_ids=rows, labels=labels) == (pytest.approx(1 / 3), 3)
    assert look(input_ids=rows, labels=labels, max_length=None) == (None, 3)
    pairs = {"prompt_ids": [[1], [1, 2]], "chosen_ids": [[1], [1, 2]], "rejected_ids": [[1, 2], [1, 2, 3]]}
    assert look(**pairs) == (0.5, 1.5)
    assert look(input_ids=rows) == (pytest.approx(1 / 3), 4)
    assert look(prompt=["가"]) == look() == (None, None)


def test_packed_rows_tell_what_was_cut_but_not_how_long_an_answer_is():
    tokenizer = tiny_tokenizer()
    packed = Dataset.from_dict({"input_ids": [[6, 7, 8, 9, 6, 7]], "seq_lengths": [[4, 2]]})
    assert look_at_rows(packed, tokenizer, max_length=4, packed=True) == (0.5, None)


def test_the_prompt_is_no_part_of_the_answers_length(tmp_path):
    trainer = sft_trainer(tmp_path, max_steps=1)
    tokenizer = trainer.processing_class
    answers = [len(tokenizer(row["completion"] + tokenizer.eos_token)["input_ids"]) for row in ROWS]
    assert look_at_rows(trainer.train_dataset, tokenizer) == (None, median(answers))
