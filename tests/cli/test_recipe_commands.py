"""Recipes under their names: `trl-kochat NAME`, for those who have the package and not the repository."""

import sys
from pathlib import Path

import pytest

from trl_kochat import cli
from trl_kochat.cli import main, recipe_files, recipe_names


IN_REPOSITORY = sorted(path.stem for path in (Path(__file__).parents[2] / "recipes").glob("*.py"))


def test_every_recipe_is_a_command_and_no_other_command_is_hidden_by_one(capsys):
    assert sorted(recipe_files()) == IN_REPOSITORY != []
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    commands = [path.stem for path in (Path(main.__code__.co_filename).parent).glob("[a-z]*.py")]
    assert not set(commands) & set(recipe_names())
    assert all(f"\n    {name}" in out for name in ["doctor", "preview", *IN_REPOSITORY])


def test_a_recipe_goes_by_its_method_while_no_other_recipe_has_it(monkeypatch):
    names = {"sft": "sft_kochatgpt", "reward": "reward_kochatgpt", "ppo": "ppo_kochatgpt", "dpo": "dpo_orca"}
    names |= {"grpo": "grpo_korean", "kto": "kto_pairs"}
    assert recipe_names() == names | {name: name for name in names.values()}
    monkeypatch.setattr(cli, "recipe_files", lambda: dict.fromkeys(["dpo_orca", "dpo_mine", "sft_mine"], Path()))
    assert recipe_names().keys() == {"dpo_orca", "dpo_mine", "sft_mine", "sft"}


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["my.jsonl"], ["--dataset_name", "my.jsonl"]),
        (["a.jsonl", "b.csv", "--dry_run"], ["--dataset_name", "a.jsonl", "b.csv", "--dry_run"]),
        (["--max_steps", "2"], ["--max_steps", "2"]),
        ([], []),
    ],
)
def test_what_stands_before_the_flags_are_files_with_rows(given, read, monkeypatch):
    seen = []
    monkeypatch.setattr(cli.runpy, "run_module", lambda name, **kwargs: seen.append([name, *sys.argv]))
    assert main(["dpo", *given]) == 0
    assert seen == [["trl_kochat.recipes.dpo_orca", "dpo_orca.py", *read]]


def test_rows_given_twice_are_refused(capsys):
    assert main(["dpo", "a.jsonl", "--dataset_name", "b.jsonl"]) == 2
    assert "rows are given twice: a.jsonl, and --dataset_name" in capsys.readouterr().err


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
