"""The command `trl-kochat`: one module in this folder per subcommand, and every recipe under its own name.

A subcommand module has a docstring (its first line is the help text), `add_arguments(parser)` and `run(args) -> int`
(the exit status). It imports what is heavy inside `run`, so that `trl-kochat --help` is quick.
"""

import argparse
import ast
import runpy
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from .. import __version__, recipes
from ..versions import noting_newer_versions


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trl-kochat", description="Korean post-training on TRL.")
    parser.add_argument("--version", action="version", version=f"trl_kochat {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module_info in iter_modules(__path__):
        module = import_module(f"{__name__}.{module_info.name}")
        description = module.__doc__ or ""
        command = commands.add_parser(
            module_info.name,
            help=description.strip().partition("\n")[0],
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    for name, path in recipe_files().items():  # for the list of --help only; a recipe reads its own arguments
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        commands.add_parser(name, help=f"recipe: {docstring.partition(chr(10))[0]}", add_help=False)
    return parser


def recipe_files() -> dict[str, Path]:
    """The recipes by name; none of them is imported."""
    folders = map(Path, recipes.__path__)
    return {path.stem: path for folder in folders for path in sorted(folder.glob("[a-z]*.py"))}


def run_recipe(name: str, argv: Sequence[str]) -> int:
    """Run a recipe as `python recipes/NAME.py` does, with its messages and exit status."""
    given, sys.argv = sys.argv, [f"{name}.py", *argv]
    try:
        runpy.run_module(f"{recipes.__name__}.{name}", run_name="__main__", alter_sys=True)
    finally:
        sys.argv = given
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; what a user got wrong is one line on stderr and exit status 2."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in recipe_files():
        return run_recipe(argv[0], argv[1:])
    args = build_parser().parse_args(argv)
    try:
        with noting_newer_versions():
            return args.run(args)
    except BrokenPipeError:  # the reader (head, less) has had enough
        return 0
    except (ValueError, OSError) as error:
        print(f"trl-kochat {args.command}: {error}", file=sys.stderr)
        return 2
