"""Rows of a run."""

import pytest
from datasets import Dataset
from transformers import AutoTokenizer
from trl import SFTConfig

from trl_kochat.run.arguments import parse
from trl_kochat.run.rows import as_ids
from trl_kochat.sample import SAMPLE_DIR


ANSWER = [{"role": "assistant", "content": "네, 안녕하세요."}]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(SAMPLE_DIR / "tiny-ko")


@pytest.mark.parametrize(
    ("argv", "by_the_trainer"),
    [
        ([], False),
        (["--max_length", "64", "--packing", "True"], False),
        (["--completion_only_loss", "False"], True),
        (["--assistant-only-loss"], True),
        (["--chat_template_path=other.jinja"], True),
        (["--eos_token", "</s>"], True),
    ],
)
def test_rows_become_ids_unless_the_trainer_is_asked_for_other_ones(tokenizer, argv, by_the_trainer):
    given = parse("some_recipe", SFTConfig, ["--dataset_name", "rows", *argv])
    rows = Dataset.from_list([{"prompt": [{"role": "user", "content": "안녕?"}], "completion": ANSWER}])
    assert (as_ids(rows, tokenizer, given.config, given.given) is rows) == by_the_trainer
