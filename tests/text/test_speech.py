import pytest

from trl_kochat.text.speech import speech_end


@pytest.mark.parametrize(
    ("text", "polite"),
    [
        ("좋아요", True),
        ("맞습니다.", True),
        ("뭐라고 할까요?!", True),
        ("그렇죠~", True),
        ("네, 3.14예요. (웃음) ㅎㅎ", False),
        ("좋아.", False),
        ("좋아요. 그런데 왜?", False),
        ("고마워\n안녕히 가세요 😀", True),
        ("", False),
        ("OK", False),
    ],
)
def test_the_level_is_that_of_the_last_sentence(text, polite):
    assert (speech_end(text) == "polite") == polite
