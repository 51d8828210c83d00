"""The command `trl-kochat`: one module in this folder per subcommand, and every recipe under its own name.

A subcommand module has a docstring (its first line is the help text), `add_arguments(parser)` and `run(args) -> int`
(the exit status); a module without `add_arguments` is a helper of others. It imports what is heavy inside `run`, so
that `trl-kochat --help` is quick. Such a module of another package is a subcommand, too, once that package names it in
its entry points `trl_kochat.commands`.
"""

import argparse
import ast
import runpy
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from .. import __version__, recipes
from ..errors import InputError
from ..plugins import entry_points_of, load_entry_point
from ..startup import begin_command, end_imports
from ..versions import noting_newer_versions


def build_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """The parser of all subcommands; of those from other packages only the chosen one is imported."""
    parser = argparse.ArgumentParser(prog="trl-kochat", description="Korean post-training on TRL.")
    parser.add_argument("--version", action="version", version=f"trl_kochat {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    modules = {info.name: import_module(f"{__name__}.{info.name}") for info in iter_modules(__path__)}
    modules = {name: module for name, module in modules.items() if hasattr(module, "add_arguments")}
    for name, entry in entry_points_of("commands").items():
        if name in modules or name in recipe_names():
            raise InputError(
                f"Another package has a command {name!r} ({entry.value}), which is one of trl-kochat's own."
            )
        if name == chosen:
            modules[name] = load_entry_point(entry)
        else:
            commands.add_parser(name, help=f"from {entry.value}", add_help=False)
    for name, module in modules.items():
        description = module.__doc__ or ""
        command = commands.add_parser(
            name,
            help=description.strip().partition("\n")[0],
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    for name, path in recipe_files().items():  # for the list of --help only; a recipe reads its own arguments
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        aliases = [alias for alias, recipe in recipe_names().items() if recipe == name != alias]
        commands.add_parser(name, aliases=aliases, help=f"recipe: {docstring.partition(chr(10))[0]}", add_help=False)
    return parser


def recipe_files() -> dict[str, Path]:
    """The recipes by name; none of them is imported."""
    folders = map(Path, recipes.__path__)
    return {path.stem: path for folder in folders for path in sorted(folder.glob("[a-z]*.py"))}


def recipe_names() -> dict[str, str]:
    """What a recipe may be called by -> its name: that name, and its method where no other recipe has the same."""
    methods = {name: name.partition("_")[0] for name in recipe_files()}
    recipes_of = Counter(methods.values())
    alone = {method: name for name, method in methods.items() if recipes_of[method] == 1}
    return alone | {name: name for name in methods}


def run_recipe(name: str, argv: Sequence[str]) -> int:
    """Run a recipe as `python recipes/NAME.py` does, with its messages and exit status.

    What stands before the first flag are files with rows: `dpo my.jsonl` is `dpo --dataset_name my.jsonl`.
    """
    first_flag = next((number for number, word in enumerate(argv) if word.startswith("-")), len(argv))
    if first_flag and "--dataset_name" in argv:
        raise InputError(f"rows are given twice: {' '.join(argv[:first_flag])}, and --dataset_name.")
    if first_flag:
        argv = ["--dataset_name", *argv]
    given, sys.argv = sys.argv, [f"{name}.py", *argv]
    try:
        runpy.run_module(f"{recipes.__name__}.{name}", run_name="__main__", alter_sys=True)
    finally:
        sys.argv = given
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; what a user got wrong is one line on stderr and exit status 2."""
    if argv is None:
        begin_command()
        argv = sys.argv[1:]
    name = argv[0] if argv else ""
    try:
        if name in recipe_names():
            return run_recipe(recipe_names()[name], argv[1:])
        args = build_parser(name).parse_args(argv)
        end_imports()
        with noting_newer_versions():
            return args.run(args)
    except BrokenPipeError:  # the reader (head, less) has had enough
        return 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (InputError, OSError) as error:
        print(f"trl-kochat {name}: {error}", file=sys.stderr)
        return 2
