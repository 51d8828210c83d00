import doctest

from trl_kochat.report import machine
from trl_kochat.report.machine import (
    command_line,
    in_mib,
    installed_versions,
    peak_device_memory,
    peak_host_memory,
    peak_memory,
)


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


def test_peak_memory_of_the_host_and_of_a_device_are_two_numbers():
    import torch

    held = bytearray(64 * 2**20)
    held[:: 2**12] = b"x" * len(held[:: 2**12])
    assert peak_host_memory() is None or peak_host_memory() > len(held)
    assert (peak_device_memory() is not None) == torch.cuda.is_available()
    assert peak_memory() == (peak_device_memory() if torch.cuda.is_available() else peak_host_memory())
    assert in_mib(3 * 2**19) == 1.5 and in_mib(None) is None
