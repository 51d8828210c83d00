import json
import math
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from trl_kochat.callbacks.run_report import RunReportCallback
from trl_kochat.report import RunRecord

from .training import sft_trainer


CONTRACT = {"recipe", "method", "preset", "model", "seconds", "rows", "tokenizer", "before", "after", "versions"}
ROWS = {"read": 9, "made": 8, "dropped": {"empty": 1}, "train": 8, "eval": 0}


def report_callback(**settings):
    return RunReportCallback(
        **{"recipe": "sft_kochatgpt", "method": "sft", "preset": "cpu", "model": "tiny", "rows": ROWS} | settings
    )


def weight_norm(model):
    return {"eval_loss": float(sum(p.norm() for p in model.parameters()))}


def metrics(output_dir) -> dict:
    return json.loads((Path(output_dir) / "report" / "metrics.json").read_text(encoding="utf-8"))


class Raise(TrainerCallback):
    def __init__(self, error, step):
        self.error, self.step = error, step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise self.error


def test_a_run_leaves_the_metrics_of_the_contract(tmp_path):
    @dataclass
    class Finding:
        code: str
        severity: str
        fixed: bool

    report = report_callback(tokenizer_findings=[Finding("pad_is_eos", "error", True)], evaluate=weight_norm)
    with report:
        sft_trainer(tmp_path, max_steps=3, callbacks=[report]).train()
    found = metrics(tmp_path)
    assert found.keys() >= CONTRACT
    assert found["rows"].items() >= ROWS.items()
    assert found["tokenizer"] == [{"code": "pad_is_eos", "severity": "error", "fixed": True}]
    assert found["before"].keys() == found["after"].keys() == {"eval_loss"}
    assert found["before"] != found["after"]
    assert found["versions"].keys() >= {"python", "trl", "transformers", "torch", "trl_kochat"}
    assert found["run"]["status"] == "finished" and found["run"]["steps"] == 3
    assert found["seconds"] > 0
    assert found["run"]["peak_host_memory_mib"] > 50  # of this process, torch included
    assert [entry["step"] for entry in found["history"] if "loss" in entry] == [1, 2, 3]


def test_the_training_rows_are_measured_in_tokens(tmp_path):
    trainer = sft_trainer(tmp_path, max_steps=1, callbacks=[report_callback()])
    trainer.train()
    lengths = metrics(tmp_path)["rows"]["lengths"]["prompt and completion"]
    assert sum(lengths["counts"]) == lengths["rows"] == len(trainer.train_dataset)
    assert lengths["max"] == max(len(ids) for ids in trainer.train_dataset["input_ids"])


def test_training_is_the_same_with_and_without_measuring(tmp_path):
    def stochastic(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
        return {"eval_loss": torch.rand(1000).mean().item()}

    losses = []
    for name, callbacks in [("without", []), ("with", [report_callback(evaluate=stochastic)])]:
        trainer = sft_trainer(tmp_path / name, max_steps=3, dropout=0.1, callbacks=callbacks)
        trainer.model.lm_head.eval()  # a part that its owner keeps in evaluation mode
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == losses[1]


def test_every_part_keeps_its_own_mode(tmp_path):
    trainer = sft_trainer(tmp_path, max_steps=1)
    trainer.model.train()
    trainer.model.lm_head.eval()
    from trl_kochat.callbacks.looking import measuring

    with pytest.raises(RuntimeError, match="in the middle"), measuring(trainer.model):
        raise RuntimeError("in the middle")
    assert trainer.model.training and not trainer.model.lm_head.training


def test_a_resumed_run_keeps_the_first_measures(tmp_path):
    first = report_callback(evaluate=weight_norm)
    sft_trainer(tmp_path, max_steps=2, save_steps=2, callbacks=[first]).train()
    before, seconds = metrics(tmp_path)["before"], metrics(tmp_path)["seconds"]

    second = report_callback(evaluate=weight_norm)
    sft_trainer(tmp_path, max_steps=4, callbacks=[second]).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    found = metrics(tmp_path)
    assert found["before"] == before != found["after"]
    assert found["seconds"] > seconds
    assert found["run"]["resumed_from"] == [2]
    assert [entry["step"] for entry in found["history"] if "loss" in entry] == [1, 2, 3, 4]


def test_resuming_without_an_earlier_report_measures_nothing_as_before(tmp_path, caplog):
    sft_trainer(tmp_path, max_steps=1, save_steps=1).train()
    report = report_callback(evaluate=weight_norm)
    sft_trainer(tmp_path, max_steps=2, callbacks=[report]).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert metrics(tmp_path)["before"] == {} != metrics(tmp_path)["after"]
    assert "without the measures from before training" in caplog.text


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (KeyboardInterrupt(), "interrupted", "Ctrl-C"),
        (torch.OutOfMemoryError("too much"), "failed", "OutOfMemoryError: too much"),
    ],
)
def test_an_aborted_run_leaves_what_it_had(tmp_path, error, status, reason):
    report = report_callback(evaluate=weight_norm)
    with pytest.raises(type(error)), report:
        sft_trainer(tmp_path, max_steps=5, callbacks=[report, Raise(error, step=3)]).train()
    found = metrics(tmp_path)
    assert (found["run"]["status"], found["run"]["reason"]) == (status, reason)
    assert found["before"] and found["after"] == {}
    assert [entry["step"] for entry in found["history"]] == [1, 2]  # step 3 was not logged yet


def test_an_error_before_training_leaves_an_earlier_report_alone(tmp_path):
    earlier = report_callback()
    sft_trainer(tmp_path, max_steps=1, callbacks=[earlier]).train()
    report = report_callback(recipe="another", output_dir=tmp_path)
    with pytest.raises(ValueError, match="no such file"), report:
        raise ValueError("no such file")
    assert metrics(tmp_path)["recipe"] == "sft_kochatgpt"


def test_a_run_stopped_by_a_callback_is_not_called_finished(tmp_path):
    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 2

    report = report_callback(evaluate=weight_norm)
    sft_trainer(tmp_path, max_steps=5, callbacks=[report, Stop()]).train()
    assert metrics(tmp_path)["run"]["status"] == "stopped"
    assert metrics(tmp_path)["after"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_run_leaves_a_report(tmp_path):
    code = f"""
import os, signal
from transformers import TrainerCallback
from tests.callbacks.test_run_report import metrics, report_callback, weight_norm
from tests.callbacks.training import sft_trainer

class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if metrics({str(tmp_path)!r})["history"]:
            os.kill(os.getpid(), signal.SIGKILL)

report = report_callback(evaluate=weight_norm)
with report:
    sft_trainer({str(tmp_path)!r}, max_steps=2000, callbacks=[report, Kill()]).train()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=Path(__file__).parents[2])
    assert result.returncode == -signal.SIGKILL
    found = metrics(tmp_path)
    assert found["run"]["status"] == "running" and found["before"] and found["history"]
    assert "still running, or killed" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


def test_numbers_that_are_not_finite_stay_valid_json(tmp_path):
    report = report_callback(evaluate=lambda model: {"eval_loss": math.nan, "scores": [1.0, math.inf]})
    sft_trainer(tmp_path, max_steps=1, callbacks=[report]).train()
    text = (tmp_path / "report" / "metrics.json").read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert found["after"] == {"eval_loss": None}
    assert found["distributions"]["after"] == {"scores": [1.0, None]}


def test_only_the_main_process_writes(tmp_path):
    class SecondProcess(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            state.is_world_process_zero = False

    measured = []
    report = report_callback(evaluate=lambda model: measured.append(model) or {"eval_loss": 1.0})
    sft_trainer(tmp_path, max_steps=1, callbacks=[SecondProcess(), report]).train()
    assert not (tmp_path / "report").exists()
    assert len(measured) == 2  # it measures all the same: a sharded model needs every process


def test_the_table_says_what_became_better(tmp_path, capsys):
    answers = iter([{"eval_loss": 2.0, "hanja": 0.0, "kl": 0.0}, {"eval_loss": 1.5, "hanja": 0.1, "kl": 4.0}])
    report = report_callback(model="my[bold]model", evaluate=lambda model: next(answers))
    sft_trainer(tmp_path, max_steps=1, callbacks=[report]).train()
    printed = capsys.readouterr().out
    lines = {key: next(line for line in printed.splitlines() if key in line) for key in ("loss on", "Chinese", "KL")}
    assert "↓ better" in lines["loss on"] and "↑ worse" in lines["Chinese"]
    assert "better" not in lines["KL"] and "worse" not in lines["KL"] and "↑" in lines["KL"]
    assert "my[bold]model" in printed


def answers_of(*shares, rows=20):
    """What an `evaluate` gives, call by call: a share, its rows, and counts of them."""
    of_rows = ([1.0] * round(share * rows) + [0.0] * round((1 - share) * rows) for share in shares)
    measured = iter([{"right": sum(r) / rows, "right_by_row": r, "n": rows, "left_out": 2} for r in of_rows])
    return lambda model: next(measured)


def test_a_measure_with_rows_has_an_interval_and_counts_are_no_measures(tmp_path):
    report = report_callback(evaluate=answers_of(0.1, 0.9))
    sft_trainer(tmp_path, max_steps=1, callbacks=[report]).train()
    found = metrics(tmp_path)
    assert (found["before"], found["after"], found["n"]) == ({"right": 0.1}, {"right": 0.9}, {"right": 20})
    assert found["rows"]["measured"] == {"n": 20, "left_out": 2}
    assert set(found["intervals"]) == {"before", "after", "change"}
    low, high = found["intervals"]["change"]["right"]
    assert 0.5 < low < 0.8 < high <= 1


def test_a_resumed_run_pairs_its_rows_with_those_of_its_first_part(tmp_path):
    sft_trainer(
        tmp_path, max_steps=1, save_steps=1, callbacks=[report_callback(evaluate=answers_of(0.1, 0.5))]
    ).train()
    second = sft_trainer(tmp_path, max_steps=2, callbacks=[report_callback(evaluate=answers_of(0.9))])
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert metrics(tmp_path)["intervals"]["change"]["right"][0] > 0.5


@pytest.mark.parametrize(
    ("place", "said"), [("ko_KR", "맞는 답이 10%에서 90%로"), ("C", "More answers are right (10%")]
)
def test_the_verdict_is_kept_and_said_in_the_language_of_the_machine(tmp_path, capsys, monkeypatch, place, said):
    monkeypatch.setattr("locale.getlocale", lambda: (place, "UTF-8"))
    report = report_callback(evaluate=answers_of(0.1, 0.9))
    sft_trainer(tmp_path, max_steps=1, callbacks=[report]).train()
    assert said in capsys.readouterr().out
    assert set(metrics(tmp_path)["verdict"]) == {"ko", "en"}


def test_a_run_that_breaks_off_says_so_in_its_verdict(tmp_path):
    report = report_callback(evaluate=answers_of(0.1))
    with pytest.raises(RuntimeError), report:
        sft_trainer(tmp_path, max_steps=3, callbacks=[report, Raise(RuntimeError("no"), 2)]).train()
    assert metrics(tmp_path)["verdict"]["en"].startswith("Warning: the run ended at step")


def test_the_record_reads_back_what_it_wrote(tmp_path):
    report = report_callback(evaluate=weight_norm)
    sft_trainer(tmp_path, max_steps=2, callbacks=[report]).train()
    assert RunRecord.load(tmp_path / "report").before == report.record.before


def test_a_folder_without_a_report_says_what_to_give(tmp_path):
    with pytest.raises(ValueError, match="--output_dir of a run"):
        RunRecord.load(tmp_path)
