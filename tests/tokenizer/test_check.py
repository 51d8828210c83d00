import json

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    ByT5Tokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from tests.tokenizers import (
    CHATML,
    PLAIN_TEMPLATE,
    byte_fallback,
    exaone_like,
    healthy,
    kogpt2_like,
    qwen_like,
    special,
)
from trl_kochat.tokenizer import Finding, check_tokenizer, fix_tokenizer, load_tokenizer, unicode_form


def by_code(findings):
    codes = [finding.code for finding in findings]
    assert len(codes) == len(set(codes)), "one finding per code"
    return dict(zip(codes, findings, strict=True))


def notable(findings):
    return {finding.code for finding in findings if finding.severity != "info"}


@pytest.fixture
def tokenizer(tmp_path):
    return AutoTokenizer.from_pretrained(healthy(tmp_path / "healthy"))


def load(folder, **kwargs):
    return AutoTokenizer.from_pretrained(folder, **kwargs)


@pytest.mark.parametrize("make", [healthy, qwen_like], ids=lambda make: make.__name__)
def test_a_healthy_tokenizer_is_not_accused(tmp_path, make):
    assert notable(check_tokenizer(load(make(tmp_path)))) == set()


def test_exaone_is_not_accused_where_the_class_follows_the_file(tmp_path):
    assert notable(check_tokenizer(load(exaone_like(tmp_path, declared="PreTrainedTokenizerFast")))) == set()


@pytest.mark.parametrize("make", [kogpt2_like, exaone_like, byte_fallback])
def test_a_fixed_tokenizer_is_not_accused(tmp_path, make):
    tokenizer = load_tokenizer(make(tmp_path))
    assert notable(check_tokenizer(tokenizer)) == set()
    model_config = json.loads((tmp_path / "config.json").read_text())
    assert notable(check_tokenizer(tokenizer, LlamaConfig(**{**model_config, "model_type": "llama"}))) == set()


def test_a_healthy_gpt2_shape_is_not_accused(tmp_path):
    """Byte-level GPT2Tokenizer with its own files, no pad token being all there is to say."""
    folder = healthy(tmp_path, tokenizer_class="GPT2Tokenizer", unk_token="</s>")
    state = json.loads((folder / "tokenizer.json").read_text())
    state["normalizer"] = None
    (folder / "tokenizer.json").write_text(json.dumps(state))
    findings = check_tokenizer(load(folder))
    assert notable(findings) == set()
    assert by_code(findings)["unk_is_eos"].severity == "info"  # nothing is ever unknown


# What is planted, and the code that must be found.


def test_pipeline_rebuilt(tmp_path):
    for make in (kogpt2_like, exaone_like):
        finding = by_code(check_tokenizer(load(make(tmp_path / make.__name__))))["pipeline_rebuilt"]
        assert finding.severity == "error" and finding.fixable
        assert finding.measured["differing"] > 0


def test_a_pipeline_changed_on_purpose_is_not_called_rebuilt(tokenizer):
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    assert "pipeline_rebuilt" not in by_code(check_tokenizer(tokenizer))


def test_hangul_lost_is_found_where_no_file_tells(tmp_path):
    """The damage was saved: tokenizer.json itself is wrong now, and nothing can be rebuilt."""
    course = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "</s>"}
    load(kogpt2_like(tmp_path / "original"), **course).save_pretrained(tmp_path / "saved")
    finding = by_code(check_tokenizer(load(tmp_path / "saved")))["hangul_lost"]
    assert finding.severity == "error" and not finding.fixable
    assert finding.measured["kept"] < 0.1 * finding.measured["total"]
    assert "original files" in finding.message


def test_syllables_without_a_writing_are_named(tmp_path):
    finding = by_code(check_tokenizer(load_tokenizer(kogpt2_like(tmp_path))))["hangul_missing"]
    assert finding.severity == "info"
    assert finding.measured["missing"] == 3 and finding.measured["vanished"] == 0
    assert set(finding.measured["examples"]) == set("걔걍쌤")


def test_common_syllables_that_leave_no_token_are_a_warning():
    entries = ["</s>", "<pad>", "▁", *(char for char in map(chr, range(0xAC00, 0xD7A4)) if char not in "걔걍쌤")]
    backend = Tokenizer(models.BPE(vocab={entry: place for place, entry in enumerate(entries)}, merges=[]))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    backend.add_special_tokens(special("</s>", "<pad>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="<pad>")
    finding = by_code(check_tokenizer(tokenizer))["hangul_missing"]
    assert finding.severity == "warning" and finding.measured["missing"] == finding.measured["vanished"] == 3
    assert "3 of them leave no token at all" in finding.message


def test_newline_lost(tokenizer):
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\n", " ")
    assert notable(check_tokenizer(tokenizer)) == {"newline_lost"}


def test_jamo_rewritten(tmp_path, tokenizer):
    finding = by_code(check_tokenizer(load_tokenizer(kogpt2_like(tmp_path))))["jamo_rewritten"]
    assert finding.severity == "info"
    assert finding.measured["rewritten"]["ㅋㅋㅋ"] == "\u110f\u110f\u110f"
    # This vocabulary was made from text with ㅋㅋㅋ, so here NFKC is out of place.
    tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()
    finding = by_code(check_tokenizer(tokenizer))["jamo_rewritten"]
    assert finding.severity == "warning" and finding.measured["unreachable_entries"] > 0


def test_no_eos(tmp_path, tokenizer):
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, pad_token="<pad>")
    finding = by_code(check_tokenizer(bare))["no_eos"]
    assert finding.severity == "error" and finding.fixable  # </s> is the only special token spelled like an end


def test_eos_not_atomic(tokenizer):
    # An entry in the alphabet of bytes: as text it is written otherwise.
    tokenizer.eos_token = next(token for token in tokenizer.get_vocab() if token.startswith("Ġ") and len(token) > 3)
    assert notable(check_tokenizer(tokenizer)) == {"eos_not_atomic"}


def test_no_pad_and_pad_is_eos(tokenizer):
    tokenizer.pad_token = None
    finding = by_code(check_tokenizer(tokenizer))["no_pad"]
    assert (finding.severity, finding.fixable) == ("warning", True)
    tokenizer.pad_token = "</s>"
    finding = by_code(check_tokenizer(tokenizer))["pad_is_eos"]
    assert (finding.severity, finding.fixable) == ("warning", True)
    assert "<pad>" in finding.message


def test_unk_is_eos(tmp_path, tokenizer):
    tokenizer.unk_token = "</s>"
    finding = by_code(check_tokenizer(tokenizer))["unk_is_eos"]
    assert finding.severity == "info"  # byte-level, and its model names no unknown token
    characters = load_tokenizer(kogpt2_like(tmp_path))
    characters.unk_token = "</s>"
    finding = by_code(check_tokenizer(characters))["unk_is_eos"]
    assert (finding.severity, finding.fixable) == ("warning", True)
    characters.backend_tokenizer.model.unk_token = "</s>"
    finding = by_code(check_tokenizer(characters))["unk_is_eos"]
    assert finding.severity == "error"  # '@' in a text is the end of it


def test_outside_embedding(tmp_path, tokenizer):
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    finding = by_code(check_tokenizer(tokenizer))["outside_embedding"]
    assert finding.severity == "error" and "pad_token [PAD]" in finding.message
    # With a row for it, all is well.
    assert "outside_embedding" not in by_code(check_tokenizer(tokenizer, LlamaConfig(vocab_size=len(tokenizer))))


def test_the_embedding_of_the_model_counts(tokenizer):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=100, n_embd=8, n_layer=1, n_head=1))
    assert by_code(check_tokenizer(tokenizer, model))["outside_embedding"].measured["embedding_rows"] == 100


def test_adds_eos(tokenizer):
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.eos_token_id)]
    )
    assert notable(check_tokenizer(tokenizer)) == {"adds_eos"}


def test_token_type_ids(tokenizer):
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    assert notable(check_tokenizer(tokenizer)) == {"token_type_ids"}


def test_emoji_that_are_special(tmp_path):
    finding = by_code(check_tokenizer(load_tokenizer(kogpt2_like(tmp_path, emoji_special=True))))["text_is_special"]
    assert finding.severity == "warning"
    assert set(finding.measured["examples"]) == {"😀", "👍", ":)"}


def test_characters_that_vanish():
    vocab = {
        entry: position for position, entry in enumerate(["</s>", "<pad>", "▁", *map(chr, range(0xAC00, 0xD7A4))])
    }
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))  # no unknown token: what is not listed is left out
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    backend.add_special_tokens(special("</s>", "<pad>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="<pad>")
    finding = by_code(check_tokenizer(tokenizer))["characters_vanish"]
    assert finding.severity == "warning" and finding.measured["vanished"] == finding.measured["probed"]


def test_no_normalization_names_the_form_that_fits(tmp_path):
    broken = load(exaone_like(tmp_path))
    finding = by_code(check_tokenizer(broken))["no_normalization"]
    assert finding.severity == "info" and finding.measured["form"] == "NFKC" and finding.measured["nfd_cost"] > 1.5
    assert "no_normalization" not in by_code(check_tokenizer(fix_tokenizer(broken)[0]))


def test_the_form_follows_the_vocabulary(tmp_path, tokenizer):
    assert unicode_form(load(exaone_like(tmp_path / "nfkc"))) == "NFKC"
    assert unicode_form(load_tokenizer(kogpt2_like(tmp_path / "characters"))) == "NFKC"
    assert unicode_form(tokenizer) == "NFC"  # holds ㅋㅋ
    assert unicode_form(load(byte_fallback(tmp_path / "bytes"))) == "NFC"  # shows nothing


def test_no_chat_template(tokenizer):
    tokenizer.chat_template = None
    assert by_code(check_tokenizer(tokenizer))["no_chat_template"].severity == "info"


def test_template_whose_stop_is_not_eos(tmp_path):
    tokenizer = load(qwen_like(tmp_path, pad_token="<|fim_pad|>"), eos_token="<|endoftext|>", unk_token="<|im_start|>")
    finding = by_code(check_tokenizer(tokenizer))["template_stop"]
    assert finding.severity == "warning" and "SFTConfig(eos_token='<|im_end|>')" in finding.message
    # Where the model's generation stops at that token, it is a remark.
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=1))
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert by_code(check_tokenizer(tokenizer, model))["template_stop"].severity == "info"


def test_template_that_never_stops(tokenizer):
    tokenizer.chat_template = PLAIN_TEMPLATE.replace("eos_token", "''")
    finding = by_code(check_tokenizer(tokenizer))["template_stop"]
    assert finding.severity == "warning" and "Nothing teaches" in finding.message


def test_an_end_that_only_the_next_question_writes_is_none(tokenizer):
    between = "{% if m['role'] == 'assistant' and not loop.last %}</s>{% endif %}"
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}" + between + "{% endfor %}"
    finding = by_code(check_tokenizer(tokenizer))["template_stop"]
    assert finding.severity == "warning" and "only where another question follows" in finding.message


def test_a_template_whose_answers_open_by_themselves(tokenizer):
    tokenizer.chat_template = PLAIN_TEMPLATE.replace("add_generation_prompt", "false")
    finding = by_code(check_tokenizer(tokenizer))["template_opens_nothing"]
    assert finding.severity == "warning" and finding.measured["missing"] == "assistant"
    # As Llama 2 and Mistral have it, there is nothing to write.
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %} "
        "{{ m['content'] }}</s>{% endif %}{% endfor %}"
    )
    assert not {code for code in by_code(check_tokenizer(tokenizer)) if code.startswith("template_opens")}


def test_a_template_that_opens_an_answer_behind_every_conversation(tokenizer):
    tokenizer.chat_template = PLAIN_TEMPLATE.replace("add_generation_prompt", "true")
    finding = by_code(check_tokenizer(tokenizer))["template_opens_always"]
    assert finding.severity == "warning" and finding.measured == {"tail": "assistant"}


@pytest.mark.parametrize(
    ("switch", "way_out"),
    [("true", "set_chat_template"), ("enable_thinking is undefined or enable_thinking", '{"enable_thinking": false}')],
)
def test_a_template_that_asks_for_what_is_not_trained(tokenizer, switch, way_out):
    asks = f"{{{{- 'assistant\\n' + ('<think>' if {switch} else '') -}}}}"
    tokenizer.chat_template = PLAIN_TEMPLATE.replace("{{- 'assistant\\n' -}}", asks)
    finding = by_code(check_tokenizer(tokenizer))["template_opens_otherwise"]
    assert finding.severity == "warning" and finding.measured == {"asked": "<think>", "trained": ""}
    assert way_out in finding.message


@pytest.mark.parametrize("form", ["%d %b %Y", "%Y-%m-%d", "%Y년 %m월 %d일"])
def test_a_template_that_writes_the_day(tokenizer, form):
    tokenizer.chat_template = f"{{{{ strftime_now('{form}') }}}}: " + PLAIN_TEMPLATE
    finding = by_code(check_tokenizer(tokenizer))["template_date"]
    assert finding.severity == "warning" and "Write one into it" in finding.message
    given = f"{{% set day = date_string if date_string is defined else strftime_now('{form}') %}}{{{{ day }}}}\n"
    tokenizer.chat_template = given + PLAIN_TEMPLATE
    assert '{"date_string": ...}' in by_code(check_tokenizer(tokenizer))["template_date"].message
    tokenizer.chat_template = "Today Date: 26 Jul 2024\n" + PLAIN_TEMPLATE
    assert by_code(check_tokenizer(tokenizer))["template_date"].severity == "info"


def test_template_with_a_system_text_of_its_own(tmp_path, tokenizer):
    assert "template_adds_system" not in by_code(check_tokenizer(tokenizer))
    finding = by_code(check_tokenizer(load(qwen_like(tmp_path))))["template_adds_system"]
    assert finding.severity == "info" and "You are a helpful assistant of ours." in finding.measured["text"]


def test_template_that_writes_bos_twice(tokenizer):
    tokenizer.chat_template = "{{ bos_token }}" + PLAIN_TEMPLATE
    assert "template_bos_twice" not in by_code(check_tokenizer(tokenizer))
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    assert by_code(check_tokenizer(tokenizer))["template_bos_twice"].severity == "info"
    tokenizer.chat_template = "{{ bos_token }}{{ bos_token }}" + PLAIN_TEMPLATE
    assert by_code(check_tokenizer(tokenizer))["template_bos_twice"].severity == "warning"


def test_template_that_does_not_render(tokenizer):
    tokenizer.chat_template = "{{ raise_exception('only one turn') }}"
    finding = by_code(check_tokenizer(tokenizer))["template_fails"]
    assert finding.severity == "error" and "only one turn" in finding.message


@pytest.mark.parametrize("template", ["안녕", PLAIN_TEMPLATE.replace("m['content']", "''", 1)])
def test_template_that_does_not_write_what_is_said(tokenizer, template):
    tokenizer.chat_template = template
    finding = by_code(check_tokenizer(tokenizer))["template_loses_text"]
    assert finding.severity == "error" and "user" in finding.measured["roles"]


def test_template_that_leaves_the_system_text_out(tokenizer):
    tokenizer.chat_template = PLAIN_TEMPLATE.replace("for m in messages", "for m in messages if m['role'] != 'system'")
    assert notable(check_tokenizer(tokenizer)) == {"template_loses_system"}


def test_template_that_refuses_a_system_text_is_a_remark(tokenizer):
    refuse = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    tokenizer.chat_template = refuse + PLAIN_TEMPLATE
    finding = by_code(check_tokenizer(tokenizer))["template_refuses_system"]
    assert finding.severity == "info" and "no system role" in finding.message


def test_a_template_without_system_role_is_fine(tokenizer):
    tokenizer.chat_template = CHATML.replace("You are a helpful assistant of ours.", "")
    assert "template_adds_system" not in by_code(check_tokenizer(tokenizer))


def test_learned_positions(tokenizer):
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=1, n_positions=64, **ids)
    for model in (config, GPT2LMHeadModel(config)):
        findings = check_tokenizer(tokenizer, model)
        assert by_code(findings)["learned_positions"].measured == {"positions": 64}
        assert notable(findings) == set()
    assert "learned_positions" not in by_code(check_tokenizer(tokenizer, LlamaConfig(vocab_size=len(tokenizer))))


def test_config_that_disagrees(tokenizer):
    config = LlamaConfig(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1, pad_token_id=2)
    finding = by_code(check_tokenizer(tokenizer, config))["config_disagrees"]
    assert (finding.severity, finding.fixable) == ("warning", True)
    assert finding.measured["tokenizer"]["eos_token_id"] == tokenizer.eos_token_id
    # An empty field misleads nobody.
    config = LlamaConfig(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=[1, tokenizer.eos_token_id])
    assert by_code(check_tokenizer(tokenizer, config))["config_disagrees"].severity == "info"


def test_wordpiece_is_examined_too():
    """A Korean BERT: no end token, no line breaks, unknown characters."""
    syllables = [*map(chr, range(0xAC00, 0xD7A4))]
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *syllables, *("##" + char for char in syllables), *".,?"]
    vocab = {entry: position for position, entry in enumerate(entries)}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.NFC(), pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(special("[PAD]", "[UNK]", "[CLS]", "[SEP]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")
    findings = by_code(check_tokenizer(tokenizer))
    assert notable(findings.values()) == {"no_eos", "newline_lost", "characters_unknown"}
    assert not findings["no_eos"].fixable and "[SEP]" in findings["no_eos"].message
    # With lower case, accents are stripped too, and with them the vowels of every decomposed syllable.
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")
    finding = by_code(check_tokenizer(tokenizer))["hangul_lost"]
    assert finding.severity == "error" and "pipeline before it is wrong" in finding.message


def test_unigram_knows_its_unknown_token_by_position():
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), ("\n", -1.0)]
    backend = Tokenizer(models.Unigram(pieces + [(chr(code), -5.0) for code in range(0xAC00, 0xD7A4)], unk_id=2))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    backend.add_special_tokens(special("<pad>", "</s>", "<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="<pad>")
    finding = by_code(check_tokenizer(tokenizer))["no_unk"]
    assert finding.fixable and "<unk>" in finding.message
    assert fix_tokenizer(tokenizer)[0].unk_token == "<unk>"


def test_a_tokenizer_written_in_python_is_examined_too():
    findings = by_code(check_tokenizer(ByT5Tokenizer()))
    assert notable(findings.values()) == {"adds_eos"}
    assert findings["no_normalization"].measured["nfd_cost"] > 2


def test_findings_come_worst_first_and_read_as_sentences(tmp_path):
    findings = check_tokenizer(load(kogpt2_like(tmp_path)))
    severities = [finding.severity for finding in findings]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)
    assert len(set(severities)) == 3
    for finding in findings:
        assert finding.message[-1] in ".)" and json.dumps(finding.measured)


def test_a_finding_says_whether_it_was_fixed():
    finding = Finding("pad_is_eos", "warning", "The pad is the end.", fixable=True, fixed=True)
    assert str(finding) == "fixed warning pad_is_eos: The pad is the end."


@pytest.mark.parametrize("given", ["skt/kogpt2-base-v2", None, 3])
def test_what_is_no_tokenizer_or_model_is_an_error(tokenizer, given):
    for look in (check_tokenizer, fix_tokenizer):
        with pytest.raises(ValueError, match="is not a tokenizer; load_tokenizer"):
            look(given)
        if given is not None:
            with pytest.raises(ValueError, match="is neither a model nor its config"):
                look(tokenizer, given)


def test_checking_changes_nothing(tmp_path):
    tokenizer = load(kogpt2_like(tmp_path))
    before = (tokenizer.backend_tokenizer.to_str(), dict(tokenizer.special_tokens_map))
    check_tokenizer(tokenizer, rows=[{"prompt": "안녕", "completion": "네"}])
    assert (tokenizer.backend_tokenizer.to_str(), dict(tokenizer.special_tokens_map)) == before
