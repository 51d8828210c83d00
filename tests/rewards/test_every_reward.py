"""What holds of every reward: the order of clear cases, the range, Unicode form, any text, both row types."""

import math
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_kochat import rewards
from trl_kochat.errors import InputError

from ..fuzz.inputs import texts
from .cases import ORDERED


every_reward = pytest.mark.parametrize(("reward", "ordered"), ORDERED.values(), ids=ORDERED.keys())


def scores(reward, completions, **columns):
    ids = [[0] * len(text) for text in completions]
    return reward(prompts=["?"] * len(completions), completions=completions, completion_ids=ids, **columns)


@every_reward
def test_better_texts_get_more(reward, ordered):
    found = scores(reward, ordered)
    assert all(worse < better for worse, better in zip(found, found[1:], strict=False)), found
    assert found[-1] > 0.8


@every_reward
def test_conversations_get_what_their_text_gets(reward, ordered):
    messages = [[{"role": "assistant", "content": text}] for text in ordered]
    assert reward([[{"role": "user", "content": "?"}]] * len(ordered), messages, None) == scores(reward, ordered)


@every_reward
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(some=st.lists(texts, min_size=1, max_size=3))
def test_any_text_gets_a_share_by_itself_and_in_any_form(reward, ordered, some):
    found = scores(reward, some)
    assert all(0 <= score <= 1 for score in found)
    assert [scores(reward, [text])[0] for text in some] == found
    assert scores(reward, [unicodedata.normalize("NFD", text) for text in some]) == found


@every_reward
def test_what_a_trainer_passes_besides_is_no_matter(reward, ordered):
    columns = {"trainer_state": None, "log_metric": print, "log_extra": print, "source": ["가"] * len(ordered)}
    assert scores(reward, ordered, **columns) == scores(reward, ordered)


@pytest.mark.parametrize("name", ["speech_level", "fluency", "spacing", "particles"])
def test_those_that_need_the_analyser_say_so_when_they_are_made(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "kiwipiepy", None)
    with pytest.raises(InputError, match="kiwipiepy is not installed"):
        rewards.get_reward(name)


@pytest.mark.parametrize(
    "make",
    [
        lambda: rewards.speech_level("하오체"),
        lambda: rewards.length(5, 4),
        lambda: rewards.length(1, 2, "syllables"),
        lambda: rewards.format("0"),
        lambda: rewards.format(0),
        lambda: rewards.fluency(worst=-2.0, best=-2.0),
        lambda: rewards.fluency(worst=math.nan),
        lambda: rewards.format("(가"),
        lambda: rewards.keyword(),
        lambda: rewards.keyword("가", ""),
        lambda: rewards.korean_script(latin=2.0),
        lambda: rewards.combine({}),
        lambda: rewards.combine([rewards.no_repetition()]),
        lambda: rewards.combine({"no_repetition": 1.0}),
        lambda: rewards.keyword(["가", "나"]),
    ],
)
def test_options_that_mean_nothing_are_refused(make):
    with pytest.raises(InputError):
        make()
