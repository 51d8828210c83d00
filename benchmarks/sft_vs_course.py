"""The SFT recipe against the course's own training loop, carried over to today's transformers.

    python benchmarks/sft_vs_course.py
    python benchmarks/sft_vs_course.py --model skt/kogpt2-base-v2 --dataset_name kochatgpt_1_SFT.jsonl --rows 12000
    python benchmarks/sft_vs_course.py --model FOLDER --random_weights --dataset_name kochatgpt_1_SFT_conversation.jsonl

The same model, rows, batch size and number of epochs on every side:

    course    the loop of the course: rows tokenized one at a time, twice each, batches in random order, all weights
    full      the recipe with all weights trained as well (`--use_peft False --load_in_4bit False`)
    recipe    the recipe: LoRA on the 4-bit model

They take turns, a step each. Tokens are real if they are no padding, and `eval_loss` is the same measure on the same
held-out rows for all: mean negative log-probability of an answer token, EOS included. Of a dialogue, the first answer
is taken: the course's loop knows single turns alone. The course's tokenizer call (`unk_token` and `pad_token` set to
EOS) is left out: it breaks Korean on transformers 5, and what is compared here is the loop.
"""

import argparse
import copy
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from measure import Report, arguments, check, print_table, take_turns
from training import ROOT, load_recipe, measured_trainer, print_profiles, summarize


SAMPLE = ROOT / "trl_kochat" / "sample"
SIDES = {"course": "the course's loop", "full": "recipe, all weights", "recipe": "recipe, LoRA on 4-bit"}


def training_flags(args: argparse.Namespace) -> dict[str, Any]:
    """What all sides share."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "per_device_train_batch_size": args.batch_size,
        "num_train_epochs": args.epochs,
        "max_steps": -1,
        "warmup_steps": 5,
        "logging_steps": 1,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **({} if cuda else {"bf16": args.bf16, "use_cpu": True}),
    }


def split_rows(path: str, eval_fraction: float) -> tuple[Any, Any]:
    """The rows that the recipe trains on, and those that it holds out."""
    from trl_kochat import format_dataset, load_rows, split_by_prompt

    return split_by_prompt(format_dataset(load_rows(path), "kochatgpt_sft"), eval_fraction, seed=42)


def run_course(args: argparse.Namespace) -> dict[str, Any]:
    """The course's dataset class, collator and `Trainer` call."""
    import torch
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    from trl_kochat import load_tokenizer

    tokenizer = load_tokenizer(args.model)
    train, held_out = split_rows(args.file, args.eval_fraction)

    def tokenized(texts: list[str]) -> list[torch.Tensor]:
        # One at a time, padded to its own length.
        encodings = [
            tokenizer(t, return_tensors="pt", padding="longest", max_length=512, truncation=True) for t in texts
        ]
        return [encoding.input_ids[0] for encoding in encodings]

    sources = [f"### Instruction(명령어):\n{row['prompt'][0]['content']}\n\n### Response(응답):" for row in train]
    targets = [row["completion"][0]["content"] + tokenizer.eos_token for row in train]
    starts = tokenized(sources)
    ids = tokenized([source + target for source, target in zip(sources, targets, strict=True)])
    labels = copy.deepcopy(ids)
    for label, start in zip(labels, starts, strict=True):
        label[: len(start)] = -100
    rows = [{"input_ids": i, "labels": label} for i, label in zip(ids, labels, strict=True)]

    def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        pad = torch.nn.utils.rnn.pad_sequence
        ids = pad([row["input_ids"] for row in rows], batch_first=True, padding_value=tokenizer.pad_token_id)
        labels = pad([row["labels"] for row in rows], batch_first=True, padding_value=-100)
        return {"input_ids": ids, "labels": labels, "attention_mask": ids.ne(tokenizer.pad_token_id)}

    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    flags = {**training_flags(args), "report_to": [], "fp16": torch.cuda.is_available()}
    results: dict[str, Any] = {}
    trainer = measured_trainer(
        Trainer, results, partial(held_out_loss, tokenizer=tokenizer, held_out=held_out), args.profile
    )(
        model=model,
        args=TrainingArguments(output_dir=f"{args.folder}/course", prediction_loss_only=True, **flags),
        data_collator=collate,
        train_dataset=rows,
    )
    trainer.train()
    return results


def held_out_loss(trainer: Any, *, tokenizer: Any, held_out: Any) -> float:
    from trl_kochat.measure.evaluate import evaluate_sft

    return evaluate_sft(trainer.model, tokenizer, held_out)["eval_loss"]


def run_recipe(args: argparse.Namespace) -> dict[str, Any]:
    """`recipes/sft_kochatgpt.py` from its first line to the end of training, without its callbacks."""
    from trl_kochat import load_tokenizer

    recipe = load_recipe("sft_kochatgpt")
    _, held_out = split_rows(args.file, args.eval_fraction)
    results: dict[str, Any] = {}
    evaluate = partial(held_out_loss, tokenizer=load_tokenizer(args.model), held_out=held_out)
    recipe.trl.SFTTrainer = measured_trainer(recipe.trl.SFTTrainer, results, evaluate, args.profile)
    flags = {
        **training_flags(args),
        "model_name_or_path": args.model,
        "dataset_name": args.file,
        "eval_fraction": args.eval_fraction,
        "max_length": 512,
        "train_sampling_strategy": "group_by_length",
        "output_dir": f"{args.folder}/{args.worker}",
    }
    if "use_cpu" in flags:
        flags |= {"dtype": "bfloat16" if args.bf16 else "float32"}
    if args.worker == "full":
        flags |= {"use_peft": False, "load_in_4bit": False, "learning_rate": 5e-5}  # the rate of the course's loop
    recipe.main([text for key, value in flags.items() for text in (f"--{key}", str(value))])
    return results


def main() -> None:
    parser = arguments(__doc__, "sft_vs_course.json")
    parser.add_argument("--model", default=str(SAMPLE / "tiny-ko"))
    parser.add_argument(
        "--random_weights", action="store_true", help="--model is a configuration and a tokenizer alone"
    )
    parser.add_argument("--dataset_name", default=str(SAMPLE / "kochatgpt_1_SFT.jsonl"))
    parser.add_argument("--rows", type=int, default=320, help="rows to take")
    parser.add_argument("--eval_fraction", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 on all sides on a CPU, too")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--profile", action="store_true", help="profile two steps of each side, which slows them down")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        args.out.write_text(json.dumps(run_course(args) if args.worker == "course" else run_recipe(args)))
        return
    report = Report()
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "raw.jsonl"
        write_raw(args.dataset_name, args.rows, file)
        model = write_random_weights(args.model, f"{scratch}/model") if args.random_weights else args.model
        passed = {key: getattr(args, key) for key in ("eval_fraction", "epochs", "batch_size")}
        passed |= {"model": model, "folder": scratch, "file": str(file)}
        flags = [text for key, value in passed.items() for text in (f"--{key}", str(value))]
        flags += [f"--{name}" for name in ("profile", "bf16") if getattr(args, name)]
        runs = take_turns({side: [sys.executable, __file__, "--worker", side, *flags] for side in args.sides})
    sides = {
        side: {**summarize(result), "eval_loss_before": result["before"], "eval_loss_after": result["after"]}
        for side, result in runs.items()
    }
    print_table(
        ["", "s/step", "CPU s/step", "real tokens/s", "padding", "peak MB", "eval_loss before", "after"],
        [
            [
                SIDES[side],
                s["seconds_per_step"],
                s["cpu_seconds_per_step"],
                s["real_tokens_per_second"],
                f"{s['padding']:.0%}",
                s["peak_bytes"] / 1e6,
                s["eval_loss_before"],
                s["eval_loss_after"],
            ]
            for side, s in sides.items()
        ],
    )
    print_profiles(sides)
    goals = []
    if {"full", "course"} <= sides.keys():
        ours, theirs = sides["full"], sides["course"]
        ratio = ours["real_tokens_per_second"] / theirs["real_tokens_per_second"]
        goals.append(check("real tokens per second, recipe with all weights to the course", ratio, ">=", 1.0))
        goals.append(check("padding, the same", ours["padding"] / theirs["padding"], "<=", 0.5))
    if {"recipe", "course"} <= sides.keys():
        ratio = sides["recipe"]["real_tokens_per_second"] / sides["course"]["real_tokens_per_second"]
        goals.append(check("the same, recipe to the course", ratio, ">=", 1.0))
    if {"recipe", "course"} <= sides.keys() and not args.random_weights:  # LoRA learns little on random weights
        gap = sides["recipe"]["eval_loss_after"] - sides["course"]["eval_loss_after"]
        goals.append(check("final held-out loss, recipe less the course's", gap, "<=", 0.0))
    report.write(args.out, sides=sides, goals=goals)


def write_raw(source: str, count: int, path: Path) -> None:
    """`count` single turns of a file of rows or dialogues, in the course's own form."""
    from itertools import islice

    from trl_kochat import format_dataset, load_rows

    rows = format_dataset(load_rows(source))
    turns = (
        {"prompt": row["prompt"][0]["content"], "completion": row["completion"][0]["content"]}
        for row in rows
        if len(row["prompt"]) == 1
    )
    path.write_text(
        "".join(json.dumps(turn, ensure_ascii=False) + "\n" for turn in islice(turns, count)), encoding="utf-8"
    )


def write_random_weights(source: str, folder: str) -> str:
    """The same random weights for every side, beside the tokenizer of `source`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from trl_kochat import load_tokenizer

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source)).save_pretrained(folder)
    load_tokenizer(source).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
