"""What a process that runs a command sets for itself, and that nobody else's process is touched."""

import logging
import os
import subprocess
import sys

import pytest

from trl_kochat.startup import HARMLESS, is_news


(BITSANDBYTES,) = HARMLESS


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment or None
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Failed to load CPU gemm_4bit_forward from kernels-community: No module named 'kernels'. Please make", False),
        ("Failed to load CPU gemm_4bit_forward from kernels-community: the file is torn. Please make", True),
        ("Something new is wrong with 4-bit.", True),
    ],
)
def test_that_text_of_that_logger_is_left_out_and_nothing_else(text, shown):
    where, _, reason = text.partition(": ")
    record = logging.LogRecord(
        BITSANDBYTES, logging.WARNING, "", 0, where + ": %s" if reason else where, (reason,), None
    )
    if not reason:
        record.args = ()
    assert is_news(record) == shown


def test_telemetry_is_off_in_a_command_unless_asked_for():
    code = """
import os
for given in (None, "0"):
    os.environ.pop("HF_HUB_DISABLE_TELEMETRY", None)
    if given is not None:
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = given
    from trl_kochat.startup import begin_command
    begin_command()
    print(os.environ["HF_HUB_DISABLE_TELEMETRY"])
import huggingface_hub.constants as constants
print(constants.HF_HUB_DISABLE_TELEMETRY)
"""
    assert python(code).stdout.split() == ["1", "0", "False"]


@pytest.mark.parametrize("encoding", ["ascii", "cp949", "utf-8"])
def test_what_a_console_cannot_show_is_written_as_its_escape(encoding):
    code = """
import os, sys
sys.path.insert(0, os.getcwd())
from trl_kochat.startup import begin_command
begin_command()
print("가 뛟 é 😀")
"""
    environment = {"PYTHONIOENCODING": encoding, "PYTHONPATH": ":".join(filter(None, sys.path))}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
    assert result.stdout.strip() == "가 뛟 é 😀".encode(encoding, "backslashreplace")


@pytest.mark.parametrize(
    "command",
    [
        "from trl_kochat.run.command import run_as_command; run_as_command(seen)",
        "import sys; from trl_kochat import cli; from trl_kochat.cli import doctor; doctor.run = seen; "
        "sys.argv = ['trl-kochat', 'doctor', 'tiny-ko']; cli.main()",
    ],
)
def test_the_collector_is_off_for_the_imports_alone_and_leaves_them_out_then(command):
    code = f"""
import gc
seen_in_main = []
def seen(*_):
    seen_in_main.append((gc.isenabled(), gc.get_freeze_count() > 100_000))
from trl_kochat.startup import begin_command
thresholds = gc.get_threshold()
begin_command()
assert not gc.isenabled()
import trl_kochat.run
{command}
assert gc.get_threshold() == thresholds
assert seen_in_main == [(True, True)], seen_in_main
"""
    result = python(code)
    assert result.returncode == 0, result.stderr


def test_importing_the_package_sets_nothing():
    code = """
import gc, logging, os, warnings
before = dict(os.environ), list(warnings.filters)
import trl_kochat, trl_kochat.startup
assert (dict(os.environ), list(warnings.filters)) == before
assert gc.isenabled() and not gc.get_freeze_count()
assert not logging.root.manager.loggerDict.get("bitsandbytes.backends.cpu.ops")
print("as before")
"""
    result = python(code)
    assert result.stdout == "as before\n", result.stderr


def test_a_recipes_main_called_from_a_program_leaves_no_trace(tmp_path):
    """Libraries leave theirs when they are imported; what is compared is from after that."""
    code = f"""
import importlib, os, warnings
import trl, trl_kochat
[getattr(trl, name) for name in ("DPOTrainer", "GRPOTrainer", "KTOTrainer", "SFTTrainer", "RewardTrainer", "ModelConfig")]
[getattr(trl_kochat, name) for name in trl_kochat.__all__]
names = ("sft_kochatgpt", "reward_kochatgpt", "dpo_orca", "ppo_kochatgpt", "grpo_korean", "kto_pairs")
recipes = [importlib.import_module("trl_kochat.recipes." + name) for name in names]
before = dict(os.environ), list(warnings.filters)
for recipe in recipes:
    recipe.main(["--preset", "cpu", "--dry_run", "--output_dir", {str(tmp_path / "run")!r}])
    assert (dict(os.environ), list(warnings.filters)) == before, recipe
"""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_TELEMETRY"}
    result = python(code, **(environment | {"PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))}))
    assert result.returncode == 0, result.stderr
