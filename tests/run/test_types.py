"""Two steps of the right recipe on rows of each type, in a layout of somebody else's."""

import json
import re

import pytest

from tests.data.layouts import LAYOUTS
from trl_kochat.recipes import dpo_orca, kto_pairs, ppo_kochatgpt, reward_kochatgpt, sft_kochatgpt


THINGS = ("김치", "한글", "서울", "기차", "날씨", "저녁", "부산", "공부")


def rows_like(name, folder):
    """Rows of a layout, each about another thing."""
    text = json.dumps(LAYOUTS[name].given, ensure_ascii=False)
    path = folder / "rows.jsonl"
    path.write_text("\n".join(re.sub("하늘|안녕|긴 글", thing, text) for thing in THINGS), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "recipe", "more"),
    [
        ("Alpaca, KULLM v2", sft_kochatgpt, ["--columns", "id="]),
        ("ShareGPT", sft_kochatgpt, []),
        ("ShareGPT", sft_kochatgpt, ["--formatter", "whole_messages"]),
        ("Running text", sft_kochatgpt, []),
        ("TRL, ko_Ultrafeedback_binarized", dpo_orca, []),
        ("TRL, ko_Ultrafeedback_binarized", dpo_orca, ["--formatter", "trl"]),
        ("TRL, prompt within", reward_kochatgpt, []),
        ("UltraFeedback", reward_kochatgpt, []),
        ("LLaMA-Factory, KTO", kto_pairs, []),
        ("HH-RLHF", kto_pairs, []),
        ("KoChatGPT, stage 3", ppo_kochatgpt, []),
        ("UltraChat 200k", ppo_kochatgpt, []),
    ],
)
def test_two_steps_on_rows_of_somebody_else(layout, recipe, more, tmp_path):
    flags = f"--preset cpu --max_steps 2 --warmup_steps 0 --eval_fraction 0.25 --output_dir {tmp_path / 'run'}".split()
    recipe.main(
        [*flags, "--per_device_train_batch_size", "4", *more, "--dataset_name", str(rows_like(layout, tmp_path))]
    )
    metrics = json.loads((tmp_path / "run" / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["rows"]["read"] == len(THINGS) and metrics["before"].keys() == metrics["after"].keys() != set()
