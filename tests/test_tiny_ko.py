"""`tiny-ko` as it lies in the package: loads as any model does, small, and right in the ways the recipes lean on."""

import json

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from trl_kochat import load_rows
from trl_kochat.measure.generate import generate_answers
from trl_kochat.measure.right import embedded_world, right
from trl_kochat.sample import SAMPLE_DIR


TINY_KO = SAMPLE_DIR / "tiny-ko"
PROBE = "불고기용 고기 한우에요? 2024년 3월 ㅋㅋㅋ 쀍 (漢字) Hello!\n다음 줄… 😄"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(TINY_KO)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(TINY_KO)


def test_what_is_embedded_is_small_and_carries_the_notices_of_its_text():
    assert sum(path.stat().st_size for path in SAMPLE_DIR.rglob("*") if path.is_file()) <= 30_000_000
    assert "MIT License" in (TINY_KO / "LICENSE-ChatbotData.txt").read_text(encoding="utf-8")
    assert "Attribution-ShareAlike 4.0" in (TINY_KO / "LICENSE-CC-BY-SA-4.0.txt").read_text(encoding="utf-8")


def test_special_tokens_are_distinct_and_inside_the_embedding(tokenizer, model):
    ids = [tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id]
    assert None not in ids and len(set(ids)) == 3
    assert max(ids) < len(tokenizer) == model.get_input_embeddings().num_embeddings
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert model.config.bos_token_id is None, "Llama's default of 1 would be our EOS"


def test_tokenizer_is_the_one_in_its_file_and_loses_nothing(tokenizer):
    in_file = Tokenizer.from_file(str(TINY_KO / "tokenizer.json"))
    assert tokenizer(PROBE)["input_ids"] == in_file.encode(PROBE).ids
    assert tokenizer.decode(tokenizer(PROBE)["input_ids"]) == PROBE
    assert json.loads((TINY_KO / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"


@pytest.mark.parametrize(
    "completion", ["네, 맞아요.", "'네'가 맞아요.", '"네"', "):", " 네", "\n네", "1990년이에요.", "### 네", "..."]
)
def test_no_token_crosses_the_border_of_prompt_and_completion(tokenizer, completion):
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "맞아요?"}], tokenize=False, add_generation_prompt=True
    )
    assert prompt.endswith("### Response(응답):")
    ids = tokenizer(prompt)["input_ids"]
    assert tokenizer(prompt + completion)["input_ids"][: len(ids)] == ids


def test_model_prefers_korean_sentences_to_their_shuffled_words(tokenizer, model):
    def loss(text):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            return model(input_ids=ids, labels=ids).loss.item()

    sentences = ["오늘은 날씨가 정말 좋네요.", "마음이 많이 아프셨겠어요.", "친구와 함께 영화를 보고 싶어요."]
    for sentence in sentences:
        assert loss(sentence) < loss(" ".join(reversed(sentence.split())))


@pytest.fixture(scope="module")
def rows():
    return load_rows(SAMPLE_DIR / "kochatgpt_1_SFT.jsonl")


def answers(model, tokenizer, prompts):
    messages = [[{"role": "user", "content": prompt}] for prompt in prompts]
    return [answer.text for answer in generate_answers(model, tokenizer, messages, max_new_tokens=40)]


def test_chat_model_in_4_bit_knows_what_it_was_asked_otherwise_in_training(tokenizer, rows):
    pytest.importorskip("bitsandbytes", reason="4-BIT NOT TESTED: bitsandbytes has no build for this platform")
    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    folder = SAMPLE_DIR / "tiny-ko-chat"
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=quantization, device_map="cpu")
    asked = [row for row in rows if row["held_out"] == "asked_otherwise"][:60]
    found = answers(model, tokenizer, [row["prompt"] for row in asked])
    assert sum(right(answer, row, embedded_world()) for answer, row in zip(found, asked, strict=True)) >= 50


def test_base_does_not_answer_yet(tokenizer, model, rows):
    asked = [row for row in rows if row["fact"] and row["held_out"]][:60]
    found = answers(model, tokenizer, [row["prompt"] for row in asked])
    assert sum(right(answer, row, embedded_world()) for answer, row in zip(found, asked, strict=True)) <= 6
