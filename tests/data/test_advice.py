"""Errors that are a way on: what they tell a user to do is done here."""

import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_kochat import detect_formatter, format_dataset
from trl_kochat.data.columns import parse_columns


PAIR = {"번호": 3, "물음": "하늘은?", "대답": "파래요.", "출처": "책"}
PREFERENCE = {"user_query": "하늘은?", "good_answer": "파래요.", "bad_answer": "빨개요."}


def refused(row):
    with pytest.raises(ValueError) as error:
        detect_formatter(row)
    return str(error.value)


@pytest.mark.parametrize(
    ("row", "made"),
    [
        (PAIR, {"prompt", "completion"}),
        ({"지시문": "하늘은?", "출력": "파래요."}, {"prompt", "completion"}),
        ({"input": "하늘은?", "output": "파래요."}, {"prompt", "completion"}),
        ({"human question": "하늘은?", "the reply": "파래요."}, {"prompt", "completion"}),
        (PREFERENCE, {"prompt", "chosen", "rejected"}),
        ({"질문": "하늘은?", "preferred": "파래요.", "dispreferred": "빨개요."}, {"prompt", "chosen", "rejected"}),
        ({"instruction": "하늘은?", "chosen_response": "파래요.", "rejected_response": "빨개요."}, {"prompt", "chosen", "rejected"}),
        ({"본문": "하늘은 파랗다."}, {"text"}),
        ({"dialog": [{"role": "user", "content": "하늘은?"}, {"role": "assistant", "content": "파래요."}]}, {"prompt", "completion"}),
    ],
)  # fmt: skip
def test_the_columns_it_names_make_the_rows_fit(row, made):
    message = refused(row)
    words = shlex.split(re.search(r"with --columns (.*?) \(in Python", message)[1])
    assert set(format_dataset([row], columns=parse_columns(words)).column_names) == made


@pytest.mark.parametrize("row", [PAIR, PREFERENCE, {"a": "하늘은?", "b": "파래요."}, {"줄": "하늘은 파랗다."}])
def test_the_formatter_it_shows_can_be_pasted_and_run(row, tmp_path):
    message = refused(row)
    name = re.search(r"--formatter my_rows.py:(\w+)", message)[1]
    file = tmp_path / "my_rows.py"
    file.write_text(message[message.index("def ") :], encoding="utf-8")
    (made,) = format_dataset([row], f"{file}:{name}")
    texts = {turn["content"] for turns in made.values() if isinstance(turns, list) for turn in turns}
    assert (texts or set(made.values())) <= set(row.values()) and message.count("\n") < 12


def test_no_advice_throws_a_second_conversation_or_a_list_of_answers_away():
    talk = [{"role": "user", "content": "하늘은?"}, {"role": "assistant", "content": "파래요."}]
    message = refused({"winner": "model_a", "conversation_a": talk, "conversation_b": talk})
    assert "NAME=chosen OTHER=rejected" in message and "def " not in message and "a=messages" not in message
    assert "are a prompt and 여러 답" in refused({"prompt": "하늘은?", "여러 답": ["파래요.", "빨개요."]})


def test_what_the_columns_hold_is_shown():
    row = {"번호": 3, "글감": [1], "표": {"a": 1}, "대화": [{"from": "human"}], "참": True, "없음": None}
    told = "번호 (number), 글감 (list), 표 (object), 대화 (messages), 참 (true or false), 없음 (nothing)"
    assert told in refused(row)


def test_no_advice_throws_answers_away():
    for row in ({"prompt": "a", "chosen": "b"}, {"prompt": "a", "completion_0": "b", "completion_1": "c"}):
        message = refused(row)
        assert "kochatgpt_ppo" not in message and "--columns NAME=" in message


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "하늘은?", "response_0": "파래요.", "response_1": "빨개요.", "better_response_id": 0},
        {"question": "하늘은?", "model_a_response": "파래요.", "model_b_response": "빨개요.", "winner": "a"},
    ],
)
def test_of_two_answers_none_is_left_out(row, tmp_path):
    message = refused(row)
    assert "=completion (in" not in message and "kochatgpt_sft" not in message
    file = tmp_path / "my_rows.py"
    file.write_text(message[message.index("def ") :], encoding="utf-8")
    (made,) = format_dataset([row], f"{file}:to_preference")
    assert (made["chosen"][0]["content"], made["rejected"][0]["content"]) == ("파래요.", "빨개요.")


def test_prompts_beside_answers_of_another_name_are_no_mere_prompts():
    row = {"prompt": "하늘은?", "reference_answer": "파래요."}
    message = refused(row)
    assert "They fit kochatgpt_sft with --columns reference_answer=completion" in message
    assert "For the prompts alone say --formatter kochatgpt_ppo" in message
    assert detect_formatter({"prompt": "하늘은?", "source": "책"}) == "kochatgpt_ppo"


def test_columns_that_fit_two_are_told_how_to_choose():
    row = {"text": "글", "messages": []}
    assert "fit messages and text; name the one you mean (--formatter)" in refused(row)
    assert detect_formatter({"prompt": "질문", "messages": []}) == "messages"


@given(st.dictionaries(st.text(max_size=40), st.none() | st.text(max_size=3) | st.integers(), max_size=20))
def test_whatever_the_columns_are_called_the_message_can_be_read_and_its_code_runs(row):
    try:
        detect_formatter(row)
    except ValueError as error:
        assert len(str(error)) < 1_500
        if "def " in str(error) and "\n\ndef" in str(error):
            compile(str(error)[str(error).index("\n\ndef") :], "my_rows.py", "exec")
