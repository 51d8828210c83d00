"""The formatters, `format_dataset` and rankings on arbitrary rows."""

import copy
from itertools import combinations

import datasets
import pytest
from hypothesis import strategies as st

from trl_kochat.data import RowCounts, detect_formatter, format_dataset, formatter_names, get_formatter
from trl_kochat.data.ranking import check_ranks, ranked_rows
from trl_kochat.encode import as_turns
from trl_kochat.text.prompts import prompt_id, prompt_key

from .inputs import fuzz, numbers, outcome, replacements, texts, values


NAMES = tuple(name for name in formatter_names() if get_formatter(name).function.__module__.startswith("trl_kochat."))
# Of these one raw row may give several.
SEVERAL = {"kochatgpt_conversation", "messages", "rankings"}
REASONS = {
    "empty_prompt",
    "empty_completion",
    "empty_turn",
    "no_question",
    "no_answer",
    "tie",
    "identical",
    "empty_text",
    "nothing_to_learn",
}

answers = st.one_of(texts, texts, texts, values)
ranks = st.lists(numbers, max_size=4) | st.permutations([0, 1, 2]) | values
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(("system", "user", "assistant")) | values, "content": answers},
        optional={"extra": values},
    )
    | values,
    max_size=3,
)
turns = st.lists(
    st.fixed_dictionaries(
        {"speaker": st.sampled_from(("사람", "챗봇", "사람", "챗봇", "other")), "text": texts | answers}
    )
    | values,
    max_size=5,
)
columns = {
    "prompt": answers,
    "completion": answers,
    "tokens": values,
    "completion_0": answers,
    "completion_1": answers,
    "completion_2": answers,
    "ranking": ranks,
    "conversation": turns | values,
    "system": answers,
    "question": answers,
    "chosen": answers,
    "rejected": answers,
    "chatgpt": answers,
    "llama2-13b-chat": answers,
    "input": st.fixed_dictionaries({"messages": messages}) | messages | values,
    "preferred_output": messages | values,
    "non_preferred_output": messages | values,
}
NEEDED = {
    "kochatgpt_sft": ("prompt", "completion"),
    "kochatgpt_conversation": ("conversation",),
    "kochatgpt_rm": ("prompt", "completion_0", "completion_1", "completion_2", "ranking"),
    "kochatgpt_ppo": ("prompt",),
    "orca_pairs": ("question", "chosen", "rejected"),
    "whole_messages": ("messages",),
    "trl": ("prompt", "completion"),
}
for _name in NAMES:
    for _columns in get_formatter(_name).columns:
        NEEDED.setdefault(_name, tuple(sorted(_columns)))
        columns |= dict.fromkeys(sorted(_columns - columns.keys()), answers | messages)


def rows_of(name):
    """Rows that nearly fit: some column missing at times, others beside them, odd names among these."""
    most = st.fixed_dictionaries({column: columns[column] for column in NEEDED[name]})
    any_of = st.fixed_dictionaries({}, optional=columns)
    odd = st.dictionaries(texts | st.integers() | st.none(), values, max_size=2)
    right = st.fixed_dictionaries({column: texts for column in NEEDED[name] if column != "ranking"})
    if name == "kochatgpt_rm":
        right = st.builds(lambda row, ranking: {**row, "ranking": ranking}, right, st.permutations([0, 1, 1]))
    if name == "kochatgpt_conversation":
        right = st.fixed_dictionaries({"conversation": turns})
    parts = st.tuples(most | right | any_of, any_of | st.just({}) | st.just({}), odd | st.just({}))
    return st.one_of(right, parts.map(lambda parts: {**parts[2], **parts[1], **parts[0]}))


def fingerprint(value):
    """Tells two values apart, NaN and huge numbers included."""
    if isinstance(value, dict):
        return ("dict", [(fingerprint(key), fingerprint(item)) for key, item in value.items()])
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, [fingerprint(item) for item in value])
    return (type(value).__name__, hex(value) if isinstance(value, int) else repr(value))


def offered(name, row):
    """How many TRL rows a raw row has to offer, at the least."""
    if name == "kochatgpt_rm":
        number = sum(row.get(f"completion_{i}") is not None for i in range(3))
        return number * (number - 1) // 2
    return 1


def check_counts(name, rows, counts):
    assert counts.read == len(rows)
    total = counts.made + counts.dropped.total()
    least = sum(offered(name, row) for row in rows)
    assert total >= least if name in SEVERAL else total == least
    assert counts.dropped.keys() <= REASONS


@pytest.mark.parametrize("name", NAMES)
@fuzz(0.8, data=st.data(), clean=st.booleans())
def test_one_row_gives_rows_or_a_reason(name, data, clean):
    row = data.draw(rows_of(name))
    before = fingerprint(row)
    options = {"clean": clean} if name.startswith("kochatgpt") else {}
    counts = RowCounts()
    made, _ = outcome(lambda: get_formatter(name)(row, **options))
    assert fingerprint(row) == before
    if made is None:
        return
    counts.add(made)
    check_counts(name, [row], counts)
    assert replacements(list(made)) <= max(1, len(made)) * 2 * replacements(row)
    assert not replacements(list(made)) or replacements(row)
    for made_row in made:
        for column in made_row.keys() & {"prompt", "completion", "chosen", "rejected", "messages"}:
            assert made_row[column] or name == "trl"
            for message in as_turns(made_row[column], "user"):
                assert set(message) == {"role", "content"}
                message["content"].encode()  # no half characters: a tokenizer must read it


@pytest.mark.parametrize("name", [*NAMES, None])
@fuzz(0.4, data=st.data())
def test_a_dataset_of_rows_adds_up_or_is_refused_by_number(name, data):
    rows = data.draw(st.lists(rows_of(name or data.draw(st.sampled_from(NAMES))) | values, max_size=4))
    before, counts = fingerprint(rows), RowCounts()
    made, complaint = outcome(lambda: format_dataset(rows, name, counts=counts))
    assert fingerprint(rows) == before
    if complaint is None:
        assert len(made) == counts.made > 0
        if name is not None:
            check_counts(name, rows, counts)
        assert counts.as_dict()["read"] == len(rows)


@fuzz(
    0.3,
    rows=st.lists(st.fixed_dictionaries({}, optional=columns), min_size=1, max_size=3),
    name=st.sampled_from(NAMES),
)
def test_a_dataset_of_the_library_gives_what_a_list_gives(rows, name):
    try:
        dataset = datasets.Dataset.from_list(rows)
        plain = dataset.to_list()
    except Exception:  # Arrow holds no such rows, and says so in many ways
        return
    counts, plain_counts = RowCounts(), RowCounts()
    made, complaint = outcome(lambda: format_dataset(dataset, name, counts=counts))
    again, plain_complaint = outcome(lambda: format_dataset(plain, name, counts=plain_counts))
    assert (complaint is None) == (plain_complaint is None)
    assert counts == plain_counts
    assert made is None or made.to_list() == again.to_list()
    assert fingerprint(dataset.to_list()) == fingerprint(plain)


@fuzz(
    0.5,
    made=st.lists(st.lists(st.dictionaries(texts, values, max_size=3), max_size=3) | values, min_size=1, max_size=4),
)
def test_whatever_a_formatter_of_another_package_makes(made):
    before = fingerprint(made)
    rows, counts = [{"number": number} for number in range(len(made))], RowCounts()
    dataset, complaint = outcome(
        lambda: format_dataset(rows, lambda row: copy.copy(made[row["number"]]), counts=counts)
    )
    assert fingerprint(made) == before
    if complaint is None:
        assert counts.read == len(rows) and len(dataset) == counts.made == sum(map(len, made))


@fuzz(columns=st.lists(st.sampled_from((*columns, "other")) | texts, max_size=6))
def test_columns_name_a_formatter_or_are_refused(columns):
    name, _ = outcome(lambda: detect_formatter(columns))
    assert name is None or name in formatter_names()


@fuzz(ranks=ranks, number=st.integers(0, 4))
def test_ranks_are_taken_as_they_are_or_refused(ranks, number):
    before = fingerprint(ranks)
    checked, _ = outcome(lambda: check_ranks(ranks, number))
    assert fingerprint(ranks) == before
    if checked is None:
        return
    assert len(checked) == number
    rows = ranked_rows(as_turns("가", "user"), [as_turns(str(i), "assistant") for i in range(number)], checked)
    assert all(row["margin"] > 0 for row in rows)
    ties = sum(checked[i] == checked[j] for i, j in combinations(range(number), 2))
    assert rows.dropped["tie"] == ties and len(rows) + ties == number * (number - 1) // 2


@fuzz(
    prompt=texts | st.lists(st.dictionaries(st.sampled_from(("role", "content")), texts | values), max_size=3) | values
)
def test_a_prompt_has_a_key_or_is_refused(prompt):
    before = fingerprint(prompt)
    key, complaint = outcome(lambda: prompt_key(prompt))
    name, also = outcome(lambda: prompt_id(prompt))
    assert fingerprint(prompt) == before
    assert complaint == also
    if complaint is None:
        assert len(name) == 16 and not any(map(str.isspace, key))
