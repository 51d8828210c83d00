import copy
import json
import random

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import BitsAndBytesConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.scripted_lm import scripted_llama
from tests.tiny_lm import tiny_gpt2, tiny_llama, tiny_reward_model, tiny_tokenizer
from trl_kochat.measure.generate import (
    COURSE_PROMPTS,
    Generation,
    decode_answer,
    generate_answers,
    load_generator,
    token_table,
    use_adapter,
)


PROMPTS = ["오늘 미세먼지 어때?", "네", "파이썬은 배우기 쉬운 언어인가요? 처음인데 무엇부터 할까요?"]
EOS, PAD = 0, 1


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def ids_of(tokenizer, text: str) -> list[int]:
    return tokenizer(text)["input_ids"]


def lora(model, seed: int = 0, **kwargs):
    torch.manual_seed(seed)
    config = LoraConfig(
        r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM", **kwargs
    )
    return get_peft_model(model, config)


# What an answer is.


def test_an_answer_ends_with_eos_and_keeps_its_ids(tokenizer):
    said = ids_of(tokenizer, "네, 한우입니다.")
    model = scripted_llama([[*said, EOS]])
    assert generate_answers(model, tokenizer, ["불고기용 고기 한우에요?"]) == [
        Generation(prompt="불고기용 고기 한우에요?", text="네, 한우입니다.", ids=[*said, EOS], ended=True)
    ]


def test_an_answer_that_the_length_cuts_has_not_ended(tokenizer):
    said = ids_of(tokenizer, "네, 한우입니다. 네, 한우입니다.")
    (answer,) = generate_answers(scripted_llama([said]), tokenizer, ["?"], max_new_tokens=5)
    assert answer.ids == said[:5] and not answer.ended


def test_answers_of_one_batch_end_where_each_of_them_ends(tokenizer):
    script = [[*ids_of(tokenizer, text), EOS] for text in ("네.", "오늘은 맑아요.", "", "한우")]
    answers = generate_answers(scripted_llama(script), tokenizer, ["가", "나 다", "라", "마"], batch_size=3)
    assert [answer.ids for answer in answers] == script
    assert [answer.text for answer in answers] == ["네.", "오늘은 맑아요.", "", "한우"]
    assert [answer.prompt for answer in answers] == ["가", "나 다", "라", "마"]


def test_eos_counts_also_when_it_pads(tokenizer):
    shared = tiny_tokenizer(pad=False)
    script = [[*ids_of(shared, "네."), EOS], ids_of(shared, "오늘은 맑아요. 오늘은 맑아요.")]
    done, cut = generate_answers(scripted_llama(script), shared, ["가", "나"], max_new_tokens=10)
    assert done.ids == script[0] and done.ended
    assert cut.ids == script[1][:10] and not cut.ended


def test_the_models_own_end_tokens_end_an_answer_too(tokenizer):
    turn_end = tokenizer.bos_token_id
    model = scripted_llama([[*ids_of(tokenizer, "네."), turn_end]])
    model.generation_config.eos_token_id = [EOS, turn_end]
    (answer,) = generate_answers(model, tokenizer, ["가"], max_new_tokens=30)
    assert answer.ended and answer.ids[-1] == turn_end


def test_an_end_that_a_config_names_and_that_is_an_ordinary_token_ends_nothing(tokenizer):
    said = ids_of(tokenizer, "네, 오늘은 맑아요.")
    model = scripted_llama([[*said, EOS]])
    model.generation_config.eos_token_id = [EOS, said[2]]
    (answer,) = generate_answers(model, tokenizer, ["가"], max_new_tokens=30)
    assert answer.ids == [*said, EOS] and answer.ended


def test_the_stop_of_the_template_ends_an_answer_where_eos_is_another_token(tokenizer):
    chatml = copy.deepcopy(tokenizer)
    chatml.chat_template = chatml.chat_template.replace("{{ eos_token }}", "<s>")
    said = ids_of(tokenizer, "네.")
    (answer,) = generate_answers(scripted_llama([[*said, chatml.bos_token_id, *said]]), chatml, ["가"])
    assert answer.ended and answer.text == "네."


@pytest.mark.parametrize("settings", [{}, {"do_sample": True, "seed": 0}, {"num_beams": 2}])
def test_rows_of_the_output_that_no_token_has_are_never_taken(settings, tokenizer):
    """Vocabularies are padded to a round number; here the rows of the padding are by far the likeliest."""
    model = tiny_llama(vocab_size=len(tokenizer) + 20)
    with torch.no_grad():
        model.lm_head.weight[len(tokenizer) :] *= 20
    answers = generate_answers(model, tokenizer, ["안녕?", "hello"], max_new_tokens=8, **settings)
    assert all(token_id < len(tokenizer) for answer in answers for token_id in answer.ids)


def test_half_a_syllable_at_the_end_is_left_out_of_the_text_but_not_of_the_ids(tokenizer):
    said = ids_of(tokenizer, "네 뷁")
    assert tokenizer.decode(said[:-1]).endswith("\ufffd")  # the cut goes through the syllable
    (answer,) = generate_answers(scripted_llama([said]), tokenizer, ["가"], max_new_tokens=len(said) - 1)
    assert answer.text == "네 " and answer.ids == said[:-1]


@pytest.mark.parametrize("pad", [True, False], ids=["pad", "pad is eos"])
@pytest.mark.parametrize("stop_strings", ["\n", ["사람", "\n"]])
def test_a_stop_string_ends_an_answer(pad, stop_strings):
    tokenizer = tiny_tokenizer(pad=pad)
    script = [
        ids_of(tokenizer, "네.\n다음"),
        [*ids_of(tokenizer, "오늘은 맑아요."), EOS],
        ids_of(tokenizer, "네" * 40),
    ]
    stopped, ended, cut = generate_answers(
        scripted_llama(script), tokenizer, ["가", "나", "다"], stop_strings=stop_strings, max_new_tokens=40
    )
    assert stopped.text == "네." and stopped.ended
    assert tokenizer.decode(stopped.ids).rstrip("\ufffd") == "네.\n"
    assert ended.text == "오늘은 맑아요." and ended.ended and ended.ids == script[1]
    assert len(cut.ids) == 40 and not cut.ended


def test_a_korean_stop_string_holds_across_tokens(tokenizer):
    said = ids_of(tokenizer, "맑아요. 사람: 네")
    (answer,) = generate_answers(scripted_llama([said]), tokenizer, ["가"], stop_strings=["사람:"])
    assert answer.text == "맑아요. " and answer.ended


def test_a_stop_string_that_began_in_the_prompt_leaves_no_padding(tokenizer):
    script = [[*ids_of(tokenizer, "\n네.")], ids_of(tokenizer, "가" * 40)]
    stopped, _ = generate_answers(
        scripted_llama(script), tokenizer, ["가\n", "나"], raw=True, stop_strings=["\n\n"], max_new_tokens=20
    )
    assert stopped.ids == ids_of(tokenizer, "\n") and stopped.ended


# Prompts.


def spy_on(model, monkeypatch) -> list[dict]:
    calls = []
    generate = type(model).generate

    def spy(self, **kwargs):
        calls.append(kwargs)
        return generate(self, **kwargs)

    monkeypatch.setattr(type(model), "generate", spy)
    return calls


def test_strings_and_messages_go_through_the_chat_template(tokenizer, monkeypatch):
    model = tiny_llama()
    calls = spy_on(model, monkeypatch)
    dialogue = [
        {"role": "user", "content": "안녕"},
        {"role": "assistant", "content": "네"},
        {"role": "user", "content": "뭐 해?"},
    ]
    begun = [{"role": "user", "content": "안녕"}, {"role": "assistant", "content": "네, 저는"}]
    generate_answers(model, tokenizer, ["안녕", dialogue, begun], batch_size=1, max_new_tokens=1)
    assert [tokenizer.decode(call["input_ids"][0]) for call in calls] == [
        "<|user|>\n안녕</s>\n<|assistant|>\n",
        "<|user|>\n안녕</s>\n<|assistant|>\n네</s>\n<|user|>\n뭐 해?</s>\n<|assistant|>\n",
        "<|user|>\n안녕</s>\n<|assistant|>\n네, 저는",
    ]


def test_raw_strings_are_continued_as_they_are(tokenizer, monkeypatch):
    model = tiny_llama()
    calls = spy_on(model, monkeypatch)
    generate_answers(model, tokenizer, ["안녕"], raw=True, max_new_tokens=1)
    plain = copy.deepcopy(tokenizer)
    plain.chat_template = None
    generate_answers(model, plain, ["안녕"], max_new_tokens=1)
    assert [tokenizer.decode(call["input_ids"][0]) for call in calls] == ["안녕", "안녕"]


@pytest.mark.parametrize("make_model", [tiny_llama, tiny_gpt2])
@pytest.mark.parametrize("pad", [True, False], ids=["pad", "pad is eos"])
@pytest.mark.parametrize("settings", [{}, {"num_beams": 3, "no_repeat_ngram_size": 2}])
def test_a_prompt_has_the_same_answer_alone_and_beside_longer_ones(make_model, settings, pad):
    model, tokenizer = make_model(), tiny_tokenizer(pad=pad)
    together = generate_answers(model, tokenizer, PROMPTS, max_new_tokens=12, **settings)
    alone = [generate_answers(model, tokenizer, [prompt], max_new_tokens=12, **settings)[0] for prompt in PROMPTS]
    assert together == alone


def test_token_type_ids_are_not_passed_on():
    tokenizer = tiny_tokenizer()
    typed = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=tokenizer.chat_template,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    assert "token_type_ids" in typed("가")
    for model in (tiny_llama(), tiny_gpt2()):  # the one raises on token types, the other adds an embedding
        assert [answer.ids for answer in generate_answers(model, typed, PROMPTS, max_new_tokens=8)] == [
            answer.ids for answer in generate_answers(model, tokenizer, PROMPTS, max_new_tokens=8)
        ]


def test_no_prompts_no_answers(tokenizer):
    assert generate_answers(tiny_llama(), tokenizer, []) == []


@pytest.mark.parametrize(
    ("prompts", "settings", "message"),
    [
        ("오늘", {}, "one string"),
        ([""], {"raw": True}, "no tokens"),
        ([[{"role": "user", "content": "가"}]], {"raw": True}, "raw"),
        (["가"], {"temperature": 0.7}, "temperature has no effect"),
        (["가"], {"top_k": 5, "num_beams": 2}, "top_k has no effect"),
        (["가"], {"num_return_sequences": 2}, "one answer per prompt"),
        (["가"], {"max_new_tokens": 0}, "at least 1"),
        (["가"], {"batch_size": 0}, "at least 1"),
        (["가"], {"stop_strings": ["\n", ""]}, "stop string is empty"),
        (["네 \ud83d"], {}, "half a character"),
        ([[{"role": "user", "content": "네 \udcbe"}]], {}, "half a character"),
        (["가", "가" * 200], {}, "Prompt 1 has .* 256 positions"),
    ],
)
def test_what_cannot_be_answered_is_an_error(prompts, settings, message, tokenizer):
    with pytest.raises(ValueError, match=message):
        generate_answers(tiny_llama(), tokenizer, prompts, **settings)


def test_messages_that_the_template_refuses_are_an_error():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('no such role') }}"
    with pytest.raises(ValueError, match="chat template does not render .*no such role"):
        generate_answers(tiny_llama(), tokenizer, ["가"])


def test_messages_need_a_chat_template(tokenizer):
    plain = copy.deepcopy(tokenizer)
    plain.chat_template = None
    with pytest.raises(ValueError, match="needs a chat template"):
        generate_answers(tiny_llama(), plain, [[{"role": "user", "content": "가"}]])


# What is left behind: nothing.


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_modes_of_all_modules_and_the_tokenizer_are_given_back(padding_side):
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = padding_side
    model = tiny_llama(attention_dropout=0.5).train()
    model.model.layers[0].eval()  # frozen on purpose
    before = {name: module.training for name, module in model.named_modules()}
    first = generate_answers(model, tokenizer, PROMPTS, max_new_tokens=8)
    assert {name: module.training for name, module in model.named_modules()} == before
    assert tokenizer.padding_side == padding_side
    assert first == generate_answers(model, tokenizer, PROMPTS, max_new_tokens=8)  # no dropout in either


def test_modes_are_given_back_after_an_error(tokenizer, monkeypatch):
    model = tiny_llama().train()
    monkeypatch.setattr(model, "generate", lambda **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        generate_answers(model, tokenizer, ["가"])
    assert all(module.training for module in model.modules())


def test_gradient_checkpointing_changes_no_answer_and_keeps_the_cache(tokenizer):
    expected = generate_answers(tiny_llama(), tokenizer, PROMPTS, max_new_tokens=8)
    model = tiny_llama().train()
    model.gradient_checkpointing_enable()
    model.config.use_cache = model.generation_config.use_cache = False
    lengths = []
    model.model.layers[0].register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(args[0].shape[1]), with_kwargs=True
    )
    assert generate_answers(model, tokenizer, PROMPTS, max_new_tokens=8) == expected
    assert lengths[1:] == [1] * (len(lengths) - 1)  # one token at a time
    assert model.is_gradient_checkpointing and model.config.use_cache is False


def test_a_seed_decides_the_samples_and_leaves_the_global_state_alone(tokenizer):
    model = tiny_llama()

    def sample(seed):
        return generate_answers(model, tokenizer, PROMPTS, seed=seed, do_sample=True, temperature=1.5, top_k=0)

    torch.manual_seed(5)
    random.seed(5)
    expected = torch.rand(3), random.random()
    torch.manual_seed(5)
    random.seed(5)
    first = sample(1)
    after = torch.rand(3), random.random()
    assert torch.equal(after[0], expected[0]) and after[1] == expected[1]
    assert first == sample(1) != sample(2)


def test_no_gradients_are_left(tokenizer):
    model = lora(tiny_llama())
    generate_answers(model, tokenizer, ["가"], max_new_tokens=4)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert any(parameter.requires_grad for parameter in model.parameters())


def test_4bit_lora_in_the_middle_of_training(tokenizer, tmp_path):
    tiny_llama(hidden_size=64).save_pretrained(tmp_path)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype="float32"
    )
    model = lora(LlamaForCausalLM.from_pretrained(tmp_path, quantization_config=quantization)).train()
    for parameter in model.parameters():  # what TRL does to the adapters of a quantized model
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
    model.gradient_checkpointing_enable()
    answers = generate_answers(model, tokenizer, PROMPTS, max_new_tokens=8)
    assert [len(answer.ids) for answer in answers] and model.training
    with model.disable_adapter():
        assert answers != generate_answers(model, tokenizer, PROMPTS, max_new_tokens=8)


# Special tokens.


def emoji_tokenizer():
    """Emoji and :) are special tokens, as in KoGPT2, and so are the marks of the template's turns."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["😀", ":)", "<|user|>", "<|assistant|>"]})
    return tokenizer


def test_emoji_stay_though_they_are_special_tokens_and_control_tokens_go():
    tokenizer = emoji_tokenizer()
    said = ids_of(tokenizer, "<s>네 😀 :)<pad></s><|user|>")
    assert tokenizer.decode(said, skip_special_tokens=True) == "네  "
    assert decode_answer(tokenizer, said) == "네 😀 :)"


def test_an_unknown_token_is_shown():
    tokenizer = tiny_tokenizer()
    assert decode_answer(tokenizer, ids_of(tokenizer, "가<unk>")) == "가<unk>"


@pytest.mark.assets
def test_emoji_of_kogpt2_stay(assets):
    tokenizer = kogpt2(assets)
    text = "좋아요 😀 :) 😍"
    assert decode_answer(tokenizer, [*ids_of(tokenizer, text), tokenizer.eos_token_id]) == text


# Token table.


def kogpt2(assets):
    return PreTrainedTokenizerFast.from_pretrained(
        assets / "kogpt2-base-v2", bos_token="</s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )


@pytest.mark.assets
def test_the_table_of_kogpt2_is_the_courses(assets):
    tokenizer = kogpt2(assets)
    text = "바람도 없는 공중에 수직의 파문을 내이며"
    encoding = tokenizer(text)
    table = token_table(tokenizer, text)
    assert table == list(zip(encoding.tokens(), encoding.input_ids, strict=True))
    assert table[:3] == [
        ("▁바람", encoding.input_ids[0]),
        ("도", encoding.input_ids[1]),
        ("▁없는", encoding.input_ids[2]),
    ]


def test_a_byte_level_table_can_be_read(tokenizer):
    table = token_table(tokenizer, "오늘 hello\n뷁</s>")
    assert [token_id for _, token_id in table] == ids_of(tokenizer, "오늘 hello\n뷁</s>")
    tokens = [token for token, _ in table]
    assert "\n" in tokens and tokens[-1] == "</s>" and "hell" in tokens
    assert "".join(tokens[-5:-1]) == "\n" + r"\xeb\xb7\x81"


def test_half_a_character_has_no_table(tokenizer):
    with pytest.raises(ValueError, match="half a character"):
        token_table(tokenizer, "네 \ud83d")


def test_the_table_of_nothing_is_empty(tokenizer):
    assert token_table(tokenizer, "") == []


# Adapters.


@pytest.fixture
def base(tmp_path):
    tiny_llama().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def save_adapter(path, seed=0, model=None, **kwargs):
    lora(tiny_llama() if model is None else model, seed, **kwargs).save_pretrained(path)
    return path


def test_several_adapters_share_one_base(base, tmp_path, tokenizer):
    paths = [save_adapter(tmp_path / f"a{seed}", seed) for seed in (1, 2)]
    model = load_generator(base, paths)
    expected = [generate_answers(tiny_llama(), tokenizer, PROMPTS, max_new_tokens=8)]
    expected += [generate_answers(lora(tiny_llama(), seed), tokenizer, PROMPTS, max_new_tokens=8) for seed in (1, 2)]
    assert expected[0] != expected[1] != expected[2]
    for number, answers in [(None, 0), (1, 2), (0, 1), (None, 0), (0, 1)]:
        with use_adapter(model, number):
            assert generate_answers(model, tokenizer, PROMPTS, max_new_tokens=8) == expected[answers]
    base_parameters = sum(p.numel() for n, p in model.named_parameters() if "lora_" not in n)
    assert base_parameters == sum(p.numel() for p in tiny_llama().parameters())


def test_a_model_without_adapters_is_the_base(base, tokenizer):
    model = load_generator(base)
    with use_adapter(model, None):
        assert generate_answers(model, tokenizer, PROMPTS) == generate_answers(tiny_llama(), tokenizer, PROMPTS)


def test_adapters_go_on_a_4bit_base(tmp_path, tokenizer):
    tiny_llama(hidden_size=64).save_pretrained(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", model=tiny_llama(hidden_size=64))
    model = load_generator(tmp_path / "base", [adapter], load_in_4bit=True)
    assert model.get_base_model().is_loaded_in_4bit
    assert len(generate_answers(model, tokenizer, PROMPTS, max_new_tokens=4)) == 3


@pytest.mark.parametrize(
    "other",
    [
        lambda: tiny_llama(hidden_size=64),
        lambda: tiny_llama(layers=3),
        lambda: tiny_llama(layers=1),
    ],
    ids=["another width", "more layers", "fewer layers"],
)
def test_an_adapter_of_another_base_is_an_error(other, base, tmp_path):
    adapter = save_adapter(tmp_path / "adapter", model=other())
    with pytest.raises(ValueError, match=r"adapter does not belong to the base model .*base"):
        load_generator(base, [adapter])


def test_an_adapter_of_another_architecture_is_an_error(base, tmp_path):
    config = LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    get_peft_model(tiny_gpt2(), config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="does not belong to the base model .*c_attn"):
        load_generator(base, [tmp_path / "adapter"])


def test_the_second_adapter_is_checked_as_well(base, tmp_path):
    right = save_adapter(tmp_path / "right")
    wrong = save_adapter(tmp_path / "wrong", model=tiny_llama(hidden_size=64))
    with pytest.raises(ValueError, match="wrong does not belong"):
        load_generator(base, [right, wrong])


def test_a_reward_adapter_does_not_generate(base, tmp_path):
    config = LoraConfig(target_modules=["q_proj"], task_type="SEQ_CLS")
    get_peft_model(tiny_reward_model(), config).save_pretrained(tmp_path / "reward")
    with pytest.raises(ValueError, match="reward model"):
        load_generator(base, [tmp_path / "reward"])


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_with_a_file_missing_is_an_error(missing, base, tmp_path):
    adapter = save_adapter(tmp_path / "adapter")
    (adapter / missing).unlink()
    with pytest.raises(ValueError, match=f"{missing} missing"):
        load_generator(base, [adapter])


def test_a_pickled_adapter_is_not_read(base, tmp_path):
    adapter = save_adapter(tmp_path / "adapter")
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ValueError, match="not loaded"):
        load_generator(base, [adapter])


def test_a_pickled_base_is_not_read(base):
    torch.save(load_file(base / "model.safetensors"), base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="holds pickled weights"):
        load_generator(base)


@pytest.mark.parametrize("config", ["{broken", "[]", "{}", '{"peft_type": "NO_SUCH"}'])
def test_an_adapter_with_a_broken_config_is_an_error(config, base, tmp_path):
    adapter = save_adapter(tmp_path / "adapter")
    (adapter / "adapter_config.json").write_text(config)
    with pytest.raises(ValueError, match="adapter_config.json is not the config of an adapter"):
        load_generator(base, [adapter])


def test_broken_weights_are_an_error_that_names_the_file(base, tmp_path):
    adapter = save_adapter(tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match="adapter_model.safetensors is broken"):
        load_generator(base, [adapter])
    (base / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match="The weights of .*base are broken"):
        load_generator(base)


def test_a_model_that_is_nowhere_is_named():
    with pytest.raises(OSError, match="no folder nobody/nothing here, and as a repository of the Hub"):
        load_generator("nobody/nothing")


def test_an_adapter_that_is_nowhere_is_an_error(base):
    for path in ("no/such/folder/at/all", "nobody/nothing"):
        with pytest.raises(ValueError, match=f"No adapter {path}"):
            load_generator(base, [path])


def test_an_adapter_with_half_its_tensors_is_an_error(base, tmp_path):
    adapter = save_adapter(tmp_path / "adapter")
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file(dict(list(tensors.items())[::2]), adapter / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="one side only"):
        load_generator(base, [adapter])


def test_a_base_that_moved_is_still_the_base(base, tmp_path):
    adapter = save_adapter(tmp_path / "adapter")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "/gone/base"}))
    assert load_generator(base, [adapter]).active_adapter == "adapter_0"


def test_the_course_asks_four_things():
    assert len(COURSE_PROMPTS) == 4 and all(prompt.endswith("?") for prompt in COURSE_PROMPTS)
