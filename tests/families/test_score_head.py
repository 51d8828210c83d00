"""Models that transformers has no sequence classification for get a head that is right, also after a reload."""

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification, LoraConfig, get_peft_model
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    BlenderbotConfig,
    MambaConfig,
    RwkvConfig,
    T5Config,
)

from tests.families.tiny import ALL_KNOWN, tiny_config, tiny_model
from tests.tiny_lm import tiny_tokenizer
from trl_kochat import give_score_head
from trl_kochat.errors import InputError
from trl_kochat.measure.score import load_reward_model, score_completions
from trl_kochat.models import keep_4bit_gradients


@torch.no_grad()
def scores(model) -> torch.Tensor:
    # Rows of several lengths, padded on the right.
    input_ids = torch.tensor([[5, 6, 7, 8, 9], [10, 11, 12, 1, 1], [20, 1, 1, 1, 1]])
    return model.eval()(input_ids=input_ids, attention_mask=(input_ids != 1).long()).logits[:, 0].float()


# The first three have no class in transformers 5.24; the others show that the requirement is one that holds elsewhere.
@pytest.fixture(params=[*(["exaone"] if ALL_KNOWN else []), "hyperclovax", "solar_open", "llama", "gpt_neox"])
def base(request, tmp_path):
    tiny_model(request.param).save_pretrained(tmp_path / "base")
    give_score_head(tiny_config(request.param))
    return str(tmp_path / "base")


def test_a_reward_model_is_the_same_after_a_reload(base, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    model.save_pretrained(tmp_path / "reward")
    again, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert (scores(model) - scores(again)).abs().max() < 1e-6
    assert model.config.architectures == [type(model).__name__]


def test_the_body_of_a_reward_model_is_that_of_the_causal_model(base):
    reward = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    causal = tiny_model(reward.config.model_type).base_model.state_dict()
    assert causal.keys() == reward.base_model.state_dict().keys()
    assert all(torch.equal(tensor, causal[key]) for key, tensor in reward.base_model.state_dict().items())


def test_padding_on_the_right_does_not_change_a_score(base):
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1).eval()
    with torch.no_grad():
        alone = model(input_ids=torch.tensor([[10, 11, 12]])).logits[0, 0]
    assert abs(scores(model)[1] - alone) < 1e-5


def adapter_of(base, folder, **kwargs) -> torch.Tensor:
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, **kwargs)
    keep_4bit_gradients(model)
    lora = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="SEQ_CLS")
    adapted = get_peft_model(model, lora)
    said = scores(adapted)
    adapted.save_pretrained(folder)
    return said


def test_an_adapter_brings_its_head_onto_a_fresh_base(base, tmp_path):
    said = adapter_of(base, tmp_path / "adapter")
    for again in (
        AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "adapter", num_labels=1),
        load_reward_model(tmp_path / "adapter"),
    ):
        assert (scores(again) - said).abs().max() < 1e-6


def test_an_adapter_on_4bit_is_the_same_after_a_reload(base, tmp_path):
    bits = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype="float32"
    )
    said = adapter_of(base, tmp_path / "adapter", quantization_config=bits, dtype=torch.float32)
    again = load_reward_model(tmp_path / "adapter", load_in_4bit=True)
    keep_4bit_gradients(again)
    assert (scores(again) - said).abs().max() < 1e-6


def test_a_whole_reward_model_is_loaded_by_a_process_that_never_saw_the_family(tmp_path, monkeypatch):
    """Registration is for one process; `load_reward_model` makes it again."""
    config = tiny_config("hyperclovax", num_labels=1)
    give_score_head(config)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    monkeypatch.setattr(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, "_extra_content", {})
    assert type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    model = load_reward_model(tmp_path)
    assert len(score_completions(model, tiny_tokenizer(), ["안녕?"], ["네."])) == 1


def test_what_transformers_has_a_head_for_keeps_it():
    config = tiny_config("llama")
    before = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    give_score_head(config)
    assert MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)] is before


@pytest.mark.parametrize("config", [MambaConfig(), RwkvConfig(), BlenderbotConfig()], ids=lambda c: c.model_type)
def test_a_family_that_cannot_score_is_told_in_a_sentence(config):
    with pytest.raises(InputError, match=f"A model of type {config.model_type} cannot score: .* another base"):
        give_score_head(config)


def test_a_model_with_a_class_of_its_own_for_it_is_left_to_that():
    config = MambaConfig()
    config.auto_map = {"AutoModelForSequenceClassification": "modeling.Mine"}
    give_score_head(config)
    give_score_head(T5Config())
