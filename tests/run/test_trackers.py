"""What a run logs to: no prompt, no run lost for want of a package or a key, and no trace of it afterwards."""

import os

import pytest
from trl import SFTConfig

from trl_kochat.run import trackers
from trl_kochat.run.trackers import set_up_trackers


def config(*report_to):
    return SFTConfig("out", report_to=list(report_to), use_cpu=True, bf16=False)


@pytest.fixture
def installed(monkeypatch):
    """`installed(*names)`: these trackers are installed, and no other."""

    def pretend(*names):
        monkeypatch.setattr(trackers, "is_installed", names.__contains__)

    return pretend


@pytest.fixture
def set_to(monkeypatch, tmp_path):
    """No setting and no key of wandb; gives the modes that wandb is set to."""
    wandb = pytest.importorskip("wandb")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    modes = []
    monkeypatch.setattr(wandb, "setup", lambda settings: modes.append(settings.mode))
    return modes


def test_wandb_without_a_key_is_offline_says_how_to_sync_and_leaves_the_environment_alone(set_to, capsys):
    before = dict(os.environ)
    set_up_trackers(config("wandb"))
    assert set_to == ["offline"] and dict(os.environ) == before
    assert "wandb sync" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["environment", "netrc", "mode"])
def test_wandb_with_a_key_or_a_mode_is_left_alone(set_to, monkeypatch, tmp_path, where):
    if where == "netrc":
        (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password 0000\n")
        (tmp_path / ".netrc").chmod(0o600)
    else:
        monkeypatch.setenv(*{"environment": ("WANDB_API_KEY", "0" * 40), "mode": ("WANDB_MODE", "online")}[where])
    set_up_trackers(config("wandb"))
    assert set_to == []


def test_a_run_that_does_not_ask_for_wandb_hears_nothing_of_it(set_to, installed, capsys):
    installed("tensorboard", "wandb")
    for names in (["tensorboard"], []):
        asked = config(*names)
        set_up_trackers(asked)
        assert asked.report_to == names
    assert set_to == [] and capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["wandb", "tensorboard", "trackio", "mlflow"])
def test_a_tracker_that_is_not_installed_is_one_sentence_and_the_run_goes_on_without_it(name, installed, capsys):
    installed("comet_ml")
    asked = config(name, "comet_ml")
    set_up_trackers(asked)
    assert asked.report_to == ["comet_ml"]
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and f"{name} is not installed (pip install " in said


def test_a_tracker_that_nobody_knows_is_refused():
    with pytest.raises(
        ValueError, match="--report_to tensorbord: there is no such tracker; there are all, none, .*ten"
    ):
        set_up_trackers(config("tensorbord"))
