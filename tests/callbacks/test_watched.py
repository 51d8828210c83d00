"""Held-out questions in the rounds of the samples callback."""

import pytest
from datasets import Dataset

from trl_kochat.callbacks import KoreanSamplesCallback
from trl_kochat.callbacks.watched import SHOWN, WATCHED, how_answers_differ, short_enough, watched_rows
from trl_kochat.measure.generate import COURSE_PROMPTS
from trl_kochat.report import read_samples

from ..tiny_lm import tiny_tokenizer
from .training import ppo_trainer, sft_trainer


def turn(role, text):
    return [{"role": role, "content": text}]


def questions(count, **about):
    return [
        {"prompt": turn("user", f"{n}번?"), "completion": turn("assistant", f"{n}{n}"), **about} for n in range(count)
    ]


WORLD = [
    {"prompt": f"{way} {n}?", "fact": f"color/{n}", "held_out": way}
    for way in ("asked_otherwise", "new_way", "only_read")
    for n in range(30)
]
EVERYDAY = [{"prompt": f"everyday {n}?", "fact": "", "held_out": "everyday"} for n in range(30)]


def test_all_ways_of_holding_out_are_watched_alike_and_known_facts_are_shown():
    rows = watched_rows(Dataset.from_list([*EVERYDAY, *WORLD]))
    assert len(rows) == len({row["prompt"] for row in rows}) == WATCHED
    assert sorted(row["held_out"] for row in rows[:SHOWN]) == sorted(["asked_otherwise", "new_way", "only_read"] * 2)
    assert sum(row["held_out"] == "everyday" for row in rows) == 6
    assert rows == watched_rows(Dataset.from_list([*EVERYDAY, *WORLD]))


def test_rows_that_say_nothing_of_themselves_are_watched_too():
    assert len(watched_rows(Dataset.from_list(questions(50)))) == WATCHED
    assert len(watched_rows(questions(3))) == 3 and watched_rows([]) == []


def test_few_facts_are_filled_up_and_a_prompt_is_watched_once():
    rows = watched_rows([*WORLD[:2], *EVERYDAY, *EVERYDAY])
    assert len(rows) == WATCHED == len({row["prompt"] for row in rows})
    assert len(watched_rows([WORLD[0]] * 9)) == 1


def test_long_prompts_are_left_out():
    tokenizer = tiny_tokenizer()
    rows = [{"prompt": turn("user", text)} for text in ("가", "a quick brown fox " * 80)]
    assert short_enough(tokenizer, rows, None) == short_enough(tokenizer, rows, 1000) == rows[:1]
    assert short_enough(tokenizer, rows, 2) == []


@pytest.mark.parametrize(("answers", "told"), [(7, False), (8, True)])
def test_how_answers_differ_takes_a_number_of_them(answers, told):
    numbers = how_answers_differ(["네."] * (answers - 2) + ["아니요.", "글쎄요."])
    assert numbers == ({"samples/distinct": 3 / 8, "samples/most_common": 6 / 8} if told else {})


def test_watched_questions_are_in_the_means_and_a_few_of_them_are_shown(tmp_path):
    callback = KoreanSamplesCallback(every=2, max_new_tokens=3)
    callback.watch(Dataset.from_list(questions(12)))
    trainer = sft_trainer(tmp_path, max_steps=2, callbacks=[callback])
    trainer.train()
    samples = [sample for sample in read_samples(tmp_path / "report") if sample.step == 2]
    assert [s.prompt for s in samples[:4]] == list(COURSE_PROMPTS) and len(samples) == 4 + SHOWN
    rounds = [entry for entry in trainer.state.log_history if "samples/distinct" in entry]
    assert [entry["step"] for entry in rounds] == [0, 2]
    assert all(0 <= entry["samples/own_answer"] <= 1 for entry in rounds)
    # One answer of 16 at the least.
    assert all(1 / 16 <= entry["samples/most_common"] <= 1 for entry in rounds)


def test_prompts_without_a_reference_have_no_own_answer(tmp_path):
    callback = KoreanSamplesCallback(every=2, max_new_tokens=3, score=lambda prompts, answers: [1.0] * len(prompts))
    callback.watch([{"prompt": turn("user", f"{n}?")} for n in range(12)])
    trainer = ppo_trainer(tmp_path, lambda prompts, **kwargs: [1.0] * len(prompts), max_steps=1, callbacks=[callback])
    trainer.train()
    (first, *_) = [entry for entry in trainer.state.log_history if "samples/distinct" in entry]
    assert "samples/own_answer" not in first and first["samples/score"] == 1.0
