import unicodedata

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_kochat import format_dataset, split_by_prompt


def turn(role, text):
    return {"role": role, "content": text}


def rankings(prompts):
    rows = [
        {"prompt": prompt, "completion_0": "a", "completion_1": "b", "completion_2": "c", "ranking": [0, 1, 2]}
        for prompt in prompts
    ]
    return format_dataset(rows, "kochatgpt_rm")


def test_pairs_of_one_prompt_stay_together():
    train, evaluation = split_by_prompt(rankings(f"질문 {i}" for i in range(40)), 0.25, seed=1)
    prompts = [{row["prompt"][0]["content"] for row in side} for side in (train, evaluation)]
    assert not prompts[0] & prompts[1]
    assert (len(train), len(evaluation)) == (90, 30)


def test_white_space_and_unicode_form_do_not_make_another_prompt():
    forms = [unicodedata.normalize(form, "오늘 날씨 ① ㅋ") for form in ("NFC", "NFD", "NFKC", "NFKD")]
    spellings = [*forms, " 오늘  날씨 ① ㅋ\n", "오늘\t날씨\u3000① ㅋ", "오늘날씨①ㅋ"]
    dataset = datasets.Dataset.from_dict({"prompt": [*spellings, *(f"질문 {i}" for i in range(9))]})
    for seed in range(20):
        sides = [len(set(spellings) & set(side["prompt"])) for side in split_by_prompt(dataset, 0.5, seed=seed)]
        assert sorted(sides) == [0, len(spellings)]


def test_one_question_under_two_system_texts_is_one_prompt():
    user = {"role": "user", "content": "왜?"}
    prompts = [[user], [{"role": "system", "content": "짧게"}, user], [{"role": "user", "content": "뭐?"}]]
    train, evaluation = split_by_prompt(datasets.Dataset.from_dict({"prompt": prompts}), 0.5)
    assert sorted((len(train), len(evaluation))) == [1, 2]


def test_the_order_of_rows_does_not_matter():
    prompts = [f"질문 {i}" for i in range(50)]
    held_out = [
        set(split_by_prompt(datasets.Dataset.from_dict({"prompt": order}), 0.2)[1]["prompt"])
        for order in (prompts, prompts[::-1])
    ]
    assert held_out[0] == held_out[1] and len(held_out[0]) == 10


def test_the_order_of_spellings_does_not_matter():
    """Which spelling of a prompt comes first must not decide the side it falls on."""
    forms = [(f"질문 {i}번", f"질문{i}번", f"질 문 {i} 번") for i in range(40)]
    held_out = []
    for order in (slice(None), slice(None, None, -1)):
        prompts = [spelling for spellings in forms for spelling in spellings[order]]
        _, evaluation = split_by_prompt(datasets.Dataset.from_dict({"prompt": prompts}), 0.25)
        held_out.append(set(evaluation["prompt"]))
    assert held_out[0] == held_out[1] and len(held_out[0]) == 30


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.text(alphabet="가나 \n", max_size=4), min_size=1, max_size=30), st.floats(0.01, 0.99), st.integers()
)
def test_no_row_is_lost_and_no_prompt_is_on_both_sides(prompts, fraction, seed):
    dataset = datasets.Dataset.from_dict({"prompt": prompts})
    try:
        train, evaluation = split_by_prompt(dataset, fraction, seed=seed)
    except ValueError:
        assert len({"".join(prompt.split()) for prompt in prompts}) < 2
        return
    assert sorted([*train["prompt"], *evaluation["prompt"]]) == sorted(prompts)
    sides = [{"".join(prompt.split()) for prompt in side["prompt"]} for side in (train, evaluation)]
    assert sides[0] and sides[1] and not sides[0] & sides[1]


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan"), None, "0.5"])
def test_a_fraction_outside_0_and_1_is_an_error(fraction):
    with pytest.raises(ValueError, match="eval_fraction is"):
        split_by_prompt(rankings("ab"), fraction)


def test_a_dataset_without_prompts_is_an_error():
    with pytest.raises(ValueError, match="needs a column 'prompt'; there are body"):
        split_by_prompt(datasets.Dataset.from_dict({"body": ["a"]}), 0.5)


def test_running_text_and_whole_conversations_are_split_by_what_they_are_about():
    texts = datasets.Dataset.from_dict({"text": ["가", "나", " 가"]})
    train, held_out = split_by_prompt(texts, 0.5)
    assert sorted(map(len, (train, held_out))) == [1, 2] and not {*train["text"]} & {*held_out["text"]}
    talks = [[turn("user", text), turn("assistant", answer)] for text, answer in ("가1", "나2", "가3")]
    train, held_out = split_by_prompt(datasets.Dataset.from_dict({"messages": talks}), 0.5)
    assert sorted(map(len, (train, held_out))) == [1, 2]


def test_a_turn_that_calls_a_tool_has_no_text_and_is_no_obstacle():
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "weather"}}]}
    prompts = [[turn("user", text), call, {"role": "tool", "content": "맑음"}] for text in "가나"]
    train, held_out = split_by_prompt(datasets.Dataset.from_list([{"prompt": prompt} for prompt in prompts]), 0.5)
    assert len(train) == len(held_out) == 1


@pytest.mark.parametrize(
    "rows",
    [[{"prompt": "a"}], datasets.DatasetDict(), datasets.Dataset.from_dict({"prompt": ["a"]}).to_iterable_dataset()],
    ids=["list", "splits", "stream"],
)
def test_only_a_dataset_can_be_split(rows):
    with pytest.raises(ValueError, match=f"takes a datasets.Dataset, .* not a {type(rows).__name__}"):
        split_by_prompt(rows, 0.5)


@pytest.mark.parametrize("prompt", [None, 3, [], [{"role": "user", "content": None}]])
def test_a_prompt_that_is_no_text_is_an_error_with_its_row(prompt):
    # As a table would hold them; Arrow has no column for a mixture.
    dataset = datasets.Dataset.from_dict({"prompt": [prompt, prompt]})
    with pytest.raises(ValueError, match=r"Row 0 \(counted from 0\): the prompt .* is neither text nor messages"):
        split_by_prompt(dataset, 0.5)


# Rows that say themselves that they are held out.


def said(rows):
    return datasets.Dataset.from_list([{"prompt": prompt, "held_out": reason} for prompt, reason in rows])


def test_rows_that_say_they_are_held_out_are_and_no_fraction_is():
    rows = [(f"질문 {i}", "new_way" if i % 10 == 3 else "") for i in range(40)] + [("대화", None)]
    train, evaluation = split_by_prompt(said(rows), 0.5)
    assert [row["prompt"] for row in evaluation] == ["질문 3", "질문 13", "질문 23", "질문 33"]
    assert len(train) == 37 and not any(train["held_out"])


def test_a_column_that_holds_out_nothing_leaves_the_fraction():
    for nothing in ("", " ", None):
        rows = said([(f"질문 {i}", nothing) for i in range(40)])
        assert len(split_by_prompt(rows, 0.25)[1]) == 10


def test_where_asked_rows_that_do_not_say_give_their_fraction_beside_those_that_do():
    rows = [(f"질문 {i}", "new_way" if i < 4 else "") for i in range(20)] + [(f"대화 {i}", None) for i in range(40)]
    train, evaluation = split_by_prompt(said(rows), 0.25, also_of_silent_rows=True)
    assert list(evaluation["held_out"]) == ["new_way"] * 4 + [None] * 10
    assert len(train) == 46 and {*train["held_out"]} == {"", None}
    # A prompt of which another row says that it is to be trained on is not held out, and one silent prompt stays.
    train, evaluation = split_by_prompt(
        said([*rows[:20], ("질문 9", None), ("대화", None)]), 0.9, also_of_silent_rows=True
    )
    assert len(train) == 18 and len(evaluation) == 4


def test_a_prompt_that_is_held_out_anywhere_is_not_trained_on(caplog):
    rows = said([("오늘 뭐해?", ""), ("오늘뭐해?", "only_read"), ("내일 뭐해?", ""), ("오늘 뭐 해?", "")])
    train, evaluation = split_by_prompt(rows, 0.5)
    assert train["prompt"][:] == ["내일 뭐해?"] and len(evaluation) == 3
    assert "2 rows have the prompt of a row that is held out" in caplog.text


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(ValueError, match="All 2 rows say .* none to train on"):
        split_by_prompt(said([("가", "new_way"), ("나", "new_way")]), 0.5)


@pytest.mark.parametrize("value", [True, 1, ["new_way"]])
def test_a_reason_that_is_no_text_is_an_error_with_its_row(value):
    rows = datasets.Dataset.from_dict({"prompt": ["가", "나"], "held_out": [None, value]})
    with pytest.raises(ValueError, match=r"Row 1 \(counted from 0\): held_out is .* it is a text"):
        split_by_prompt(rows, 0.5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text(alphabet="가나 ", max_size=3), st.sampled_from(["", "new_way"])), min_size=2))
def test_whatever_is_marked_no_prompt_is_on_both_sides_and_no_row_is_lost(rows):
    try:
        train, evaluation = split_by_prompt(said(rows), 0.5)
    except ValueError:
        keys = {"".join(prompt.split()) for prompt, _ in rows}
        assert len(keys) < 2 or keys == {"".join(prompt.split()) for prompt, reason in rows if reason}
        return
    assert len(train) + len(evaluation) == len(rows) and not any(train["held_out"])
    sides = [{"".join(prompt.split()) for prompt in side["prompt"]} for side in (train, evaluation)]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
