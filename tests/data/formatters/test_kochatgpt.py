import copy
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_kochat import format_dataset
from trl_kochat.data.formatters.kochatgpt import (
    clean_text,
    dialogue_to_prompt_completion,
    to_preference,
    to_prompt_completion,
    to_prompt_only,
)


def ranking_row(ranking, *completions, prompt="점심 뭐 먹지?"):
    return {"prompt": prompt, **{f"completion_{i}": text for i, text in enumerate(completions)}, "ranking": ranking}


def answers(rows):
    return [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows]


def dialogue(*turns):
    return {"conversation": [{"speaker": speaker, "text": text} for speaker, text in turns]}


def test_an_sft_row_is_a_conversational_prompt_completion_row():
    assert to_prompt_completion({"prompt": "안녕?", "completion": "안녕하세요!", "tokens": 6}) == [
        {
            "prompt": [{"role": "user", "content": "안녕?"}],
            "completion": [{"role": "assistant", "content": "안녕하세요!"}],
        }
    ]


def test_a_prompt_row_is_a_prompt_only_row():
    assert to_prompt_only({"prompt": "안녕?"}) == [{"prompt": [{"role": "user", "content": "안녕?"}]}]


def test_a_ranking_of_three_gives_three_pairs_with_rank_distance_and_one_prompt_id():
    rows = to_preference(ranking_row([2, 0, 1], "나쁨", "좋음", "보통"))
    assert sorted(zip(answers(rows), (row["margin"] for row in rows), strict=True)) == [
        (("보통", "나쁨"), 1.0),
        (("좋음", "나쁨"), 2.0),
        (("좋음", "보통"), 1.0),
    ]
    assert len({row["prompt_id"] for row in rows}) == 1
    assert all(row["prompt"] == [{"role": "user", "content": "점심 뭐 먹지?"}] for row in rows)


def test_the_prompt_id_ignores_white_space_and_unicode_form():
    row = ranking_row([0, 1], "좋음", "나쁨")
    other = {**row, "prompt": unicodedata.normalize("NFD", " 점심  뭐\n먹지? ")}
    assert to_preference(row)[0]["prompt_id"] == to_preference(other, clean=False)[0]["prompt_id"]


def test_a_tie_gives_two_pairs_and_counts_the_third():
    rows = to_preference(ranking_row([0, 0, 1], "a", "b", "c"))
    assert answers(rows) == [("a", "c"), ("b", "c")]
    assert rows.dropped == {"tie": 1}


def test_all_ties_give_nothing():
    rows = to_preference(ranking_row([1, 1, 1], "a", "b", "c"))
    assert rows == [] and rows.dropped == {"tie": 3}


def test_five_answers_give_ten_pairs():
    rows = to_preference(ranking_row([4, 3, 2, 1, 0], *"abcde"))
    assert len(rows) == 10
    assert ("e", "a") in answers(rows) and max(row["margin"] for row in rows) == 4


def test_three_equal_answers_are_three_identical_pairs():
    rows = to_preference(ranking_row([0, 1, 2], "같은 답", "같은 답", " 같은 답 "))
    assert rows == [] and rows.dropped == {"identical": 3}


def test_an_empty_answer_drops_its_pairs_only():
    rows = to_preference(ranking_row([0, 1, 2], "좋음", " \n", "나쁨"))
    assert answers(rows) == [("좋음", "나쁨")] and rows.dropped == {"empty_completion": 2}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "q", "completion_0": "a", "completion_1": "b"}, "a ranking is a list"),
        (ranking_row([0, 1, 2], "a", "b"), "3 ranks .* for 2 answers"),
        (ranking_row([0, 1, 2], "a", None, "c"), "3 ranks .* for 2 answers"),
        (ranking_row([0, 1], "a", None, "c"), "'completion_1' is None"),
        (ranking_row([0, 1], "a", 3), "'completion_1' holds 3, a int"),
        (ranking_row([0], "a"), "1 answers"),
        (ranking_row([0, 1], "a", "b", prompt=None), "'prompt' is None"),
    ],
)
def test_a_bad_ranking_row_says_what_is_wrong_where(row, message):
    good = ranking_row([0, 1], "a", "b")
    with pytest.raises(ValueError, match=rf"Row 1 \(counted from 0\): .*{message}.*expects .*ranking"):
        format_dataset([good, row], "kochatgpt_rm")


@pytest.mark.parametrize("value", [None, 3, ["a"], 1.5])
def test_a_completion_that_is_no_text_is_an_error(value):
    with pytest.raises(
        ValueError, match=r"Row 0 .*'completion'.*columns are prompt, completion; kochatgpt_sft expects"
    ):
        format_dataset([{"prompt": "q", "completion": value}], "kochatgpt_sft")


def test_a_missing_column_names_those_there_and_those_expected():
    with pytest.raises(
        ValueError, match=r"'completion' is missing. Its columns are prompt, answer; .*completion, prompt"
    ):
        format_dataset([{"prompt": "q", "answer": "a"}], "kochatgpt_sft")


@pytest.mark.parametrize(
    ("row", "make", "reason"),
    [
        ({"prompt": " \n\t", "completion": "a"}, to_prompt_completion, "empty_prompt"),
        ({"prompt": "q", "completion": "　"}, to_prompt_completion, "empty_completion"),
        ({"prompt": " "}, to_prompt_only, "empty_prompt"),
        ({"prompt": "\u200b\ufeff", "completion": "a"}, to_prompt_completion, "empty_prompt"),
        ({"prompt": "q", "completion": "\u3164"}, to_prompt_completion, "empty_completion"),
        ({"prompt": "\u3164 \u200d"}, to_prompt_only, "empty_prompt"),
        (ranking_row([0, 1], "a", "b", prompt=" "), to_preference, "empty_prompt"),
    ],
)
@pytest.mark.parametrize("clean", [True, False])
def test_white_space_alone_teaches_nothing_and_is_counted(row, make, reason, clean):
    rows = make(row, clean=clean)
    assert rows == [] and rows.dropped == {reason: 1}


@pytest.mark.parametrize(
    ("text", "expected", "kinds"),
    [
        ("'네, 그렇습니다.", "네, 그렇습니다.", ["stray_quote"]),
        ("'저는 '사과'를 좋아해요.", "저는 '사과'를 좋아해요.", ["stray_quote"]),
        ("'사과'는 과일이에요.", "'사과'는 과일이에요.", []),
        ("'It's fine", "It's fine", ["stray_quote"]),
        ("첫째\\n둘째", "첫째\n둘째", ["literal_newline"]),
        ("첫째\r\n둘째", "첫째\n둘째", ["crlf"]),
        ("첫째\r\r\n둘째\r셋째", "첫째\n둘째\r셋째", ["crlf"]),
        ("\t네. \n", "네.", ["outer_space"]),
        (unicodedata.normalize("NFD", "한글"), "한글", ["unicode_form"]),
        ("안쪽  공백, ㅋㅋㅋ, ①㎏ﬁ😀", "안쪽  공백, ㅋㅋㅋ, ①㎏ﬁ😀", []),
    ],
)
def test_the_clean_up_mends_what_the_export_broke_and_nothing_else(text, expected, kinds):
    assert clean_text(text, answer=True) == (expected, kinds)


def test_what_was_mended_is_counted_where_the_row_is_dropped_too():
    for make in (to_prompt_only, to_prompt_completion):
        rows = make({"prompt": "\\n", "completion": "네"})
        assert rows == [] and rows.cleaned == {"literal_newline": 1, "outer_space": 1}


def test_a_prompt_keeps_its_leading_quote():
    assert to_prompt_completion({"prompt": "'왜", "completion": "a"})[0]["prompt"][0]["content"] == "'왜"


def test_clean_false_changes_no_text():
    row = {"prompt": " q\\n ", "completion": "'a\r\n"}
    rows = to_prompt_completion(row, clean=False)
    assert (rows[0]["prompt"][0]["content"], rows[0]["completion"][0]["content"]) == (" q\\n ", "'a\r\n")
    assert not rows.cleaned


@given(st.text(alphabet="'\\n \r\n가각a​한", max_size=20))
def test_the_clean_up_is_idempotent(text):
    once, _ = clean_text(text, answer=True)
    assert clean_text(once, answer=True) == (once, [])


@given(st.lists(st.integers(0, 3), min_size=2, max_size=5), st.data())
def test_pairs_made_and_dropped_add_up_and_the_row_is_left_alone(ranking, data):
    texts = data.draw(
        st.lists(st.sampled_from(["", " ", "가", "나", "'다"]), min_size=len(ranking), max_size=len(ranking))
    )
    row = ranking_row(ranking, *texts)
    before = copy.deepcopy(row)
    rows = to_preference(row)
    assert row == before
    assert len(rows) + rows.dropped.total() == len(ranking) * (len(ranking) - 1) // 2


def test_every_answer_of_a_dialogue_is_a_row_with_all_turns_before_it():
    rows = dialogue_to_prompt_completion(
        dialogue(("사람", "안녕"), ("챗봇", "네"), ("사람", "뭐 해?"), ("챗봇", "쉬어요"))
    )
    assert [[message["content"] for message in row["prompt"]] for row in rows] == [["안녕"], ["안녕", "네", "뭐 해?"]]
    assert [row["completion"][0]["content"] for row in rows] == ["네", "쉬어요"]
    assert [message["role"] for message in rows[1]["prompt"]] == ["user", "assistant", "user"]
    assert not rows.dropped


@pytest.mark.parametrize(
    ("turns", "contexts", "dropped", "cleaned"),
    [
        # starts with the bot: that answer has no question, and stays out of the context
        ([("챗봇", "어서 오세요"), ("사람", "네"), ("챗봇", "반가워요")], [["네"]], {"no_question": 1}, {}),
        # an empty turn: what follows has no whole context
        ([("사람", "가"), ("챗봇", "나"), ("사람", ""), ("챗봇", "라"), ("사람", "마"), ("챗봇", "바")],
         [["가"]], {"empty_turn": 2}, {}),
        ([("사람", "가"), ("챗봇", ""), ("사람", "다"), ("챗봇", "라")], [], {"empty_turn": 2}, {}),
        # cut in the middle: the last question has no answer
        ([("사람", "가"), ("챗봇", "나"), ("사람", "다")], [["가"]], {"no_answer": 1}, {}),
        # two turns of one speaker are one turn
        ([("사람", "가"), ("사람", "나"), ("챗봇", "다")], [["가\n나"]], {}, {"joined_turns": 1}),
        # an empty turn is joined to none, and costs one row even where no answer is left
        ([("사람", "가"), ("사람", ""), ("챗봇", "다")], [], {"empty_turn": 1}, {}),
        ([("사람", ""), ("사람", "가"), ("챗봇", "나")], [], {"empty_turn": 1}, {}),
        ([("사람", "가"), ("챗봇", "나"), ("사람", "")], [["가"]], {"empty_turn": 1}, {}),
        ([], [], {"no_answer": 1}, {}),
    ],
)  # fmt: skip
def test_dialogues_that_are_not_question_and_answer(turns, contexts, dropped, cleaned):
    rows = dialogue_to_prompt_completion(dialogue(*turns))
    assert [[message["content"] for message in row["prompt"]] for row in rows] == contexts
    assert rows.dropped == dropped
    assert rows.cleaned == cleaned


@pytest.mark.parametrize("turns", [None, "text", [1], [{"speaker": "고양이", "text": "야옹"}], [{"speaker": "사람"}]])
def test_what_is_no_dialogue_is_an_error(turns):
    with pytest.raises(ValueError, match="Row 0"):
        format_dataset([{"conversation": turns}], "kochatgpt_conversation")
