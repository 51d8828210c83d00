"""What is a subcommand: a module of this folder that is none's helper, and one that another package names."""

import sys
from importlib.metadata import EntryPoint

import pytest

from trl_kochat import cli, plugins
from trl_kochat.cli import main
from trl_kochat.errors import InputError


COMMAND = '''"""Count the words of a text."""

from trl_kochat.errors import InputError


def add_arguments(parser):
    parser.add_argument("text")


def run(args):
    if not args.text:
        raise InputError("There is no text.")
    print(len(args.text.split()))
    return 0
'''


@pytest.fixture
def named(monkeypatch, tmp_path):
    """`named(name)`: another package names its module `words_of_another` as the command `name`."""
    (tmp_path / "words_of_another.py").write_text(COMMAND)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "words_of_another", raising=False)

    def name_it(name, value="words_of_another"):
        entry = EntryPoint(name, value, "trl_kochat.commands")
        monkeypatch.setattr(plugins, "entry_points", lambda group: [entry] if group == entry.group else [])

    return name_it


def test_a_command_of_another_package_runs_like_our_own(named, capsys):
    named("count")
    assert main(["count", "하나 둘 셋"]) == 0 and capsys.readouterr().out == "3\n"
    assert main(["count", ""]) == 2 and capsys.readouterr().err == "trl-kochat count: There is no text.\n"


def test_a_command_of_another_package_is_listed_and_imported_only_to_run(named, capsys):
    named("count")
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "\n    count" in capsys.readouterr().out and "words_of_another" not in sys.modules


def test_a_broken_command_of_another_package_leaves_the_others_alone(named, capsys):
    named("count", "nowhere")
    with pytest.raises(SystemExit) as end:
        main(["doctor", "--help"])
    assert end.value.code == 0
    capsys.readouterr()
    assert main(["count", "x"]) == 2
    assert "'count' of the package" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["doctor", "dpo_orca", "dpo"])
def test_another_package_cannot_take_a_name_of_ours(name, named):
    named(name)
    with pytest.raises(InputError, match=f"Another package has a command '{name}'"):
        cli.build_parser()


def test_a_module_beside_the_commands_that_takes_no_arguments_is_a_helper(monkeypatch, tmp_path, capsys):
    (tmp_path / "looks.py").write_text("WIDTH = 80\n")
    monkeypatch.setattr(cli, "__path__", [*cli.__path__, str(tmp_path)])
    with pytest.raises(SystemExit):
        main(["looks"])
    assert "invalid choice: 'looks'" in capsys.readouterr().err


def test_an_interrupted_command_ends_as_such(named, monkeypatch):
    named("count")

    def interrupted(args):
        raise KeyboardInterrupt

    import words_of_another

    monkeypatch.setattr(words_of_another, "run", interrupted)
    assert main(["count", "x"]) == 130


def test_a_fault_of_the_program_keeps_its_traceback(named, monkeypatch):
    named("count")

    def fault(args):
        raise ValueError("a bug")

    import words_of_another

    monkeypatch.setattr(words_of_another, "run", fault)
    with pytest.raises(ValueError, match="a bug"):
        main(["count", "x"])
