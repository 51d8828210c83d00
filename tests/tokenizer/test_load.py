import json
import logging

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from tests.tokenizers import PLAIN_TEMPLATE, healthy, kogpt2_like, qwen_like
from trl_kochat.errors import InputError
from trl_kochat.tokenizer import fix_tokenizer, load_tokenizer, load_tokenizer_with_findings, read_template


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def in_cache(cache, repository, make, revision="main"):
    """Lay a model out as the Hub's cache does after a download."""
    repo = cache / f"models--{repository.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / revision).write_text(COMMIT)
    make(repo / "snapshots" / COMMIT)
    return repo / "snapshots" / COMMIT


def test_a_repository_in_the_cache_is_repaired_offline(tmp_path):
    folder = in_cache(tmp_path, "someone/kogpt2", kogpt2_like)
    tokenizer = load_tokenizer("someone/kogpt2", cache_dir=tmp_path)
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "안녕하세요. ㅋㅋ 2024년\n끝"
    assert tokenizer.encode(text) == own.encode(text).ids
    assert tokenizer.name_or_path == "someone/kogpt2"


def test_the_files_of_the_revision_decide(tmp_path):
    in_cache(tmp_path, "someone/kogpt2", kogpt2_like, revision="v2")
    tokenizer, findings = load_tokenizer_with_findings("someone/kogpt2", cache_dir=tmp_path, revision="v2")
    assert tokenizer.pad_token == "<pad>"
    assert {finding.code for finding in findings if finding.fixed} >= {"pipeline_rebuilt", "hangul_lost"}


def test_a_subfolder_is_found(tmp_path):
    kogpt2_like(tmp_path / "tokenizer")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "vocab_size": 20000}')
    broken = AutoTokenizer.from_pretrained(tmp_path, subfolder="tokenizer")
    assert type(broken).__name__ == "GPT2Tokenizer"
    tokenizer = load_tokenizer(tmp_path, subfolder="tokenizer")
    assert tokenizer.decode(tokenizer.encode("안녕하세요")) == "안녕하세요"


def test_a_template_is_installed_only_where_there_is_none(tmp_path):
    assert load_tokenizer(healthy(tmp_path / "own")).chat_template == PLAIN_TEMPLATE
    folder = kogpt2_like(tmp_path / "none")
    tokenizer, findings = load_tokenizer_with_findings(folder)
    assert tokenizer.chat_template == read_template("ko_instruct")
    assert next(finding for finding in findings if finding.code == "no_chat_template").fixed
    tokenizer, findings = load_tokenizer_with_findings(folder, chat_template=None)
    assert tokenizer.chat_template is None
    assert not next(finding for finding in findings if finding.code == "no_chat_template").fixed


def test_a_template_can_be_asked_for(tmp_path):
    tokenizer = load_tokenizer(qwen_like(tmp_path), chat_template="ko_instruct")
    assert tokenizer.chat_template == read_template("ko_instruct")
    with pytest.raises(ValueError, match="No chat template 'llama'"):
        load_tokenizer(tmp_path, chat_template="llama")


def test_keywords_reach_auto_tokenizer(tmp_path):
    tokenizer = load_tokenizer(kogpt2_like(tmp_path), padding_side="left", eos_token="<usr>", model_max_length=99)
    assert (tokenizer.padding_side, tokenizer.eos_token, tokenizer.model_max_length) == ("left", "<usr>", 99)


def test_every_change_is_one_line(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="trl_kochat"):
        load_tokenizer(kogpt2_like(tmp_path))
    lines = [record.getMessage() for record in caplog.records]
    assert all("\n" not in line for line in lines)
    for start in (
        "Fixed pipeline_rebuilt",
        "Fixed eos_token: '<|endoftext|>' became '</s>' (id 1)",
        "Fixed pad_token",
    ):
        assert sum(line.startswith(start) for line in lines) == 1
    assert sum("installed 'ko_instruct'" in line for line in lines) == 1


def test_a_healthy_model_loads_without_a_word(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="trl_kochat"):
        load_tokenizer(healthy(tmp_path))
    assert not caplog.records


def test_what_remains_is_told_once(tmp_path, caplog):
    load_tokenizer(kogpt2_like(tmp_path, emoji_special=True))
    lines = [record.getMessage() for record in caplog.records]
    assert sum(line.startswith("text_is_special: ") for line in lines) == 1


def test_what_was_loaded_needs_no_fixing(tmp_path):
    tokenizer = load_tokenizer(kogpt2_like(tmp_path))
    fixed, findings = fix_tokenizer(tokenizer)
    assert fixed is tokenizer and not any(finding.fixable for finding in findings)


def test_code_of_the_model_is_not_run_unasked(tmp_path):
    folder = healthy(tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": [None, "own.OwnTokenizer"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('ran')\n")
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_tokenizer(folder)


BROKEN = {
    "no tokenizer": (None, "It holds no tokenizer.json"),
    "no json": ("{broken", "Expecting property name"),
    "other json": ('{"model": {}}', "'added_tokens' is missing"),
    "no such model": (
        '{"version": "1.0", "added_tokens": [], "model": {"type": "X"}}',
        "did not match any variant",
    ),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=list(BROKEN))
def test_files_that_make_no_tokenizer_are_an_error_that_names_the_folder(tmp_path, content, message):
    folder = healthy(tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    if content is None:
        (folder / "tokenizer_config.json").unlink()
    else:
        (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=f"model holds no tokenizer that can be loaded.*{message}"):
        load_tokenizer(folder)


def test_an_adapter_without_a_tokenizer_points_to_its_base(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="take the tokenizer of its base model"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["skt/kogpt2-base-v3", "kogpt2"])
def test_a_misspelt_id_offline_is_named(name):
    with pytest.raises(OSError, match=f"no folder {name} here, and as a repository of the Hub it is not to be had"):
        load_tokenizer(name)


@pytest.mark.parametrize("name", ["", " ", None, 3])
def test_what_is_no_name_is_an_error(name):
    with pytest.raises(ValueError, match="is neither a folder nor the id of a repository"):
        load_tokenizer(name)


def test_what_is_no_id_is_an_error():
    with pytest.raises(OSError, match="no folder a b/c here.*Repo id must"):
        load_tokenizer("a b/c")


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "~/nowhere"])
def test_a_folder_that_is_not_there(name):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        load_tokenizer(name)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", {"vocab_size": None}),
        ("config.json", {"eos_token_id": {}}),
        ("tokenizer_config.json", {"tokenizer_class": True}),
        ("tokenizer_config.json", {"model_max_length": [1]}),
        ("generation_config.json", "{"),
        ("generation_config.json", []),
    ],
)
def test_a_broken_file_beside_the_tokenizer_is_said_by_name(tmp_path, file, content):
    folder = healthy(tmp_path / "model")
    path = folder / file
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() and isinstance(content, dict) else {}
    path.write_text(content if isinstance(content, str) else json.dumps({**kept, **content} if content else []))
    with pytest.raises(ValueError, match=str(folder)) as refused:
        load_tokenizer(folder)
    assert type(refused.value) is InputError


def test_ids_of_another_type_in_a_generation_config_are_no_ids(tmp_path):
    folder = healthy(tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [None, [], "</s>"]}))
    assert load_tokenizer(folder).eos_token == "</s>"
