"""The callbacks in a run of two processes."""

import pytest
import torch

from trl_kochat.measure.generate import COURSE_PROMPTS
from trl_kochat.report import RunRecord, read_samples

from .training import run_two_processes


SCRIPT = """
import sys
from trl_kochat.callbacks import HealthGuardCallback, KoreanSamplesCallback, RunReportCallback
from tests.callbacks.test_health_guard import Damage, make_nan
from tests.callbacks.training import sft_trainer

report = RunReportCallback(
    recipe="r", method="sft", preset="cpu", model="m", rows={}, evaluate=lambda model: {"eval_loss": 1.0}
)
callbacks = [KoreanSamplesCallback(every=2, max_new_tokens=3), report, Damage(4, make_nan), HealthGuardCallback(action="stop")]
with report:
    trainer = sft_trainer(sys.argv[1], max_steps=8, callbacks=callbacks, save_steps=100)
    trainer.train()
print("stopped at", trainer.state.global_step)
trainer.accelerator.end_training()
"""


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch is built without distributed")
def test_one_process_writes_and_all_of_them_stop(tmp_path):
    (status, main, errors), (other_status, other, other_errors) = run_two_processes(SCRIPT, tmp_path)
    assert [status, other_status] == [0, 0], errors[-3000:] + other_errors[-3000:]
    assert "stopped at 5" in main and "stopped at 5" in other
    for line in ("Run report:", "Samples, step 0"):
        assert line in main and line not in other
    samples = read_samples(tmp_path / "out" / "report")
    assert [s.step for s in samples if s.prompt == COURSE_PROMPTS[0]] == [0, 2, 4, 5]
    run = RunRecord.load(tmp_path / "out" / "report").run
    assert run["status"] == "stopped" and run["processes"] == 2
