"""Which checkpoints are whole, where a run goes on from, and what becomes of those of an earlier run."""

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.callbacks.training import ppo_trainer, sft_trainer
from trl_kochat.run.checkpoints import (
    checkpoint_problem,
    find_checkpoint,
    leave_earlier_run,
    list_checkpoints,
    no_step_too_many,
    other_checkpoints,
    set_aside,
)


@pytest.fixture(scope="module")
def sft_run(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("sft")
    sft_trainer(output_dir, max_steps=3, save_steps=1).train()
    return output_dir


@pytest.fixture(scope="module")
def ppo_run(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("ppo")
    reward = lambda completions, **kwargs: [float(len(text)) for text in completions]  # noqa: E731
    # Two updates on each rollout: a checkpoint after an odd step holds a rollout.
    ppo_trainer(output_dir, reward, max_steps=3, save_steps=1, num_ppo_epochs=2).train()
    return output_dir


@pytest.fixture
def run(sft_run, tmp_path):
    return Path(shutil.copytree(sft_run, tmp_path / "run"))


def files(checkpoint):
    """What resuming reads; the rest (README, logs) may be damaged without harm."""
    kinds = (".json", ".safetensors", ".pt", ".pth", ".bin")
    return sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.suffix in kinds)


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])


def test_whole_checkpoints_are_whole(sft_run, ppo_run):
    for output_dir in (sft_run, ppo_run):
        found = list_checkpoints(output_dir)
        assert [checkpoint.step for checkpoint in found] == [3, 2, 1]
        assert [checkpoint_problem(checkpoint.folder) for checkpoint in found] == [None, None, None]


@pytest.mark.parametrize("damage", [cut, lambda file: file.write_bytes(b"")], ids=["cut short", "empty"])
@pytest.mark.parametrize("kind", ["sft_run", "ppo_run"])
def test_every_damaged_file_is_found_and_named(kind, damage, request, tmp_path):
    whole = request.getfixturevalue(kind) / "checkpoint-3"
    names = [str(file.relative_to(whole)) for file in files(whole)]
    assert {"trainer_state.json", "optimizer.pt", "scheduler.pt", "rng_state.pth", "model.safetensors"} <= set(names)
    if kind == "ppo_run":
        assert {"ppo_state.json", "rollout_0.safetensors"} <= set(names)
    for name in names:
        folder = Path(shutil.copytree(whole, tmp_path / "checkpoint-3", dirs_exist_ok=True))
        damage(folder / name)
        assert name in (checkpoint_problem(folder) or ""), name


@pytest.mark.parametrize("kind", ["sft_run", "ppo_run"])
def test_a_missing_file_is_found_and_named(kind, request, tmp_path):
    whole = request.getfixturevalue(kind) / "checkpoint-3"
    needed = ["trainer_state.json", "optimizer.pt", "scheduler.pt", "rng_state", "safetensors"]
    if kind == "ppo_run":
        needed += ["rollout_0.safetensors", "value_head.safetensors", "model.safetensors"]
    for name in needed:
        folder = Path(shutil.copytree(whole, tmp_path / "checkpoint-3", dirs_exist_ok=True))
        victim = next(file for file in files(whole) if name in file.name)
        (folder / victim.relative_to(whole)).unlink()
        assert name in (checkpoint_problem(folder) or ""), name


def test_an_adapter_without_its_weights_is_not_whole(run):
    folder = run / "checkpoint-3"
    (folder / "value").mkdir()
    (folder / "value" / "adapter_config.json").write_text("{}")
    assert checkpoint_problem(folder) == "value/adapter_model.safetensors is missing"


@pytest.mark.parametrize("asked", ["true", "True", True])
def test_true_is_the_last_checkpoint(run, asked):
    assert find_checkpoint(run, asked) == run / "checkpoint-3"


@pytest.mark.parametrize("asked", [None, "", "false", False])
def test_without_being_asked_a_run_starts_from_the_beginning(run, asked):
    assert find_checkpoint(run, asked) is None


def test_a_path_is_a_checkpoint_or_the_folder_of_a_run(run, tmp_path):
    assert find_checkpoint("elsewhere", str(run / "checkpoint-2")) == run / "checkpoint-2"
    assert find_checkpoint("elsewhere", str(run)) == run / "checkpoint-3"
    renamed = (run / "checkpoint-1").rename(tmp_path / "my_best")
    assert find_checkpoint(run, str(renamed)) == renamed


@pytest.mark.parametrize("asked", ["true", "the checkpoint itself"])
def test_the_checkpoint_before_a_broken_one_is_taken_and_said(run, asked, caplog):
    cut(run / "checkpoint-3" / "optimizer.pt")
    asked = asked if asked == "true" else str(run / "checkpoint-3")
    with caplog.at_level(logging.WARNING):
        assert find_checkpoint(run, asked) == run / "checkpoint-2"
    (message,) = [record.getMessage() for record in caplog.records]
    assert "checkpoint-3 cannot be resumed: optimizer.pt is cut short" in message
    assert "Going on from" in message and "checkpoint-2" in message


def test_no_whole_checkpoint_is_an_error_that_names_each(run):
    for step, name in ((1, "scheduler.pt"), (2, "rng_state.pth"), (3, "trainer_state.json")):
        cut(run / f"checkpoint-{step}" / name)
    with pytest.raises(ValueError, match=r"trainer_state.json .*rng_state.pth .*scheduler.pt .*No whole checkpoint"):
        find_checkpoint(run, "true")


def test_where_there_is_no_checkpoint_it_is_said(tmp_path, run):
    with pytest.raises(ValueError, match="There is no checkpoint to go on from in .*out. Leave --resume_from_check"):
        find_checkpoint(tmp_path / "out", "true")
    with pytest.raises(
        ValueError, match="There is no checkpoint .*checkpoint-7; there are checkpoint-3, checkpoint-2"
    ):
        find_checkpoint(run, str(run / "checkpoint-7"))


def test_a_run_that_saved_the_model_alone_cannot_go_on(tmp_path):
    sft_trainer(tmp_path, max_steps=1, save_steps=1, save_only_model=True).train()
    with pytest.raises(ValueError, match="optimizer.pt is missing; --save_only_model leaves it out"):
        find_checkpoint(tmp_path, "true")


def test_the_last_checkpoint_is_kept_until_the_next_one_is_whole(tmp_path, monkeypatch):
    """What we count on in transformers: with room for one checkpoint, the old one goes when the new one is written."""
    save = torch.save

    def fill_the_disk(content, file, *args, **kwargs):
        if "checkpoint-4" in str(file):
            raise OSError(28, "No space left on device")
        save(content, file, *args, **kwargs)

    monkeypatch.setattr(torch, "save", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        sft_trainer(tmp_path, max_steps=6, save_steps=2, save_total_limit=1).train()
    assert "was not written to its end" in checkpoint_problem(tmp_path / "checkpoint-4")
    assert find_checkpoint(tmp_path, "true") == tmp_path / "checkpoint-2"
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "checkpoint-4")
    sft_trainer(tmp_path, max_steps=6, save_steps=2, save_total_limit=1).train()
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path)] == [6]


def test_checkpoints_of_another_run_are_moved_and_not_lost(run):
    assert [c.step for c in other_checkpoints(run, run / "checkpoint-2")] == [3]
    assert [c.step for c in other_checkpoints(run, None)] == [3, 2, 1]
    assert [c.step for c in other_checkpoints(run, Path("elsewhere/checkpoint-2"))] == [3, 2, 1]
    place = set_aside(other_checkpoints(run, run / "checkpoint-1"))
    assert find_checkpoint(run, "true") == run / "checkpoint-1"
    assert find_checkpoint(run, str(place)) == place / "checkpoint-3"


def test_no_step_is_taken_other_checkpoints_the_last(run, capsys):
    trainer = sft_trainer(run, max_steps=3, save_steps=1)
    ended = []
    with no_step_too_many(trainer):
        trainer.callback_handler.callbacks[0].on_train_end = lambda *args, **kwargs: ended.append(True)
        trainer.train(resume_from_checkpoint=str(run / "checkpoint-3"))
    assert trainer.state.global_step == 3 and ended and "nothing is left to train" in capsys.readouterr().out
    history = json.loads((run / "checkpoint-3" / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    assert [entry["step"] for entry in trainer.state.log_history] == [entry["step"] for entry in history]
    longer = sft_trainer(run, max_steps=5, save_steps=1)
    with no_step_too_many(longer):
        longer.train(resume_from_checkpoint=str(run / "checkpoint-3"))
    assert longer.state.global_step == 5


# Checkpoints of an earlier run


@pytest.fixture
def earlier(tmp_path):
    for step in (2, 4, 6):
        (tmp_path / "run" / f"checkpoint-{step}").mkdir(parents=True)
        (tmp_path / "run" / f"checkpoint-{step}" / "weights").write_text(str(step))
    return tmp_path / "run"


def names(folder):
    return sorted(path.parent.name for path in folder.rglob("weights"))


def test_a_fresh_run_moves_those_of_an_earlier_one_and_says_where(earlier, capsys):
    arguments = SimpleNamespace(output_dir=str(earlier))
    leave_earlier_run(arguments, None, dry_run=True)
    said = capsys.readouterr().out
    assert (
        "(checkpoint-2, checkpoint-4, checkpoint-6): they would be moved" in said and "checkpoint true goes on" in said
    )
    assert len(list(earlier.glob("checkpoint-*"))) == 3
    leave_earlier_run(arguments, None)
    said = capsys.readouterr().out
    (place,) = (earlier / "earlier").iterdir()
    assert f"moved to {place}; --resume_from_checkpoint {place} goes on with that run" in said
    assert not list(earlier.glob("checkpoint-*")) and names(place) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]


def test_a_resumed_run_moves_only_what_it_does_not_come_from(earlier, capsys):
    leave_earlier_run(SimpleNamespace(output_dir=str(earlier)), earlier / "checkpoint-4")
    said = capsys.readouterr().out
    assert f"Going on from {earlier / 'checkpoint-4'}." in said and "(checkpoint-6)" in said
    assert names(earlier / "earlier") == ["checkpoint-6"]
    assert sorted(path.name for path in earlier.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]


def test_the_report_stays_with_its_run(earlier, tmp_path):
    arguments = SimpleNamespace(output_dir=str(earlier))
    (earlier / "report").mkdir()
    (earlier / "report" / "metrics.json").write_text("the first run")
    leave_earlier_run(arguments, earlier / "checkpoint-4")  # it goes on
    assert (earlier / "report" / "metrics.json").read_text() == "the first run"
    leave_earlier_run(arguments, None)  # another begins
    assert not (earlier / "report").exists()
    (earlier / "report").mkdir()
    (earlier / "report" / "metrics.json").write_text("the second run")
    (earlier / "checkpoint-2").mkdir()
    (first,) = (place for place in (earlier / "earlier").iterdir() if (place / "checkpoint-4").is_dir())
    leave_earlier_run(arguments, first / "checkpoint-4")  # the first one goes on after all
    assert (earlier / "report" / "metrics.json").read_text() == "the first run"
    leave_earlier_run(SimpleNamespace(output_dir=str(tmp_path / "elsewhere")), first / "checkpoint-4")
    assert (tmp_path / "elsewhere" / "report" / "metrics.json").read_text() == "the first run"
    reports = [path.read_text() for path in sorted((earlier / "earlier").rglob("metrics.json"))]
    assert reports == ["the first run", "the second run"]


def test_a_run_in_an_empty_folder_says_nothing(tmp_path, capsys):
    leave_earlier_run(SimpleNamespace(output_dir=str(tmp_path / "new")), None)
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())
