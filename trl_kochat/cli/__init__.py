"""The command `trl-kochat`: one module in this folder per subcommand.

A subcommand module has a docstring (its first line is the help text), `add_arguments(parser)` and `run(args) -> int`
(the exit status). It imports what is heavy inside `run`, so that `trl-kochat --help` is quick.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules

from .. import __version__


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
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; what a user got wrong is one line on stderr and exit status 2."""
    args = build_parser().parse_args(argv)
    try:
        return args.run(args)
    except BrokenPipeError:  # the reader (head, less) has had enough
        return 0
    except (ValueError, OSError) as error:
        print(f"trl-kochat {args.command}: {error}", file=sys.stderr)
        return 2
