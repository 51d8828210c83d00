import json

import pytest
from transformers import AutoTokenizer, ByT5Tokenizer

from tests.tokenizers import byte_fallback, exaone_like, healthy, kogpt2_like, qwen_like
from trl_kochat.tokenizer import check_tokenizer, load_tokenizer, save_portable


TEXTS = ["안녕하세요. ㅋㅋ ① 👍", "첫째\n둘째  두 칸", "끝</s> <unk> <|im_end|>", ""]


@pytest.mark.parametrize("make", [kogpt2_like, exaone_like, byte_fallback, qwen_like, healthy])
def test_the_saved_tokenizer_is_the_same(tmp_path, make):
    folder = make(tmp_path / "original")
    tokenizer = load_tokenizer(folder, padding_side="left", model_max_length=512)
    save_portable(tokenizer, tmp_path / "saved")
    # A model in the same folder must not change what is loaded.
    (tmp_path / "saved" / "config.json").write_bytes((folder / "config.json").read_bytes())
    loaded = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert loaded(TEXTS, padding=True).data == tokenizer(TEXTS, padding=True).data
    assert loaded.special_tokens_map == tokenizer.special_tokens_map
    assert loaded.chat_template == tokenizer.chat_template
    assert (loaded.padding_side, loaded.model_max_length) == ("left", 512)
    assert {f.code for f in check_tokenizer(loaded)} == {f.code for f in check_tokenizer(tokenizer)}


def test_nothing_is_written_that_transformers_4_does_not_read(tmp_path):
    """4.57 has no class TokenizersBackend and takes a list of further special tokens under another name."""
    tokenizer = load_tokenizer(healthy(tmp_path / "original"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<pad>", "<s>"]})
    save_portable(tokenizer, tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["model_input_names"] == ["input_ids", "attention_mask"]
    assert not isinstance(config.get("extra_special_tokens"), list)
    assert config["additional_special_tokens"] == ["<pad>", "<s>"]
    assert str(tmp_path) not in json.dumps(config)
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").extra_special_tokens == ["<pad>", "<s>"]


def test_a_tokenizer_without_a_tokenizer_json_is_refused(tmp_path):
    with pytest.raises(ValueError, match="ByT5Tokenizer has no tokenizer.json"):
        save_portable(ByT5Tokenizer(), tmp_path)
