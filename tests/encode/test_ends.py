"""An answer ends where training ends it, and a reward is read where `RewardTrainer` taught the model to be read."""

import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast
from trl import RewardConfig, RewardTrainer

from tests.tiny_lm import tiny_reward_model, tiny_tokenizer
from trl_kochat.encode import answer_end, end_token_ids, prompt_ids, score_position, tokenize_rows


PROMPT = [{"role": "user", "content": "오늘 미세먼지 어때?"}]
ANSWERS = ["오늘은 맑아요.", "네"]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chatml(*, eos: str = "<|im_end|>") -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.eos_token = eos
    tokenizer.chat_template = CHATML
    return tokenizer


def plain() -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    return tokenizer


def test_the_end_of_an_answer_is_its_stop_and_what_follows_it():
    tokenizer = chatml()
    end = answer_end(tokenizer)
    assert end.text == "<|im_end|>\n" and end.stop_id == tokenizer.eos_token_id
    assert tokenizer.decode(list(end.tail_ids)) == "\n"
    text = answer_end(tokenizer, conversational=False)
    assert text.text == "<|im_end|>" and text.stop_id == tokenizer.eos_token_id and text.tail_ids == ()


def test_the_end_is_found_with_a_template_that_takes_nothing_but_whole_messages():
    strict = tiny_tokenizer()
    strict.chat_template = (
        "{% for m in messages %}{% if m.role != ['user', 'assistant'][loop.index0 % 2] %}{{ raise_exception('role') }}"
        "{% endif %}{{ m.content.strip() }}</s>{% endfor %}"
    )
    assert answer_end(strict).text == "</s>" and answer_end(strict).stop_id == strict.eos_token_id


def test_an_answer_that_no_special_token_ends_has_no_stop():
    end = answer_end(plain())
    assert end.text == "\n" and end.stop_id is None and end.tail_ids == ()


@pytest.mark.parametrize("tokenizer", [chatml(), chatml(eos="</s>"), tiny_tokenizer()], ids=["chatml", "stop", "eos"])
def test_prompt_answer_stop_and_tail_are_the_row_that_training_sees(tokenizer):
    """So a rollout, which ends with the stop, becomes a row of the reward model without being rendered again."""
    end = answer_end(tokenizer)
    rows = [{"prompt": PROMPT, "completion": [{"role": "assistant", "content": text}]} for text in ANSWERS]
    (start,) = prompt_ids(tokenizer, [PROMPT])
    for row, text in zip(tokenize_rows(tokenizer, rows), ANSWERS, strict=True):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert row.sequences["completion"] == [*start, *ids, end.stop_id, *end.tail_ids]


def test_generation_ends_with_eos_the_templates_stop_and_special_tokens_that_the_model_names():
    tokenizer = chatml(eos="</s>")
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    turn = tokenizer.convert_tokens_to_ids("<|im_start|>")
    ordinary = tokenizer("o", add_special_tokens=False)["input_ids"][0]
    assert end_token_ids(tokenizer) == [tokenizer.eos_token_id, stop]
    assert end_token_ids(tokenizer, [turn, ordinary, stop]) == [tokenizer.eos_token_id, stop, turn]
    assert end_token_ids(tokenizer, ordinary) == [tokenizer.eos_token_id, stop]


def test_a_row_that_was_cut_is_not_written_as_if_it_had_ended():
    tokenizer = chatml()
    rows = [{"prompt": PROMPT, "completion": [{"role": "assistant", "content": text}]} for text in ANSWERS]
    done, cut = tokenize_rows(tokenizer, rows, ended=[True, False])
    assert tokenizer.decode(done.sequences["completion"]).endswith(f"{ANSWERS[0]}<|im_end|>\n")
    assert tokenizer.decode(cut.sequences["completion"]).endswith(f"\n{ANSWERS[1]}")
    texts = [{"prompt": "가", "completion": text} for text in ANSWERS]
    done, cut = tokenize_rows(tokenizer, texts, ended=[True, False])
    assert done.sequences["completion"][-1] == tokenizer.eos_token_id != cut.sequences["completion"][-1]


@pytest.mark.parametrize("pad", ["<pad>", "eos"])
@pytest.mark.parametrize("make", [chatml, tiny_tokenizer])
def test_the_score_is_read_where_reward_trainers_model_reads_it(tmp_path, make, pad):
    tokenizer = make()
    if pad == "eos":
        tokenizer.pad_token = tokenizer.eos_token
    model = tiny_reward_model(vocab_size=len(tokenizer))
    chosen, rejected = ([{"role": "assistant", "content": text}] for text in ANSWERS)
    rows = [{"prompt": PROMPT, "chosen": chosen, "rejected": rejected}]
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(str(tmp_path), report_to=[], use_cpu=True, bf16=False, per_device_eval_batch_size=1),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    (batch,) = trainer.get_eval_dataloader()
    with torch.no_grad():
        _, outputs = trainer.compute_loss(model, batch, return_outputs=True)
        (row,) = tokenize_rows(tokenizer, rows)
        for ids, score in zip(row.sequences.values(), outputs.logits[:, 0], strict=True):
            hidden = model.model(torch.tensor([ids])).last_hidden_state
            position = score_position(ids, tokenizer.pad_token_id)
            assert model.score(hidden[0, position]).item() == pytest.approx(score.item(), abs=1e-4)
