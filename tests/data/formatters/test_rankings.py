import pytest

from trl_kochat import detect_formatter, format_dataset
from trl_kochat.data.formatters.rankings import to_preference


PAIRS = {("좋음", "보통"): 2.0, ("좋음", "나쁨"): 3.0, ("보통", "나쁨"): 1.0}
ULTRAFEEDBACK = {
    "source": "x",
    "instruction": "질문",
    "models": ["a", "b", "c"],
    "completions": [
        {"model": "a", "response": "보통", "overall_score": 2.0},
        {"model": "b", "response": "좋음", "overall_score": 4.0},
        {"model": "c", "response": "나쁨", "overall_score": 1.0},
    ],
}


@pytest.mark.parametrize(
    "row",
    [
        ULTRAFEEDBACK,
        {"instruction": "질문", "generations": ["나쁨", "좋음", "보통"], "ratings": [1, 4, 2]},
        {"question": "질문", "responses": ["좋음", "보통", "나쁨"], "scores": [4, 2, 1]},
        {"query": "질문", "outputs": ["좋음", "보통", "나쁨"], "scores": [4.0, 2.0, 1.0]},
        {"prompt": "질문", "answers": [{"answer": "보통", "rank": 3}, {"answer": "좋음", "rank": 1}, {"answer": "나쁨", "rank": 4}]},
        {"prompt": "질문", "response1": "좋음", "scores1": 4, "response2": "보통", "scores2": 2, "response3": "나쁨", "scores3": 1},
        {"prompt": "질문", "response1": "좋음", "scores1": [5, 3], "response2": "보통", "scores2": [2, 2], "response3": "나쁨", "scores3": [1, 1]},
        {"prompt": "질문", "response1": "좋음", "scores1": 4, "response2": None, "scores2": 9, "response3": "보통", "score3": 2, "response10": "나쁨", "scores10": 1},
        {"prompt": "질문", "response1": "좋음", "scores1": "4", "response2": "보통", "scores2": "2.0", "response3": "나쁨", "scores3": "1", "response4": "", "scores4": ""},
        {"prompt": "질문", "candidates": [{"text": "좋음", "score": 4}, {"text": "보통", "score": 2}, {"text": "나쁨", "score": 1}]},
        {"prompt": "질문", "completions": [{"text": "좋음", "score": 4}, {"content": "보통", "rating": 2}, {"answer": "나쁨", "rank": None, "score": 1}]},
    ],
)  # fmt: skip
def test_every_form_gives_every_pair(row):
    assert detect_formatter(row) == "rankings"
    rows = to_preference(row)
    pairs = {(made["chosen"][0]["content"], made["rejected"][0]["content"]): made["margin"] for made in rows}
    assert pairs == PAIRS and all(made["prompt"] == [{"role": "user", "content": "질문"}] for made in rows)
    assert {turn["role"] for made in rows for turn in made["chosen"] + made["rejected"]} == {"assistant"}
    assert len({made["prompt_id"] for made in rows}) == 1


def test_a_least_difference_and_ties_are_counted():
    row = {"prompt": "질문", "responses": ["a", "b", "c", "d"], "scores": [1, 1, 2, 5]}
    rows = format_dataset([row], least_difference=2)
    assert len(rows) == 3
    assert format_dataset([row], "rankings:least_difference=2").to_list() == rows.to_list()
    assert to_preference(row, least_difference=2).dropped == {"tie": 1, "too_close": 2}
    for nonsense in (-1, float("nan")):
        with pytest.raises(ValueError, match="least_difference is .*a number of 0 or more"):
            to_preference(row, least_difference=nonsense)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "질문", "responses": ["a"], "scores": [1]}, "1 answers; a pair needs two"),
        ({"prompt": "질문", "responses": ["a", "b"], "scores": [1]}, "1 ranks .* for 2 answers"),
        ({"prompt": "질문", "responses": ["a", "b"], "scores": [1, "2"]}, "rank '2'"),
        ({"prompt": "질문", "response1": "a", "scores1": "1점", "response2": "b", "scores2": "2"}, "rank '1점'"),
        ({"prompt": "질문", "responses": ["a", 3], "scores": [1, 2]}, "'answer' holds 3"),
        ({"prompt": "질문", "answers": {"text": ["a"]}}, "'answers' holds .*not a list of answers"),
        ({"prompt": "질문", "answers": ["a", "b"]}, "'answers' holds .*not a list of answers"),
        ({"prompt": "질문", "response1": "a", "scores1": 1, "response2": "b", "scores2": None}, "rank None"),
        ({"prompt": "질문", "response1": "a", "scores1": None, "response2": "b", "scores2": 1}, "rank None"),
        ({"prompt": "질문", "responses": ["a", "b"], "scores": [1, True]}, "rank True"),
        ({"prompt": "질문", "responses": ["a", "b"], "scores": [1, []]}, r"rank \[\]"),
    ],
)  # fmt: skip
def test_a_bad_row_is_an_error_with_its_number(row, message):
    with pytest.raises(ValueError, match=rf"Row 1 .*{message}"):
        format_dataset([ULTRAFEEDBACK, row], "rankings")
