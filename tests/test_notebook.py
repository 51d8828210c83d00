"""What the install cell does after pip: says what changed, and restarts only where a loaded package did."""

import sys
from contextlib import nullcontext
from importlib.util import find_spec, module_from_spec
from types import SimpleNamespace

import IPython
import pytest

from tests.pretended import pretend_colab, pretend_package, pretend_torchao
from trl_kochat import notebook
from trl_kochat.notebook import installed_packages, settle


@pytest.fixture
def restarts(monkeypatch):
    """Whether each restart that was asked of the kernel was one."""
    asked = []
    kernel = SimpleNamespace(do_shutdown=lambda restart: asked.append(restart))
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=kernel))
    return asked


@pytest.fixture(params=[False, True], ids=["not loaded", "loaded"])
def replaced(request, tmp_path, monkeypatch):
    """Packages before a `fastrows` was raised from 18 to 26; whether it had been loaded by then."""
    pretend_package(tmp_path, monkeypatch, "fastrows", "18.0")
    before = installed_packages()
    if request.param:
        monkeypatch.setitem(sys.modules, "fastrows", module_from_spec(find_spec("fastrows")))
    pretend_package(tmp_path, monkeypatch, "fastrows", "26.0")
    return before, request.param


@pytest.mark.parametrize("colab", [False, True], ids=["elsewhere", "colab"])
def test_a_restart_is_asked_for_in_a_korean_and_an_english_line_and_done_on_colab(
    colab, replaced, restarts, monkeypatch, capsys
):
    if colab:
        pretend_colab(monkeypatch)
    before, loaded = replaced
    if loaded:
        with pytest.raises(SystemExit) as stop:  # the next cells do not run
            settle(before)
        korean, english = str(stop.value).splitlines()
        assert "fastrows" in korean and "다시 시작" in korean and "fastrows" in english and "estart" in english
    else:
        settle(before)
    assert restarts == ([True] if loaded and colab else [])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("fastrows 18.0 -> 26.0")


@pytest.mark.parametrize("loaded", [False, True])
def test_a_torchao_that_was_loaded_and_removed_is_a_restart(loaded, restarts, tmp_path, monkeypatch, capsys):
    folder = pretend_torchao(tmp_path, monkeypatch, "0.10.0")
    pretend_colab(monkeypatch)
    if loaded:
        monkeypatch.setitem(sys.modules, "torchao", module_from_spec(find_spec("torchao")))
    monkeypatch.setattr(notebook.subprocess, "run", lambda command, check: folder.rename(tmp_path / "gone"))
    with pytest.raises(SystemExit, match="torchao") if loaded else nullcontext():
        settle(installed_packages())
    assert restarts == ([True] if loaded else []) and "torchao" in capsys.readouterr().out


def test_where_nothing_was_installed_it_says_nothing(restarts, capsys, monkeypatch):
    pretend_colab(monkeypatch)
    settle(installed_packages())
    assert restarts == [] and capsys.readouterr().out == ""


def test_of_a_package_in_two_folders_the_one_that_is_imported_counts(tmp_path, monkeypatch):
    pretend_package(tmp_path / "system", monkeypatch, "fastrows", "1.0")
    pretend_package(tmp_path / "user", monkeypatch, "fastrows", "2.0")
    assert installed_packages()["fastrows"] == "2.0"
