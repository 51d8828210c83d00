"""The measures of a run are those of TRL's own evaluation on the same rows, and mean what the report says."""

from itertools import pairwise

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from tests.scripted_lm import scripted_llama
from tests.tiny_lm import tiny_gpt2, tiny_llama, tiny_reward_model, tiny_tokenizer
from trl_kochat import measure
from trl_kochat.encode import tokenize_rows
from trl_kochat.errors import InputError
from trl_kochat.measure.answers import evaluate_answers
from trl_kochat.measure.evaluate import evaluate_dpo, evaluate_reward, evaluate_sft, own_answer
from trl_kochat.measure.preferences import evaluate_preferences, wins
from trl_kochat.measure.right import embedded_world
from trl_kochat.ppo import PPOConfig, PPOTrainer


TEXTS = [
    ("오늘 미세먼지 어때?", "오늘은 맑아요.", "몰라"),
    ("파이썬이 뭐야?", "배우기 쉬운 언어입니다.", "hello"),
    ("불고기용 고기 한우에요?", "네, 한우입니다.", "네"),
]
EOS = 0


def turn(role, text):
    return [{"role": role, "content": text}]


def asked(*questions):
    return [{"prompt": turn("user", question)} for question in questions]


def pairs(margins=(1.0, 2.0, 1.0)):
    return Dataset.from_list(
        [
            {"prompt": turn("user", p), "chosen": turn("assistant", c), "rejected": turn("assistant", r), "margin": m}
            for (p, c, r), m in zip(TEXTS, margins, strict=True)
        ]
    )


@pytest.fixture
def tokenizer():
    return tiny_tokenizer()


def adapted(seed=5, **kwargs):
    torch.manual_seed(seed)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **kwargs)
    return get_peft_model(tiny_llama(seed=3), config)


def settings(config, folder, *, max_length=None, **kwargs):
    # All rows in one batch, whose mean is then that of the rows.
    return config(
        str(folder),
        per_device_eval_batch_size=8,
        report_to="none",
        use_cpu=True,
        bf16=False,
        max_length=max_length,
        **kwargs,
    )


def test_a_policy_equal_to_its_reference_has_accuracy_one_half(tokenizer):
    measured = evaluate_dpo(adapted(), tokenizer, pairs(), beta=0.1)  # LoRA starts as nothing
    assert measured["accuracy"] == 0.5 and measured["margin"] == 0
    assert measured["chosen_rewards"] == measured["rejected_rewards"] == [0, 0, 0]


def test_dpo_measures_are_those_of_the_trainer(tokenizer, tmp_path):
    trainer = DPOTrainer(
        adapted(),  # the reference is the adapter as it is now
        args=settings(DPOConfig, tmp_path, beta=0.2),
        train_dataset=pairs(),
        eval_dataset=pairs(),
        processing_class=tokenizer,
    )
    for name, parameter in trainer.model.named_parameters():
        if "lora_B.default" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    logged = trainer.evaluate()
    measured = evaluate_dpo(trainer.model, tokenizer, pairs(), beta=0.2)
    assert measured["margin"] != 0
    assert measured["accuracy"] == pytest.approx(logged["eval_rewards/accuracies"])  # there is no tie
    assert measured["margin"] == pytest.approx(logged["eval_rewards/margins"], abs=1e-4)
    assert measured["logps_chosen"] == pytest.approx(logged["eval_logps/chosen"], rel=1e-5)


def test_preferred_is_by_token_and_not_by_length(tokenizer):
    """The end is very unlikely here, which weighs less in a long answer, though its sum is the smaller one."""
    lora = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(tiny_llama(eos_logit=-60.0), lora)
    long, short = turn("assistant", "a quick brown fox jumps over the lazy dog " * 3), turn("assistant", "a")
    row = {"prompt": turn("user", "hello?"), "chosen": long, "rejected": short}
    measured = evaluate_dpo(model, tokenizer, [row], beta=0.1)
    swapped = evaluate_dpo(model, tokenizer, [{**row, "chosen": short, "rejected": long}], beta=0.1)
    assert measured["logps_chosen"] < swapped["logps_chosen"]
    assert (measured["preferred"], swapped["preferred"]) == (1, 0)


def test_a_whole_model_needs_its_reference(tokenizer):
    with pytest.raises(ValueError, match="pass ref_model"):
        evaluate_dpo(tiny_llama(), tokenizer, pairs(), beta=0.1)
    measured = evaluate_dpo(tiny_llama(), tokenizer, pairs(), beta=0.1, ref_model=tiny_llama())
    assert measured["accuracy"] == 0.5


def test_sft_loss_is_the_mean_over_answer_tokens_that_the_trainer_takes(tokenizer, tmp_path):
    rows = pairs().remove_columns(["rejected", "margin"]).rename_column("chosen", "completion")
    model = tiny_llama()
    # The line break that this template writes after EOS is trained, and is no part of the answer.
    tokenizer.chat_template = tokenizer.chat_template.replace("{{ eos_token }}\n", "{{ eos_token }}")
    measured = evaluate_sft(model, tokenizer, rows)
    trainer = SFTTrainer(
        model,
        args=settings(SFTConfig, tmp_path),
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=tokenizer,
    )
    assert measured["eval_loss"] == pytest.approx(trainer.evaluate()["eval_loss"], rel=1e-4)


def test_reward_measures_are_those_of_the_trainer(tokenizer, tmp_path):
    model = tiny_reward_model()
    measured = evaluate_reward(model, tokenizer, pairs())
    trainer = RewardTrainer(
        model,
        args=settings(RewardConfig, tmp_path),
        train_dataset=pairs(),
        eval_dataset=pairs(),
        processing_class=tokenizer,
    )
    logged = trainer.evaluate()
    assert measured["accuracy"] == pytest.approx(logged["eval_accuracy"])
    assert measured["margin"] == pytest.approx(logged["eval_margin"], abs=1e-4)


def test_accuracy_by_rank_distance_is_of_the_pairs_at_that_distance(tokenizer):
    model = tiny_reward_model()
    measured = evaluate_reward(model, tokenizer, pairs(margins=(1.0, 2.0, 1.0)))
    scores = list(zip(measured["chosen_scores"], measured["rejected_scores"], strict=True))
    by_text = [evaluate_reward(model, tokenizer, [row])["accuracy"] for row in pairs()]
    assert measured["accuracy_rank_distance_1"] == pytest.approx((by_text[0] + by_text[2]) / 2)
    assert measured["accuracy_rank_distance_2"] == by_text[1]
    assert len(scores) == 3 and "accuracy_rank_distance_0" not in measured
    without = evaluate_reward(model, tokenizer, pairs().remove_columns("margin"))
    assert not any(name.startswith(("accuracy_rank", "accuracy_kind")) for name in without)


@pytest.mark.parametrize("kl_coef", [0.05, 0.0])
@pytest.mark.parametrize("reward", [1.0, None])
def test_what_ppo_did_not_measure_is_left_out(tokenizer, tmp_path, kl_coef, reward):
    prompts = Dataset.from_list([{"prompt": turn("user", prompt)} for prompt, *_ in TEXTS])
    args = PPOConfig(
        str(tmp_path),
        per_device_train_batch_size=2,
        max_completion_length=4,
        kl_coef=kl_coef,
        value_trunk="policy",
        report_to="none",
        use_cpu=True,
    )
    trainer = PPOTrainer(
        tiny_llama(), lambda prompts, **kwargs: [reward] * len(prompts), args, prompts, prompts, tokenizer
    )
    measured = measure.policy(trainer)(trainer.model.policy)
    assert measured.keys() >= {"eos_rate", "mean_length", "repetition", "hanja", "latin"}
    assert ("kl" in measured) == (kl_coef > 0)  # without it there is no reference
    assert ("reward" in measured) == ("reward_std" in measured) == (reward is not None)
    assert measured["n"] == len(measured["distinct_by_row"]) == 3
    assert len(measured.get("reward_by_row", [0] * 3)) == len(measured.get("kl_by_row", [0] * 3)) == 3


def test_equal_answers_are_ties_and_count_half(tokenizer):
    rows = pairs().remove_columns("rejected")
    rows = rows.add_column("rejected", rows["chosen"][:])
    assert evaluate_reward(tiny_reward_model(), tokenizer, rows)["accuracy"] == 0.5


def test_every_pair_that_is_won_counts():
    shares = [sum(wins([1, 1, 1], [0] * won + [2] * (3 - won))) for won in range(4)]
    assert shares[0] == 0 and shares[-1] == 3 and all(a < b for a, b in pairwise(shares))


def test_answers_that_end_and_those_that_length_cuts(tokenizer):
    said = [tokenizer("네, 한우입니다.")["input_ids"], tokenizer("hello ")["input_ids"]]
    model = scripted_llama([[*said[0], EOS], said[1]])
    measured = evaluate_answers(model, tokenizer, asked("가?", "나?"), max_new_tokens=30)
    assert measured["eos_rate"] == 0.5
    assert measured["mean_length"] == (len(said[0]) + 1 + 30) / 2
    assert measured["latin"] > 0 and measured["hanja"] == 0


# What training leaves out or cuts, measuring leaves out or cuts; and nothing takes longer than the cap.


LONG = "a quick brown fox jumps over the lazy dog " * 40  # more than the model's 256 positions


def long_pairs():
    short = pairs().remove_columns("margin").to_list()
    too_long = {"prompt": turn("user", LONG), "chosen": turn("assistant", "네"), "rejected": turn("assistant", "몰라")}
    long_answer = {
        "prompt": turn("user", "가"),
        "chosen": turn("assistant", LONG),
        "rejected": turn("assistant", "몰라"),
    }
    return [*short, too_long, long_answer]


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_a_long_row_is_left_out_or_cut_as_in_training_and_counted(tokenizer, make, tmp_path):
    rows = long_pairs()
    completions = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows]
    model = make()
    measured = evaluate_sft(model, tokenizer, completions, max_length=128)
    assert (measured["n"], measured["left_out"], measured["cut"]) == (4, 1, 1)
    trainer = SFTTrainer(
        model,
        args=settings(SFTConfig, tmp_path, max_length=128),
        train_dataset=Dataset.from_list(completions),
        eval_dataset=Dataset.from_list(completions),
        processing_class=tokenizer,
    )
    assert len(trainer.eval_dataset) == measured["n"]
    assert measured["eval_loss"] == pytest.approx(trainer.evaluate()["eval_loss"], rel=1e-4)
    # Without a max_length the model's own positions are the limit.
    assert evaluate_sft(model, tokenizer, completions)["left_out"] == 1
    assert len(evaluate_answers(model, tokenizer, rows, max_new_tokens=4)["eos_rate_by_row"]) == 4


def test_a_long_pair_is_left_out_by_dpo_and_reward_measures(tokenizer):
    measured = evaluate_dpo(adapted(), tokenizer, long_pairs(), beta=0.1, max_length=128)
    assert (measured["n"], measured["left_out"], measured["cut"]) == (4, 1, 1)
    assert len(measured["chosen_rewards"]) == 4
    measured = evaluate_reward(tiny_reward_model(), tokenizer, long_pairs(), max_length=128)
    assert (measured["n"], measured["left_out"]) == (3, 2) and "cut" not in measured
    assert len(measured["chosen_scores"]) == 3


def test_rows_of_just_the_length_are_measured_whole(tokenizer):
    rows = pairs().to_list()
    longest = max(row.length for row in tokenize_rows(tokenizer, rows))
    assert "left_out" not in evaluate_reward(tiny_reward_model(), tokenizer, rows, max_length=longest)
    assert evaluate_reward(tiny_reward_model(), tokenizer, rows, max_length=longest - 1)["left_out"] == 1
    assert "cut" not in evaluate_dpo(adapted(), tokenizer, rows, beta=0.1, max_length=longest)
    assert evaluate_dpo(adapted(), tokenizer, rows, beta=0.1, max_length=longest - 1)["cut"] == 1


def test_nothing_to_measure_is_a_sentence(tokenizer):
    with pytest.raises(InputError, match="None of 5 held-out rows fits into 2 tokens"):
        evaluate_reward(tiny_reward_model(), tokenizer, long_pairs(), max_length=2)
    assert evaluate_answers(tiny_llama(), tokenizer, asked(LONG)) == {}


def test_rows_beyond_the_cap_are_not_measured_and_the_same_ones_are_each_time(tokenizer, tmp_path):
    rows = pairs().remove_columns(["rejected", "margin"]).rename_column("chosen", "completion")
    model = tiny_llama()
    trainer = SFTTrainer(
        model, args=settings(SFTConfig, tmp_path), train_dataset=rows, eval_dataset=rows, processing_class=tokenizer
    )
    measured = measure.answers(trainer, rows, max_rows=2)(model)
    assert measured["n"] == len(measured["distinct_by_row"]) == 2
    assert measured == measure.answers(trainer, rows, max_rows=2)(model)
    assert measure.answers(trainer, rows)(model)["n"] == 3


# Whether answers depend on the question.


def asked_and_answered(count):
    return [{"prompt": turn("user", f"{n}?"), "completion": turn("assistant", f"{n}" * 3)} for n in range(count)]


@pytest.fixture
def told(tokenizer, monkeypatch):
    """Gives a model the log-probability per token that a function has for a question and an answer."""

    def tell(logp):
        def logps(model, sequences, **kwargs):
            texts = [(tokenizer.decode(ids[:start]), tokenizer.decode(ids[start:])) for ids, start in sequences]
            return [torch.tensor([float(logp(asked, answer))] * 2) for asked, answer in texts]

        monkeypatch.setattr("trl_kochat.measure.held_out.sequence_logps", logps)

    return tell


def test_own_answer_is_chance_where_the_question_does_not_matter_and_one_where_it_does(tokenizer, told):
    rows = asked_and_answered(10)
    told(lambda asked, answer: answer[0] in asked)
    assert own_answer(tiny_llama(), tokenizer, rows, "completion")["own_answer_by_row"] == [1.0] * 10
    assert own_answer(tiny_llama(), tokenizer, rows[:9], "completion") == {}
    told(lambda asked, answer: -1)
    assert own_answer(tiny_llama(), tokenizer, rows, "completion")["own_answer_by_row"] == [pytest.approx(0.1)] * 10


def test_a_stock_phrase_that_is_likely_after_any_question_is_nobodys_own_answer(tokenizer, told):
    told(lambda asked, answer: 5 * (answer[0] == "7") + (answer[0] in asked))
    measured = own_answer(tiny_llama(), tokenizer, asked_and_answered(10), "completion")
    assert measured["own_answer_by_row"] == [1.0] * 10


def test_own_answer_is_asked_in_tens_of_different_prompts_with_different_references(tokenizer, told):
    told(lambda asked, answer: answer[0] in asked)
    rows = asked_and_answered(29)
    assert len(own_answer(tiny_llama(), tokenizer, rows, "completion")["own_answer_by_row"]) == 20
    assert own_answer(tiny_llama(), tokenizer, [*rows[:9], *rows[:9]], "completion") == {}
    same_answer = [{**row, "completion": turn("assistant", "9")} for row in rows]
    assert own_answer(tiny_llama(), tokenizer, same_answer, "completion") == {}


def test_a_prompt_without_room_for_an_answer_takes_no_other_with_it(tokenizer, told):
    told(lambda asked, answer: answer[0] in asked)
    rows = asked_and_answered(10)
    long_one = {"prompt": turn("user", "가" * 500), "completion": turn("assistant", "긴 것")}
    measured = own_answer(tiny_llama(), tokenizer, [long_one, *rows], "completion", max_length=100)
    assert len(measured["own_answer_by_row"]) == 10


def test_own_answer_of_a_model_that_knows_nothing_is_near_chance(tokenizer):
    assert own_answer(tiny_llama(), tokenizer, asked_and_answered(30), "completion")["own_answer"] < 0.4


def test_accuracy_is_told_by_the_kind_of_rejected_answer(tokenizer):
    rows = [{**row, "kind": kind} for row, kind in zip(pairs(), ("evasive", "level", "evasive"), strict=True)]
    measured = evaluate_reward(tiny_reward_model(), tokenizer, rows)
    alone = [evaluate_reward(tiny_reward_model(), tokenizer, [row])["accuracy"] for row in rows]
    assert measured["accuracy_kind_evasive"] == (alone[0] + alone[2]) / 2
    assert measured["accuracy_kind_level"] == alone[1]


# The reference.


def test_another_reference_gives_other_rewards(tokenizer):
    """Also where the policy has adapters that could be switched off."""
    policy = adapted()
    assert evaluate_dpo(policy, tokenizer, pairs(), beta=0.1, ref_model=tiny_llama(seed=9))["margin"] != 0


def test_an_adapter_that_dpo_goes_on_with_is_its_own_reference_at_the_start(tokenizer, tmp_path):
    model = adapted()
    for name, parameter in model.named_parameters():
        if "lora_B.default" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    trainer = DPOTrainer(
        model,
        args=settings(DPOConfig, tmp_path, beta=0.2),
        train_dataset=pairs(),
        eval_dataset=pairs(),
        processing_class=tokenizer,
    )
    trained = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    measured = measure.pairs(trainer, pairs())(trainer.model)
    assert measured["accuracy"] == 0.5 and measured["margin"] == pytest.approx(0, abs=1e-6)
    assert trained == {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    for name, parameter in trainer.model.named_parameters():
        if "lora_B.default" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    logged = trainer.evaluate()
    assert measure.pairs(trainer, pairs())(trainer.model)["margin"] == pytest.approx(
        logged["eval_rewards/margins"], abs=1e-4
    )


# Number formats.


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_a_float32_head_and_adapters_on_a_half_precision_base_are_measured(tokenizer, half):
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
    model = get_peft_model(tiny_llama().to(half), config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    rows = pairs().remove_columns(["rejected", "margin"]).rename_column("chosen", "completion")
    assert evaluate_sft(model, tokenizer, rows)["eval_loss"] == pytest.approx(
        evaluate_sft(tiny_llama(), tokenizer, rows)["eval_loss"], rel=0.05
    )
    assert len(evaluate_answers(model, tokenizer, list(rows), max_new_tokens=4)["distinct_by_row"]) == 3
    scorer = get_peft_model(
        tiny_reward_model().to(half), LoraConfig(r=4, target_modules=["q_proj"], task_type="SEQ_CLS")
    )
    for parameter in scorer.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    assert evaluate_reward(scorer, tokenizer, pairs())["n"] == 3


# Each measure is the mean of its rows.


def test_a_measure_is_the_mean_of_its_rows(tokenizer):
    completions = [{"prompt": turn("user", p), "completion": turn("assistant", c)} for p, c, _ in TEXTS]
    measured = [
        evaluate_sft(tiny_llama(), tokenizer, completions),
        evaluate_dpo(adapted(), tokenizer, pairs(), beta=0.1),
        evaluate_reward(tiny_reward_model(), tokenizer, pairs()),
        evaluate_answers(tiny_llama(), tokenizer, completions, reference="completion", max_new_tokens=8),
    ]
    for one in measured:
        names = [name for name, value in one.items() if isinstance(value, float)]
        assert names and all(f"{name}_by_row" in one for name in names)
        for name in names:
            rows = one[f"{name}_by_row"]
            assert one[name] == pytest.approx(sum(rows) / len(rows), abs=1e-5), name


def test_a_row_of_the_loss_counts_by_its_length(tokenizer):
    """The mean over tokens, of which a long answer has more."""
    short, long = (
        {"prompt": turn("user", "가?"), "completion": turn("assistant", text)} for text in ("네", "a quick brown fox")
    )
    losses = [evaluate_sft(tiny_llama(), tokenizer, [row])["eval_loss"] for row in (short, long)]
    lengths = [tokenize_rows(tokenizer, [row])[0] for row in (short, long)]
    tokens = [row.length - row.completion_start for row in lengths]
    both = evaluate_sft(tiny_llama(), tokenizer, [short, long])
    assert both["eval_loss"] == pytest.approx((losses[0] * tokens[0] + losses[1] * tokens[1]) / sum(tokens), rel=1e-5)


def test_right_is_measured_where_rows_ask_for_a_fact_and_told_by_the_way_they_are_held_out(tokenizer):
    fact, about = next(iter(embedded_world()["facts"].items()))
    said = [tokenizer(text)["input_ids"] for text in (f"{about['accepted'][0]}.", "몰라요.", "네.")]
    ways = [{"fact": fact, "held_out": "new_way"}, {"fact": fact, "held_out": "only_read"}, {"fact": ""}]
    rows = [{**row, **way} for row, way in zip(asked("가?", "나?", "다?"), ways, strict=True)]
    measured = evaluate_answers(scripted_llama([[*ids, EOS] for ids in said]), tokenizer, rows)
    assert measured["right_by_row"] == [1.0, 0.0]
    assert (measured["right"], measured["right_new_way"], measured["right_only_read"]) == (0.5, 1.0, 0.0)
    without = evaluate_answers(scripted_llama([[*said[0], EOS]]), tokenizer, asked("가?"))
    assert not any(name.startswith("right") for name in without)


def test_the_speech_level_is_that_of_the_reference(tokenizer):
    said = [tokenizer(text)["input_ids"] for text in ("네, 한우예요.", "응, 한우야.", "한우입니다")]
    rows = asked("가?", "나?", "다?")
    for row, reference in zip(rows, ("네.", "응.", "맞아요"), strict=True):
        row["completion"] = turn("assistant", reference)
    model = scripted_llama([[*ids, EOS] for ids in said])
    # A single "네." ends in no ending that tells a level; it is taken for 반말.
    assert evaluate_answers(model, tokenizer, rows, reference="completion")["speech_level_by_row"] == [0.0, 1.0, 1.0]
    assert "speech_level" not in evaluate_answers(tiny_llama(), tokenizer, rows, max_new_tokens=2)


def test_preferred_needs_no_reference_and_is_told_by_kind():
    rows = [{**row, "kind": kind} for row, kind in zip(pairs(), ("evasive", "", "evasive"), strict=True)]
    measured = evaluate_preferences(tiny_llama(seed=3), tiny_tokenizer(), rows)
    dpo = evaluate_dpo(adapted(), tiny_tokenizer(), rows, beta=0.1)  # LoRA starts as nothing
    assert measured["preferred_by_row"] == dpo["preferred_by_row"] and measured["n"] == 3
    first, _, third = measured["preferred_by_row"]
    assert measured["preferred_kind_evasive_by_row"] == [first, third]
    assert {name for name in measured if "kind" in name and "by_row" not in name} == {"preferred_kind_evasive"}
