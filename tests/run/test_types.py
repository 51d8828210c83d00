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
        pytest.param("Alpaca, KULLM v2", sft_kochatgpt, ["--columns", "id="], marks=pytest.mark.long),
        ("ShareGPT", sft_kochatgpt, []),
        pytest.param("ShareGPT", sft_kochatgpt, ["--formatter", "whole_messages"], marks=pytest.mark.long),
        pytest.param("Running text", sft_kochatgpt, [], marks=pytest.mark.long),
        ("TRL, ko_Ultrafeedback_binarized", dpo_orca, []),
        pytest.param("TRL, ko_Ultrafeedback_binarized", dpo_orca, ["--formatter", "trl"], marks=pytest.mark.long),
        ("TRL, prompt within", reward_kochatgpt, []),
        pytest.param("UltraFeedback", reward_kochatgpt, [], marks=pytest.mark.long),
        pytest.param("LLaMA-Factory, KTO", kto_pairs, [], marks=pytest.mark.long),
        ("HH-RLHF", kto_pairs, []),
        ("KoChatGPT, stage 3", ppo_kochatgpt, []),
        pytest.param("UltraChat 200k", ppo_kochatgpt, [], marks=pytest.mark.long),
    ],
)
def test_two_steps_on_rows_of_somebody_else(layout, recipe, more, tmp_path):
    flags = f"--preset cpu --max_steps 2 --warmup_steps 0 --eval_fraction 0.25 --output_dir {tmp_path / 'run'}".split()
    recipe.main(
        [*flags, "--per_device_train_batch_size", "4", *more, "--dataset_name", str(rows_like(layout, tmp_path))]
    )
    metrics = json.loads((tmp_path / "run" / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["rows"]["read"] == len(THINGS) and metrics["before"].keys() == metrics["after"].keys() != set()
