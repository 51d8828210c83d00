import doctest

import pytest
import torch
from jinja2 import TemplateError
from transformers import TrainerCallback, TrainerState, TrainingArguments
from trl import SFTConfig

from trl_kochat.callbacks import HealthGuardCallback, KoreanSamplesCallback, RunReportCallback, looking
from trl_kochat.callbacks.looking import method_of, tokenizer_of
from trl_kochat.ppo import PPOConfig
from trl_kochat.report import RunRecord

from ..tiny_lm import tiny_tokenizer
from .training import sft_trainer


def test_examples_in_docstrings():
    assert doctest.testmod(looking, extraglobs={"TrainingArguments": TrainingArguments}).failed == 0


def test_the_method_is_that_of_the_arguments_also_where_they_were_extended(tmp_path):
    class MyConfig(SFTConfig):
        pass

    assert method_of(MyConfig(str(tmp_path), bf16=False)) == "sft"
    assert method_of(PPOConfig(str(tmp_path))) == "ppo"


def test_a_processor_holds_its_tokenizer_and_none_is_said_in_one_sentence():
    class Processor:
        tokenizer = tiny_tokenizer()

    assert tokenizer_of(Processor) is Processor.tokenizer
    with pytest.raises(ValueError, match="no processing_class .* tokenizer="):
        tokenizer_of(None)


def failing(error):
    def fail(*args, **kwargs):
        raise error

    return fail


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("device-side assert"),
        IndexError("index 5619 is out of range"),
        ZeroDivisionError("no rows"),
        OSError("no space left"),
        TemplateError("roles must alternate"),
        ModuleNotFoundError("no module"),
    ],
)
def test_a_measure_that_fails_is_said_counted_and_shown_and_training_goes_on(tmp_path, caplog, error):
    report = RunReportCallback(evaluate=failing(error))
    trainer = sft_trainer(tmp_path, max_steps=2, callbacks=[report])
    with report:
        trainer.train()
    assert trainer.state.global_step == 2
    assert caplog.text.count("training failed, and training goes on") == 2  # before and after
    record = RunRecord.load(tmp_path / "report")
    assert record.run["status"] == "finished" and record.before == {} == record.after
    assert [(w["code"], w["steps"]) for w in record.warnings] == [("look_failed", [0]), ("look_failed", [2])]
    assert str(error) in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


def test_samples_that_fail_every_time_are_said_once_and_counted(tmp_path, caplog):
    samples = KoreanSamplesCallback(every=1, score=failing(ValueError("the\x1b[2J reward\nmodel is away")))
    report = RunReportCallback()
    trainer = sft_trainer(tmp_path, max_steps=3, callbacks=[samples, HealthGuardCallback(), report])
    trainer.train()
    assert trainer.state.global_step == 3
    assert caplog.text.count("Scoring the samples failed") == 1
    assert "the\\x1b[2J reward model is away" in caplog.text
    (warning,) = RunRecord.load(tmp_path / "report").warnings
    assert warning["steps"] == [0, 1, 2, 3]


def test_a_report_that_cannot_be_written_does_not_end_the_run(tmp_path, caplog):
    (tmp_path / "report").write_text("a file where the folder should be")
    report = RunReportCallback()
    trainer = sft_trainer(tmp_path, max_steps=2, callbacks=[report, KoreanSamplesCallback(max_new_tokens=2)])
    with report:
        trainer.train()
    assert trainer.state.global_step == 2
    assert "Writing the report's numbers failed" in caplog.text and "Keeping the samples failed" in caplog.text


def test_a_measure_that_is_no_number_is_refused_before_it_spoils_the_file(tmp_path):
    report = RunReportCallback(evaluate=lambda model: {"eval_loss": "low"})
    sft_trainer(tmp_path, max_steps=1, callbacks=[report]).train()
    assert "eval_loss" in RunRecord.load(tmp_path / "report").warnings[0]["message"]


def test_what_failed_is_no_reason_to_have_stopped(tmp_path):
    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = True

    report = RunReportCallback(evaluate=failing(ValueError("no rows")))
    sft_trainer(tmp_path, max_steps=3, callbacks=[report, Stop()]).train()
    assert report.record.run["reason"] == "a callback asked for it"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_a_signal_is_no_failure_of_looking(error):
    with pytest.raises(type(error)), looking.looking("It", TrainerState()):
        raise error
