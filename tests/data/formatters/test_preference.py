import pytest

from trl_kochat import detect_formatter, format_dataset
from trl_kochat.data.formatters.preference import to_preference


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


GOOD, BAD = "산란 때문이에요.", "몰라요."
EXPECTED = {"prompt": [user("하늘은 왜 파래요?")], "chosen": [assistant(GOOD)], "rejected": [assistant(BAD)]}
TEXTS = {"chosen": GOOD, "rejected": BAD}
WHOLE = {
    "chosen": [user("하늘은 왜 파래요?"), assistant(GOOD)],
    "rejected": [user("하늘은 왜 파래요?"), assistant(BAD)],
}
SHAREGPT = {
    "conversations": [{"from": "human", "value": "하늘은 왜 파래요?"}],
    "chosen": {"from": "gpt", "value": GOOD},
    "rejected": {"from": "gpt", "value": BAD},
}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "하늘은 왜 파래요?", **TEXTS},
        {"instruction": "하늘은 왜 파래요?", **TEXTS},
        {"instruction": "하늘은 왜 파래요?", "input": "", **TEXTS},
        {"input": "하늘은 왜 파래요?", "system": " ", **TEXTS},
        {"query": "하늘은 왜 파래요?", **TEXTS},
        {"messages": [user("하늘은 왜 파래요?")], **TEXTS},
        EXPECTED,
        {"prompt": "하늘은 왜 파래요?", "chosen": [assistant(GOOD)], "rejected": [assistant(BAD)]},
        {"prompt": "하늘은 왜 파래요?", **WHOLE},
        {"prompt": "하늘은 왜 파래요?", "prompt_id": "3", "messages": WHOLE["chosen"], **WHOLE},
        WHOLE,
        SHAREGPT,
        {"chosen": f"\n\nHuman: 하늘은 왜 파래요?\n\nAssistant: {GOOD}", "rejected": f"\n\nHuman: 하늘은 왜 파래요?\n\nAssistant: {BAD}"},
    ],
)  # fmt: skip
def test_every_form_gives_the_same_row(row):
    assert detect_formatter(row) == "preference"
    assert to_preference(row) == [EXPECTED]


def test_an_input_stands_below_the_instruction_and_a_history_before_it():
    row = {"instruction": "번역해 줘.", "input": "apple", "history": [["안녕?", "네!"]], "system": "짧게.", **TEXTS}
    (made,) = to_preference(row)
    turns = [{"role": "system", "content": "짧게."}, user("안녕?"), assistant("네!"), user("번역해 줘.\n\napple")]
    assert made["prompt"] == turns


def test_a_conversation_of_several_turns_is_parted_where_the_answers_differ():
    before = [user("안녕?"), assistant("네!"), user("하늘은?")]
    (made,) = to_preference({"chosen": [*before, assistant(GOOD)], "rejected": [*before, assistant(BAD)]})
    assert made["prompt"] == before and made["rejected"] == [assistant(BAD)]


def test_texts_that_hold_their_prompt_stay_texts():
    (made,) = to_preference({"chosen": "하늘은 파랗다", "rejected": "하늘은 빨갛다"})
    assert made == {"prompt": "하늘은", "chosen": " 파랗다", "rejected": " 빨갛다"}


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        ("하늘은", "하늘은", "identical"),
        (" ", "하늘은", "empty_completion"),
        ("하늘은", "\n", "empty_completion"),
        ("파랗다", "빨갛다", "empty_prompt"),
    ],
)
def test_texts_that_hold_no_prompt_or_no_difference_are_dropped(chosen, rejected, reason):
    rows = to_preference({"chosen": chosen, "rejected": rejected})
    assert rows == [] and rows.dropped == {reason: 1}


def test_a_margin_and_tools_go_on():
    (made,) = to_preference({**EXPECTED, "margin": 2.0, "tools": [{"type": "function"}]})
    assert made["margin"] == 2.0 and made["tools"] == '[{"type": "function"}]'


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"rejected": GOOD}, "identical"), ({"prompt": " "}, "empty_prompt"), ({"chosen": "\u3164"}, "empty_completion")],
)
def test_rows_that_teach_nothing_are_dropped_and_counted(change, reason):
    rows = to_preference({"prompt": "하늘은?", **TEXTS, **change})
    assert rows == [] and rows.dropped == {reason: 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"chosen": [user("a"), assistant("b")], "rejected": [user("c"), assistant("d")]}, "there is no prompt"),
        ({"prompt": [user("a"), assistant("b")], **TEXTS}, "the prompt ends with role 'assistant'"),
        ({"prompt": "a", "chosen": [user("b")], "rejected": "c"}, "the answer begins with role 'user'"),
        ({"prompt": "a", "chosen": [{"role": "기자", "content": "b"}], "rejected": "c"}, "role '기자'; expected user, human"),
        ({"prompt": "a", "chosen": [{"role": "assistant"}], "rejected": "c"}, "without content"),
        ({"prompt": "a", "chosen": [], "rejected": "c"}, "'chosen' holds no message"),
        ({"prompt": 3, **TEXTS}, "'prompt' holds 3"),
        ({"instruction": "a", "history": ["b"], **TEXTS}, r"'history' holds \['b'\]"),
        ({"prompt": [{"role": "system", "content": "x"}, user("a")], "system": "y", **TEXTS}, "beside another one"),
    ],
)  # fmt: skip
def test_a_bad_row_is_an_error_with_its_number(row, message):
    with pytest.raises(ValueError, match=rf"Row 1 .*{message}"):
        format_dataset([EXPECTED, row], "preference")


def test_text_in_parts_is_joined_and_a_picture_is_refused_with_the_row():
    parts = [{"type": "text", "text": "산란 "}, {"type": "text", "text": "때문이에요.", "image": None}]
    row = {**EXPECTED, "chosen": [{"role": "assistant", "content": parts}]}
    assert to_preference(row) == [EXPECTED]
    row["prompt"] = [{"role": "user", "content": [{"type": "image", "image": "하늘.png"}, *parts]}]
    with pytest.raises(ValueError, match="Row 2 .*'prompt' has a part of a message that is 'image'.*pictures"):
        format_dataset([EXPECTED, EXPECTED, row])


def test_a_prompt_of_another_name_is_not_taken_for_none():
    """What two answers begin with would be the prompt."""
    with pytest.raises(ValueError, match="'질문' looks like the prompt: --columns 질문=prompt, or 질문= where"):
        to_preference({"질문": "하늘은 왜 파래요?", "chosen": "하늘은 넓어서요.", "rejected": "하늘은 몰라요."})
    whole = {name: f"하늘은 왜 파래요? {text}" for name, text in TEXTS.items()}
    (row,) = to_preference({"input": None, "질문": "하늘은 왜 파래요?", "prompt_id": "3", **whole})
    assert row["prompt"] == "하늘은 왜 파래요?"
