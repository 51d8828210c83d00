import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.inputs import whole_texts
from trl_kochat.data.health.leaks import check_leaks


WORDS = "서울 부산 날씨 기차 버스 점심 저녁 회사 학교 공원 영화 음악 여행 바다 산 친구 가족 강아지 고양이 커피 시간".split()


def prompts(number, seed=0):
    """Questions of six to ten words in any order: no two of them are near."""
    rng = random.Random(seed)
    return [
        " ".join(f"{rng.choice(WORDS)}{rng.choice(('은', '가', '에서', '와'))}" for _ in range(rng.randint(6, 10)))
        for _ in range(number)
    ]


def rows(texts, **columns):
    return [{"prompt": [{"role": "user", "content": text}], **columns} for text in texts]


def leak(train, held_out):
    return next(check_leaks(train, held_out), None)


def test_different_prompts_are_no_leak():
    texts = prompts(1_200)
    assert leak(rows(texts[:1_000]), rows(texts[1_000:])) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text.replace(" ", ""),
        lambda text: f"{text}?!",
        lambda text: text[:10] + "을" + text[10:],
        lambda text: text[:-1] + "요",
        lambda text: f"음 {text}",
    ],
)
def test_a_prompt_that_training_sees_a_little_otherwise_is_found(change):
    texts = prompts(500)
    held_out = texts[400:]
    train = texts[:400] + [change(text) for text in held_out[:20]]
    finding = leak(rows(train), rows(held_out))
    assert finding.severity == "warning"
    assert 18 <= finding.measured["rows"] <= 20 and finding.measured["prompts"] == 100
    assert all(pair["row"] == 400 + pair["held_out"] for pair in finding.measured["pairs"])


def test_numbers_of_the_same_figures_are_not_the_same():
    finding = leak(rows(["111번 손님"]), rows(["11번 손님", "11번  손님!"]))
    assert (finding.measured["rows"], finding.measured["same"]) == (1, 0)


def test_few_of_many_are_a_remark():
    texts = prompts(500)
    finding = leak(rows(texts[:400] + texts[400:402]), rows(texts[400:]))
    assert (
        finding.severity == "info" and finding.measured["same"] == 2 and "2 of 100 held-out prompts" in finding.message
    )


def test_rows_that_say_what_is_held_out_are_told_as_a_fact():
    texts = prompts(100)
    finding = leak(rows(texts), rows(texts[:50], held_out="asked_otherwise"))
    assert finding.severity == "info" and "say themselves" in finding.message


def test_thousands_alike_are_compared_a_few_times_each():
    train = [f"{i}번 손님께 오늘의 추천 요리를 공손하게 말해 주세요" for i in range(3_000)]
    held_out = [f"{i}번 손님께 오늘의 추천 요리를 공손하게 말해 주세요" for i in range(3_000, 3_300)]
    assert leak(rows(train), rows(held_out)).measured["rows"] >= 290


def test_rows_without_prompts_leak_nothing():
    assert leak([{"text": "이야기"}], [{"text": "이야기"}]) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(whole_texts, min_size=1, max_size=8), st.lists(whole_texts, min_size=1, max_size=8))
def test_what_is_the_same_is_always_found(train, held_out):
    finding = leak(rows(train), rows([*held_out, train[0]]))
    assert finding is not None and finding.measured["same"] >= 1
    assert finding.measured["rows"] <= finding.measured["prompts"]
