"""Every stage on a tiny model of each family, by the recipes themselves."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
from safetensors.torch import load_file

from tests.families.tiny import FAMILIES, Family, save_family
from trl_kochat import load_tokenizer
from trl_kochat.errors import InputError
from trl_kochat.measure.generate import generate_answers, load_generator
from trl_kochat.measure.score import load_reward_model, score_completions
from trl_kochat.merging import merge_adapter


PROMPTS = [f"{thing}은 무엇인가요?" for thing in ("김치", "한글", "서울", "기차", "날씨", "저녁", "부산", "공부")]
ROWS = {
    "sft": [{"prompt": p, "completion": "안녕하세요. 그래요?"} for p in PROMPTS],
    "reward": [
        {
            "prompt": p,
            "completion_0": "정말 재미있다.",
            "completion_1": "ㅋㅋㅋ",
            "completion_2": "몰라",
            "ranking": [0, 2, 1],
        }
        for p in PROMPTS
    ],
    "ppo": [{"prompt": p} for p in PROMPTS],
    "dpo": [{"system": "짧게.", "question": p, "chosen": "좋아요.", "rejected": "ㅎㅎㅎ 그래요?"} for p in PROMPTS],
}
RECIPES = {
    "sft": ("sft_kochatgpt", "kochatgpt_sft"),
    "reward": ("reward_kochatgpt", "kochatgpt_rm"),
    "ppo": ("ppo_kochatgpt", "kochatgpt_ppo"),
    "dpo": ("dpo_orca", "orca_pairs"),
}
_NEEDS = {"PPO": ("SFT", "reward"), "merge": ("PPO", "reward"), "reload": ("merge",), "generate": ("merge",)}
STAGES = ("SFT", "reward", "PPO", "DPO", "merge", "reload", "generate")


class Course:
    """All stages of one family, two steps each, in a folder of its own."""

    def __init__(self, family: Family, folder: Path) -> None:
        self.folder, self.base = folder, save_family(family, folder / "base")
        for stage, rows in ROWS.items():
            (folder / f"{stage}.jsonl").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")

    def recipe(self, stage: str, *more: str) -> None:
        recipe, formatter = RECIPES[stage]
        arguments = {
            "preset": "cpu", "model_name_or_path": self.base, "dataset_name": self.folder / f"{stage}.jsonl",
            "formatter": formatter,
            "output_dir": self.folder / stage, "max_steps": 2, "save_steps": 1, "logging_steps": 1,
            "eval_fraction": 0.25, "per_device_train_batch_size": 2, "eval_strategy": "no",
        }  # fmt: skip
        words = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
        importlib.import_module(f"trl_kochat.recipes.{recipe}").main([*words, *more])

    def ppo(self) -> None:
        """Also gone on with from its first checkpoint, which must end with the same weights."""
        adapters = ["--sft_adapter", str(self.folder / "sft"), "--reward_adapter", str(self.folder / "reward")]
        adapters += ["--max_completion_length", "8", "--max_prompt_length", "256"]
        self.recipe("ppo", *adapters)
        weights = load_file(self.folder / "ppo" / "adapter_model.safetensors")
        self.recipe("ppo", *adapters, "--resume_from_checkpoint", str(self.folder / "ppo" / "checkpoint-1"))
        again = load_file(self.folder / "ppo" / "adapter_model.safetensors")
        assert weights.keys() == again.keys() and all(torch.equal(weights[key], again[key]) for key in weights)

    def merge(self) -> None:
        for stage in ("ppo", "reward"):
            merge_adapter(self.folder / stage, self.folder / f"{stage}-merged")

    def reload(self) -> None:
        merged = self.folder / "reward-merged"
        (score,) = score_completions(load_reward_model(merged), load_tokenizer(merged), PROMPTS[:1], ["네."])
        (by_adapter,) = score_completions(
            load_reward_model(self.folder / "reward"), load_tokenizer(merged), PROMPTS[:1], ["네."]
        )
        assert abs(score - by_adapter) < 1e-3

    def generate(self) -> None:
        merged = self.folder / "ppo-merged"
        tokenizer = load_tokenizer(merged)
        answers = generate_answers(
            load_generator(merged), tokenizer, PROMPTS[:2], max_new_tokens=8, do_sample=True, seed=0
        )
        assert all(token_id < len(tokenizer) for answer in answers for token_id in answer.ids)

    def run(self) -> dict[str, str]:
        """Stage to `"yes"`, or to the sentence that one gets."""
        steps: list[Callable[[], None]] = [
            lambda: self.recipe("sft"), lambda: self.recipe("reward"), self.ppo, lambda: self.recipe("dpo"),
            self.merge, self.reload, self.generate,
        ]  # fmt: skip
        results: dict[str, str] = {}
        for stage, step in zip(STAGES, steps, strict=True):
            before = [one for one in _NEEDS.get(stage, ()) if results[one] != "yes"]
            results[stage] = f"needs {before[0]}" if before else said(step)
        return results


def said(step: Callable[[], None]) -> str:
    try:
        step()
    except InputError as error:
        return str(error)
    return "yes"


def run_family(name: str) -> dict[str, str]:
    """Its pages without pictures, which would take as long as all stages."""
    with TemporaryDirectory() as folder, patch("trl_kochat.report.plots.write_pngs"):
        return Course(FAMILIES[name], Path(folder)).run()
