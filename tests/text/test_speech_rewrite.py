"""Endings rewritten where that is certain, and nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_kochat.errors import InputError
from trl_kochat.text.speech_level import speech_levels
from trl_kochat.text.speech_rewrite import in_level


SAID = [
    ("수도는 서울입니다.", "수도는 서울이에요.", "수도는 서울이야."),
    ("이건 커피입니다.", "이건 커피예요.", "이건 커피야."),
    ("물을 마시면 좋습니다. 어제 갔습니다!", "물을 마시면 좋아요. 어제 갔어요!", "물을 마시면 좋아. 어제 갔어!"),
    ("하늘이 파랗습니다.", "하늘이 파래요.", "하늘이 파래."),
    ("도움이 됩니다.", "도움이 돼요.", "도움이 돼."),
    ("학교에 갑니다.\n집에 옵니다.", "학교에 가요.\n집에 와요.", "학교에 가.\n집에 와."),
]


@pytest.mark.parametrize("said", SAID)
def test_a_statement_goes_from_any_level_to_any_other(said):
    for text in said[:2]:
        assert tuple(in_level(text, level) for level in ("합쇼체", "해요체", "해체")) == said


@pytest.mark.parametrize(
    "text",
    [
        "뭐예요?",
        "저는 몰라요.",
        "네, 맞아요.",
        "꽃이 예쁘네요.",
        "어서 오세요.",
        "할머니께서 주무셔요.",
        "서울",
        "Python이에요.",
        "",
    ],
)
def test_what_is_not_certain_is_left(text):
    assert in_level(text, "해체") is None


def test_a_level_that_nothing_is_written_in_is_refused():
    with pytest.raises(InputError, match="'하오체'; there are 합쇼체, 해요체, 해체"):
        in_level("가요.", "하오체")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_left_or_in_the_level_with_its_words(text):
    written = in_level(text, "해요체")
    assert written is None or set(speech_levels(written)) == {"해요체"}
