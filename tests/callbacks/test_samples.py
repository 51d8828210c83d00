import json

import pytest
from datasets import Dataset
from peft import LoraConfig
from transformers import BitsAndBytesConfig, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trl_kochat.callbacks import KoreanSamplesCallback, RunReportCallback
from trl_kochat.callbacks.samples import summarize
from trl_kochat.errors import InputError
from trl_kochat.measure.generate import COURSE_PROMPTS
from trl_kochat.report import Sample, read_samples

from ..tiny_lm import tiny_llama
from .training import PAIRS, ROWS, dpo_trainer, ppo_trainer, reward_trainer, sft_trainer


def kept(output_dir) -> list[Sample]:
    return read_samples(output_dir / "report")


def steps(output_dir) -> list[int]:
    return sorted({sample.step for sample in kept(output_dir)})


def count_words(prompts, completions, completion_ids, **columns):
    return [float(len(ids)) for ids in completion_ids]


MAKERS = {
    "sft": sft_trainer,
    "dpo": dpo_trainer,
    "ppo": lambda folder, **settings: ppo_trainer(folder, count_words, **settings),
    "ppo with adapters": lambda folder, **settings: ppo_trainer(
        folder, count_words, peft_config=LoraConfig(r=2, target_modules=["q_proj"]), value_trunk="adapter", **settings
    ),
    "sft with an adapter": lambda folder, **settings: sft_trainer(
        folder, peft_config=LoraConfig(r=2, target_modules=["q_proj"]), **settings
    ),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_the_same_prompts_are_answered_before_during_and_after(tmp_path, capsys, maker):
    callback = KoreanSamplesCallback(every=2, max_new_tokens=4)
    trainer = MAKERS[maker](tmp_path, max_steps=3, callbacks=[callback])
    trainer.train()
    assert steps(tmp_path) == [0, 2, 3]
    for step in (0, 2, 3):
        assert [s.prompt for s in kept(tmp_path) if s.step == step] == list(COURSE_PROMPTS)
    assert all(1 <= s.tokens <= 4 and s.ended is not None and s.repetition is not None for s in kept(tmp_path))
    (first, *_, last) = [e for e in trainer.state.log_history if "samples/eos_rate" in e]
    assert (first["step"], last["step"]) == (0, 3) and 0 <= last["samples/latin"] <= 1
    printed = capsys.readouterr().out
    assert printed.count("Samples, step") == 3 and "오늘 미세먼지 어때?" in printed


def test_answers_of_a_quantized_model_with_an_adapter(tmp_path):
    model = tiny_llama(hidden_size=64)
    model.save_pretrained(tmp_path / "base")
    report = RunReportCallback(recipe="r", method="sft", preset="cpu", model="m", rows={}, evaluate=lambda model: {})
    trainer = sft_trainer(
        tmp_path,
        model=str(tmp_path / "base"),
        quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
        peft_config=LoraConfig(r=2, target_modules="all-linear"),
        max_steps=2,
        callbacks=[KoreanSamplesCallback(max_new_tokens=4), report],
    )
    trainer.train()
    assert trainer.model.is_loaded_in_4bit
    assert steps(tmp_path) == [0, 1, 2]
    assert report.record.run["settings"]["lora"]["r"] == 2


def test_training_goes_on_as_if_nobody_had_asked(tmp_path):
    losses = []
    for name in ("without", "with"):
        callback = KoreanSamplesCallback(every=1, max_new_tokens=3, do_sample=True)
        callbacks = [callback] if name == "with" else []
        trainer = sft_trainer(tmp_path / name, max_steps=4, dropout=0.1, callbacks=callbacks)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == losses[1]


def test_a_quarter_of_the_run_lies_between_two_rounds(tmp_path):
    sft_trainer(tmp_path, max_steps=8, callbacks=[KoreanSamplesCallback(max_new_tokens=2)]).train()
    assert steps(tmp_path) == [0, 2, 4, 6, 8]


def test_a_run_that_is_stopped_is_asked_once_more(tmp_path):
    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 3

    sft_trainer(tmp_path, max_steps=8, callbacks=[KoreanSamplesCallback(max_new_tokens=2), Stop()]).train()
    assert steps(tmp_path) == [0, 2, 3]


def test_a_resumed_run_answers_what_lies_after_its_checkpoint_again(tmp_path):
    first = KoreanSamplesCallback(every=1, max_new_tokens=2)
    sft_trainer(tmp_path, max_steps=4, save_steps=2, callbacks=[first]).train()
    second = KoreanSamplesCallback(every=1, max_new_tokens=2)
    trainer = sft_trainer(tmp_path, max_steps=4, callbacks=[second])
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert [s.step for s in kept(tmp_path) if s.prompt == COURSE_PROMPTS[0]] == [0, 1, 2, 3, 4]
    assert [e["step"] for e in trainer.state.log_history if "samples/eos_rate" in e] == [0, 1, 2, 3, 4]


def test_a_new_run_replaces_the_answers_of_an_old_one(tmp_path):
    for _ in range(2):
        sft_trainer(tmp_path, max_steps=1, callbacks=[KoreanSamplesCallback(max_new_tokens=2)]).train()
    assert len(kept(tmp_path)) == 2 * len(COURSE_PROMPTS)


@pytest.mark.parametrize("form", ["strings", "messages", "rows", "dataset", "file"])
def test_prompts_in_every_form(tmp_path, form):
    text = [row["prompt"] for row in ROWS[:2]]
    messages = [[{"role": "user", "content": prompt}] for prompt in text]
    file = tmp_path / "prompts.json"
    file.write_text("\ufeff" + json.dumps(ROWS[:2], ensure_ascii=False), encoding="utf-8")
    given = {
        "strings": text,
        "messages": messages,
        "rows": ROWS[:2],
        "dataset": Dataset.from_list([{"prompt": prompt} for prompt in messages]),
        "file": file,
    }[form]
    sft_trainer(tmp_path / "out", max_steps=1, callbacks=[KoreanSamplesCallback(given, max_new_tokens=2)]).train()
    assert [s.prompt for s in kept(tmp_path / "out") if s.step == 0] in (text, messages)


def test_a_reward_model_scores_rows_and_generates_nothing(tmp_path, capsys):
    callback = KoreanSamplesCallback(PAIRS[:2], every=10)
    trainer = reward_trainer(tmp_path, max_steps=4, callbacks=[callback])
    trainer.train()
    found = kept(tmp_path)
    assert [(s.step, s.side, s.answer) for s in found[:2]] == [
        (0, "chosen", PAIRS[0]["chosen"]),
        (0, "rejected", PAIRS[0]["rejected"]),
    ]
    assert len(found) == 2 * 4 and all(s.score is not None and s.tokens is None for s in found)
    gaps = [
        sum(s.score * (1 if s.side == "chosen" else -1) for s in found if s.step == step) for step in (0, 4)
    ]  # what it was trained to widen
    assert gaps[1] > gaps[0]
    entry = [e for e in trainer.state.log_history if "samples/score_chosen" in e][-1]
    assert entry["samples/score_chosen"] - entry["samples/score_rejected"] == pytest.approx(gaps[1] / 2)
    assert "samples/repetition" not in entry
    assert "[chosen]" in capsys.readouterr().out


def test_answers_that_pairs_of_a_ranking_share_are_shown_once(tmp_path):
    best, middle, worst = "좋은 답이에요.", "그저 그래요.", "몰라."
    pairs = [
        {"prompt": "질문", "chosen": a, "rejected": b} for a, b in [(best, middle), (best, worst), (middle, worst)]
    ]
    reward_trainer(tmp_path, max_steps=1, callbacks=[KoreanSamplesCallback(pairs, every=10)]).train()
    shown = [(s.side, s.answer) for s in kept(tmp_path) if s.step == 0]
    assert sorted(shown) == sorted([("chosen", best), ("chosen", middle), ("rejected", middle), ("rejected", worst)])


def test_a_reward_model_without_answers_to_score_says_what_to_give_and_trains(tmp_path, caplog):
    trainer = reward_trainer(tmp_path, max_steps=1, callbacks=[KoreanSamplesCallback()])
    trainer.train()
    assert trainer.state.global_step == 1
    assert caplog.text.count("'chosen' and 'rejected'") == 1  # of two rounds


def test_answers_of_ppo_carry_their_score(tmp_path):
    callback = KoreanSamplesCallback(max_new_tokens=4, score=lambda prompts, answers: [len(a) for a in answers])
    trainer = ppo_trainer(tmp_path, count_words, max_steps=1, callbacks=[callback])
    trainer.train()
    assert all(sample.score == len(sample.answer) for sample in kept(tmp_path))
    assert all("samples/score" in e for e in trainer.state.log_history if "samples/eos_rate" in e)


def test_an_answer_may_have_no_score(tmp_path):
    callback = KoreanSamplesCallback(max_new_tokens=4, score=lambda prompts, answers: [None, 1.0, None, 3.0])
    trainer = sft_trainer(tmp_path, max_steps=1, callbacks=[callback])
    trainer.train()
    assert [sample.score for sample in kept(tmp_path)] == 2 * [None, 1.0, None, 3.0]
    assert [e["samples/score"] for e in trainer.state.log_history if "samples/score" in e] == [2.0, 2.0]


def test_a_tokenizer_that_emits_token_type_ids(tmp_path):
    callback = KoreanSamplesCallback(max_new_tokens=4)
    trainer = sft_trainer(tmp_path, max_steps=1, callbacks=[callback])
    trainer.processing_class.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    trainer.train()
    assert steps(tmp_path) == [0, 1]


def test_answers_are_in_the_run_report(tmp_path):
    report = RunReportCallback(recipe="r", method="sft", preset="cpu", model="m", rows={})
    callbacks = [report, KoreanSamplesCallback(max_new_tokens=4)]  # the report first: order does not matter
    with report:
        sft_trainer(tmp_path, max_steps=2, callbacks=callbacks).train()
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert all(prompt in page for prompt in COURSE_PROMPTS)
    assert (tmp_path / "report" / "answers_health.png").exists()


@pytest.mark.parametrize(
    ("prompts", "complaint"),
    [
        ([], "0 prompts"),
        (["가"] * 65, "65 prompts .* 1 to 64"),
        ([{"question": "가"}], "Row 0 .* 'prompt'; it has question"),
        (["가", ""], "Row 1"),
        ("no_such_file.json", "no file"),
    ],
)
def test_prompts_that_cannot_be_asked_are_refused(prompts, complaint):
    with pytest.raises(ValueError, match=complaint):
        KoreanSamplesCallback(prompts)


def test_a_step_that_never_comes_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        KoreanSamplesCallback(every=0)


def test_means_are_over_what_was_measured():
    round_ = [
        Sample(0, "p", "a", ended=True, tokens=4, repetition=0.5, hanja=0.0, latin=0.0, score=1.0),
        Sample(0, "p", "b", ended=False, tokens=8, repetition=0.0, hanja=0.5, latin=0.0, score=2.0),
    ]
    assert summarize(round_) == {
        "samples/repetition": 0.25,
        "samples/hanja": 0.25,
        "samples/latin": 0.0,
        "samples/eos_rate": 0.5,
        "samples/mean_length": 6.0,
        "samples/score": 1.5,
    }


def test_the_terminal_has_short_rounds_and_none_of_them_twice(tmp_path, capsys):
    callback = KoreanSamplesCallback([f"{n}번 질문" for n in range(9)], every=1, max_new_tokens=60)
    sft_trainer(tmp_path, max_steps=3, learning_rate=0.0, callbacks=[callback]).train()
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("{")]
    assert sum("질문" in line for line in lines) == 4 and len(lines) < 16
    assert [line for line in lines if line.endswith("the same answers as before")] == [
        f"Samples, step {step}: the same answers as before" for step in (1, 2, 3)
    ]
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize(("steps_of_run", "rounds"), [(110, [28, 55, 82, 110]), (3, [1, 2, 3]), (9, [2, 4, 7, 9])])
def test_no_round_comes_right_before_the_last(steps_of_run, rounds):
    callback, state, control = KoreanSamplesCallback(), TrainerState(max_steps=steps_of_run), TrainerControl()
    asked = []
    callback._round = lambda args, state, **kwargs: asked.append(state.global_step)
    args = TrainingArguments("unused", report_to="none")
    state.is_world_process_zero = False
    callback.on_train_begin(args, state, control)
    for state.global_step in range(1, steps_of_run + 1):
        callback.on_step_end(args, state, control)
    assert asked == [0, *rounds]


def test_answers_are_kept_where_their_score_cannot_be_had(tmp_path):
    def score(prompts, answers):
        raise InputError("relevance needs a column 'reference'")

    callback = KoreanSamplesCallback(max_new_tokens=4, score=score)
    trainer = sft_trainer(tmp_path, max_steps=1, callbacks=[callback])
    trainer.train()
    assert all(sample.score is None for sample in kept(tmp_path)) and kept(tmp_path)
    (said,) = {entry["health/message"] for entry in trainer.state.log_history if "health/code" in entry}
    assert said.startswith("Scoring the samples failed, and training goes on: relevance needs a column")
