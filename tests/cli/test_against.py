"""`trl-kochat doctor --against`: what another installation reads of the same files."""

import json
import os
import sys

import pytest

from tests.tokenizers import healthy, kogpt2_like
from trl_kochat.cli import main


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "900")


def other_python(folder, code: str):
    """An interpreter whose `transformers` is a module of ours: another version of it."""
    (folder / "other").mkdir()
    (folder / "other" / "transformers.py").write_text(code)
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={folder}/other exec {sys.executable} "$@"\n')
    script.chmod(0o755)
    return script


# It reads every text as the ids that the real class gives, and one more where there are digits.
OTHER = """
import json, pathlib, tokenizers
__version__ = "4.99"
class AutoTokenizer:
    @classmethod
    def from_pretrained(cls, name, trust_remote_code):
        tokenizer = cls()
        tokenizer.inner = tokenizers.Tokenizer.from_file(str(pathlib.Path(name) / "tokenizer.json"))
        return tokenizer
    def __call__(self, text):
        ids = self.inner.encode(text).ids
        return {"input_ids": ids + [7] if "2024" in text else ids}
"""


def doctor(capsys, *arguments):
    status = main(["doctor", *map(str, arguments)])
    return status, capsys.readouterr()


def test_the_same_installation_reads_the_same(tmp_path, capsys):
    status, captured = doctor(capsys, healthy(tmp_path), "--against", sys.executable)
    assert status == 0 and "same_ids" in captured.out and "the same ids" in captured.out


@pytest.mark.skipif(os.name == "nt", reason="the other interpreter is a shell script")
def test_texts_that_another_version_reads_as_other_ids_are_told(tmp_path, capsys):
    folder = healthy(tmp_path / "model")
    status, captured = doctor(capsys, folder, "--against", other_python(tmp_path, OTHER))
    line = next(line for line in captured.out.splitlines() if "other_ids" in line)
    assert status == 1 and "4.99 there (AutoTokenizer)" in line
    assert " 1 of " in line and "2024년" in line and "[7] there" in line


@pytest.mark.skipif(os.name == "nt", reason="the other interpreter is a shell script")
def test_ids_that_load_tokenizer_repairs_are_told_as_such(tmp_path, capsys):
    """Another version reads the file as it is, which AutoTokenizer here does not."""
    folder = kogpt2_like(tmp_path / "model")
    _, captured = doctor(capsys, folder, "--against", other_python(tmp_path, OTHER.replace('"2024" in text', "False")))
    line = next(line for line in captured.out.splitlines() if "other_ids" in line)
    assert line.startswith("warning") and "load_tokenizer gives those of there." in line


@pytest.mark.skipif(os.name == "nt", reason="the other interpreter is a shell script")
def test_the_ids_are_there_for_programs_and_rows_are_read_as_well(tmp_path, capsys):
    folder = healthy(tmp_path / "model")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps([{"prompt": "2024?", "completion": "네"}]), encoding="utf-8")
    _, captured = doctor(
        capsys,
        folder,
        "--data",
        rows,
        "--against",
        other_python(tmp_path, OTHER),
        "--json",
        "--formatter",
        "kochatgpt_sft",
    )
    (found,) = [one for one in json.loads(captured.out)["findings"] if one["code"] == "other_ids"]
    assert [one["text"] for one in found["measured"]["texts"]][1:] == ["2024?"]
    assert all(one["there"] == [*one["here"], 7] for one in found["measured"]["texts"])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (None, "is no Python that runs"),
        ("raise ImportError('no tokenizers')", "loads no tokenizer of .*no tokenizers"),
    ],
)
def test_an_interpreter_that_does_not_serve_is_told(code, message, tmp_path, capsys):
    folder = kogpt2_like(tmp_path / "model")
    python = tmp_path / "nowhere" if code is None else other_python(tmp_path, code)
    status, captured = doctor(capsys, folder, "--against", python)
    assert status == 2
    import re

    assert re.search(message, captured.err + captured.out)
