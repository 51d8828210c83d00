"""The formatters of questions and answers: alpaca, questions, messages, text, trl, unpaired_preference."""

import pytest

from tests.data.layouts import assistant, system, user
from trl_kochat import detect_formatter, format_dataset, get_formatter
from trl_kochat.data import RowCounts
from trl_kochat.data.health import clean_rows


QUESTION, ANSWER = "하늘은 왜 파래요?", "산란 때문이에요."
ROW = {"prompt": [user(QUESTION)], "completion": [assistant(ANSWER)]}
TURNS = [user("안녕?"), assistant("네!"), user(QUESTION), assistant(ANSWER)]
SHAREGPT = [{"from": {"user": "human", "assistant": "gpt"}[turn["role"]], "value": turn["content"]} for turn in TURNS]


def made(row, name=None, **options):
    return format_dataset([row], name, **options).to_list()


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"instruction": QUESTION, "output": ANSWER}, "alpaca"),
        ({"instruction": QUESTION, "input": " ", "output": ANSWER, "url": "x"}, "alpaca"),
        ({"instruction": QUESTION, "context": "", "response": ANSWER, "category": "qa"}, "alpaca"),
        ({"question": QUESTION, "answer": ANSWER}, "questions"),
        ({"Q": QUESTION, "A": ANSWER, "label": "0"}, "questions"),
        ({"질문": QUESTION, "답변": ANSWER}, "questions"),
        ({"id": "flan.1", "system_prompt": "", "question": QUESTION, "response": ANSWER}, "questions"),
        ({"prompt": QUESTION, "response": ANSWER}, "questions"),
        ({"prompt": QUESTION, "answer": ANSWER}, "questions"),
        ({"query": QUESTION, "response": ANSWER}, "questions"),
        ({"query": QUESTION, "answer": ANSWER}, "questions"),
        ({"messages": [QUESTION, ANSWER]}, "messages"),
        (ROW, "kochatgpt_sft"),
        ({"prompt": QUESTION, "prompt_id": "1", "messages": TURNS[2:]}, "messages"),
        ({"conversations": SHAREGPT[2:]}, "messages"),
        ({"conversations": TURNS[2:]}, "messages"),
    ],
)  # fmt: skip
def test_every_form_gives_the_same_row(row, name):
    assert detect_formatter(row) == name
    assert made(row) == [ROW]


@pytest.mark.parametrize(
    "row",
    [
        {"system": "짧게.", "instruction": QUESTION, "output": ANSWER},
        {"system_prompt": "짧게.", "question": QUESTION, "response": ANSWER},
        {"system": "짧게.", "prompt": QUESTION, "completion": ANSWER},
        {"system": "짧게.", "conversations": SHAREGPT[2:]},
        {"messages": [system("짧게."), *TURNS[2:]]},
    ],
)
def test_a_system_text_comes_first(row):
    assert made(row) == [{**ROW, "prompt": [system("짧게."), user(QUESTION)]}]


def test_an_input_stands_below_its_instruction():
    (row,) = made({"instruction": "요약해 줘.", "input": "긴 글", "output": "글"})
    assert row["prompt"] == [user("요약해 줘.\n\n긴 글")]


def test_marked_answers_of_any_question_are_read_where_the_formatter_is_named():
    row = {"질문": QUESTION, "답변": ANSWER, "label": False}
    assert made(row, "unpaired_preference") == [{**ROW, "label": False}]
    with pytest.raises(ValueError, match="'label' is False.* --formatter unpaired_preference"):
        made(row)


def test_a_context_stands_below_its_question():
    (row,) = made({"question": QUESTION, "context": "긴 글", "answer": ANSWER})
    assert row["prompt"] == [user(f"{QUESTION}\n\n긴 글")]
    assert made({"question": [user(QUESTION)], "context": None, "answer": ANSWER}) == [ROW]


@pytest.mark.parametrize("column", [{"messages": TURNS}, {"conversations": SHAREGPT}])
def test_every_answer_of_a_conversation_is_a_row_or_all_of_it_is_one(column):
    assert made(column) == [
        {"prompt": TURNS[:1], "completion": TURNS[1:2]},
        {"prompt": TURNS[:3], "completion": TURNS[3:]},
    ]
    assert made(column, "whole_messages") == [{"messages": TURNS}]


@pytest.mark.parametrize(
    ("turns", "rows", "dropped"),
    [
        ([assistant("어서 오세요."), *TURNS[2:]], 1, {"no_question": 1}),
        ([*TURNS, assistant("그리고요.")], 2, {"no_question": 1}),
        ([*TURNS, user("네")], 2, {}),
        ([*TURNS, user(" "), assistant("네")], 2, {"empty_prompt": 1}),
        ([*TURNS[:3], assistant("\u3164")], 1, {"empty_completion": 1}),
    ],
)
def test_conversations_that_are_not_question_and_answer(turns, rows, dropped):
    counts = RowCounts()
    assert len(made({"messages": turns}, counts=counts)) == rows and counts.dropped == dropped


@pytest.mark.parametrize("name", ["messages", "whole_messages"])
def test_a_conversation_without_answer_is_dropped(name):
    assert get_formatter(name)({"messages": TURNS[:1]}).dropped == {"no_answer": 1}


def test_tools_and_their_calls_go_on():
    call = {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "날씨", "arguments": {}}}]}
    turns = [user("날씨?"), call, {"role": "tool", "name": "날씨", "content": "맑음"}, assistant("맑아요.")]
    rows = get_formatter("messages")({"messages": turns, "tools": [{"type": "function"}]})
    assert [row["completion"][0].get("tool_calls") for row in rows] == [call["tool_calls"], None]
    assert [len(row["prompt"]) for row in rows] == [1, 3] and rows[0]["tools"] == '[{"type": "function"}]'


def test_a_call_keeps_its_own_arguments_whatever_other_calls_have():
    """As columns of one table each would have all of them, and of one type."""

    def turns(name, **arguments):
        call = {"type": "function", "function": {"name": name, "arguments": arguments}}
        return [user(QUESTION), {"role": "assistant", "content": None, "tool_calls": [call]}]

    given = [turns("날씨", city="서울"), turns("합", city=3, rest=[1, "둘"]), turns("지금"), TURNS[2:]]
    rows = format_dataset([{"messages": one} for one in given])
    calls = [one[-1].get("tool_calls") for one in given]
    assert [row["completion"][0]["tool_calls"] for row in rows] == calls
    assert [row["completion"][0]["tool_calls"] for row in clean_rows(rows)[0]] == calls


@pytest.mark.parametrize(
    ("row", "role"),
    [
        ({"messages": [{"role": "developer", "content": "짧게."}, *TURNS[2:]]}, "system"),
        ({"messages": [*TURNS[:1], {"role": "function", "name": "가", "content": "나"}, assistant(ANSWER)]}, "tool"),
        ({"conversations": [{"from": "사용자", "value": QUESTION}, {"from": "어시스턴트", "value": ANSWER}]}, "user"),
    ],
)
def test_who_speaks_by_other_names(row, role):
    assert role in [turn["role"] for turn in made(row)[0]["prompt"]]


def test_an_answer_that_is_not_to_be_learned_is_refused():
    with pytest.raises(ValueError, match=r"Row 0 .*'messages' has a message of weight 0"):
        made({"messages": [user(QUESTION), {**assistant(ANSWER), "weight": 0}]})
    assert made({"messages": [user(QUESTION), {**assistant(ANSWER), "weight": 1}]}) == [ROW]


def test_running_text_is_left_as_it_is():
    assert detect_formatter({"text": "글", "source": "x"}) == "text"
    assert made({"text": " 글\n"}) == [{"text": " 글\n"}]
    assert get_formatter("text")({"text": " \n"}).dropped == {"empty_text": 1}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "하늘은", "completion": " 파랗다."},
        {"prompt": "하늘은", "chosen": " 파랗다.", "rejected": " 빨갛다.", "margin": 1.0},
        {"chosen": TURNS, "rejected": TURNS[:2]},
        {"prompt": "하늘은", "completion": " 파랗다.", "label": False},
        {"messages": TURNS},
        {"text": "하늘은 파랗다."},
        {"prompt": TURNS[:1], "chat_template_kwargs": {"enable_thinking": False}},
        {"prompt": TURNS[:1], "tools": "[]"},
    ],
)
def test_rows_of_trl_are_left_as_they_are(row):
    counts = RowCounts()
    assert made({**row, "id": 3}, "trl", counts=counts) == [row] and counts.unread == {"id": 1}


@pytest.mark.parametrize(
    "row",
    [
        ROW,
        {"prompt": [user(QUESTION)]},
        {"prompt": [user(QUESTION)], "chosen": [assistant("네")], "rejected": [assistant("몰라")]},
        {**ROW, "label": True},
    ],
)
def test_conversational_rows_of_trl_need_no_name(row):
    assert made(row) == [row]


@pytest.mark.parametrize(
    ("label", "expected"), [(True, True), (0, False), ("True", True), ("false", False), ("1", True)]
)
@pytest.mark.parametrize(
    "row",
    [
        {"prompt": QUESTION, "completion": ANSWER},
        ROW,
        {"messages": TURNS[2:]},
        {"conversations": SHAREGPT[2:]},
        {"instruction": QUESTION, "input": "", "output": ANSWER},
    ],
)
def test_answers_that_are_marked(row, label, expected):
    for name in ("label", "kto_tag"):
        if name == "label" and "instruction" in row:
            continue  # Alpaca's rows are marked by kto_tag
        assert detect_formatter({**row, name: label}) == "unpaired_preference"
        assert made({**row, name: label}) == [{**ROW, "label": expected}]


@pytest.mark.parametrize(
    ("row", "name", "message"),
    [
        ({"prompt": "a", "completion": "b", "label": "좋음"}, None, "'label' holds '좋음'; expected true"),
        ({"messages": "안녕?"}, None, "'messages' does not hold a list of messages"),
        ({"messages": [{"role": "기자", "content": "a"}]}, None, "role '기자'; expected"),
        ({"messages": TURNS[:1], "label": True}, None, "there is no prompt"),
        ({"instruction": "a", "output": ["b", "c"]}, None, r"'output' holds \['b', 'c'\]"),
        ({"instruction": "a"}, "alpaca", "'output' is missing"),
        ({"question": "a", "answer": {"text": "b"}}, None, "'answer' has role None"),
        ({"a": 1}, "trl", "no type of TRL has the columns .none"),
        ({"text": 3}, None, "'text' holds 3"),
    ],
)  # fmt: skip
def test_a_bad_row_is_an_error_that_shows_it(row, name, message):
    with pytest.raises(ValueError, match=rf"Row 0 .*{message}"):
        format_dataset([row], name)
