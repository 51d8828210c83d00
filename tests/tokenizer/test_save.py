import json

import jinja2
import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, ByT5Tokenizer, GenerationConfig

from tests.tiny_lm import tiny_llama, tiny_tokenizer
from tests.tokenizers import byte_fallback, exaone_like, healthy, kogpt2_like, qwen_like
from trl_kochat.measure.generate import load_generator
from trl_kochat.models import load_base, read_adapter_config
from trl_kochat.sample import embedded
from trl_kochat.tokenizer import (
    check_tokenizer,
    load_tokenizer,
    read_template,
    save_hand_over,
    save_portable,
    template_names,
)


CONVERSATION = [
    {"role": "user", "content": "하늘은 왜 파래요?"},
    {"role": "assistant", "content": "산란 때문이에요."},
    {"role": "user", "content": " 정말? "},
    {"role": "assistant", "content": "네.\n"},
]
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
    if tokenizer.chat_template:
        rendered = [each.apply_chat_template(CONVERSATION, tokenize=False) for each in (loaded, tokenizer)]
        assert rendered[0] == rendered[1]
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


SPACED = """{%- for m in messages %}
  {% if m['role'] == 'assistant' %}
A:
  {% generation %}
  {{ m['content'] }}
  {%- endgeneration +%}
  {% else %}
U: {{ m['content'] }}{% generation -%} {%+ endgeneration %}
  {% endif %}
{% endfor %}"""


@pytest.mark.parametrize(
    "template", [*map(read_template, template_names()), SPACED], ids=[*template_names(), "spaced"]
)
def test_a_saved_template_renders_in_plain_jinja2_byte_for_byte_the_same(tmp_path, template):
    tokenizer = load_tokenizer(healthy(tmp_path / "original"))
    tokenizer.chat_template = template
    save_portable(tokenizer, tmp_path / "saved")
    assert tokenizer.chat_template == template  # the marks stay where they are trained with
    plain = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    saved = plain.from_string((tmp_path / "saved" / "chat_template.jinja").read_text(encoding="utf-8"))
    for generation in (False, True):
        rendered = saved.render(messages=CONVERSATION, eos_token=tokenizer.eos_token, add_generation_prompt=generation)
        assert rendered == tokenizer.apply_chat_template(
            CONVERSATION, tokenize=False, add_generation_prompt=generation
        )


def turns_tokenizer():
    """One whose template ends turns with another token than EOS."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}<turn>{% endfor %}"
    return tokenizer


def ends(tokenizer):
    return {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<turn>"), tokenizer.bos_token_id}


def test_a_saved_model_knows_every_token_that_ends_an_answer(tmp_path):
    tokenizer, model = turns_tokenizer(), tiny_llama()
    model.generation_config.eos_token_id = tokenizer.bos_token_id  # an end of its own
    model.save_pretrained(tmp_path)
    before = model.config.to_dict(), model.generation_config.to_dict()
    save_hand_over(model, tokenizer, tmp_path)
    assert (model.config.to_dict(), model.generation_config.to_dict()) == before
    saved = AutoModelForCausalLM.from_pretrained(tmp_path)
    for config in (saved.config, saved.generation_config):
        assert set(config.eos_token_id) == ends(tokenizer) and config.pad_token_id == tokenizer.pad_token_id
    assert AutoTokenizer.from_pretrained(tmp_path).eos_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize("base", ["tiny-ko", "skt/kogpt2-base-v2", "./my-model"])
def test_a_saved_adapter_names_its_base_as_the_user_did(tmp_path, base):
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(tiny_llama(), config)
    model.peft_config["default"].base_model_name_or_path = embedded(base)
    for folder in (tmp_path, tmp_path / "value"):
        model.save_pretrained(folder)
    tokenizer = turns_tokenizer()
    save_hand_over(model, tokenizer, tmp_path)
    for folder in (tmp_path, tmp_path / "value"):
        assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == base
    saved = GenerationConfig.from_pretrained(tmp_path)
    assert ends(tokenizer) - {tokenizer.bos_token_id} <= set(saved.eos_token_id)
    assert saved.pad_token_id == tokenizer.pad_token_id
    assert not (tmp_path / "config.json").exists()  # which would make it a whole model


def test_the_base_of_an_adapter_is_found_by_its_public_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no folder of that name lies
    base = load_base(AutoModelForCausalLM, "tiny-ko")
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")).save_pretrained("adapter")
    save_hand_over(base, load_tokenizer("tiny-ko"), "adapter")
    name = read_adapter_config("adapter").base_model_name_or_path
    assert name == "tiny-ko" and load_generator(name, ["adapter"]) is not None


def test_a_tokenizer_without_a_tokenizer_json_is_refused(tmp_path):
    with pytest.raises(ValueError, match="ByT5Tokenizer has no tokenizer.json"):
        save_portable(ByT5Tokenizer(), tmp_path)
