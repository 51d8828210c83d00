"""Checks and repairs of small tokenizers of every build, with roles, templates and configs as they come."""

import copy
import json
from itertools import count

import pytest
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import GPT2Config, LlamaConfig, PreTrainedTokenizerFast

from tests.tokenizers import CHATML, PLAIN_TEMPLATE, byte_level, healthy, kogpt2_like
from trl_kochat.tokenizer import (
    check_tokenizer,
    fix_tokenizer,
    load_tokenizer,
    set_chat_template,
    template_names,
    tokenize_rows,
    unicode_form,
)

from .inputs import fuzz, outcome, replacements, texts, values, whole_texts


SPECIALS = ("<pad>", "<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "[PAD]", "😀", "\n")
ENTRIES = (*SPECIALS, *"▁ 가나다안녕하세요한글abcABC0123456789.,?!ㅋㅠ\u1100\u1161\ufffd\n", "##가", "안녕", "<unk2>")
VOCAB = {token: position for position, token in enumerate(dict.fromkeys(ENTRIES))}
TEMPLATES = (
    None,
    PLAIN_TEMPLATE,
    CHATML,
    "",
    "{{ messages[0]['content'] }}",
    "{{ undefined.attribute }}",
    "{% for m in messages %}",
    "{{ raise_exception('no') }}",
    "{{ 1 / 0 }}",
    "{{ messages[5]['content'] }}",
    "{{ messages[0]['content'] + 1 }}",
    "{{ bos_token }}{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}",
)


def model_of(kind, unk):
    if kind == "bpe":
        return models.BPE(vocab=VOCAB, merges=[("안", "녕")], unk_token=unk)
    if kind == "wordlevel":
        return models.WordLevel(vocab=VOCAB, unk_token=unk or "")
    if kind == "wordpiece":
        return models.WordPiece(vocab=VOCAB, unk_token=unk or "")
    return models.Unigram([(token, -1.0) for token in VOCAB], unk_id=None if unk is None else VOCAB[unk])


NORMALIZERS = {
    None: None,
    "nfc": normalizers.NFC(),
    "nfkc": normalizers.NFKC(),
    "nfd": normalizers.NFD(),
    "lower": normalizers.Lowercase(),
    "strip": normalizers.Strip(),
    "replace": normalizers.Replace("안", ""),
    "ascii": normalizers.BertNormalizer(strip_accents=True),
}
SPLITS = {
    None: None,
    "space": pre_tokenizers.Whitespace(),
    "metaspace": pre_tokenizers.Metaspace(),
    "bytes": pre_tokenizers.ByteLevel(),
    "digits": pre_tokenizers.Digits(),
}
DECODERS = {
    None: None,
    "bytes": decoders.ByteLevel(),
    "metaspace": decoders.Metaspace(),
    "wordpiece": decoders.WordPiece(),
}
role = st.sampled_from((None, None, *SPECIALS, "가", "<new>", "요"))


@st.composite
def tokenizers(draw):
    """A tokenizer and what it is made of: one of four models or byte-level BPE, and all that goes around it."""
    specials = draw(st.lists(st.sampled_from(SPECIALS), unique=True, max_size=6))
    if draw(st.booleans()):
        backend = byte_level(normalizer=draw(st.sampled_from((None, "NFC", "NFKC"))), specials=())
        backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    else:
        unk = draw(st.sampled_from((None, "<unk>", "</s>", "<unk2>")))
        backend = Tokenizer(model_of(draw(st.sampled_from(("bpe", "wordlevel", "wordpiece", "unigram"))), unk))
        normalizer, split = (
            NORMALIZERS[draw(st.sampled_from(list(NORMALIZERS)))],
            SPLITS[draw(st.sampled_from(list(SPLITS)))],
        )
        decoder = DECODERS[draw(st.sampled_from(list(DECODERS)))]
        if normalizer is not None:
            backend.normalizer = normalizer
        if split is not None:
            backend.pre_tokenizer = split
        if decoder is not None:
            backend.decoder = decoder
        backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    if specials and draw(st.booleans()):
        end = specials[0]
        backend.post_processor = (
            processors.TemplateProcessing(
                single=f"$A {end}" if draw(st.booleans()) else f"{end} $A",
                special_tokens=[(end, backend.token_to_id(end))],
            )
            if " " not in end and "\n" not in end
            else None
        )
    roles = {name: draw(role) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=draw(st.sampled_from(TEMPLATES)),
        padding_side=draw(st.sampled_from(("left", "right"))),
        model_max_length=draw(st.sampled_from((8, 512, 10**30))),
        model_input_names=[
            "input_ids",
            *draw(st.lists(st.sampled_from(("token_type_ids", "attention_mask")), unique=True)),
        ],
        **{name: token for name, token in roles.items() if token is not None},
    )


ids = st.none() | st.integers(0, 600)
configs = st.none() | st.builds(
    lambda kind, size, **special: kind(vocab_size=size, **special),
    st.sampled_from((LlamaConfig, GPT2Config)),
    st.integers(1, 1_000),
    bos_token_id=ids,
    eos_token_id=ids | st.lists(st.integers(0, 600), max_size=2),
    pad_token_id=ids,
)
text_rows = st.lists(st.fixed_dictionaries({"prompt": texts, "completion": texts | values}), max_size=3)
message = st.fixed_dictionaries({"role": st.sampled_from(("system", "user", "assistant")), "content": whole_texts})
conversations = st.lists(message | values, max_size=2)
message_rows = st.lists(
    st.fixed_dictionaries({"prompt": conversations, "chosen": conversations, "rejected": conversations}), max_size=2
)
rows = st.none() | text_rows | message_rows | st.lists(values, max_size=2)


def state(tokenizer):
    return (
        tokenizer.backend_tokenizer.to_str(),
        tokenizer.special_tokens_map,
        tokenizer.chat_template,
        tokenizer.padding_side,
        tokenizer.model_max_length,
        tuple(tokenizer.model_input_names),
        json.dumps(tokenizer.init_kwargs, default=str, sort_keys=True),
    )


@fuzz(0.5, tokenizer=tokenizers(), config=configs, rows=rows, max_length=st.none() | st.integers(-1, 40))
def test_a_check_changes_nothing_and_says_each_thing_once(tokenizer, config, rows, max_length):
    before = state(tokenizer), config and config.to_dict(), copy.deepcopy(rows)
    findings, _ = outcome(lambda: check_tokenizer(tokenizer, config, rows, max_length=max_length))
    assert (state(tokenizer), config and config.to_dict()) == before[:2] and repr(rows) == repr(before[2])
    if findings is not None:
        codes = [finding.code for finding in findings]
        assert len(set(codes)) == len(codes)
        assert all(str(finding) and len(finding.message) < 1_500 for finding in findings)
        for finding in findings:
            json.dumps(dict(finding.measured))


@fuzz(0.5, tokenizer=tokenizers(), config=configs)
def test_a_repair_leaves_the_given_one_alone_and_is_done_the_second_time(tokenizer, config):
    before = state(tokenizer)
    result, _ = outcome(lambda: fix_tokenizer(tokenizer, config))
    assert state(tokenizer) == before
    if result is None:
        return
    fixed, findings = result
    assert fixed.get_vocab() == tokenizer.get_vocab()  # no token is invented
    again, more = fix_tokenizer(fixed, config)
    assert again is fixed and not any(finding.fixed for finding in more)
    found = {finding.code for finding in check_tokenizer(fixed, config)}
    assert not found & {finding.code for finding in findings if finding.fixed}


@fuzz(0.3, tokenizer=tokenizers(), rows=text_rows | message_rows)
def test_rows_become_ids_or_are_refused(tokenizer, rows):
    before = state(tokenizer), repr(rows)
    tokenized, _ = outcome(lambda: tokenize_rows(tokenizer, rows))
    assert (state(tokenizer), repr(rows)) == before
    if tokenized is not None:
        assert len(tokenized) == len(rows)
        assert all(0 <= row.completion_start <= len(row.prompt_ids) for row in tokenized)


@fuzz(0.3, tokenizer=tokenizers(), name=st.sampled_from(template_names()) | texts)
def test_a_template_is_installed_whole_or_not_at_all(tokenizer, name):
    before = state(tokenizer)
    assert unicode_form(tokenizer) in ("NFC", "NFKC")
    installed, _ = outcome(lambda: set_chat_template(tokenizer, name))
    if installed is None:
        assert state(tokenizer) == before
    else:
        prompt = [{"role": "user", "content": "안녕?"}]
        text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        assert "안녕?" in text and not replacements(text)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")
    return folder, [healthy(folder / "healthy"), kogpt2_like(folder / "kogpt2")], count()


json_junk = values.filter(lambda value: not isinstance(value, bytes))


@fuzz(
    0.1,
    which=st.integers(0, 1),
    file=st.sampled_from(("tokenizer.json", "tokenizer_config.json", "config.json")),
    place=st.floats(0, 1),
    cut=st.integers(0, 4_000),
    junk=st.binary(max_size=5),
)
def test_damaged_files_load_or_are_refused_by_name(folders, which, file, place, cut, junk):
    folder, given, number = folders
    target = folder / f"damaged{next(number)}"
    target.mkdir()
    for path in given[which].iterdir():
        data = path.read_bytes()
        if path.name == file:
            at = int(place * len(data))
            data = data[:at] + junk + data[at + cut :]
        (target / path.name).write_bytes(data)
    outcome(lambda: load_tokenizer(target), says=str(target))


@fuzz(
    0.2,
    file=st.sampled_from(("tokenizer_config.json", "config.json", "generation_config.json")),
    key=st.sampled_from(
        ("eos_token", "pad_token", "eos_token_id", "vocab_size", "model_type", "tokenizer_class", "text_config")
        + ("extra_special_tokens", "added_tokens_decoder", "chat_template", "model_input_names", "model_max_length")
    ),
    value=values,
)
def test_settings_of_any_type_load_or_are_refused_by_name(folders, file, key, value):
    folder, given, number = folders
    target = folder / f"settings{next(number)}"
    target.mkdir()
    for path in given[0].iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    path = target / file
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**content, key: value}, default=str, skipkeys=True), encoding="utf-8")
    outcome(lambda: load_tokenizer(target), says=str(target))
