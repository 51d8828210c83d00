"""What another package adds by entry points, with a tiny one that is installed for the purpose."""

import os
import subprocess
import sys

import pytest

from trl_kochat import plugins
from trl_kochat.errors import InputError


PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "kochat-extra"
version = "1.0"

[project.entry-points."trl_kochat.formatters"]
extra_pairs = "kochat_extra.rows:to_preference"
extra_prompts = "kochat_extra.rows:to_prompt_only"
extra_misnamed = "kochat_extra.rows:to_other"

[project.entry-points."trl_kochat.tokenizer_families"]
extra = "kochat_extra.family:FAMILY"

[project.entry-points."trl_kochat.rewards"]
broken = "kochat_extra.nowhere:reward"

[tool.hatch.build.targets.wheel]
only-include = ["kochat_extra"]
"""
ROWS = """
from trl_kochat import formatter


@formatter("extra_pairs", type="preference", columns=[{"물음", "좋은 답", "나쁜 답"}])
def to_preference(row):
    return [{"prompt": row["물음"], "chosen": row["좋은 답"], "rejected": row["나쁜 답"]}]


def to_prompt_only(row):
    return [{"prompt": row["물음"]}]


@formatter("another_name", type="prompt_only")
def to_other(row):
    return [{"prompt": row["물음"]}]
"""
FAMILY = """
from trl_kochat.tokenizer.families import Family

FAMILY = Family("Extra", 3, {"<끝>": 0}, {"eos_token": "<끝>"}, source="its authors")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that a package of another project was installed into, without a network."""
    folder = tmp_path_factory.mktemp("extra")
    (folder / "project" / "kochat_extra").mkdir(parents=True)
    (folder / "project" / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (folder / "project" / "kochat_extra" / "rows.py").write_text(ROWS, encoding="utf-8")
    (folder / "project" / "kochat_extra" / "family.py").write_text(FAMILY, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", folder / "site", folder / "project"], check=True)
    return folder / "site"


def run(installed, code):
    """The last line that a fresh interpreter prints that sees the package."""
    path = os.pathsep.join([str(installed), *filter(None, sys.path)])
    command = [
        sys.executable,
        "-c",
        f"from trl_kochat import format_dataset, formatter_names, get_formatter, plugins\n{code}",
    ]
    result = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    return (result.stderr if result.returncode else result.stdout).strip().splitlines()[-1]


def test_a_formatter_of_another_package_is_found_without_an_import(installed):
    told = run(installed, "import sys; print('kochat_extra' in sys.modules, *formatter_names())")
    assert told.startswith("False ") and "extra_pairs" in told.split()
    row = "{'물음': '왜?', '좋은 답': '네', '나쁜 답': '아니'}"
    for name in ("'extra_pairs'", "None"):  # by its columns, too
        assert run(installed, f"print(format_dataset([{row}], {name}).column_names)") == str(
            ["prompt", "chosen", "rejected"]
        )


def test_a_plain_function_goes_by_the_name_of_its_entry_point(installed):
    assert run(installed, "f = get_formatter('extra_prompts'); print(f.name, f.type)") == "extra_prompts prompt_only"


def test_an_entry_point_under_another_name_than_its_formatter_is_an_error(installed):
    assert "is the formatter 'another_name'; name both alike" in run(installed, "get_formatter('extra_misnamed')")


def test_a_tokenizer_family_of_another_package_is_found(installed):
    code = "from trl_kochat.tokenizer.families import family_of; print(family_of({'<끝>': 0, '가': 1}, 3).name)"
    assert run(installed, code) == "Extra"


def test_an_entry_point_that_cannot_be_loaded_names_its_package(installed):
    code = "plugins.load_entry_point(plugins.entry_points_of('rewards')['broken'])"
    assert "'broken' of the package kochat-extra (kochat_extra.nowhere:reward) cannot be loaded" in run(
        installed, code
    )


def test_one_name_in_two_packages_is_an_error(monkeypatch):
    def entry(value):
        return plugins.EntryPoint("pairs", value, "trl_kochat.formatters")

    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry("a:to_preference"), entry("b:to_preference")])
    with pytest.raises(InputError, match="Two packages have 'pairs'"):
        plugins.entry_points_of("formatters")
