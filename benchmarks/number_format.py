"""Where bfloat16 autocast pays on a CPU: the recipes' steps in both number formats, by the size of the model.

    python benchmarks/number_format.py
    python benchmarks/number_format.py --widths 512 --stages dpo_orca --steps 6

Models of random weights in Llama's shape with the embedded tokenizer, `--widths` wide; the cpu presets' rows, batches,
4-bit and LoRA. float32 and bfloat16 take turns, a step each. The rule of `trl_kochat.run.presets` is made of this table.
"""

import json
import statistics
import sys
import tempfile
from typing import Any

from measure import Report, arguments, print_table, take_turns
from training import load_recipe, measured_trainer, summarize


TRAINERS = {"sft_kochatgpt": "SFTTrainer", "reward_kochatgpt": "RewardTrainer", "dpo_orca": "DPOTrainer"}
FORMATS = ("float32", "bfloat16")


def main() -> None:
    parser = arguments(__doc__, "number_format.json")
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 384, 512, 768], help="hidden sizes")
    parser.add_argument("--stages", nargs="+", choices=TRAINERS, default=list(TRAINERS))
    parser.add_argument("--steps", type=int, default=5, help="of each side; the first warms up")
    parser.add_argument("--flags", nargs="*", default=[], help="of the recipes, as name=value")
    parser.add_argument("--folder", help="of the model to measure instead of random weights")
    args = parser.parse_args()
    if args.worker:
        args.out.write_text(json.dumps(run_side(args)))
        return
    report, rows = Report(), []
    with tempfile.TemporaryDirectory() as scratch:
        for width in args.widths:
            folder = args.folder or f"{scratch}/{width}"
            parameters = None if args.folder else write_model(folder, width)
            for stage in args.stages:
                flags = ["--stages", stage, "--steps", args.steps, "--folder", folder, "--flags", *args.flags]
                command = [sys.executable, __file__]
                sides = take_turns({name: [*command, "--worker", name, *map(str, flags)] for name in FORMATS})
                rows.append({"stage": stage, "width": width, "parameters": parameters, **compared(sides)})
    print_table(list(rows[0]), [list(row.values()) for row in rows])
    report.write(args.out, rows=rows)


def compared(sides: dict[str, Any]) -> dict[str, float]:
    float32, bf16 = (summarize(sides[name]) for name in FORMATS)
    gaps = [abs(a - b) for a, b in zip(float32["loss"], bf16["loss"], strict=True)]
    return {
        "float32 s/step": float32["cpu_seconds_per_step"],
        "bf16 s/step": bf16["cpu_seconds_per_step"],
        "ratio": float32["cpu_seconds_per_step"] / bf16["cpu_seconds_per_step"],
        "first loss apart": gaps[0],
        "losses apart": statistics.fmean(gaps),
        "float32 peak MB": float32["peak_bytes"] / 1e6,
        "bf16 peak MB": bf16["peak_bytes"] / 1e6,
    }


def write_model(folder: str, width: int) -> float:
    """Save a model, `width` wide; its parameters in millions."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from trl_kochat import load_tokenizer

    tokenizer = load_tokenizer("tiny-ko")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 8 // 3 // 64 * 64,
        num_hidden_layers=8,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.num_parameters() / 1e6


def run_side(args: Any) -> dict[str, Any]:
    (stage,), results = args.stages, {}
    recipe = load_recipe(stage)
    trainer = TRAINERS[stage]
    setattr(recipe.trl, trainer, measured_trainer(getattr(recipe.trl, trainer), results))
    flags = {
        "preset": "cpu",
        "model_name_or_path": args.folder,
        "dtype": args.worker,
        "max_steps": args.steps,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "max_eval_samples": 1,
        "eval_strategy": "no",
        **dict(flag.split("=", 1) for flag in args.flags),
    }
    with tempfile.TemporaryDirectory() as folder:
        flags["output_dir"] = folder
        recipe.main([text for key, value in flags.items() for text in (f"--{key}", str(value))])
    return results


if __name__ == "__main__":
    main()
