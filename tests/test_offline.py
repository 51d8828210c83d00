"""Nothing tries the network where the project says so: every socket but loopback is forbidden, in children too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trl_kochat.sample import SAMPLE_DIR


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
RECIPES = ("sft_kochatgpt", "reward_kochatgpt", "dpo_orca", "ppo_kochatgpt", "grpo_korean", "kto_pairs")
MODEL = str(SAMPLE_DIR / "tiny-ko")


@pytest.fixture
def run(tmp_path):
    """Run Python code in a process of its own, without network; gives what it printed."""
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD, encoding="utf-8")
    (tmp_path / "cache").mkdir()

    def run(code: str, *, offline: bool, fails: bool = False) -> str:
        environment = {name: value for name, value in os.environ.items() if name not in SWITCHES}
        environment.pop("PYTEST_CURRENT_TEST", None)
        path = os.pathsep.join([str(tmp_path / "guard"), *filter(None, [environment.get("PYTHONPATH")])])
        environment |= {"PYTHONPATH": path, "TRIED": str(tmp_path / "tried"), "HF_HOME": str(tmp_path / "cache")}
        environment |= {"HF_HUB_OFFLINE": "1"} if offline else {}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    run.tried = lambda: (tmp_path / "tried").read_text() if (tmp_path / "tried").exists() else ""
    return run


def test_the_guard_sees_what_it_is_there_for(run):
    run("import urllib.request; urllib.request.urlopen('http://example.org')", offline=False, fails=True)
    assert "example.org" in run.tried()


def test_the_guard_holds_in_children_and_lets_loopback_pass(run):
    child = "import socket; socket.create_connection(('192.0.2.1', 9), 0.1)"
    run(
        f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {child!r}]).returncode)",
        offline=False,
        fails=True,
    )
    assert "192.0.2.1" in run.tried()
    before = run.tried()
    run(
        "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())",
        offline=False,
    )
    assert run.tried() == before


COMMANDS = f"""
import json
from pathlib import Path

from trl_kochat import format_dataset, load_rows, load_tokenizer
from trl_kochat.cli import main

rows = load_rows({str(SAMPLE_DIR / "orca_dpo_pairs.jsonl")!r})
assert len(format_dataset(rows)) and len(load_tokenizer({MODEL!r}))
Path("asked.jsonl").write_text(json.dumps({{"prompt": "안녕?", "completion": "네"}}), encoding="utf-8")
for command in (
    ["doctor", {MODEL!r}],
    ["preview", {str(SAMPLE_DIR / "kochatgpt_1_SFT.jsonl")!r}, "--model", {MODEL!r}],
    ["convert", {str(SAMPLE_DIR / "kochatgpt_2_RM.jsonl")!r}, "converted"],
    ["generate", {MODEL!r}, "--prompt", "안녕?", "--max_new_tokens", "2"],
    ["score", {str(SAMPLE_DIR / "tiny-ko-reward")!r}, "--base", {MODEL!r}, "--file", "asked.jsonl"],
    ["merge", {str(SAMPLE_DIR / "tiny-ko-sft")!r}, "merged", "--base", {MODEL!r}],
):
    try:
        status = main(command)
    except SystemExit as exit:
        status = exit.code
    assert not status, (command, status)
"""


@pytest.mark.parametrize(
    "offline", [pytest.param(True, marks=pytest.mark.slow), False], ids=["offline", "as anybody runs it"]
)
def test_commands_on_local_files_try_no_network(run, offline):
    run(COMMANDS, offline=offline)
    assert run.tried() == ""


ABSENT = """
import json
from pathlib import Path

from transformers import AutoModelForCausalLM
from trl_kochat import load_rows, load_tokenizer
from trl_kochat.models import adapter_folder, load_base
from trl_kochat.measure.score import load_reward_model

for call in (
    lambda: load_rows("owner/name"),
    lambda: load_rows("https://example.org/rows.json"),
    lambda: load_rows("kochatgpt_2_RM.jsonl"),
    lambda: load_tokenizer("owner/name"),
    lambda: load_base(AutoModelForCausalLM, "owner/name"),
    lambda: adapter_folder("owner/name"),
    lambda: load_reward_model("owner/name"),
):
    try:
        call()
    except (OSError, ValueError) as error:
        print("REFUSED", " ".join(str(error).split())[:200])
"""


def test_offline_what_is_not_here_is_said_and_not_looked_for(run):
    said = run(ABSENT, offline=True)
    assert said.count("REFUSED") == 7 and run.tried() == ""


def test_recipes_load_and_build_everything_without_network_and_first_say_what_runs(run):
    """A trainer of TRL that is built sends a ping, unless told not to, which a recipe that runs as a command does."""
    said = run(
        "from trl_kochat.startup import begin_command; begin_command(); from trl_kochat.cli import main\n"
        f"for name in {RECIPES!r}: assert not main([name, '--preset', 'cpu', '--dry_run'])",
        offline=False,
    )
    assert run.tried() == ""
    assert said.startswith(f"{RECIPES[0]}: preset cpu (as asked)")
    assert "gradient_checkpointing" not in said and "kernels-community" not in said


@pytest.mark.slow
def test_the_cpu_presets_train_and_report_without_network(run, tmp_path):
    arguments = [
        "--preset",
        "cpu",
        "--max_steps",
        "2",
        "--warmup_steps",
        "0",
        "--max_eval_samples",
        "4",
        "--eval_strategy",
        "no",
    ]
    calls = "; ".join(
        f"import_module('trl_kochat.recipes.{name}').main([*arguments, '--output_dir', {name!r}])" for name in RECIPES
    )
    page = f"from trl_kochat.cli import main; assert not main(['report', *{list(RECIPES)!r}, '--output', 'both'])"
    begin = "from trl_kochat.startup import begin_command; begin_command()"
    run(f"{begin}; from importlib import import_module; arguments = {arguments!r}; {calls}; {page}", offline=False)
    assert run.tried() == ""
    for name in RECIPES:
        metrics = (tmp_path / name / "report" / "metrics.json").read_text(encoding="utf-8")
        assert json.loads(metrics)["run"]["steps"] == 2


def test_nothing_of_ours_opens_a_connection():
    """Libraries that fetch are asked for what a user names; nothing else in the package, its recipes or scripts sends."""
    root = Path(__file__).parent.parent
    files = [path for folder in ("trl_kochat", "recipes") for path in (root / folder).rglob("*.py")]
    words = (
        "import socket",
        "import requests",
        "import urllib.request",
        "import http.client",
        "urlopen",
        "import httpx",
    )
    assert len(files) > 50
    assert not [(path.name, word) for path in files for word in words if word in path.read_text(encoding="utf-8")]
