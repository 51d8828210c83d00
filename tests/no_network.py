"""A process in which every socket but loopback is forbidden, and in its children too."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


# Python imports a module of this name in every process that finds it: the guard holds before any library is loaded.
GUARD = """
import os
import socket

OWN = {None, "", b"", "localhost", "127.0.0.1", "::1", "0.0.0.0", "::"}


def tried(what, host):
    if isinstance(host, bytes):
        host = host.decode()
    if host in OWN or str(host).startswith("127."):
        return
    # A library may swallow the error and try again later: what counts is what stands in this file.
    with open(os.environ["TRIED"], "a") as file:
        file.write(f"{what} {host}\\n")
    raise OSError(f"no network in this test: {what} {host}")


def guarded(name):
    real = getattr(socket.socket, name)

    def call(self, *args):
        address = args[-1]
        if self.family != getattr(socket, "AF_UNIX", None) and isinstance(address, tuple):
            tried(name, address[0])
        return real(self, *args)

    return call


for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, guarded(name))
for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
    real = getattr(socket, name)
    setattr(socket, name, lambda host, *args, real=real, name=name, **kwargs: (tried(name, host), real(host, *args, **kwargs))[1])
"""
# What may keep libraries from the network, tell them that this is a test, or make them talk.
SWITCHES = (
    "HF_HUB_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_HUB_DISABLE_TELEMETRY",
    "CI",
    "DO_NOT_TRACK",
    "WANDB_MODE",
)


def without_network(folder: Path) -> Callable[..., str]:
    """What runs Python code in a process of its own in this folder, without network, and gives what it printed."""
    (folder / "guard").mkdir()
    (folder / "guard" / "sitecustomize.py").write_text(GUARD, encoding="utf-8")
    (folder / "cache").mkdir()

    def run(code: str, *, offline: bool, fails: bool = False) -> str:
        environment = {name: value for name, value in os.environ.items() if name not in SWITCHES}
        environment.pop("PYTEST_CURRENT_TEST", None)
        path = os.pathsep.join([str(folder / "guard"), *filter(None, [environment.get("PYTHONPATH")])])
        environment |= {"PYTHONPATH": path, "TRIED": str(folder / "tried"), "HF_HOME": str(folder / "cache")}
        environment |= {"HF_HUB_OFFLINE": "1"} if offline else {}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    run.tried = lambda: (folder / "tried").read_text() if (folder / "tried").exists() else ""
    return run
