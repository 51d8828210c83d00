"""What rounding does to PPO's ratio and KL: log-probabilities of sampled tokens, as sampled and as scored afterwards.

    python benchmarks/rounding.py
    python benchmarks/rounding.py --model FOLDER --prompts 16

Sampling sees a token at a time and keeps what it has seen (a KV cache), scoring sees whole rows: the same sum in another
order. For float32 and for bfloat16 (autocast over weights in that format), in nats: the mean and the largest gap of a
token, and the KL of an answer that the gaps alone make (`exp(gap) - 1 - gap`, summed over its tokens). `halves` is scoring
again, in batches half as large.
"""

from typing import Any

from measure import Report, arguments, print_table
from training import ROOT


def main() -> None:
    parser = arguments(__doc__, "rounding.json")
    parser.add_argument("--model", default=str(ROOT / "trl_kochat" / "sample" / "tiny-ko"))
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=48, help="of each answer")
    args = parser.parse_args()
    import torch
    from transformers import AutoModelForCausalLM

    from trl_kochat import load_rows, load_tokenizer
    from trl_kochat.measure.generate import COURSE_PROMPTS, encode_prompts

    report, found = Report(), {}
    tokenizer = load_tokenizer(args.model)
    asked = [*COURSE_PROMPTS, *(row["prompt"] for row in load_rows("sample:kochatgpt_3_PPO.jsonl"))][: args.prompts]
    prompts = encode_prompts(tokenizer, asked)
    for dtype in (torch.float32, torch.bfloat16):
        model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype).eval()
        torch.manual_seed(0)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            found[str(dtype).removeprefix("torch.")] = gaps(model, prompts, tokenizer.pad_token_id, args.tokens)
    header = ["", "sampled, mean gap", "largest", "KL an answer", "halves, mean gap", "largest", "KL an answer"]
    print_table(header, [[name, *of_sampling, *of_halves] for name, (of_sampling, of_halves) in found.items()])
    report.write(args.out, model=args.model, gaps=found)


def gaps(model: Any, prompts: list[list[int]], pad_id: int, tokens: int) -> tuple[list[float], list[float]]:
    """Of sampling and of scoring in halves, each to scoring all at once: mean, largest, KL of an answer."""
    import torch

    from trl_kochat.measure.logps import sequence_logps

    width = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    output = model.generate(
        input_ids=ids,
        attention_mask=mask,
        min_new_tokens=tokens,
        max_new_tokens=tokens,
        do_sample=True,
        top_k=0,
        pad_token_id=pad_id,
        return_dict_in_generate=True,
        output_logits=True,
    )
    answers = output.sequences[:, width:]
    sampled = torch.stack(output.logits, 1).float().log_softmax(-1).gather(-1, answers[..., None]).squeeze(-1)
    rows = [([*prompt, *answer], len(prompt)) for prompt, answer in zip(prompts, answers.tolist(), strict=True)]
    whole, halves = (
        torch.stack(sequence_logps(model, rows, pad_token_id=pad_id, batch_size=size))
        for size in (len(rows), len(rows) // 2)
    )
    return _summary(sampled - whole), _summary(halves - whole)


def _summary(gap: Any) -> list[float]:
    return [gap.abs().mean().item(), gap.abs().max().item(), (gap.exp() - 1 - gap).sum(1).mean().item()]


if __name__ == "__main__":
    main()
