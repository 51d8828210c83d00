"""What ends an answer in each family is trained, generated, saved, and read by a reward model."""

import json

import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from tests.families.tiny import FAMILIES, Family, save_family
from trl_kochat import load_tokenizer
from trl_kochat.encode import answer_end, end_token_ids, score_position, tokenize_dataset
from trl_kochat.measure.generate import generate_answers
from trl_kochat.tokenizer import save_hand_over


Loaded = tuple[Family, PreTrainedModel, PreTrainedTokenizerBase]


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request, tmp_path_factory) -> Loaded:
    family = FAMILIES[request.param]
    folder = save_family(family, tmp_path_factory.mktemp("family"))
    return family, AutoModelForCausalLM.from_pretrained(folder), load_tokenizer(folder)


def said(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


def stop_of(family: Family) -> str:
    """The published end of an answer; EOS where the template writes none."""
    return family.end or family.eos


def test_it_is_trained(loaded):
    family, _, tokenizer = loaded
    row = {"prompt": said("user", "안녕?"), "completion": said("assistant", "네.")}
    (ids,) = tokenize_dataset(Dataset.from_list([row]), tokenizer)
    learned = tokenizer.decode([label for label in ids["labels"] if label != -100])
    assert learned.partition("네.")[2].startswith(stop_of(family))


def test_it_ends_what_is_generated(loaded):
    """So do samples, measures and PPO's rollouts, which take the same ids."""
    family, model, tokenizer = loaded
    assert model.generation_config is not None
    ends = end_token_ids(tokenizer, model.generation_config.eos_token_id)
    stop_id = answer_end(tokenizer).stop_id
    assert stop_id in ends and tokenizer.decode([stop_id]) in stop_of(family)
    assert {tokenizer.convert_tokens_to_ids(token) for token in (family.eos, *family.more_ends)} <= set(ends)
    for end in ends:
        (answer,) = generate_answers(model, tokenizer, ["안녕?"], max_new_tokens=4, sequence_bias={(end,): 1e6})
        assert answer.ended and answer.text == "" and len(answer.ids) <= 1


def test_it_is_saved(loaded, tmp_path):
    _, model, tokenizer = loaded
    model.save_pretrained(tmp_path)
    save_hand_over(model, tokenizer, tmp_path)
    for declared in (
        GenerationConfig.from_pretrained(tmp_path).eos_token_id,
        json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["eos_token_id"],
    ):
        assert answer_end(tokenizer).stop_id in ([declared] if isinstance(declared, int) else declared)
    assert load_tokenizer(tmp_path).eos_token_id == tokenizer.eos_token_id
    assert answer_end(load_tokenizer(tmp_path)) == answer_end(tokenizer)


def test_a_reward_model_reads_behind_it(loaded):
    """Right before it where a vocabulary has no other token to pad with, of which the doctor warns."""
    _, _, tokenizer = loaded
    row = {"prompt": said("user", "안녕?"), "chosen": said("assistant", "네."), "rejected": said("assistant", "아뇨.")}
    (pair,) = tokenize_dataset(Dataset.from_list([row]), tokenizer)
    stop_id = answer_end(tokenizer).stop_id
    for ids in (pair["chosen_ids"], pair["rejected_ids"]):
        stop = len(ids) - 1 - ids[::-1].index(stop_id)
        read_at = score_position(ids, tokenizer.pad_token_id)
        assert read_at == stop - 1 if tokenizer.pad_token_id == stop_id else read_at >= stop
