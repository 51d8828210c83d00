import pytest

from trl_kochat.errors import InputError
from trl_kochat.rewards import get_reward, reward_names


def score(name, text):
    return get_reward(name)(prompts=["?"], completions=[text], completion_ids=[[0]])[0]


def test_a_name_with_arguments():
    assert score("speech_level:반말", "갈게.") == 1.0
    assert score("length:1,3,words", "가 나 다 라 마 바") == 0.0
    assert score("length:most=2,least=1", "가나") == 1.0
    assert score("korean_script:latin=0.0", "AI는 좋아요.") == 1.0
    assert score("keyword:한우,123", "한우 123") == 1.0
    assert score(r"format:\d{1,3}=\d", "12=3") == 1.0


def test_a_function_of_a_file(tmp_path):
    (tmp_path / "mine.py").write_text(
        "def short(prompts, completions, **_):\n    return [-len(c) for c in completions]"
    )
    assert score(f"{tmp_path}/mine.py:short", "가나다") == -3


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("politeness", "fluency, format, keyword"),
        ("length", "least"),
        ("length:가,나", "invalid literal"),
        ("no_repetition:3", "no_repetition"),
        ("speech_level:하게체", "해요체"),
    ],
)
def test_what_is_there_is_told(name, said):
    with pytest.raises(InputError, match=said):
        get_reward(name)


def test_all_have_a_row_in_the_docs():
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")
    for name in [*reward_names(), "combine", "gate"]:
        assert f"| `{name}" in page, name
