"""The real KoGPT2 tokenizer, where its files are at hand."""

import csv
from collections import Counter
from functools import cache

import pytest
from datasets import Dataset
from tokenizers import Tokenizer
from transformers import AutoTokenizer, GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel
from trl import RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from trl_kochat.tokenizer import check_tokenizer, fix_tokenizer, load_tokenizer, unicode_form


pytestmark = pytest.mark.assets

COURSE = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "</s>"}
# https://github.com/SKT-AI/KoGPT2, README
README_SENTENCE = "안녕하세요. 한국어 GPT-2 입니다.😤:)l^o"
README_TOKENS = "▁안녕 하 세 요. ▁한국어 ▁G P T -2 ▁입 니다. 😤 :) l^o".split()
EOS = 1


@pytest.fixture
def folder(assets):
    return assets / "kogpt2-base-v2"


@pytest.fixture
def own(folder):
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


loaded_once = cache(load_tokenizer)


@pytest.fixture
def tokenizer(folder):
    return loaded_once(folder)


@pytest.fixture
def chat(assets):
    with (assets / "chatbot_data" / "ChatbotData.csv").open(encoding="utf-8") as file:
        return [(row["Q"], row["A"]) for row in csv.DictReader(file)]


def ids_of(own, text):
    return own.encode(text, add_special_tokens=False).ids


def surviving(tokenizer, texts):
    """Share of Hangul syllables that come back after encode and decode."""
    decoded = tokenizer.batch_decode(tokenizer(texts, add_special_tokens=False)["input_ids"])
    total = lost = 0
    for text, back in zip(texts, decoded, strict=True):
        before, after = (Counter(char for char in side if "가" <= char <= "힣") for side in (text, back))
        total, lost = total + before.total(), lost + (before - after).total()
    return 1 - lost / total


def test_the_readmes_sentence_has_the_readmes_tokens(tokenizer, own):
    assert tokenizer.tokenize(README_SENTENCE) == README_TOKENS
    assert tokenizer.encode(README_SENTENCE) == ids_of(own, README_SENTENCE)
    assert tokenizer.convert_ids_to_tokens(ids_of(own, README_SENTENCE)) == README_TOKENS


def test_special_tokens_are_the_readmes(tokenizer):
    assert (tokenizer.unk_token_id, tokenizer.pad_token_id) == (5, 3)
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == EOS
    assert len(tokenizer) == 51200


def test_syllables_survive(tokenizer, chat):
    assert surviving(tokenizer, [text for pair in chat for text in pair]) >= 0.999


def test_the_courses_call_is_caught_and_repaired(folder, own, chat):
    broken = AutoTokenizer.from_pretrained(folder, **COURSE)
    assert surviving(broken, [text for pair in chat[:500] for text in pair]) < 0.05
    errors = {finding.code for finding in check_tokenizer(broken) if finding.severity == "error"}
    assert {"pipeline_rebuilt", "hangul_lost"} <= errors
    fixed, findings = fix_tokenizer(broken)
    assert all(finding.fixed for finding in findings if finding.severity == "error")
    for text in [text for pair in chat[:500] for text in pair]:
        assert fixed.encode(text) == ids_of(own, text)
    assert (fixed.unk_token_id, fixed.pad_token_id, fixed.bos_token_id, fixed.eos_token_id) == (5, 3, EOS, EOS)


def test_the_vocabulary_was_made_from_nfkc(tokenizer):
    assert unicode_form(tokenizer) == "NFKC"


def test_the_mask_is_the_completion_and_eos(tokenizer, own, chat):
    for question, answer in chat[:300]:
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        prompt = f"### Instruction(명령어):\n{question}\n\n### Response(응답):"
        output = tokenizer.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        ids, mask = output["input_ids"], output["assistant_masks"]
        assert ids == [*ids_of(own, prompt + answer), EOS]
        assert ids[: mask.index(1)] == ids_of(own, prompt)
        assert mask == [0] * mask.index(1) + [1] * (len(ids) - mask.index(1))


def tiny_config(**kwargs):
    return GPT2Config(vocab_size=51200, n_embd=32, n_layer=1, n_head=2, n_positions=256, **kwargs)


def arguments(config, folder):
    return config(
        output_dir=str(folder), report_to="none", bf16=False, use_cpu=True, max_steps=1, per_device_train_batch_size=2
    )


def test_sft_trainer_trains_on_the_right_ids(tmp_path, tokenizer, own, chat):
    rows = [
        {"prompt": [{"role": "user", "content": q}], "completion": [{"role": "assistant", "content": a}]}
        for q, a in chat[:4]
    ]
    trainer = SFTTrainer(
        GPT2LMHeadModel(tiny_config()),
        args=arguments(SFTConfig, tmp_path),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    for row, (question, answer) in zip(trainer.train_dataset, chat, strict=False):
        prompt = ids_of(own, f"### Instruction(명령어):\n{question}\n\n### Response(응답):")
        whole = [*ids_of(own, f"### Instruction(명령어):\n{question}\n\n### Response(응답):{answer}"), EOS]
        assert row["input_ids"] == whole
        assert row["labels"] == [-100] * len(prompt) + whole[len(prompt) :]
    assert trainer.train().global_step == 1


def test_reward_trainer_trains_on_the_right_ids(tmp_path, tokenizer, own, chat):
    rows = [
        {
            "prompt": [{"role": "user", "content": q}],
            "chosen": [{"role": "assistant", "content": a}],
            "rejected": [{"role": "assistant", "content": a[:2]}],
        }
        for q, a in chat[:4]
    ]
    model = GPT2ForSequenceClassification(tiny_config(num_labels=1))
    trainer = RewardTrainer(
        model,
        args=arguments(RewardConfig, tmp_path),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    for row, (question, answer) in zip(trainer.train_dataset, chat, strict=False):
        prompt = f"### Instruction(명령어):\n{question}\n\n### Response(응답):"
        assert row["chosen_ids"] == [*ids_of(own, prompt + answer), EOS]
        assert row["rejected_ids"] == [*ids_of(own, prompt + answer[:2]), EOS]
    assert model.config.pad_token_id == 3
    assert trainer.train().global_step == 1
