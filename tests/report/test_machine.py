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


def test_versions_are_those_of_this_process():
    import torch

    assert torch.__version__.startswith(installed_versions()["torch"].partition("+")[0])


def test_peak_memory_of_the_host_and_of_a_device_are_two_numbers():
    import torch

    held = bytearray(64 * 2**20)
    held[:: 2**12] = b"x" * len(held[:: 2**12])
    peak = peak_memory()
    assert peak["peak_host_memory_mib"] is None or peak["peak_host_memory_mib"] > 64
    assert (peak["peak_device_memory_mib"] is not None) == torch.cuda.is_available()
