"""Nothing tries the network where the project says so. That recipes train without it, tests/test_recipes.py sees."""

from pathlib import Path

import pytest

from tests.no_network import without_network
from trl_kochat.sample import SAMPLE_DIR


RECIPES = ("sft_kochatgpt", "reward_kochatgpt", "dpo_orca", "ppo_kochatgpt", "grpo_korean", "kto_pairs")
MODEL = str(SAMPLE_DIR / "tiny-ko")


@pytest.fixture
def run(tmp_path):
    return without_network(tmp_path)


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
