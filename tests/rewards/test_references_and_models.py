"""Rewards that need more than the text: a reference, ids, a reward model; and rewards of rewards."""

import shutil

import pytest
from transformers import AutoTokenizer

from trl_kochat.encode import end_token_ids
from trl_kochat.errors import InputError
from trl_kochat.measure.score import load_reward_model, score_completions
from trl_kochat.rewards import combine, ends, gate, keyword, length, relevance, reward_model, right
from trl_kochat.sample import embedded
from trl_kochat.tokenizer import load_tokenizer, save_portable


def test_an_answer_to_its_own_question_gets_more_than_one_to_another():
    references = ["불고기용 한우예요.", "오헤어 공항은 시카고에 있어요.", None]
    reward = relevance()
    own = reward(["?"] * 3, ["네, 불고기용 한우예요.", "시카고에 있어요.", "네."], None, reference=references)
    swapped = reward(["?"] * 3, ["시카고에 있어요.", "불고기용 한우예요.", "네."], None, reference=references)
    assert own[0] > 0.5 and own[1] > 0.3 and own[2] is None
    assert swapped[0] < 0 and swapped[1] < 0
    assert abs(reward(["?"] * 3, ["글쎄요."] * 3, None, reference=references)[0]) < 0.2


def test_relevance_without_its_column_says_so():
    with pytest.raises(InputError, match="'answer'"):
        relevance("answer")(["?"], ["네."], None)


def test_the_fact_that_was_asked_for_is_rewarded_and_no_other():
    world = {
        "facts": {
            "color/눈": {"relation": "color", "subject": "눈", "accepted": ["하얀색"], "near": [], "numeric": False}
        },
        "values": {"color": ["하얀색", "파란색"]},
    }
    answers = ["눈은 하얀색이에요.", "눈은 파란색이에요.", "몰라요.", "하얀색이나 파란색이에요.", "안녕하세요."]
    facts = ["color/눈"] * 4 + [""]
    assert right(world)(["?"] * 5, answers, None, fact=facts) == [1.0, 0.0, 0.0, 0.0, None]


def test_right_without_facts_says_once_that_it_says_nothing(caplog):
    reward = right()
    assert [reward(["?"], ["네."], None) for _ in range(2)] == [[None]] * 2
    assert caplog.text.count("no column 'fact'") == 1


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(embedded("tiny-ko"))


def test_an_answer_ends_with_a_token_and_with_a_sentence(tokenizer):
    end = end_token_ids(tokenizer)[0]
    reward = ends(tokenizer)
    texts = ["좋아요.", "좋아요.", "좋아", "좋아"]
    assert reward(["?"] * 4, texts, [[5, end], [5, 6], [5, end], [5]]) == [1.0, 0.5, 0.5, 0.0]
    assert reward(["?"] * 2, ["좋아요.", "좋아"]) == [1.0, 0.0]


def test_tokens_are_counted_by_their_ids():
    assert length(1, 2, "tokens")(["?"] * 2, ["좋아요."] * 2, [[5, 6], [5] * 4]) == [1.0, 0.0]


def test_a_reward_model_scores_as_score_completions_does(tokenizer):
    model = load_reward_model(embedded("tiny-ko-reward"))
    prompts = [[{"role": "user", "content": "오늘 미세먼지 어때?"}]] * 2
    answers = [[{"role": "assistant", "content": text}] for text in ("좋아요.", "똥멍청이")]
    expected = score_completions(model, tokenizer, prompts, answers)
    assert reward_model("tiny-ko-reward")(prompts, answers, None) == pytest.approx(expected, abs=1e-5)
    cut = reward_model("tiny-ko-reward", tokenizer)(prompts, answers, [[5, 6], [5, 6]])
    assert cut == pytest.approx(score_completions(model, tokenizer, prompts, answers, ended=[False] * 2), abs=1e-5)


def test_a_reward_adapter_reads_with_the_tokenizer_that_was_saved_beside_it(tmp_path):
    """It took that of the base, whose chat template may be another one than the adapter was trained with."""
    shutil.copytree(embedded("tiny-ko-reward"), tmp_path, dirs_exist_ok=True)
    own = load_tokenizer("tiny-ko", chat_template="koalpaca")
    save_portable(own, tmp_path)
    prompts, answers = ["오늘 미세먼지 어때?"] * 2, ["좋아요.", "똥멍청이"]
    expected = score_completions(load_reward_model(tmp_path), own, prompts, answers)
    assert reward_model(tmp_path)(prompts, answers, None) == pytest.approx(expected, abs=1e-5)
    assert reward_model("tiny-ko-reward")(prompts, answers, None) != pytest.approx(expected, abs=1e-2)


def nothing(prompts, completions, completion_ids=None, **columns):
    return [None] * len(completions)


def test_a_sum_of_rewards_leaves_out_what_says_nothing():
    logged = {}
    reward = combine({keyword("한우"): 2.0, length(1, 10): 0.5, nothing: 9.0})
    assert reward(["?"] * 2, ["한우예요.", "네."], None, log_metric=logged.__setitem__) == [2.5, 0.5]
    assert logged == {"keyword": 0.5, "length": 1.0}
    assert combine({nothing: 1.0})(["?"], ["네."], None) == [None]


def test_a_gate_lets_a_reward_through_where_its_condition_is_met():
    reward = gate(ends(), keyword("한우"))
    assert reward(["?"] * 3, ["한우예요.", "한우", "네."], None) == [1.0, 0.0, 0.0]
    assert gate(nothing, keyword("한우"))(["?"], ["한우"], None) == [1.0]
    assert reward.__name__ == "keyword"
