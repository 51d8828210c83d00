import json

import pytest

from trl_kochat import format_dataset, load_rows
from trl_kochat.data.formatters.orca import to_preference


NEW = {
    "system": "짧게 답하세요.",
    "question": "하늘은 왜 파래요?",
    "chosen": "산란 때문이에요.",
    "rejected": "몰라요.",
}
OLD = {
    "system": "짧게 답하세요.",
    "question": "하늘은 왜 파래요?",
    "chatgpt": "산란 때문이에요.",
    "llama2-13b-chat": "몰라요.",
}
MESSAGES = {
    "input": {
        "messages": [
            {"role": "system", "content": "짧게 답하세요."},
            {"role": "user", "content": "하늘은 왜 파래요?"},
        ]
    },
    "preferred_output": [{"role": "assistant", "content": "산란 때문이에요."}],
    "non_preferred_output": [{"role": "assistant", "content": "몰라요."}],
}
EXPECTED = {
    "prompt": [{"role": "system", "content": "짧게 답하세요."}, {"role": "user", "content": "하늘은 왜 파래요?"}],
    "chosen": [{"role": "assistant", "content": "산란 때문이에요."}],
    "rejected": [{"role": "assistant", "content": "몰라요."}],
}


@pytest.mark.parametrize("row", [NEW, OLD, MESSAGES], ids=["new", "old", "messages"])
def test_every_form_gives_the_same_conversational_row(row):
    assert to_preference(row) == [EXPECTED]


def test_new_and_old_columns_may_stand_in_one_dataset():
    assert format_dataset([NEW, OLD, MESSAGES], "orca_pairs")[:]["prompt"] == [EXPECTED["prompt"]] * 3


def test_columns_filled_with_none_count_as_absent():
    assert to_preference({**OLD, "chosen": None, "rejected": None}) == [EXPECTED]


@pytest.mark.parametrize("beside", [{"chosen": None, "rejected": None}, {"chosen": None}, {"rejected": None}])
def test_null_new_columns_beside_old_ones_in_a_table_are_old_rows(beside):
    """A table of both kinds has every column in every row."""
    made = format_dataset([{**OLD, **beside}, {**NEW, "chatgpt": None, "llama2-13b-chat": None}], "orca_pairs")
    assert made.to_list() == [EXPECTED] * 2


def test_one_new_column_that_is_filled_makes_a_new_row():
    with pytest.raises(ValueError, match="column 'rejected' is None"):
        to_preference({**OLD, "chosen": "산란 때문이에요.", "rejected": None})


@pytest.mark.parametrize("system", ["", "  \n", "\u3164", None])
def test_a_blank_system_text_gives_no_system_message(system):
    assert [message["role"] for message in to_preference({**NEW, "system": system})[0]["prompt"]] == ["user"]


def test_a_row_without_a_system_column_is_fine():
    row = {column: text for column, text in NEW.items() if column != "system"}
    assert [message["role"] for message in to_preference(row)[0]["prompt"]] == ["user"]


def test_a_blank_system_message_is_left_out():
    messages = [{"role": "system", "content": " "}, MESSAGES["input"]["messages"][1]]
    assert [turn["role"] for turn in to_preference({**MESSAGES, "input": {"messages": messages}})[0]["prompt"]] == [
        "user"
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rejected": NEW["chosen"]}, "identical"),
        ({"question": " "}, "empty_prompt"),
        ({"question": "\ufeff"}, "empty_prompt"),
        ({"chosen": "\u3164"}, "empty_completion"),
        ({"chosen": ""}, "empty_completion"),
        ({"rejected": "\n"}, "empty_completion"),
    ],
)
def test_rows_that_teach_nothing_are_dropped_and_counted(change, reason):
    rows = to_preference({**NEW, **change})
    assert rows == [] and rows.dropped == {reason: 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"system": "s", "question": "q", "chosen": "a"}, "'rejected' is missing"),
        ({"system": "s", "question": "q"}, "'chosen' is missing"),
        ({**NEW, "chosen": 7}, "'chosen' holds 7"),
        ({**NEW, "system": 7}, "'system' holds 7"),
        ({**OLD, "llama2-13b-chat": None}, "'llama2-13b-chat' is None"),
        ({**MESSAGES, "preferred_output": None}, "'preferred_output' is None"),
        ({**MESSAGES, "input": {"messages": []}}, "there is no prompt"),
        (
            {**MESSAGES, "input": {"messages": [{"role": "system", "content": "x"}]}},
            "ends with role 'system'; .* user",
        ),
        (
            {**MESSAGES, "input": {"messages": MESSAGES["preferred_output"]}},
            "ends with role 'assistant'; expected user",
        ),
        ({**MESSAGES, "preferred_output": []}, "'preferred_output' holds no message"),
        ({**MESSAGES, "preferred_output": [{"role": "user", "content": "x"}]}, "role 'user'; expected assistant"),
    ],
)
def test_a_bad_row_is_an_error_with_its_number(row, message):
    with pytest.raises(ValueError, match=rf"Row 1 .*{message}.*expects"):
        format_dataset([NEW, row], "orca_pairs")


@pytest.mark.assets
def test_the_real_rows_are_read_whole(assets):
    source = assets / "orca_dpo_pairs" / "validation.jsonl"
    dataset = format_dataset(load_rows(source))
    raw = [json.loads(line) for line in source.read_text(encoding="utf-8").split("\n") if line]
    assert len(dataset) == len(raw) == 284
    assert dataset[0]["chosen"] == raw[0]["preferred_output"]


def test_a_role_of_another_type_is_refused_by_name():
    row = {"input": [{"role": ["user"], "content": "질문"}], "preferred_output": [], "non_preferred_output": []}
    with pytest.raises(ValueError, match=r"column 'input' has role \['user'\]"):
        to_preference(row)
