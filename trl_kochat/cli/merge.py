"""Merge an adapter into its base: one model that servers load without PEFT.

The base is loaded in the precision it is stored in, never in 4-bit, whatever the adapter was trained on. The merged
model is loaded again and compared with the adapter on its base: where more is lost than rounding explains, or a
quarter of what the adapter changes, nothing is written.
Reward adapters keep their score head. The tokenizer is repaired, and saved so that transformers 4 and 5 read it.

  trl-kochat merge runs/dpo_orca merged
  trl-kochat merge runs/reward_kochatgpt merged --base skt/kogpt2-base-v2

It takes 4 bytes of memory for each parameter. Where the GPU is too small: CUDA_VISIBLE_DEVICES= trl-kochat merge ...
"""

import argparse
import shlex

from .shared import EMBEDDED, hide_progress_bars, model_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", metavar="ADAPTER", help="folder or Hub id of an adapter")
    parser.add_argument("output", metavar="OUT", help="folder for the model; new, or empty")
    parser.add_argument(
        "--base", metavar="B", help=f"base of the adapter, where it is not the one the adapter names; or {EMBEDDED}"
    )
    parser.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the model")


def run(args: argparse.Namespace) -> int:
    from ..merging import merge_adapter

    hide_progress_bars()
    merge = merge_adapter(
        model_path(args.adapter),
        args.output,
        base=model_path(args.base) if args.base else None,
        trust_remote_code=args.trust_remote_code,
    )
    dtype = str(merge.dtype).removeprefix("torch.")
    what = "in a score" if merge.is_reward_model else "in a token's log-probability (nats)"
    print(f"{args.output}: {args.adapter} merged into {merge.base}, {dtype}")
    print(
        f"Largest difference {what}: {merge.difference:.2g}; the adapter itself makes one of up to {merge.effect:.2g}"
    )
    output = shlex.quote(args.output)
    if merge.is_reward_model:
        print(f"Serve it: vllm serve {output} --runner pooling, or score here: trl-kochat score {output} --file FILE")
    else:
        print(f"Serve it: vllm serve {output}, or without vLLM: transformers serve {output}")
    return 0
