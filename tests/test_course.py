"""Where the course was right, TRL makes of our rows the very ids and labels that the course's own way gives."""

import json

import pytest
from tokenizers import Tokenizer
from transformers import GPT2Config, GPT2LMHeadModel
from trl import RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from trl_kochat import format_dataset, load_tokenizer
from trl_kochat.data.formatters.kochatgpt import to_preference, to_prompt_completion


pytestmark = pytest.mark.assets


@pytest.fixture
def kogpt2(assets, tmp_path):
    """KoGPT2's real tokenizer, the tokenizers library's own reading of it, and a very small model for it."""
    folder = assets / "kogpt2-base-v2"
    model = GPT2LMHeadModel(GPT2Config(vocab_size=51_200, n_embd=16, n_layer=1, n_head=1, pad_token_id=3))
    model.save_pretrained(tmp_path / "model")
    return load_tokenizer(folder), Tokenizer.from_file(str(folder / "tokenizer.json")), tmp_path


def course_prompt(prompt):
    return f"### Instruction(명령어):\n{prompt}\n\n### Response(응답):"


def test_sft_ids_and_labels_are_the_courses(assets, kogpt2):
    tokenizer, reference, folder = kogpt2
    raw = json.loads((assets / "kochatgpt" / "printed_rows.json").read_text(encoding="utf-8"))["sft"]
    args = SFTConfig(folder / "out", report_to="none", use_cpu=True, bf16=False, max_length=512)
    trainer = SFTTrainer(
        str(folder / "model"),
        args=args,
        train_dataset=format_dataset(raw, to_prompt_completion, clean=False),
        processing_class=tokenizer,
    )
    assert len(trainer.train_dataset) == len(raw) == 2
    for made, row in zip(trainer.train_dataset, raw, strict=True):
        source = course_prompt(row["prompt"])
        ids = reference.encode(source + row["completion"] + "</s>").ids[:512]
        source_length = len(reference.encode(source).ids)
        assert made["input_ids"] == ids and ids[-1] == 1
        assert made["labels"] == [-100] * source_length + ids[source_length:]


def test_reward_ids_are_the_text_with_eos(assets, kogpt2):
    tokenizer, reference, folder = kogpt2
    raw = json.loads((assets / "kochatgpt" / "printed_rows.json").read_text(encoding="utf-8"))["rm"]
    args = RewardConfig(folder / "out", report_to="none", use_cpu=True, bf16=False, max_length=512)
    pairs = format_dataset(raw, to_preference, clean=False)
    trainer = RewardTrainer(str(folder / "model"), args=args, train_dataset=pairs, processing_class=tokenizer)
    assert len(trainer.train_dataset) == len(pairs) == 6
    for made, pair in zip(trainer.train_dataset, pairs, strict=True):
        for side in ("chosen", "rejected"):
            text = course_prompt(pair["prompt"][0]["content"]) + pair[side][0]["content"] + "</s>"
            assert made[f"{side}_ids"] == reference.encode(text).ids
    assert trainer.model.config.pad_token_id == 3
