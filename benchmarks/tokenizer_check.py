"""How long check_tokenizer takes: a vocabulary of 100,000 entries alone, and with 12,000 rows.

Limits are 3 s and 15 s on two cores. For comparison, the rows are also tokenized one by one, as a script does that
calls `apply_chat_template` for every prompt and every conversation.

    python benchmarks/tokenizer_check.py
"""

import argparse
import itertools
import json
import logging
import random
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from trl_kochat import format_dataset, load_rows
from trl_kochat.tokenizer import check_tokenizer, load_tokenizer, save_portable


CHECK_LIMIT_S, ROWS_LIMIT_S = 3.0, 15.0


def large_tokenizer(entries: int) -> PreTrainedTokenizerFast:
    """Character BPE with every syllable, and as many pairs of common syllables as it takes."""
    specials = ["<s>", "</s>", "<pad>", "<unk>"]
    syllables = [chr(code) for code in range(ord("가"), ord("힣") + 1)]
    common = [syllable for syllable in syllables if len(syllable.encode("euc_kr")) == 2]
    characters = [*"▁\n", *map(chr, range(33, 127)), *syllables]
    pairs = itertools.islice(itertools.product(common, common), entries - len(specials) - len(characters))
    merges = list(pairs)
    entries_in_order = [*specials, *characters, *("".join(pair) for pair in merges)]
    vocab = {entry: position for position, entry in enumerate(entries_in_order)}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>"))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def long_rows(number: int, answers_per_row: int) -> list[dict]:
    """Rows of the sample with several answers joined, so that they are as long as a course file's."""
    sample = list(format_dataset(load_rows(files("trl_kochat") / "sample" / "kochatgpt_1_SFT.jsonl"), "kochatgpt_sft"))
    rng = random.Random(0)
    rows = []
    for _ in range(number):
        answer = " ".join(row["completion"][0]["content"] for row in rng.sample(sample, answers_per_row))
        rows.append({"prompt": rng.choice(sample)["prompt"], "completion": [{"role": "assistant", "content": answer}]})
    return rows


def seconds(function, *args, **kwargs) -> float:
    start = time.perf_counter()
    function(*args, **kwargs)
    return time.perf_counter() - start


def one_by_one(tokenizer: PreTrainedTokenizerFast, rows: list[dict]) -> None:
    for row in rows:
        tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)
        tokenizer.apply_chat_template(row["prompt"] + row["completion"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=12_000)
    parser.add_argument("--answers_per_row", type=int, default=4)
    parser.add_argument(
        "--repeats", type=int, default=3, help="the fastest is reported, other programs disturb it least"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return run(args, folder)


def run(args: argparse.Namespace, folder: str) -> int:
    logging.getLogger("trl_kochat").setLevel(logging.ERROR)
    # From files, so that the check compares with them as it does for a user.
    save_portable(large_tokenizer(args.entries), folder)
    (Path(folder) / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": args.entries}))
    tokenizer = load_tokenizer(folder)
    rows = long_rows(args.rows, args.answers_per_row)

    def fastest(function, *arguments, **options) -> float:
        return min(seconds(function, *arguments, **options) for _ in range(args.repeats))

    load = fastest(load_tokenizer, folder)
    alone = fastest(check_tokenizer, tokenizer)
    with_rows = fastest(check_tokenizer, tokenizer, rows=rows)
    loop = fastest(one_by_one, tokenizer, rows)
    syllables = sum(len(row["completion"][0]["content"]) for row in rows) / len(rows)
    print(f"vocabulary {len(tokenizer):,}; {len(rows):,} rows, answers of {syllables:.0f} characters on average")
    print(f"load_tokenizer    {load:6.2f} s   the check is part of it")
    print(f"check alone       {alone:6.2f} s   limit {CHECK_LIMIT_S:.0f} s")
    print(f"check with rows   {with_rows:6.2f} s   limit {ROWS_LIMIT_S:.0f} s")
    print(f"rows one by one   {loop:6.2f} s   only tokenized; {loop / with_rows:.1f} times the whole check")
    times = {"load_s": load, "check_s": alone, "check_with_rows_s": with_rows, "one_by_one_s": loop}
    print(json.dumps({name: round(value, 3) for name, value in times.items()}))
    return int(alone > CHECK_LIMIT_S or with_rows > ROWS_LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
