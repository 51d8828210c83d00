"""Recipes under their names: `trl-kochat NAME`, for those who have the package and not the repository."""

import sys
from pathlib import Path

import pytest

from trl_kochat.cli import main, recipe_files


IN_REPOSITORY = sorted(path.stem for path in (Path(__file__).parents[2] / "recipes").glob("*.py"))


def test_every_recipe_is_a_command_and_no_other_command_is_hidden_by_one(capsys):
    assert sorted(recipe_files()) == IN_REPOSITORY != []
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    commands = [path.stem for path in (Path(main.__code__.co_filename).parent).glob("[a-z]*.py")]
    assert not set(commands) & set(IN_REPOSITORY)
    assert all(f"\n    {name}" in out for name in [*commands, *IN_REPOSITORY])


def test_help_does_not_import_a_recipe(capsys):
    loaded = set(sys.modules)
    with pytest.raises(SystemExit):
        main(["--help"])
    assert not {name for name in set(sys.modules) - loaded if name.startswith("trl_kochat.recipes.")}


@pytest.mark.parametrize("name", IN_REPOSITORY)
def test_a_recipe_reads_its_own_arguments(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = list(sys.argv)
    with pytest.raises(SystemExit, match=rf"^{name}.py: Unknown key 'lerning_rate' .* did you mean 'learning_rate'"):
        main([name, "--lerning_rate", "1"])
    assert sys.argv == given and not list(tmp_path.iterdir())


def test_an_unknown_command_lists_commands_and_recipes(capsys):
    with pytest.raises(SystemExit) as error:
        main(["dpo_orka"])
    assert error.value.code == 2
    assert "dpo_orca" in capsys.readouterr().err


def test_a_recipe_runs_from_anywhere(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sft_kochatgpt", "--preset", "cpu", "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("sft_kochatgpt: preset cpu (as asked)") and "stopped before the first step" in out
