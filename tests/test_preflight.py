"""What is checked before the first step; each check is made to fail."""

import os
from types import SimpleNamespace

import pytest

from trl_kochat import preflight
from trl_kochat.preflight import set_up_wandb


@pytest.fixture
def no_wandb_settings(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield
    os.environ.pop("WANDB_MODE", None)


def config(*report_to):
    return SimpleNamespace(report_to=list(report_to))


def test_wandb_without_a_key_is_offline_and_says_how_to_sync(no_wandb_settings, capsys):
    set_up_wandb(config("wandb"))
    assert os.environ["WANDB_MODE"] == "offline"
    assert "wandb sync" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["environment", "netrc"])
def test_wandb_with_a_key_is_left_alone(no_wandb_settings, monkeypatch, tmp_path, where):
    if where == "environment":
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    else:
        (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password 0000\n")
        (tmp_path / ".netrc").chmod(0o600)
    set_up_wandb(config("wandb"))
    assert "WANDB_MODE" not in os.environ


def test_a_run_that_does_not_ask_for_wandb_hears_nothing_of_it(no_wandb_settings, capsys):
    set_up_wandb(config("tensorboard"))
    assert "WANDB_MODE" not in os.environ and capsys.readouterr().out == ""


def test_without_wandb_the_run_goes_on_without_it(no_wandb_settings, monkeypatch, capsys):
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None)
    reporting = config("wandb", "tensorboard")
    set_up_wandb(reporting)
    assert reporting.report_to == ["tensorboard"]
    assert "pip install 'trl_kochat[wandb]'" in capsys.readouterr().out
