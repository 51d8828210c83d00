"""4-bit DPO and PPO on a GPU at the true shapes of EXAONE-4.0-1.2B and of an 8B model, with random weights.

    python benchmarks/gpu.py                              # all shapes and sides, unattended
    python benchmarks/gpu.py --shapes exaone-1.2b --steps 5
    python benchmarks/gpu.py --shapes tiny --cpu          # the same code on a CPU, to see that it runs

Random weights do for speed and memory. DPO: the recipe's trainer set-up against plain TRL with the same arguments, on
pairs as long as Orca's (log-normal, mean 570 tokens, cut at 1,536), 4 pairs x 4. PPO: prompts of 96 and completions of
96 tokens, batch 16, every role on one 4-bit base, with the value on an adapter of its own or on the policy. Each side is a
process of its own; the first step warms up and does not count. A side that does not fit says so, and the others go on.
Without a GPU the tables stay empty.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import CACHE, Report, arguments, cuda_name, print_table, run_worker
from ppo_vs_trl import tokenizer as word_tokenizer
from training import TARGETS, cuda_peak_bytes, measured_trainer, storage_bytes, summarize


# Configurations as published: config.json of LGAI-EXAONE/EXAONE-4.0-1.2B and of Llama 3.1 8B.
SHAPES: dict[str, dict[str, Any]] = {
    "exaone-1.2b": {
        "model_type": "exaone4", "vocab_size": 102_400, "hidden_size": 2048, "intermediate_size": 4096,
        "num_hidden_layers": 30, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": True,
    },
    "8b": {
        "model_type": "llama", "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False,
    },
    "tiny": {
        "model_type": "exaone4", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
}  # fmt: skip
SIDES = {
    "dpo": {"recipe": "recipe", "trl": "plain TRL"},
    "ppo": {"adapter": "value on an adapter", "policy": "value on the policy"},
}


# Workers


def dtype(args: argparse.Namespace) -> Any:
    import torch

    return torch.float32 if args.cpu else torch.bfloat16


def four_bit(args: argparse.Namespace) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype(args),
    )


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What both trainers are told alike."""
    return {
        "max_steps": args.steps + 1,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": args.cpu,
        "bf16": not args.cpu,
        "model_init_kwargs": {"dtype": dtype(args)},
    }


def make_base(args: argparse.Namespace) -> str:
    """A folder with random weights of the shape, and a tokenizer of as many words; kept for the next worker."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = Path(args.folder) / f"base-{args.shape}"
    if not (folder / "config.json").exists():
        ids = {"eos_token_id": 0, "pad_token_id": 1, "bos_token_id": 2}
        config = AutoConfig.for_model(**SHAPES[args.shape], max_position_embeddings=4096, **ids)
        if args.shape != "8b":  # all layers of the 1.2B model attend to everything
            config.layer_types = ["full_attention"] * config.num_hidden_layers
            config.sliding_window = None
        with torch.device("cpu" if args.cpu else "cuda"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        tokenizer = word_tokenizer(config.vocab_size)
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    return str(folder)


def run_dpo(args: argparse.Namespace) -> dict[str, Any]:
    import random

    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    from trl_kochat.callbacks.length_groups import group_by_length
    from trl_kochat.models import train_in_float32

    rng = random.Random(0)
    vocabulary, longest = SHAPES[args.shape]["vocab_size"], args.max_length

    def words(mean: float) -> str:
        count = min(longest, max(4, round(rng.lognormvariate(0, 0.7) * mean)))
        return " ".join(f"w{rng.randrange(3, vocabulary)}" for _ in range(count))

    mean = longest * 0.12
    batch = 4 * 4
    rows = [
        {"prompt": words(mean) + " ", "chosen": words(mean), "rejected": words(mean)}
        for _ in range(batch * (args.steps + 1))
    ]
    config = DPOConfig(
        output_dir=f"{args.folder}/dpo",
        per_device_train_batch_size=4,
        gradient_accumulation_steps=4,
        gradient_checkpointing=True,
        learning_rate=5e-5,
        optim="adamw_torch" if args.cpu else "paged_adamw_32bit",
        max_length=longest,
        train_sampling_strategy="group_by_length" if args.worker == "recipe" else "random",
        **settings(args),
    )
    results: dict[str, Any] = {}
    base = make_base(args)
    trainer = measured_trainer(DPOTrainer, results)(
        base,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(base),
        quantization_config=four_bit(args),
        peft_config=LoraConfig(r=16, lora_alpha=16, lora_dropout=0.05, target_modules=TARGETS, task_type="CAUSAL_LM"),
    )
    if args.worker == "recipe":
        train_in_float32(trainer.model)
        group_by_length(trainer)
    trainer.train()
    figures = summarize(results)
    figures.pop("loss")
    return figures


def run_ppo(args: argparse.Namespace) -> dict[str, Any]:
    import random
    import time

    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback

    from trl_kochat.ppo import PPOConfig, PPOTrainer

    base, reward = make_base(args), f"{args.folder}/reward-{args.shape}"
    if not Path(reward).exists():
        scorer = AutoModelForSequenceClassification.from_pretrained(
            base, num_labels=1, dtype=dtype(args), quantization_config=four_bit(args)
        )
        lora = LoraConfig(r=16, lora_alpha=16, target_modules=TARGETS, task_type="SEQ_CLS")
        get_peft_model(scorer, lora).save_pretrained(reward)
        del scorer
    rng, vocabulary = random.Random(0), SHAPES[args.shape]["vocab_size"]
    prompts = [" ".join(f"w{rng.randrange(3, vocabulary)}" for _ in range(args.tokens)) for _ in range(64)]
    marks: list[float] = []

    class Marks(TrainerCallback):
        def on_step_end(self, *callback_args, **kwargs):
            marks.append(time.perf_counter())

    config = PPOConfig(
        output_dir=f"{args.folder}/ppo",
        per_device_train_batch_size=16,
        num_ppo_epochs=1,
        max_completion_length=args.tokens,
        value_trunk=args.worker,
        gradient_checkpointing=not args.cpu,
        learning_rate=5e-6,
        **settings(args),
    )
    trainer = PPOTrainer(
        base,
        reward,
        config,
        Dataset.from_dict({"prompt": prompts}),
        processing_class=AutoTokenizer.from_pretrained(base),
        quantization_config=four_bit(args),
        peft_config=LoraConfig(r=16, lora_alpha=16, target_modules=TARGETS, task_type="CAUSAL_LM"),
        callbacks=[Marks()],
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "ppo/time/update" in entry][1:]
    parts = {part: sum(entry[f"ppo/time/{part}"] for entry in logs) for part in ("generation", "scoring", "update")}
    lengths = [entry["completions/mean_length"] for entry in logs]
    seconds = marks[-1] - marks[0]
    return {
        "seconds_per_step": seconds / args.steps,
        "real_tokens_per_second": 16 * (args.tokens * args.steps + sum(lengths)) / seconds,
        "generation": parts["generation"] / sum(parts.values()),
        "weight_bytes": storage_bytes([trainer.model]),
        "cuda_peak_bytes": cuda_peak_bytes(),
    }


# The rounds


def main() -> None:
    parser = arguments(__doc__, "gpu.json")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["exaone-1.2b", "8b"])
    parser.add_argument("--methods", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--steps", type=int, default=10, help="counted steps, after one to warm up")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--max_length", type=int, default=1536)
    parser.add_argument("--tokens", type=int, default=96, help="of a prompt, and of a completion")
    parser.add_argument("--cpu", action="store_true", help="run without a GPU, in float32; for --shapes tiny")
    parser.add_argument(
        "--cache", type=Path, default=CACHE, help="the random weights are written below it, then removed"
    )
    for hidden in ("--folder", "--shape", "--method"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        args.out.write_text(json.dumps(run_dpo(args) if args.method == "dpo" else run_ppo(args)))
        return
    report = Report()
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {}
    failures: dict[str, str] = {}
    keys = [(shape, method, side) for shape in args.shapes for method in args.methods for side in SIDES[method]]
    if cuda_name() or args.cpu:
        args.cache.mkdir(parents=True, exist_ok=True)
        for shape in args.shapes:
            with tempfile.TemporaryDirectory(dir=args.cache) as folder:
                for turn in range(args.rounds):
                    for key in (key for key in keys if key[0] == shape and "/".join(key) not in failures):
                        run_one(args, key, folder, runs, failures)
                        print(f"round {turn + 1}: {'/'.join(key)}", flush=True)
    else:
        print("No GPU here: nothing was measured.")
    table = []
    for shape, method, side in keys:
        results = runs.get("/".join((shape, method, side)), [])
        middle = {
            name: statistics.median(result[name] for result in results)
            for name in ("seconds_per_step", "real_tokens_per_second", "weight_bytes", "cuda_peak_bytes", "generation")
            if results and results[0].get(name) is not None
        }
        gigabytes = [middle.get(name) and middle[name] / 1e9 for name in ("weight_bytes", "cuda_peak_bytes")]
        share = f"{middle['generation']:.0%}" if "generation" in middle else None
        row = [f"{shape} {method}, {SIDES[method][side]}", middle.get("seconds_per_step")]
        table.append([*row, middle.get("real_tokens_per_second"), *gigabytes, share])
    print_table(["", "s/step", "real tokens/s", "weights GB", "GPU peak GB", "generation"], table)
    for name, reason in failures.items():
        print(f"  {name}: {reason}")
    report.write(args.out, runs=runs, failures=failures)


def run_one(
    args: argparse.Namespace, key: tuple[str, str, str], folder: str, runs: dict[str, Any], failures: dict[str, str]
) -> None:
    """Measure one side; what fails is written down, so that the rest of the night is not lost."""
    shape, method, side = key
    command = [sys.executable, __file__, "--worker", side, "--method", method, "--shape", shape, "--folder", folder]
    command += ["--steps", str(args.steps), "--max_length", str(args.max_length), "--tokens", str(args.tokens)]
    command += ["--cpu"] if args.cpu else []
    try:
        runs.setdefault("/".join(key), []).append(run_worker(command))
    except SystemExit as error:
        lines = [line for line in str(error).splitlines() if "Error" in line] or [str(error)[-300:]]
        failures["/".join(key)] = lines[-1][:300]


if __name__ == "__main__":
    main()
