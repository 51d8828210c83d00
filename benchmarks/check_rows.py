"""Rows per second of `check_rows` on one core, with and without a tokenizer, with held-out rows, and as a stream; and of `clean_rows`.

    python benchmarks/check_rows.py [--rows 40000]

Pairs have a question and two answers of one to four sentences, a few of them damaged.
"""

import argparse
import resource
import time

import datasets

from trl_kochat import check_rows, load_tokenizer
from trl_kochat.data.health import clean_rows


ANSWERS = (
    "네, 그 질문에는 이렇게 답할 수 있습니다. ",
    "한 가지씩 차근차근 살펴보면 어렵지 않아요. ",
    "서울에서 부산까지는 기차로 두 시간 반쯤 걸립니다. ",
    "저는 잘 모르겠지만 찾아볼게요. ",
)


def pairs(start: int, stop: int):
    for i in range(start, stop):
        texts = ["".join(ANSWERS[(i + k * n) % 4] for n in range(1 + (i + k) % 4)) + f"{i}번이에요." for k in (0, 1)]
        end = "</s>" if i % 500 == 0 else ""
        yield {
            "prompt": [{"role": "user", "content": f"{ANSWERS[i % 4]}그럼 {i}번째 질문의 답은 무엇인가요?"}],
            "chosen": [{"role": "assistant", "content": texts[0] + end}],
            "rejected": [{"role": "assistant", "content": texts[1]}],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40_000)
    num_rows = parser.parse_args().rows
    rows = datasets.Dataset.from_list(list(pairs(0, num_rows)))
    held_out = datasets.Dataset.from_list(list(pairs(num_rows, num_rows + num_rows // 10)))
    stream = datasets.IterableDataset.from_generator(pairs, gen_kwargs={"start": 0, "stop": num_rows})
    tokenizer = load_tokenizer("tiny-ko")
    start, cpu = time.perf_counter(), time.process_time()
    _, mended = clean_rows(rows, tokenizer)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(f"{'clean_rows':20} {num_rows / seconds:>9,.0f} rows/s, {num_rows / cpu:>9,.0f} a CPU second: {mended}")
    for name, given, options in (
        ("rows alone", rows, {}),
        ("with a tokenizer", rows, {"tokenizer": tokenizer, "max_length": 512}),
        ("with held-out rows", rows, {"held_out": held_out}),
        ("a stream", stream, {}),
    ):
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, cpu = time.perf_counter(), time.process_time()
        findings = check_rows(given, **options)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) / 1024
        print(
            f"{name:20} {num_rows / seconds:>9,.0f} rows/s, {num_rows / cpu:>9,.0f} a CPU second, peak grew by "
            f"{grown:5.1f} MiB: {' '.join(finding.code for finding in findings)}"
        )


if __name__ == "__main__":
    main()
