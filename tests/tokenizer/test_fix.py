import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer, GPT2Config, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.tokenizers import (
    byte_fallback,
    common_syllables,
    exaone_like,
    healthy,
    kogpt2_like,
    qwen_like,
)
from trl_kochat.tokenizer import fix_tokenizer, load_tokenizer


FOLDERS = [kogpt2_like, exaone_like, byte_fallback, qwen_like, healthy]
COURSE = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "</s>"}


def by_code(findings):
    return {finding.code: finding for finding in findings}


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda make: make.__name__)
def folder(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp(request.param.__name__))


@pytest.fixture(scope="module")
def kogpt2(tmp_path_factory):
    return kogpt2_like(tmp_path_factory.mktemp("kogpt2"))


@pytest.fixture(scope="module")
def fixed_kogpt2(kogpt2):
    return fix_tokenizer(AutoTokenizer.from_pretrained(kogpt2, **COURSE))[0]


def test_the_fixed_tokenizer_gives_the_ids_of_tokenizer_json(folder):
    tokenizer, _ = fix_tokenizer(AutoTokenizer.from_pretrained(folder))
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in ("안녕하세요. ㅋㅋㅋ 2024년\n① 다음", "  두 칸  ", "쌤 걔 👍 @", ""):
        assert tokenizer.encode(text, add_special_tokens=False) == own.encode(text, add_special_tokens=False).ids


def test_the_courses_call_is_repaired(kogpt2):
    broken = AutoTokenizer.from_pretrained(kogpt2, **COURSE)
    assert "안녕" not in broken.decode(broken.encode("안녕하세요"))
    tokenizer, findings = fix_tokenizer(broken)
    assert tokenizer is not broken
    assert "안녕하세요" in tokenizer.decode(tokenizer.encode("안녕하세요"))
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id) == (1, 3, 5)
    assert len(tokenizer) == len(Tokenizer.from_file(str(kogpt2 / "tokenizer.json")).get_vocab())
    for code in ("pipeline_rebuilt", "hangul_lost", "unk_is_eos", "pad_is_eos"):
        assert by_code(findings)[code].fixed


def test_a_default_token_of_the_class_is_not_kept(kogpt2):
    broken = AutoTokenizer.from_pretrained(kogpt2)
    assert broken.eos_token == "<|endoftext|>"
    tokenizer, findings = fix_tokenizer(broken)
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token) == ("</s>", "<pad>", "<unk>")
    assert by_code(findings)["outside_embedding"].fixed


def test_fixing_twice_is_fixing_once(folder):
    once, _ = fix_tokenizer(AutoTokenizer.from_pretrained(folder))
    twice, findings = fix_tokenizer(once)
    assert twice is once
    assert not any(finding.fixed or finding.fixable for finding in findings)


TOKENS = st.sampled_from([None, "<s>", "</s>", "<pad>", "<unk>", "안", "[NEW]"])


@settings(max_examples=30, deadline=None)
@given(
    backend=st.sampled_from([kogpt2_like, healthy]),
    roles=st.fixed_dictionaries(dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), TOKENS)),
    type_ids=st.booleans(),
)
def test_whatever_was_wrong_fixing_twice_is_fixing_once(backends, backend, roles, type_ids):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backends[backend], **roles)
    if type_ids:
        tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    vocab = tokenizer.get_vocab()
    try:
        once, _ = fix_tokenizer(tokenizer)
    except ValueError as error:
        assert roles["eos_token"] is None and "Set it to one of" in str(error)
        return
    twice, findings = fix_tokenizer(once)
    assert twice is once and not any(finding.fixed or finding.fixable for finding in findings)
    # Nothing is invented, and what stands for the end is what the user said.
    assert once.get_vocab() == vocab
    assert roles["eos_token"] in (None, once.eos_token) and roles["bos_token"] in (None, once.bos_token)


@pytest.fixture(scope="module")
def backends(tmp_path_factory):
    return {
        make: Tokenizer.from_file(str(make(tmp_path_factory.mktemp("backend")) / "tokenizer.json"))
        for make in (kogpt2_like, healthy)
    }


@pytest.mark.parametrize("make", [qwen_like, healthy], ids=lambda make: make.__name__)
def test_a_healthy_tokenizer_is_returned_as_it_is(tmp_path, make):
    tokenizer = AutoTokenizer.from_pretrained(make(tmp_path))
    fixed, findings = fix_tokenizer(tokenizer)
    assert fixed is tokenizer
    assert {finding.severity for finding in findings} <= {"info"}


def test_the_given_tokenizer_is_not_changed(kogpt2, tmp_path):
    broken = AutoTokenizer.from_pretrained(kogpt2, **COURSE)
    shared_end = AutoTokenizer.from_pretrained(healthy(tmp_path, pad_token="</s>"))
    fix_tokenizer(broken)
    assert fix_tokenizer(shared_end)[0].pad_token == "<pad>"
    assert broken.unk_token == "</s>" and type(broken).__name__ == "GPT2Tokenizer"
    assert shared_end.pad_token == "</s>"


def test_settings_are_kept(kogpt2):
    broken = AutoTokenizer.from_pretrained(kogpt2, padding_side="left", truncation_side="left", model_max_length=77)
    broken.chat_template = "{{ messages[0]['content'] }}"
    fixed, _ = fix_tokenizer(broken)
    assert (fixed.padding_side, fixed.truncation_side, fixed.model_max_length) == ("left", "left", 77)
    assert fixed.chat_template == broken.chat_template
    assert fixed.name_or_path == broken.name_or_path


def test_token_type_ids_are_dropped(tmp_path):
    folder = healthy(tmp_path, model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    broken = AutoTokenizer.from_pretrained(folder)
    assert "token_type_ids" in broken("안녕")
    fixed, findings = fix_tokenizer(broken)
    assert set(fixed("안녕")) == {"input_ids", "attention_mask"}
    assert by_code(findings)["token_type_ids"].fixed


def test_unk_is_the_pad_only_where_nothing_is_ever_unknown(tmp_path):
    assert load_tokenizer(byte_fallback(tmp_path / "bytes")).pad_token == "<unk>"
    folder = kogpt2_like(tmp_path / "characters")
    tokenizer = load_tokenizer(folder)
    characters = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, eos_token="</s>", unk_token="<unk>"
    )
    characters.backend_tokenizer.add_special_tokens(["<s>"])
    fixed, _ = fix_tokenizer(characters)
    assert fixed.pad_token == "<pad>"


def test_an_ordinary_unk_is_never_the_pad(tmp_path):
    """Qwen's vocabulary has a plain token spelled `<unk>`, which text can hold."""
    tokenizer = AutoTokenizer.from_pretrained(qwen_like(tmp_path, pad_token="<|im_end|>"))
    assert tokenizer.convert_tokens_to_ids("<unk>") not in (None, tokenizer.unk_token_id)
    fixed, _ = fix_tokenizer(tokenizer)
    assert fixed.pad_token == "<|endoftext|>"
    tokenizer.unk_token = None
    fixed, findings = fix_tokenizer(tokenizer)
    assert fixed.pad_token == "<|im_end|>"
    finding = by_code(findings)["pad_is_eos"]
    assert not finding.fixed and not finding.fixable


def test_no_end_and_none_to_be_found_raises(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(healthy(tmp_path))
    backend = tokenizer.backend_tokenizer
    backend.add_special_tokens(["<|endoftext|>"])  # a second spelling of the end: which one is it?
    bare = PreTrainedTokenizerFast(tokenizer_object=backend)
    with pytest.raises(ValueError, match="There is no eos_token.*</s>"):
        fix_tokenizer(bare)


def test_the_end_is_found_in_the_models_config(tmp_path):
    folder = healthy(tmp_path)
    declared = json.loads((folder / "tokenizer_config.json").read_text())
    del declared["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(declared))
    fixed, findings = fix_tokenizer(AutoTokenizer.from_pretrained(folder))
    assert fixed.eos_token == "</s>"
    assert by_code(findings)["no_eos"].fixed


def test_an_end_that_is_several_tokens_becomes_one(fixed_kogpt2):
    tokenizer = copy.deepcopy(fixed_kogpt2)
    tokenizer.eos_token = "<eot>"  # in the vocabulary, not cut out of a text
    eos_id, size = tokenizer.eos_token_id, len(tokenizer)
    assert len(tokenizer.encode("<eot>")) > 1
    fixed, findings = fix_tokenizer(tokenizer)
    assert by_code(findings)["eos_not_atomic"].fixed
    assert fixed.encode("끝<eot>")[-1] == fixed.eos_token_id == eos_id
    assert len(fixed) == size and len(tokenizer.encode("<eot>")) > 1


def test_a_word_is_not_made_the_end(fixed_kogpt2):
    """Cut out of every text, a line break would no longer be part of the tokens that hold one."""
    tokenizer = copy.deepcopy(fixed_kogpt2)
    tokenizer.eos_token = "\n"
    ids = tokenizer.encode("끝이다.\n네")
    fixed, findings = fix_tokenizer(tokenizer)
    finding = by_code(findings)["eos_not_atomic"]
    assert not finding.fixable and not finding.fixed and "People write it" in finding.message
    assert fixed.encode("끝이다.\n네") == ids


def test_a_pad_without_a_row_is_replaced(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(healthy(tmp_path, pad_token="<pad>"), pad_token="[NEW]")
    assert tokenizer.pad_token_id == len(tokenizer) - 1
    fixed, findings = fix_tokenizer(tokenizer)
    assert fixed.pad_token == "<pad>" and "[NEW]" not in fixed.get_vocab()
    assert by_code(findings)["outside_embedding"].fixed


def test_tokens_added_on_purpose_keep_their_ids(kogpt2):
    tokenizer = AutoTokenizer.from_pretrained(kogpt2, **COURSE)
    tokenizer.add_tokens(["<new>"])
    new_id = tokenizer.convert_tokens_to_ids("<new>")
    model = LlamaForCausalLM(tiny_config(vocab_size=len(tokenizer)))
    fixed, findings = fix_tokenizer(tokenizer, model)
    assert by_code(findings)["pipeline_rebuilt"].fixed
    assert fixed.encode("<new>", add_special_tokens=False)[-1] == new_id


def test_tokens_that_would_move_are_refused(kogpt2):
    tokenizer = AutoTokenizer.from_pretrained(kogpt2)  # <|endoftext|> takes the first free id
    tokenizer.add_tokens(["<new>"])
    with pytest.raises(ValueError, match="<new>.*load_tokenizer first"):
        fix_tokenizer(tokenizer, LlamaForCausalLM(tiny_config(vocab_size=len(tokenizer))))


def tiny_config(**changes):
    settings = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaConfig(**{**settings, **changes})


def test_model_config_and_generation_config_follow_the_tokenizer(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(healthy(tmp_path))
    model = LlamaForCausalLM(tiny_config(vocab_size=len(tokenizer), eos_token_id=7, bos_token_id=8))
    model.generation_config.eos_token_id = [7, 9]
    fixed, findings = fix_tokenizer(tokenizer, model)
    assert fixed is tokenizer
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert model.config.bos_token_id == tokenizer.bos_token_id
    # Where generation stopped before, it still stops.
    assert model.generation_config.eos_token_id == [tokenizer.eos_token_id, 7, 9]
    assert by_code(findings)["config_disagrees"].fixed
    assert not by_code(fix_tokenizer(tokenizer, model)[1]).get("config_disagrees")


def test_the_embedding_is_never_resized(kogpt2):
    tokenizer = AutoTokenizer.from_pretrained(kogpt2, **COURSE)
    model = LlamaForCausalLM(tiny_config(vocab_size=len(tokenizer)))
    fix_tokenizer(tokenizer, model)
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)


def test_a_config_alone_is_enough(kogpt2):
    config = GPT2Config(vocab_size=20000, bos_token_id=0, eos_token_id=0)
    fixed, _ = fix_tokenizer(AutoTokenizer.from_pretrained(kogpt2, **COURSE), config)
    assert (config.eos_token_id, config.pad_token_id) == (fixed.eos_token_id, fixed.pad_token_id)


def test_a_tokenizer_trained_anew_is_not_taken_back(tmp_path):
    """It still carries the name of the one it was trained from, and has another vocabulary."""
    old = AutoTokenizer.from_pretrained(exaone_like(tmp_path))
    new = old.train_new_from_iterator(["새 어휘로 배웁니다. 안녕하세요"] * 50, vocab_size=300)
    assert new.name_or_path == old.name_or_path
    fixed, findings = fix_tokenizer(new)
    assert fixed.get_vocab() == new.get_vocab()
    assert "pipeline_rebuilt" not in by_code(findings)


ANY_SYLLABLE = st.characters(min_codepoint=ord("가"), max_codepoint=ord("힣"))


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(
        st.one_of(st.sampled_from(common_syllables()), ANY_SYLLABLE, st.characters(exclude_categories=["Cs"]))
    )
)
def test_no_syllable_is_lost_that_the_vocabulary_can_write(fixed_kogpt2, text):
    back = fixed_kogpt2.decode(fixed_kogpt2.encode(text, add_special_tokens=False))
    vocab = fixed_kogpt2.get_vocab()
    written = [char for char in text if "가" <= char <= "힣" and char in vocab]
    # NFKC may compose further syllables out of jamo; those of the text are all there, in order.
    rest = iter(back)
    assert all(char in rest for char in written)
