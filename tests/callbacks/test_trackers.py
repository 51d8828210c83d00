"""What the callbacks send to trackers, read back from what the trackers keep on disk."""

import doctest
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trl_kochat.callbacks import KoreanSamplesCallback, trackers
from trl_kochat.measure.generate import COURSE_PROMPTS

from .training import sft_trainer


def test_examples_in_docstrings():
    assert doctest.testmod(trackers).failed == 0


def offline_history(file: Path) -> Iterator[dict]:
    """Rows of the history in a run that wandb keeps offline: records of protobuf in LevelDB's log format.

    Blocks of 32 KiB; a record is CRC (4 bytes), length (2), kind (1: whole, 2 to 4: first, middle, last part), data.
    """
    from wandb.proto import wandb_internal_pb2

    data, position, parts = file.read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = 32_768 - position % 32_768
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack("<HB", data[position + 4 : position + 7])
        position += 7
        parts += data[position : position + length]
        position += length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            if record.WhichOneof("record_type") == "history":
                yield {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
                }


def test_wandb_offline_has_curves_and_a_table_of_samples(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    callback = KoreanSamplesCallback(every=2, max_new_tokens=4)
    trainer = sft_trainer(tmp_path / "run", max_steps=4, report_to=["wandb"], callbacks=[callback])
    trainer.train()
    wandb.finish()
    wandb.teardown()  # waits until the file is written

    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    history = list(offline_history(file))
    losses = {row["train/global_step"]: row["train/loss"] for row in history if "train/loss" in row}
    assert losses == {e["step"]: e["loss"] for e in trainer.state.log_history if "loss" in e}
    rounds = [row for row in history if "samples/eos_rate" in row]
    assert [row["train/global_step"] for row in rounds] == [0, 2, 4]
    table = json.loads((file.parent / "files" / rounds[-1]["samples/table/path"]).read_text(encoding="utf-8"))
    prompt, step = table["columns"].index("prompt"), table["columns"].index("step")
    assert [(row[step], row[prompt]) for row in table["data"]] == [(s, p) for s in (0, 2, 4) for p in COURSE_PROMPTS]


TRACKIO = """
import json, sys, trackio
from trl_kochat.callbacks import KoreanSamplesCallback
from tests.callbacks.training import sft_trainer

callback = KoreanSamplesCallback(every=2, max_new_tokens=4)
sft_trainer(sys.argv[1], max_steps=2, report_to=["trackio"], project="p", callbacks=[callback]).train()
(run,) = trackio.SQLiteStorage.get_runs("p")
print(json.dumps([row for row in trackio.SQLiteStorage.get_logs("p", run) if "samples/table" in row]))
"""


def test_trackio_has_the_samples(tmp_path):
    pytest.importorskip("trackio")
    result = subprocess.run(  # trackio asks where to write when it is imported, and only then
        [sys.executable, "-c", TRACKIO, str(tmp_path / "run")],
        env=os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio")},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    rounds = json.loads(result.stdout.splitlines()[-1])
    assert [row["train/global_step"] for row in rounds] == [0, 2]
    assert [cells["prompt"] for cells in rounds[0]["samples/table"]["_value"]] == list(COURSE_PROMPTS)


def test_tensorboard_has_the_samples(tmp_path, monkeypatch):
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    callback = KoreanSamplesCallback(every=2, max_new_tokens=4)
    sft_trainer(tmp_path, max_steps=4, report_to=["tensorboard"], callbacks=[callback]).train()
    events = EventAccumulator(str(tmp_path / "runs" / "samples")).Reload()
    assert [event.step for event in events.Scalars("samples/eos_rate")] == [0, 2, 4]
    text = events.Tensors("samples/table/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert all(prompt in text for prompt in COURSE_PROMPTS)


def test_a_run_that_reports_nowhere_opens_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    sft_trainer(tmp_path / "run", max_steps=1, callbacks=[KoreanSamplesCallback(max_new_tokens=2)]).train()
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"report"}
