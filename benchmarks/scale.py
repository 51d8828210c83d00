"""How time and memory grow: with rows (1e3 to 1e6), with sequence length, with batch size. A plot each.

    python benchmarks/scale.py                     # up to 30,000 rows, 1,024 tokens and a batch of 16
    python benchmarks/scale.py --max_rows 1000000 --only rows

rows      a JSON-lines file of numbered pairs of the sample becomes TRL rows, once in memory (`format_dataset(rows)`) and
          once streamed (`datasets.load_dataset(streaming=True).map(to_preference)`), each in a process of its own
length    one DPO step (forward of policy and reference, backward) of 4-bit LoRA on two rows, with and without
          gradient checkpointing
batch     the same at one length

The model of the last two is the embedded one's shape with random weights. Peak memory is that of the process, less what
it had when the libraries and the model were loaded.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import Report, arguments, peak_bytes, print_table, run_worker
from training import ROOT


SAMPLE = ROOT / "trl_kochat" / "sample"
VOCAB = 4096


# Workers


def run_rows(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds and memory from a file to TRL rows; the streamed ones are read once, as an epoch does."""
    import datasets

    from trl_kochat import format_dataset, load_rows
    from trl_kochat.data.formatters.orca import to_preference

    datasets.disable_progress_bars()

    def streamed() -> Any:
        return datasets.load_dataset("json", data_files=args.file, split="train", streaming=True)

    next(iter(streamed()))  # loads what it needs
    before, start = peak_bytes(), time.perf_counter()
    if args.side == "in memory":
        made = len(format_dataset(load_rows(args.file), to_preference))
    else:
        made = sum(len(to_preference(row)) for row in streamed())
    return {"seconds": time.perf_counter() - start, "bytes": peak_bytes() - before, "made": made}


def dpo_step_model(checkpointing: bool) -> Any:
    """A 4-bit Llama of the embedded model's shape with LoRA; random weights do for time and memory."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

    config = AutoConfig.from_pretrained(SAMPLE / "tiny-ko")
    config.max_position_embeddings = 1 << 16
    with tempfile.TemporaryDirectory() as folder:
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        four_bit = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
        )
        base = AutoModelForCausalLM.from_pretrained(folder, quantization_config=four_bit, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    if checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable()
    return model.train()


def run_step(args: argparse.Namespace) -> dict[str, Any]:
    """One DPO step: log-probabilities of policy and reference, and the backward pass."""
    import torch

    from trl_kochat import dpo_loss

    model = dpo_step_model(args.side == "checkpointing")
    torch.manual_seed(0)

    def logps(ids: torch.Tensor) -> torch.Tensor:
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        return -torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none").sum(1)

    def step(batch: int, length: int) -> None:
        ids = torch.randint(3, VOCAB, (2 * batch, length))
        with torch.no_grad(), model.disable_adapter():
            reference = logps(ids)
        policy = logps(ids)
        dpo_loss(*policy.chunk(2), *reference.chunk(2)).losses.mean().backward()

    step(1, 16)
    before, start = peak_bytes(), time.perf_counter()
    step(args.batch, args.length)
    return {"seconds": time.perf_counter() - start, "bytes": peak_bytes() - before}


# The curves


def write_pairs(path: Path, count: int) -> None:
    lines = (SAMPLE / "orca_dpo_pairs.jsonl").read_text(encoding="utf-8").strip().split("\n")
    source = [json.loads(line) for line in lines]
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            row = source[i % len(source)]
            texts = {
                "chosen": row.get("chosen") or row["chatgpt"],
                "rejected": row.get("rejected") or row["llama2-13b-chat"],
            }
            file.write(json.dumps({"system": row["system"], "question": f"{row['question']} ({i})", **texts}) + "\n")


def curve(
    what: str, sides: list[str], values: list[int], flags: dict[int, list[Any]]
) -> dict[str, list[dict[str, Any]]]:
    """`side -> points`, the sides in turn at each value."""
    points: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for value in values:
        for side in sides:
            command = [sys.executable, __file__, "--worker", what, "--side", side, *map(str, flags[value])]
            points[side].append({"value": value, **run_worker(command)})
    rows = [
        [side, f"{point['value']:,}", point["seconds"], point["bytes"] / 1e6]
        for side in sides
        for point in points[side]
    ]
    print_table([what, "", "seconds", "MB"], rows)
    return points


def plot(path: Path, label: str, points: dict[str, list[dict[str, Any]]]) -> None:
    """Seconds and memory over one quantity, both axes logarithmic, with a line of slope 1 to hold them against."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for axis, key, unit, scale in zip(
        axes, ("seconds", "bytes"), ("seconds", "MB above the model"), (1, 1e6), strict=True
    ):
        for side, series in points.items():
            axis.plot(
                [p["value"] for p in series], [max(p[key] / scale, 1e-3) for p in series], marker="o", label=side
            )
        first = next(iter(points.values()))
        start, base = first[-1]["value"], max(first[-1][key] / scale, 1e-3)
        ends = [first[0]["value"], start]
        axis.plot(ends, [base * end / start for end in ends], color="0.7", linestyle="--", label="in proportion")
        axis.set(xscale="log", yscale="log", xlabel=label, ylabel=unit)
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> None:
    parser = arguments(__doc__, "scale.json")
    parser.add_argument("--max_rows", type=int, default=30_000)
    parser.add_argument("--max_length", type=int, default=1024)
    parser.add_argument("--max_batch", type=int, default=16)
    parser.add_argument("--only", nargs="+", choices=["rows", "length", "batch"], default=["rows", "length", "batch"])
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images", help="folder of the plots")
    for name, kind in (("side", str), ("file", str), ("batch", int), ("length", int)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        args.out.write_text(json.dumps(run_rows(args) if args.worker == "rows" else run_step(args)))
        return
    report, curves = Report(), {}
    with tempfile.TemporaryDirectory() as folder:
        if "rows" in args.only:
            counts = [
                n for base in (1_000, 10_000, 100_000, 1_000_000) for n in (base, 3 * base) if n <= args.max_rows
            ]
            for count in counts:
                write_pairs(Path(folder) / f"{count}.jsonl", count)
            files = {count: ["--file", f"{folder}/{count}.jsonl"] for count in counts}
            curves["rows"] = curve("rows", ["in memory", "streamed"], counts, files)
        checkpointing = ["kept activations", "checkpointing"]
        lengths = [n for n in (128, 256, 512, 1024, 2048, 4096, 8192) if n <= args.max_length]
        if "length" in args.only:
            flags = {n: ["--batch", 1, "--length", n] for n in lengths}
            curves["length"] = curve("length", checkpointing, lengths, flags)
        batches = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= args.max_batch]
        if "batch" in args.only:
            flags = {n: ["--batch", n, "--length", 128] for n in batches}
            curves["batch"] = curve("batch", checkpointing, batches, flags)
    labels = {"rows": "rows", "length": "tokens of a row, two rows", "batch": "pairs in a batch, 128 tokens a row"}
    for what, points in curves.items():
        plot(args.images / f"scale_{what}.png", labels[what], points)
    report.write(args.out, curves=curves)


if __name__ == "__main__":
    main()
