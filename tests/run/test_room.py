"""Whether a run can write where it is to write, and whether there is room."""

from types import SimpleNamespace

import pytest
from peft import LoraConfig

from tests.callbacks.training import ppo_trainer, sft_trainer
from trl_kochat.run import room
from trl_kochat.run.room import bytes_to_save, check_output_dir, check_room


GIB = 2**30


# The output folder


def test_a_folder_that_can_be_written_is_not_made(tmp_path):
    check_output_dir(str(tmp_path / "runs" / "new"))
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "out").write_text("")
    for output_dir in (tmp_path / "out", tmp_path / "out" / "run"):
        with pytest.raises(ValueError, match=r"--output_dir .*out is a file. Give another folder"):
            check_output_dir(str(output_dir))


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(room.tempfile, "TemporaryFile", refuse)
    with pytest.raises(ValueError, match=r"--output_dir .* cannot be written \(Permission denied\)"):
        check_output_dir(str(tmp_path))


# Room on the disk


def pretend_free(monkeypatch, size):
    usage = SimpleNamespace(total=2 * size, used=size, free=size)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: usage)


def lora_trainer(output_dir, **settings):
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    return sft_trainer(output_dir, peft_config=config, **{"max_steps": 10, "save_steps": 2} | settings)


@pytest.mark.parametrize("kind", ["LoRA", "all parameters", "PPO", "PPO with LoRA"])
def test_a_run_writes_about_what_was_said(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_SMALL_FILES", 0)
    if kind.startswith("PPO"):
        lora = LoraConfig(r=64, target_modules="all-linear") if "LoRA" in kind else None
        reward = lambda completions, **kwargs: [1.0 for _ in completions]  # noqa: E731
        trainer = ppo_trainer(tmp_path, reward, peft_config=lora, max_steps=2, save_steps=1)
    elif kind == "LoRA":
        trainer = sft_trainer(
            tmp_path, max_steps=2, save_steps=1, peft_config=LoraConfig(r=64, target_modules="all-linear")
        )
    else:
        trainer = sft_trainer(tmp_path, max_steps=2, save_steps=1)
    model_bytes, checkpoint_bytes, kept = bytes_to_save(trainer)
    trainer.train()
    trainer.save_model()
    files = (".safetensors", "optimizer.pt")

    def written(folder):
        return sum(file.stat().st_size for file in folder.rglob("*") if file.name.endswith(files))

    assert kept == 2
    assert written(tmp_path / "checkpoint-2") == pytest.approx(checkpoint_bytes, rel=0.4)
    final = sum(f.stat().st_size for f in tmp_path.glob("*.safetensors"))
    assert final == pytest.approx(model_bytes, rel=0.4)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"max_steps": 10, "save_steps": 2}, 5),
        ({"max_steps": 10, "save_steps": 4}, 3),  # the last step is saved too
        ({"max_steps": 10, "save_steps": 2, "save_total_limit": 3}, 3),
        ({"max_steps": 10, "save_steps": 0.5}, 2),
        ({"max_steps": 10, "save_strategy": "no"}, 0),
        ({"max_steps": -1, "num_train_epochs": 3, "save_strategy": "epoch"}, 3),
        ({"max_steps": -1, "num_train_epochs": 3, "save_steps": 4}, 3),  # 8 rows in batches of 2
    ],
)
def test_kept_checkpoints_are_counted(settings, kept, tmp_path):
    trainer = sft_trainer(tmp_path, **settings)
    assert bytes_to_save(trainer)[2] == kept


def test_a_full_disk_is_an_error_before_the_first_step(tmp_path, monkeypatch):
    trainer = lora_trainer(tmp_path)
    pretend_free(monkeypatch, 10 * 2**20)
    with pytest.raises(ValueError, match=r"10 MiB free, and the model with 2 checkpoints takes about 48 MiB"):
        check_room(trainer)


def test_a_disk_that_will_be_full_is_said(tmp_path, monkeypatch, capsys):
    trainer = lora_trainer(tmp_path)
    pretend_free(monkeypatch, 60 * 2**20)
    check_room(trainer)
    assert "5 checkpoints of about 16 MiB will not fit: --save_total_limit 2" in capsys.readouterr().out
    pretend_free(monkeypatch, GIB)
    check_room(trainer)
    assert capsys.readouterr().out == ""
