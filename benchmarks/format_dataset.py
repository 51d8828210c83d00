"""Rows per second and memory of `format_dataset` on rankings of three, the size of KoChatGPT's second file.

    python benchmarks/format_dataset.py [--rows 10220]

Prints a line for each way, in seconds and in MiB of Python and Arrow memory at the peak.
"""

import argparse
import resource
import subprocess
import sys
import time

from datasets import Dataset, IterableDataset

from trl_kochat import format_dataset


ANSWER = "네, 그 질문에는 이렇게 답할 수 있습니다. 한 가지씩 차근차근 살펴보면 어렵지 않아요. "


def rankings(num_rows: int):
    for i in range(num_rows):
        answers = {f"completion_{k}": f"'{ANSWER * (k + 1)}{i}\\n끝" for k in range(3)}
        yield {"prompt": f"{i}번째 질문은 무엇인가요?", **answers, "ranking": [i % 3, (i + 1) % 3, (i + 2) % 3]}


def measure(way: str, num_rows: int) -> None:
    if way == "stream":
        rows = IterableDataset.from_generator(rankings, gen_kwargs={"num_rows": num_rows})
    elif way == "Dataset":
        rows = Dataset.from_list(list(rankings(num_rows)))
    else:
        rows = list(rankings(num_rows))
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    num_proc = 2 if way == "list, 2 processes" else None
    made = (
        sum(1 for _ in format_dataset(rows, "kochatgpt_rm", num_proc=num_proc))
        if way == "stream"
        else len(format_dataset(rows, "kochatgpt_rm", num_proc=num_proc))
    )
    seconds = time.perf_counter() - start
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held
    print(
        f"{way:20} {num_rows:>8,} rankings  {made:>9,} pairs  {seconds:6.2f} s  peak grew by {grown / 1024:6.1f} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_220, help="number of rankings (default: KoChatGPT's)")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        measure(args.way, args.rows)
        return
    # A process for each, so that one way's memory does not hide another's.
    for way in ("list", "Dataset", "list, 2 processes", "stream"):
        subprocess.run([sys.executable, __file__, "--rows", str(args.rows), "--way", way], check=True)
    subprocess.run([sys.executable, __file__, "--rows", str(args.rows * 10), "--way", "stream"], check=True)


if __name__ == "__main__":
    main()
