"""Rows as text and ids, one by one, and what becomes of those that are too long."""

import json

import pytest
from tokenizers import Tokenizer, models, processors
from transformers import PreTrainedTokenizerFast

from tests.tiny_lm import tiny_tokenizer
from trl_kochat.encode import (
    TokenizedRow,
    as_turns,
    encode_texts,
    end_token_ids,
    fate,
    is_conversational,
    losses_by_length,
    prompt_ids,
    render,
    render_row,
    row_type,
    score_position,
    texts_of,
    tokenize_rows,
    unused_ids,
)
from trl_kochat.errors import InputError


TOKENIZER = tiny_tokenizer()
USER, ANSWER = {"role": "user", "content": "어때?"}, {"role": "assistant", "content": "맑아요."}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]


def written(row):
    (made,) = tokenize_rows(TOKENIZER, [row])
    return {column: TOKENIZER.decode(ids) for column, ids in made.sequences.items()}


# Types.


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ("prompt chosen rejected label", "preference"),
        ("chosen rejected", "preference"),
        ("prompt completion label", "unpaired_preference"),
        ("prompt completion", "prompt_completion"),
        ("prompt completion messages", "prompt_completion"),
        ("messages text", "language_modeling"),
        ("text", "language_modeling"),
        ("prompt label", "prompt_only"),
    ],
)
def test_the_most_telling_columns_make_the_type(columns, kind):
    assert row_type(set(columns.split()))[0] == kind


def test_what_people_wrote_in_a_row_is_each_text_once_without_empty_turns():
    call = {"role": "assistant", "content": None, "tool_calls": []}
    assert texts_of({"prompt": [USER, call], "chosen": [ANSWER], "rejected": [ANSWER]}) == [
        "어때?",
        "맑아요.",
        "맑아요.",
    ]
    assert texts_of({"prompt": "가", "completion": "나"}) == ["가", "나"] and texts_of(
        {"chosen": "가", "rejected": "나"}
    ) == ["가", "나"]
    assert texts_of({"text": "가"}) == ["가"] and texts_of({"prompt": "가"}) == ["가"]


def test_messages_or_text_is_told_by_the_answer_or_the_prompt_alone():
    assert is_conversational({"prompt": [USER]}) and not is_conversational({"prompt": "가"})
    assert is_conversational({"messages": [USER]}) and not is_conversational({"text": "가"})
    copied = as_turns([USER], "user")
    assert copied == [USER] and copied[0] is not USER


# Text.


def test_a_text_that_the_vocabulary_cannot_write_is_said_and_no_text_is_another_error():
    inner = Tokenizer(models.WordLevel({"네": 0}, unk_token="[UNK]"))  # which is not in it
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner)
    assert encode_texts(tokenizer, ["네"]) == [[0]]
    with pytest.raises(InputError, match="no writing for a text such as '아니요': .*unk_token"):
        encode_texts(tokenizer, ["아니요"])
    with pytest.raises(ValueError) as caught:
        encode_texts(tokenizer, [3])
    assert not isinstance(caught.value, InputError)


def test_a_text_gets_one_eos_and_a_prompt_none():
    assert written({"prompt": "가", "completion": "나"}) == {"completion": "가나</s>"}
    assert written({"prompt": "가", "completion": "나</s>"}) == {"completion": "가나</s>"}
    assert TOKENIZER.decode(prompt_ids(TOKENIZER, ["가"])[0]) == "가"
    assert prompt_ids(TOKENIZER, ["가</s>"])[0][-1] == TOKENIZER.eos_token_id  # it says so itself


def test_a_prompt_that_ends_in_an_answer_is_gone_on_with_where_it_stands_alone():
    alone = TOKENIZER.decode(prompt_ids(TOKENIZER, [[USER, ANSWER]])[0])
    assert alone == "<|user|>\n어때?</s>\n<|assistant|>\n맑아요."
    row = {"prompt": [USER, ANSWER], "completion": [ANSWER]}
    assert TOKENIZER.decode(tokenize_rows(TOKENIZER, [row])[0].prompt_ids).endswith("맑아요.</s>\n<|assistant|>\n")
    assert TOKENIZER.decode(prompt_ids(TOKENIZER, [[USER]])[0]) == "<|user|>\n어때?</s>\n<|assistant|>\n"


def test_what_a_tokenizer_adds_itself_stands_around_texts_and_not_in_conversations():
    adding = tiny_tokenizer()
    adding.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", adding.bos_token_id), ("</s>", adding.eos_token_id)]
    )
    (ids,) = prompt_ids(adding, ["가"])
    assert ids == [adding.bos_token_id, *prompt_ids(TOKENIZER, ["가"])[0]]  # not ended: it is to be gone on with
    assert prompt_ids(adding, [[USER]]) == prompt_ids(TOKENIZER, [[USER]])
    row = {"prompt": [USER], "completion": [ANSWER]}
    assert tokenize_rows(adding, [row]) == tokenize_rows(TOKENIZER, [row])


def test_a_row_is_shown_as_its_prompt_and_what_follows_in_each_column():
    row = {"prompt": [USER], "chosen": [ANSWER], "rejected": [{**ANSWER, "content": "몰라."}]}
    assert render_row(TOKENIZER, row) == {
        "prompt": "<|user|>\n어때?</s>\n<|assistant|>\n",
        "chosen": "맑아요.</s>\n",
        "rejected": "몰라.</s>\n",
    }
    assert render_row(TOKENIZER, {"text": "가"}) == {"text": "가</s>"}
    assert render_row(TOKENIZER, {"prompt": "가", "completion": "나"}) == {"prompt": "가", "completion": "나</s>"}


def test_tools_and_more_of_a_row_reach_the_template():
    knows = tiny_tokenizer()
    knows.chat_template = "{{ tools[0].function.name if tools }} {{ tone }} " + knows.chat_template
    more = {"chat_template_kwargs": {"tone": "warm"}}
    for tools in (TOOLS, json.dumps(TOOLS)):
        assert render_row(knows, {"prompt": [USER], "tools": tools, **more})["prompt"].startswith(
            "weather warm <|user|>"
        )


def test_a_call_that_is_written_is_no_error():
    knows = tiny_tokenizer()
    knows.chat_template = "{% for m in messages %}{{ m.content }}{{ m.tool_calls }}{% endfor %}"
    for call in ({"function": {"name": "weather"}}, {"name": "weather"}):
        assert "weather" in render(knows, [USER, {"role": "assistant", "content": "", "tool_calls": [call]}])


# Ends.


def test_one_declared_end_is_as_good_as_a_list_and_none_is_told_twice():
    assert end_token_ids(TOKENIZER, 3) == end_token_ids(TOKENIZER, [3]) == [0, 3]  # <unk> is special
    assert end_token_ids(TOKENIZER, 0) == end_token_ids(TOKENIZER) == [0]
    endless = tiny_tokenizer()
    endless.eos_token = endless.chat_template = None
    assert end_token_ids(endless) == []


def test_a_score_is_read_at_the_last_token_that_is_no_padding():
    assert score_position([5, 6, 3, 3], 3) == 1 and score_position([5, 3, 6], 3) == 2
    assert score_position([3, 3], 3) == 0 and score_position([5, 6], None) == 1


def test_rows_of_the_output_that_no_token_has():
    size = len(TOKENIZER)
    assert unused_ids(TOKENIZER, size + 2) == [size, size + 1] and unused_ids(TOKENIZER, size) == []


# Lengths.


def row(kind, prompt, *answers):
    """With a prompt of so many tokens, and answers of so many more."""
    columns = ("chosen", "rejected") if kind == "preference" else ("completion",)
    sequences = {column: [5] * (prompt + answer) for column, answer in zip(columns, answers, strict=False)}
    return TokenizedRow(kind, [5] * prompt, sequences, prompt)


@pytest.mark.parametrize(
    ("max_length", "trainer", "expected"),
    [
        (None, "RewardTrainer", "whole"),
        (9, "RewardTrainer", "whole"),
        (8, "RewardTrainer", "dropped"),
        (8, "DPOTrainer", "cut"),
        (5, "SFTTrainer", "cut"),  # one token of the answer is left
        (4, "SFTTrainer", "dropped"),
    ],
)
def test_what_a_trainer_does_to_a_row_that_is_too_long(max_length, trainer, expected):
    assert fate(row("preference", 4, 2, 5), max_length, trainer) == expected


@pytest.mark.parametrize(
    ("kind", "losses"),
    [
        ("preference", {"DPOTrainer": {"drops": 1, "cuts": 1}, "RewardTrainer": {"drops": 2, "cuts": 0}}),
        ("unpaired_preference", {"KTOTrainer": {"drops": 1, "cuts": 1}}),
        ("prompt_completion", {"SFTTrainer": {"drops": 1, "cuts": 1}}),
    ],
)
def test_rows_lost_to_a_length_are_counted_by_trainer(kind, losses):
    rows = [row(kind, 2, 4), row(kind, 2, 5), row(kind, 6, 1)]
    assert losses_by_length(rows, 6) == losses


def test_a_prompt_that_fills_the_length_leaves_no_room_for_an_answer():
    rows = [row("prompt_only", 5), row("prompt_only", 6)]
    ((_, told),) = losses_by_length(rows, 6).items()
    assert list(told.values()) == [1]


def test_a_row_is_as_long_as_its_longest_answer_or_its_prompt():
    assert row("preference", 4, 2, 5).length == 9 and row("prompt_only", 4).length == 4
