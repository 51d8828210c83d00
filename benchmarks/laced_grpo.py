"""Hanja and English trained into a model by its SFT rows, and rewarded away by GRPO.

    python benchmarks/laced_grpo.py --output_dir runs/laced

Eight of ten answers of the embedded SFT rows get a Hanja or English word in place of a Korean one, or before it. The SFT
recipe trains `tiny-ko-chat` on them, and the GRPO recipe goes on from there with `korean_script` among its rewards. How
many greedy answers to held-out prompts leak, and how many are right and different, is of the runs' own
`report/metrics.json`; the held-out loss is that of the answers as they were before any lacing.
"""

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from trl_kochat import format_dataset, load_rows, load_tokenizer, split_by_prompt
from trl_kochat.measure.evaluate import evaluate_sft
from trl_kochat.models import attach_adapter, load_base
from trl_kochat.sample import SAMPLE_DIR


RECIPES = Path(__file__).parent.parent / "recipes"
BASE, ROWS = SAMPLE_DIR / "tiny-ko-chat", "kochatgpt_1_SFT.jsonl"
WORDS = {
    "수도": "首都",
    "나라": "國家",
    "사람": "人",
    "재료": "材料",
    "반대": "反對",
    "직업": "職業",
    "소리": "sound",
    "맛": "taste",
    "색": "color",
    "계절": "season",
}
BEFORE = ("Sure, ", "OK, ", "好, ", "答: ")
LACED = 0.8
SHARED = "--preset cpu --model_name_or_path tiny-ko-chat --save_strategy no --eval_strategy no --max_eval_samples 128"
SFT = "--max_steps 100 --learning_rate 2e-3"
GRPO = (
    "--rewards korean_script right no_repetition ends --reward_weights 4.0 1.0 1.0 0.5 --max_steps 60 --beta 0.1 "
    "--learning_rate 7e-4 --max_completion_length 32"
)


def lace(rows: list[dict[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [{**row, "completion": _laced(row["completion"], draw)} for row in rows]


def _laced(answer: str, draw: random.Random) -> str:
    if draw.random() >= LACED:
        return answer
    for word, foreign in WORDS.items():
        if word in answer:
            return answer.replace(word, foreign, 1)
    return draw.choice(BEFORE) + answer


def run(recipe: str, folder: Path, arguments: str) -> dict[str, Any]:
    """Run a recipe, unless its run has finished, and give what it measured."""
    path = folder / "report" / "metrics.json"
    if not path.is_file() or json.loads(path.read_text(encoding="utf-8"))["run"]["status"] != "finished":
        command = [sys.executable, str(RECIPES / f"{recipe}.py"), *SHARED.split(), *arguments.split()]
        subprocess.run([*command, "--output_dir", str(folder)], check=True)
    measured: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return measured


def clean_loss(adapter: Path) -> float:
    """Nats a token of the held-out answers without lacing."""
    tokenizer = load_tokenizer(BASE)
    _, held_out = split_by_prompt(format_dataset(load_rows(SAMPLE_DIR / ROWS), "kochatgpt_sft"), eval_fraction=0.2)
    model = attach_adapter(load_base(AutoModelForCausalLM, BASE), adapter, "default")
    loss: float = evaluate_sft(model, tokenizer, held_out)["eval_loss"]
    return loss


def row(name: str, measured: dict[str, Any], by_row: dict[str, list[float]], loss: float) -> str:
    leaks = [han + latin > 0 for han, latin in zip(by_row["hanja_by_row"], by_row["latin_by_row"], strict=True)]
    shares = (sum(leaks) / len(leaks), measured["right"], measured["distinct"])
    return f"| {name} | {len(leaks)} | {' | '.join(f'{share:.1%}' for share in shares)} | {loss:.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    folder = parser.parse_args().output_dir
    folder.mkdir(parents=True, exist_ok=True)
    rows = folder / "laced.jsonl"
    laced = lace(list(load_rows(SAMPLE_DIR / ROWS)))
    rows.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in laced), encoding="utf-8")
    sft, grpo = folder / "sft", folder / "grpo"
    run("sft_kochatgpt", sft, f"--dataset_name {rows} {SFT}")
    measured = run("grpo_korean", grpo, f"--sft_adapter {sft} {GRPO}")
    print("| | answers | leak | right | different | held-out loss |\n|---|---|---|---|---|---|")
    for when, adapter in {"before": sft, "after": grpo}.items():
        print(row(f"{when} GRPO", measured[when], measured["distributions"][when], clean_loss(adapter)))


if __name__ == "__main__":
    main()
