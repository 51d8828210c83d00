import copy
import json
import logging

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaForSequenceClassification
from trl import RewardConfig, RewardTrainer

from tests.tiny_lm import tiny_gpt2, tiny_llama, tiny_reward_model, tiny_tokenizer
from trl_kochat.measure.score import load_reward_model, score_completions
from trl_kochat.models import load_base


PROMPTS = ["오늘 미세먼지 어때?", "네?", "파이썬이 뭐야?"]
COMPLETIONS = ["오늘은 맑아요.", "네.", "파이썬은 배우기 쉬운 프로그래밍 언어입니다. 처음이시라면 파이썬이 좋아요."]
EOS, PAD = 0, 1


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def model():
    return tiny_reward_model()


def plain(tokenizer):
    copied = copy.deepcopy(tokenizer)
    copied.chat_template = None
    return copied


def turns(prompt, completion):
    return [{"role": "user", "content": prompt}], [{"role": "assistant", "content": completion}]


def lora(model, seed=0, **kwargs):
    torch.manual_seed(seed)
    config = LoraConfig(
        r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, **{"task_type": "SEQ_CLS", **kwargs}
    )
    return get_peft_model(model, config)


# Scores.


def rows_of_reward_trainer(rows, tokenizer, tmp_path) -> list[list[int]]:
    """What `RewardTrainer` makes of preference rows: chosen, then rejected, row by row."""
    trainer = RewardTrainer(
        model=tiny_reward_model(),
        args=RewardConfig(str(tmp_path), report_to=[], use_cpu=True, bf16=False, max_length=None),
        train_dataset=Dataset.from_list(rows),
        processing_class=copy.deepcopy(tokenizer),
    )
    return [ids for row in trainer.train_dataset for ids in (row["chosen_ids"], row["rejected_ids"])]


@pytest.mark.parametrize("conversational", [True, False])
def test_rows_are_those_that_the_reward_trainer_trains_on(conversational, tokenizer, model, tmp_path):
    if not conversational:
        tokenizer = plain(tokenizer)
    pairs = [(prompt, COMPLETIONS[0], COMPLETIONS[2]) for prompt in PROMPTS]
    rows = [{"prompt": prompt, "chosen": chosen, "rejected": rejected} for prompt, chosen, rejected in pairs]
    if conversational:
        rows = [
            {"prompt": turns(p, "")[0], "chosen": turns("", c)[1], "rejected": turns("", r)[1]} for p, c, r in pairs
        ]
    expected = rows_of_reward_trainer(rows, tokenizer, tmp_path)
    seen = []
    hooked = copy.deepcopy(model)
    hooked.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    prompts = [prompt for prompt, _, _ in pairs for _ in range(2)]
    completions = [completion for _, *both in pairs for completion in both]
    score_completions(hooked, tokenizer, prompts, completions, batch_size=1)
    assert sorted(call["input_ids"][0].tolist() for call in seen) == sorted(expected)
    assert all(ids[-1] == EOS or tokenizer.decode(ids).endswith("</s>\n") for ids in expected)


def test_a_completion_that_was_cut_is_scored_at_its_last_token(tokenizer, model):
    done, cut = score_completions(model, tokenizer, PROMPTS[:2], COMPLETIONS[:2], ended=[True, False])
    assert done == pytest.approx(score_completions(model, tokenizer, PROMPTS[:1], COMPLETIONS[:1])[0], abs=1e-5)
    messages = turns(PROMPTS[1], "")[0]
    start = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([tokenizer(start + COMPLETIONS[1])["input_ids"]])
    expected = model.score(model.model(ids).last_hidden_state)[0, -1, 0]
    assert cut == pytest.approx(expected.item(), abs=1e-5)


def test_the_score_is_that_of_the_last_token(tokenizer, model):
    (score,) = score_completions(model, plain(tokenizer), ["네?"], ["네."])
    ids = torch.tensor([[*tokenizer("네?네.")["input_ids"], EOS]])
    expected = model.score(model.model(ids).last_hidden_state)[0, -1, 0]
    assert score == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("template", [True, False])
def test_scores_do_not_depend_on_the_batch(template, tokenizer, model):
    tokenizer = tokenizer if template else plain(tokenizer)
    alone = [
        score_completions(model, tokenizer, [prompt], [completion])[0]
        for prompt, completion in zip(PROMPTS, COMPLETIONS, strict=True)
    ]
    for batch_size in (1, 2, 8):
        scores = score_completions(model, tokenizer, PROMPTS, COMPLETIONS, batch_size=batch_size)
        assert scores == pytest.approx(alone, abs=1e-4)
    assert len({round(score, 3) for score in alone}) == 3


def test_strings_and_messages_score_alike(tokenizer, model):
    messages = [turns(prompt, completion) for prompt, completion in zip(PROMPTS, COMPLETIONS, strict=True)]
    asked, completions = zip(*messages, strict=True)
    expected = score_completions(model, tokenizer, PROMPTS, COMPLETIONS)
    for prompts in (asked, PROMPTS):
        assert score_completions(model, tokenizer, prompts, completions) == pytest.approx(expected, abs=1e-5)


def test_raw_strings_end_in_one_eos(tokenizer, model):
    scores = score_completions(
        model, tokenizer, ["", ""], ["인공지능은 기술이에요", "인공지능은 기술이에요</s>"], raw=True
    )
    without_template = score_completions(model, plain(tokenizer), [""], ["인공지능은 기술이에요"])
    assert scores == pytest.approx(without_template * 2, abs=1e-5)
    assert scores != pytest.approx(score_completions(model, tokenizer, [""], ["인공지능은 기술이에요"]) * 2, abs=1e-3)


@pytest.mark.parametrize("pad_token_id", [None, 0, 7])
def test_the_tokenizers_padding_counts_and_the_configuration_is_given_back(pad_token_id, tokenizer, model):
    expected = score_completions(model, tokenizer, PROMPTS, COMPLETIONS)
    other = copy.deepcopy(model).train()
    other.config.pad_token_id = pad_token_id
    assert score_completions(other, tokenizer, PROMPTS, COMPLETIONS) == pytest.approx(expected, abs=1e-4)
    assert other.config.pad_token_id == pad_token_id
    assert all(module.training for module in other.modules())


def test_padding_that_is_eos_is_warned_of(model, caplog):
    with caplog.at_level(logging.WARNING):
        score_completions(model, tiny_tokenizer(pad=False), ["네?"], ["네."])
    assert "one token early" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        score_completions(model, tiny_tokenizer(), ["네?"], ["네."])
    assert not caplog.text


def test_no_completions_no_scores(tokenizer, model):
    assert score_completions(model, tokenizer, [], []) == []


@pytest.mark.parametrize(
    ("prompts", "completions", "settings", "message"),
    [
        (["가"], ["나", "다"], {}, "1 prompts and 2 completions"),
        ("가", ["나"], {}, "prompts is one string"),
        (["가"], "나", {}, "completions is one string"),
        (["가"], ["나"], {"batch_size": 0}, "at least 1"),
        (["가"], ["나 \ud83d"], {}, "half a character"),
        (["가"], ["나 \ud83d"], {"raw": True}, "half a character"),
        (["가", "가"], ["나", "나" * 300], {}, "Row 1 has .* 256 positions"),
        ([[{"role": "user", "content": "가"}]], ["나"], {"raw": True}, "Messages need a chat template"),
    ],
)
def test_what_cannot_be_scored_is_an_error(prompts, completions, settings, message, tokenizer, model):
    with pytest.raises(ValueError, match=message):
        score_completions(model, tokenizer, prompts, completions, **settings)


def test_messages_that_the_template_refuses_are_an_error(model):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('no such role') }}"
    with pytest.raises(ValueError, match="chat template does not render .*no such role"):
        score_completions(model, tokenizer, ["가"], ["나"])


def test_a_reward_model_has_one_label(tokenizer):
    with pytest.raises(ValueError, match="3 labels"):
        score_completions(tiny_reward_model(num_labels=3), tokenizer, ["가"], ["나"])


def test_a_tokenizer_without_padding_is_an_error(tokenizer, model):
    bare = copy.deepcopy(tokenizer)
    bare.pad_token = None
    with pytest.raises(ValueError, match="no padding token"):
        score_completions(model, bare, ["가"], ["나"])


def test_4bit_with_the_head_that_trl_casts(tokenizer, tmp_path):
    tiny_reward_model(hidden_size=64).save_pretrained(tmp_path)
    model = lora(load_base(LlamaForSequenceClassification, tmp_path, load_in_4bit=True)).train()
    expected = score_completions(model, tokenizer, PROMPTS, COMPLETIONS)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
    assert score_completions(model, tokenizer, PROMPTS, COMPLETIONS) == pytest.approx(expected, abs=0.2)
    assert model.training


# Loading.


@pytest.fixture
def base(tmp_path):
    tiny_llama(hidden_size=64).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def trained(base, seed=0, **kwargs):
    """A reward adapter with a head of its own on the causal model in `base`."""
    torch.manual_seed(seed)
    return lora(LlamaForSequenceClassification.from_pretrained(base, num_labels=1), seed, **kwargs)


@pytest.mark.parametrize("given", [None, "base"])
def test_a_reward_adapter_comes_with_its_head(given, base, tmp_path, tokenizer, caplog):
    model = trained(base)
    model.save_pretrained(tmp_path / "reward")
    caplog.clear()
    loaded = load_reward_model(tmp_path / "reward", base=base if given else None)
    assert score_completions(loaded, tokenizer, PROMPTS, COMPLETIONS) == pytest.approx(
        score_completions(model, tokenizer, PROMPTS, COMPLETIONS), abs=1e-5
    )
    assert "MISSING" not in caplog.text and not loaded.training


def test_a_reward_adapter_goes_on_a_4bit_base(base, tmp_path, tokenizer):
    trained(base).save_pretrained(tmp_path / "reward")
    loaded = load_reward_model(tmp_path / "reward", load_in_4bit=True)
    assert loaded.get_base_model().is_loaded_in_4bit
    assert len(set(score_completions(loaded, tokenizer, PROMPTS, COMPLETIONS))) == 3


def test_a_whole_reward_model(model, tmp_path, tokenizer):
    model.save_pretrained(tmp_path)
    loaded = load_reward_model(tmp_path)
    assert score_completions(loaded, tokenizer, PROMPTS, COMPLETIONS) == pytest.approx(
        score_completions(model, tokenizer, PROMPTS, COMPLETIONS), abs=1e-5
    )


def test_a_reward_adapter_without_its_head_is_an_error(base, tmp_path):
    trained(base).save_pretrained(tmp_path / "reward")
    weights = tmp_path / "reward" / "adapter_model.safetensors"
    save_file({key: value for key, value in load_file(weights).items() if "score" not in key}, weights)
    with pytest.raises(ValueError, match="has no score head"):
        load_reward_model(tmp_path / "reward")


def test_an_adapter_that_generates_is_no_reward_model(base, tmp_path):
    lora(tiny_llama(hidden_size=64), task_type="CAUSAL_LM").save_pretrained(tmp_path / "sft")
    with pytest.raises(ValueError, match="has no score head"):
        load_reward_model(tmp_path / "sft", base=base)


@pytest.mark.parametrize(
    "other", [lambda: tiny_llama(), lambda: tiny_llama(hidden_size=64, layers=3)], ids=["another width", "more layers"]
)
def test_a_reward_adapter_of_another_base_is_an_error(other, base, tmp_path):
    other().save_pretrained(tmp_path / "other")
    trained(tmp_path / "other").save_pretrained(tmp_path / "reward")
    with pytest.raises(
        ValueError, match=r"reward does not belong to the base model .*base \(it was trained on .*other"
    ):
        load_reward_model(tmp_path / "reward", base=base)


def test_a_reward_adapter_that_names_no_base_is_an_error(base, tmp_path):
    trained(base).save_pretrained(tmp_path / "reward")
    config = json.loads((tmp_path / "reward" / "adapter_config.json").read_text())
    (tmp_path / "reward" / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": None}))
    with pytest.raises(ValueError, match="does not name its base"):
        load_reward_model(tmp_path / "reward")


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2, lambda: tiny_reward_model(num_labels=2)])
def test_a_model_without_a_reward_head_is_an_error(make, tmp_path):
    make().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no reward model"):
        load_reward_model(tmp_path)


def test_a_whole_model_that_lost_its_head_is_an_error(model, tmp_path):
    model.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    kept = {key: value for key, value in load_file(weights).items() if key != "score.weight"}
    save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="no weights for score.weight"):
        load_reward_model(tmp_path)


def test_a_model_in_training_is_scored_without_dropout_and_goes_on_training(tokenizer):
    config = LoraConfig(task_type="SEQ_CLS", target_modules="all-linear", lora_dropout=0.5, init_lora_weights=False)
    model = get_peft_model(tiny_reward_model(), config)
    expected = score_completions(model.eval(), tokenizer, PROMPTS, COMPLETIONS)
    assert score_completions(model.train(), tokenizer, PROMPTS, COMPLETIONS) == expected
    assert all(module.training for module in model.modules())
