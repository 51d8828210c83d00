"""Rows per second from a file to token ids: ours, plain TRL, the course's way, axolotl and LLaMA-Factory.

    python benchmarks/data_prep.py
    python benchmarks/data_prep.py --sides ours trl          # without making environments for the other tools

12,000 question/answer rows and 10,220 rankings, the sizes of KoChatGPT's files, of the sample's rows with a number written
into each so that no row repeats; 30,261 pairs, as some of the sample's rankings hold a tie. Every side reads the same JSON file, writes the same template and ends with the ids that
its trainer takes; those of the first three sides are compared with each other, id by id. (Plain TRL's differ where
a formatter of ours mends the text: literal backslash-n, stray quotes.)

    ours                load_rows, format_dataset, tokenize_dataset, then SFTTrainer or RewardTrainer, like the recipes
    ours, 2 processes   the same with --dataset_num_proc 2
    ours, by trainer    the same without tokenize_dataset
    trl                 json.load, a list comprehension for the rows, then the trainer
    course              the course's dataset class: one row at a time, twice each (SFT only)
    axolotl             its chat_template strategies, in an environment of its own
    llamafactory        its dataset processors, in an environment of its own
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import CACHE, TORCH, Report, arguments, check, environment, peak_bytes, print_table, run_worker


ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "trl_kochat" / "sample"
OURS = ("ours", "ours, 2 processes", "ours, by trainer", "trl", "course")
# Each tool with what its own release pins, as far as its formatters need it; the rest of what it asks for (viewers,
# cloud storage, GPU kernels) takes gigabytes and no part in this.
TOOLS = {
    "axolotl": [
        ["transformers==5.16.1", "datasets==4.8.4", "trl==1.9.0", "peft==0.20.0", "accelerate==1.13.0"],
        ["addict", "fire", "colorama", "pydantic==2.12.5"],
        ["--no-deps", "axolotl==0.19.0"],
    ],
    "llamafactory": [
        ["transformers>=5,<=5.6.0", "datasets<=4.0.0", "accelerate<=1.11.0", "peft==0.18.1", "trl<=0.24.0"],
        ["omegaconf", "fire", "tyro<0.9", "einops", "sentencepiece", "tiktoken", "torchvision"],
        ["--no-deps", "llamafactory==0.9.5"],
    ],
}
SIDES = (*OURS, *TOOLS)


class Start:
    """When a worker's clock began."""

    def __init__(self) -> None:
        self._clock, self._cpu = time.perf_counter(), self._cpu_seconds()

    def seconds(self) -> dict[str, float]:
        """On the clock, and of the processor, where several threads count each and others of the machine do not."""
        return {"seconds": time.perf_counter() - self._clock, "cpu_seconds": self._cpu_seconds() - self._cpu}

    @staticmethod
    def _cpu_seconds() -> float:
        times = os.times()
        return sum(times[:4])  # of this process and of those that it started


# Workers. Nothing here imports this project before the side that is it.


def write_files(folder: Path, rows: int, rankings: int) -> None:
    """`sft.json` and `rm.json`, JSON arrays like the course's, of numbered rows of the sample."""

    def numbered(name: str, count: int) -> list[dict[str, Any]]:
        text = (SAMPLE / name).read_text(encoding="utf-8-sig")
        source = json.loads(text) if text.lstrip().startswith("[") else [json.loads(x) for x in text.split("\n") if x]
        made = []
        for i in range(count):
            row = dict(source[i % len(source)])
            for key, value in row.items():
                if isinstance(value, str) and key != "tokens":
                    row[key] = f"{value} ({i})"
            made.append(row)
        return made

    for name, source, count in (("sft", "kochatgpt_1_SFT.jsonl", rows), ("rm", "kochatgpt_2_RM.jsonl", rankings)):
        (folder / f"{name}.json").write_text(json.dumps(numbered(source, count), ensure_ascii=False), encoding="utf-8")


def messages(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def plain_rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    """TRL's rows the short way; a tie gives no pair, as in ours."""
    with open(args.file, encoding="utf-8-sig") as file:
        raw = json.load(file)
    if args.kind == "sft":
        return [
            {"prompt": messages("user", row["prompt"]), "completion": messages("assistant", row["completion"])}
            for row in raw
        ]
    pairs = []
    for row in raw:
        ranks = row["ranking"]
        answers = [messages("assistant", row[f"completion_{i}"]) for i in range(len(ranks))]
        for i in range(len(ranks)):
            for j in range(i + 1, len(ranks)):
                if ranks[i] != ranks[j]:
                    better, worse = (i, j) if ranks[i] < ranks[j] else (j, i)
                    prompt = messages("user", row["prompt"])
                    pairs.append({"prompt": prompt, "chosen": answers[better], "rejected": answers[worse]})
    return pairs


def our_rows(args: argparse.Namespace) -> Any:
    from trl_kochat import format_dataset, load_rows

    return format_dataset(load_rows(args.file), "kochatgpt_sft" if args.kind == "sft" else "kochatgpt_rm")


def trainer_ids(args: argparse.Namespace, rows: Any, tokenizer: Any, processes: int | None) -> Any:
    """The dataset that the trainer itself makes of rows."""
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification
    from trl import RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

    tiny = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1,
        num_labels=1,
    )  # fmt: skip
    shared = {
        "output_dir": args.folder, "report_to": "none", "use_cpu": True, "bf16": False, "dataset_num_proc": processes,
        "max_length": 512,
    }  # fmt: skip
    if args.kind == "sft":
        model, trainer_class, config = LlamaForCausalLM(tiny), SFTTrainer, SFTConfig(**shared)
    else:
        model, trainer_class, config = LlamaForSequenceClassification(tiny), RewardTrainer, RewardConfig(**shared)
    return trainer_class(model, args=config, train_dataset=rows, processing_class=tokenizer).train_dataset


def course_ids(rows: list[dict[str, Any]], tokenizer: Any) -> list[Any]:
    def tokenized(texts: list[str]) -> list[Any]:
        return [
            tokenizer(text, return_tensors="pt", padding="longest", max_length=512, truncation=True).input_ids[0]
            for text in texts
        ]

    starts = [f"### Instruction(명령어):\n{row['prompt'][0]['content']}\n\n### Response(응답):" for row in rows]
    ends = [row["completion"][0]["content"] + tokenizer.eos_token for row in rows]
    tokenized(starts)
    return tokenized([start + end for start, end in zip(starts, ends, strict=True)])


def run_here(args: argparse.Namespace) -> dict[str, Any]:
    import datasets
    import trl
    from transformers import PreTrainedTokenizerFast

    datasets.disable_progress_bars()
    from trl_kochat import format_dataset, load_tokenizer
    from trl_kochat.tokenizer import tokenize_dataset

    assert format_dataset and trl  # imported before the clock starts
    tokenizer: PreTrainedTokenizerFast = load_tokenizer(args.tokenizer)
    if args.worker != "course":  # what a trainer does but once warms up
        first = {
            "prompt": messages("user", "가"),
            **{k: messages("assistant", k) for k in ("completion", "chosen", "rejected")},
        }
        keep = ("prompt", "completion") if args.kind == "sft" else ("prompt", "chosen", "rejected")
        trainer_ids(args, datasets.Dataset.from_list([{key: first[key] for key in keep}] * 2), tokenizer, None)
    start = Start()
    if args.worker == "course":
        ids = course_ids(plain_rows(args), tokenizer)
        return {**start.seconds(), "rows": len(ids), "peak_bytes": peak_bytes()}
    processes = 2 if args.worker == "ours, 2 processes" else None
    rows = datasets.Dataset.from_list(plain_rows(args)) if args.worker == "trl" else our_rows(args)
    if args.worker in ("ours", "ours, 2 processes"):
        rows = tokenize_dataset(rows, tokenizer, num_proc=processes)
    made = trainer_ids(args, rows, tokenizer, processes)
    seconds = start.seconds()
    names = ("input_ids", "labels") if args.kind == "sft" else ("chosen_ids", "rejected_ids")
    digest = hashlib.sha256(json.dumps([made[name][:] for name in names]).encode()).hexdigest()
    return {**seconds, "rows": len(made), "peak_bytes": peak_bytes(), "ids": digest}


def import_tool(name: str) -> None:
    """Import a tool's formatters, before the clock starts; LLaMA-Factory's with nothing in place of torchaudio.

    It asks for torchaudio to read sound files; the one from the registry does not load beside a CPU build of torch.
    """
    import importlib
    import importlib.machinery
    import types

    if name == "llamafactory":
        silence = types.ModuleType("torchaudio")
        silence.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
        sys.modules.setdefault("torchaudio", silence)
    importlib.import_module({"llamafactory": "llamafactory.data"}.get(name, "axolotl.prompt_strategies.chat_template"))


def run_axolotl(args: argparse.Namespace) -> dict[str, Any]:
    from datasets import Dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    if args.kind == "sft":
        from axolotl.prompt_strategies.chat_template import ChatTemplatePrompter, ChatTemplateStrategy
    else:
        from axolotl.prompt_strategies.dpo.chat_template import default
    start = Start()
    rows = plain_rows(args)
    if args.kind == "sft":
        prompter = ChatTemplatePrompter(tokenizer, chat_template=tokenizer.chat_template, max_length=512)
        strategy = ChatTemplateStrategy(
            prompter, tokenizer=tokenizer, train_on_inputs=False, sequence_len=512, roles_to_train=["assistant"]
        )
        dataset = Dataset.from_list([{"messages": row["prompt"] + row["completion"]} for row in rows])
        made = dataset.map(strategy.tokenize_prompt, batched=True, remove_columns=dataset.column_names)
        return {**start.seconds(), "rows": len(made), "peak_bytes": peak_bytes()}

    from axolotl.utils.dict import DictDefault

    transform, _ = default(DictDefault(chat_template="tokenizer_default", datasets=[{"type": "chat_template"}]))
    flat = [{"messages": row["prompt"], "chosen": row["chosen"][0], "rejected": row["rejected"][0]} for row in rows]
    dataset = Dataset.from_list(flat).map(lambda row: transform(row, tokenizer=tokenizer))

    def tokenized(row: dict[str, Any]) -> dict[str, Any]:
        return {f"{side}_ids": tokenizer(row["prompt"] + row[side]).input_ids for side in ("chosen", "rejected")}

    made = dataset.map(tokenized)
    return {**start.seconds(), "rows": len(made), "peak_bytes": peak_bytes()}


def run_llamafactory(args: argparse.Namespace) -> dict[str, Any]:
    import_tool("llamafactory")
    from datasets import Dataset
    from llamafactory.data.processor import PairwiseDatasetProcessor, SupervisedDatasetProcessor
    from llamafactory.data.template import TEMPLATES
    from llamafactory.hparams import DataArguments
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    template = TEMPLATES["alpaca"]
    start = Start()
    aligned = []
    for row in plain_rows(args):
        answers = row["completion"] if args.kind == "sft" else [row["chosen"][0], row["rejected"][0]]
        empty = {"_system": "", "_tools": "", "_images": None, "_videos": None, "_audios": None}
        aligned.append({"_prompt": row["prompt"], "_response": answers, **empty})
    processor_class = SupervisedDatasetProcessor if args.kind == "sft" else PairwiseDatasetProcessor
    processor = processor_class(template, tokenizer, None, DataArguments(template="alpaca", cutoff_len=512))
    dataset = Dataset.from_list(aligned)
    made = dataset.map(processor.preprocess_dataset, batched=True, remove_columns=dataset.column_names)
    return {**start.seconds(), "rows": len(made), "peak_bytes": peak_bytes()}


# The rounds


def interpreters(sides: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The interpreter of each side, and why there is none for a tool that cannot be had here."""
    found, missing = {side: sys.executable for side in OURS if side in sides}, {}
    for tool in (side for side in sides if side in TOOLS):
        try:
            python = environment(f"data-prep-{tool}", [[TORCH], *TOOLS[tool]], CACHE)
            code = f"import data_prep; data_prep.import_tool({tool!r})"
            subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, cwd=Path(__file__).parent)
            found[tool] = python
        except subprocess.CalledProcessError as error:
            lines = (error.stderr or str(error)).strip().splitlines()
            missing[tool] = lines[-1][:200] if lines else str(error)
    return found, missing


def main() -> None:
    parser = arguments(__doc__, "data_prep.json")
    parser.add_argument("--rows", type=int, default=12_000, help="question/answer rows")
    parser.add_argument("--rankings", type=int, default=10_220, help="rankings of three, up to three pairs each")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tokenizer", default=str(SAMPLE / "tiny-ko"))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    for hidden in ("--folder", "--file", "--kind"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        run = {"axolotl": run_axolotl, "llamafactory": run_llamafactory}.get(args.worker, run_here)
        args.out.write_text(json.dumps(run(args)))
        return
    report = Report()
    pythons, missing = interpreters(args.sides)
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {"sft": {}, "rm": {}}
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), args.rows, args.rankings)
        for turn in range(args.rounds):
            for kind in runs:
                for side, python in pythons.items():
                    if (kind, side) == ("rm", "course"):
                        continue
                    command = [python, __file__, "--worker", side, "--kind", kind, "--tokenizer", args.tokenizer]
                    command += ["--file", f"{folder}/{kind}.json", "--folder", folder]
                    # A batch is spread over the cores where nobody forbids it.
                    env = {"TOKENIZERS_PARALLELISM": "true", "HF_HOME": f"{folder}/{turn}"}
                    result = run_worker(command, env)
                    runs[kind].setdefault(side, []).append(result)
                    print(
                        f"round {turn + 1}: {kind}, {side}: {result['rows'] / result['seconds']:,.0f} rows/s",
                        flush=True,
                    )
    figures = {kind: {side: summarize(results) for side, results in sides.items()} for kind, sides in runs.items()}
    show(figures, missing)
    goals = []
    for kind, sides in figures.items():
        if {"ours", "trl"} <= sides.keys():
            ratio = sides["ours"]["rows_per_second"] / sides["trl"]["rows_per_second"]
            goals.append(check(f"{kind}: rows per second, ours to plain TRL", ratio, ">=", 1.0))
            different = {sides[side]["ids"] for side in OURS[:3] if side in sides}
            goals.append(check(f"{kind}: kinds of ids among ours", len(different), "<=", 1))
    report.write(args.out, figures=figures, missing=missing, goals=goals)


def summarize(results: list[dict[str, Any]]) -> dict[str, Any]:
    best = {key: results[0][key] for key in ("rows", "ids") if key in results[0]}
    return {
        **best,
        "rows_per_second": statistics.median(result["rows"] / result["seconds"] for result in results),
        "rows_per_cpu_second": statistics.median(result["rows"] / result["cpu_seconds"] for result in results),
        "peak_bytes": statistics.median(result["peak_bytes"] for result in results),
    }


def show(figures: dict[str, Any], missing: dict[str, str]) -> None:
    table = []
    for side in SIDES:
        row: list[Any] = [side]
        for kind in ("sft", "rm"):
            found = figures[kind].get(side)
            names = ("rows_per_second", "rows_per_cpu_second")
            row += [*(found[name] for name in names), found["peak_bytes"] / 1e6] if found else [None, None, None]
        table.append(row)
    print_table(["", "SFT rows/s", "a cpu s", "peak MB", "pairs/s", "a cpu s", "peak MB"], table)
    for tool, reason in missing.items():
        print(f"  {tool}: {reason}")


if __name__ == "__main__":
    main()
