import doctest

from trl_kochat.report import machine
from trl_kochat.report.machine import command_line, installed_versions, peak_memory


def test_examples_in_docstrings():
    assert doctest.testmod(machine).failed == 0


def test_credentials_never_reach_the_page():
    argv = ["x.py", "--hub_token", "hf_1", "--hub_token=hf_2", "--wandb-api-key", "k3", "--model", "a token"]
    shown = command_line(argv)
    assert not {"hf_1", "hf_2", "k3"} & set(shown.replace("=", " ").split())
    assert "'a token'" in shown


def test_versions_and_memory_are_those_of_this_process():
    import torch

    assert torch.__version__.startswith(installed_versions()["torch"].partition("+")[0])
    assert peak_memory() is None or peak_memory() > 50 * 2**20
