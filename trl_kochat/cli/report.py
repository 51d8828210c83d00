"""Make the page of a run again, or one page that compares several.

    trl-kochat report runs/dpo_orca
    trl-kochat report runs/sft_kochatgpt runs/reward_kochatgpt runs/ppo_kochatgpt

A run is the --output_dir of a recipe. Its page is RUN/report/index.html; a comparison lies beside the runs.
"""

import argparse
import os
from pathlib import Path

from ..errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="output folder of a recipe, or its report folder")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="where the comparison goes (default: comparison.html beside the runs)",
    )


def run(args: argparse.Namespace) -> int:
    from ..report import find_report, write_comparison, write_page

    folders = list(dict.fromkeys(find_report(run) for run in args.runs))
    if args.output is not None and len(folders) == 1:
        raise InputError("--output is for the comparison of several runs; the page of one is in its report folder.")
    for folder in folders:
        print(write_page(folder))
    if len(folders) > 1:
        output = args.output
        if output is None:
            output = (
                Path(os.path.commonpath([folder.resolve().parent.parent for folder in folders])) / "comparison.html"
            )
        write_comparison(folders, output)
        print(output)
    return 0
