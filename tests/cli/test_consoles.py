"""A console that lacks characters never ends a command: tables, plain lines and errors, in ASCII and in Korean Windows'."""

import os
import subprocess
import sys

import pytest

from trl_kochat.sample import SAMPLE_DIR


COMMANDS = f"""
import json
from pathlib import Path

from trl_kochat.cli import main
from trl_kochat.startup import begin_command

begin_command()
sample = {str(SAMPLE_DIR)!r}
Path("asked.jsonl").write_text(json.dumps({{"prompt": "안녕? 😀", "completion": "뛟쀍 é"}}), encoding="utf-8")
for command in (
    ["doctor", "tiny-ko", "--data", f"{{sample}}/kochatgpt_1_SFT.jsonl"],
    ["preview", f"{{sample}}/kochatgpt_2_RM.jsonl", "--model", "tiny-ko", "-n", "2"],
    ["convert", f"{{sample}}/kochatgpt_2_RM.jsonl", "바꾼 행"],
    ["generate", "tiny-ko", "--prompt", "안녕? 😀", "--max_new_tokens", "2", "--tokens"],
    ["score", f"{{sample}}/tiny-ko-reward", "--base", "tiny-ko", "--file", "asked.jsonl"],
    ["merge", f"{{sample}}/tiny-ko-sft", "합친 모델", "--base", "tiny-ko"],
):
    assert main(command) == 0, command
for command in (["doctor", "없는 모델 😀"], ["report", "없는 폴더 😀"]):
    assert main(command) == 2, command
"""


@pytest.mark.parametrize(
    ("encoding", "colour"), [pytest.param("ascii", "1", marks=pytest.mark.long), ("cp949", "1"), ("ascii", "")]
)
def test_no_command_ends_for_want_of_a_character(encoding, colour, tmp_path):
    """With `FORCE_COLOR` it is as on a terminal: tables."""
    path = os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": encoding, "FORCE_COLOR": colour}
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS], cwd=tmp_path, env=environment, capture_output=True, timeout=300
    )
    said = done.stdout.decode(encoding) + done.stderr.decode(encoding)
    assert done.returncode == 0, said
    assert "\\U0001f600" in said and ("안녕" in said) == (encoding == "cp949")
