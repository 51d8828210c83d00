import pytest

from trl_kochat.rewards import speech_level
from trl_kochat.rewards.speech_level import asked_level


@pytest.mark.parametrize(
    ("system", "user", "level"),
    [
        ("반말로 답해 줘.", "오늘 날씨 어때요?", "반말"),
        ("친한 친구에게 말하듯이 반말로 답하세요.", "날씨는?", "반말"),
        ("공손한 말투로 답하세요.", "날씨는?", "존댓말"),
        ("존댓말을 써 주세요.", "날씨는?", "존댓말"),
        ("존댓말로 답하세요.", "반말로 답해 줘.", "반말"),  # the last one who asks
        ("당신은 친절한 도우미입니다.", "해요체로 설명해 줘", "해요체"),
        ("반말 말고 존댓말로 답하세요.", "날씨는?", "존댓말"),
        ("반말로 말고 합쇼체로 답하세요.", "날씨는?", "합쇼체"),
        ("짧게 답하세요.", "반말이 뭐야?", None),
    ],
)
def test_the_level_that_a_prompt_asks_for(system, user, level):
    assert asked_level([{"role": "system", "content": system}, {"role": "user", "content": user}]) == level


def test_a_prompt_that_asks_for_no_level_gives_no_reward():
    reward = speech_level()
    prompts = ["반말로 답해 줘. 날씨는?", "존댓말로 답해 줘. 날씨는?", "날씨는?"]
    assert reward(prompts, ["맑아."] * 3, None) == [1.0, 0.0, None]


def test_existing_names_hold_two_levels():
    answers = ["갑니다.", "가요.", "나도 갈게.", "간다."]
    assert speech_level("존댓말")(["?"] * 4, answers, None) == [1, 1, 0, 0]
    assert speech_level("반말")(["?"] * 4, answers, None) == [0, 0, 1, 1]


def test_an_answer_of_fragments_earns_nothing():
    assert speech_level("해요체")(["?"], ["- 물\n- 소금"], None) == [0.0]
