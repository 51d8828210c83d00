import json
from importlib.resources import files

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.tokenizers import byte_fallback, healthy, kogpt2_like
from trl_kochat.cli import main
from trl_kochat.cli.preview import pieces
from trl_kochat.tokenizer import load_tokenizer


SAMPLE = files("trl_kochat") / "sample"
SAMPLE_OF = {
    "kochatgpt_sft": "kochatgpt_1_SFT.jsonl",
    "kochatgpt_conversation": "kochatgpt_1_SFT_conversation.jsonl",
    "kochatgpt_rm": "kochatgpt_2_RM.jsonl",
    "kochatgpt_ppo": "kochatgpt_3_PPO.jsonl",
    "orca_pairs": "orca_dpo_pairs.jsonl",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return kogpt2_like(tmp_path_factory.mktemp("model"))


@pytest.fixture
def write_rows(tmp_path):
    def write(*rows):
        path = tmp_path / "rows.json"
        path.write_text(json.dumps(rows), encoding="utf-8")
        return path

    return write


def preview(capsys, *arguments):
    status = main(["preview", *map(str, arguments)])
    return status, capsys.readouterr()


@pytest.mark.parametrize("name", SAMPLE_OF)
@pytest.mark.parametrize("named", [True, False])
def test_every_formatters_rows_can_be_seen(capsys, model, name, named):
    extra = ["--format", name] if named else []
    status, captured = preview(capsys, SAMPLE / SAMPLE_OF[name], "--model", model, "-n", 2, *extra)
    assert status == 0
    assert "== row 1" in captured.out and "== row 2" in captured.out and "== row 3" not in captured.out
    assert captured.out.count("### Response(응답):") >= 2


def test_loss_tokens_stand_between_bars_and_the_end_is_one_of_them(capsys, model, write_rows):
    path = write_rows({"prompt": "안녕?", "completion": "네\n또 봐요."})
    _, captured = preview(capsys, path, "--model", model)
    lines = captured.out.splitlines()
    assert lines[0] == "== row 1  prompt_completion  for SFTTrainer"
    start = lines.index("### Instruction(명령어):↵")
    assert lines[start : start + 4] == ["### Instruction(명령어):↵", "안녕?↵", "↵", "### Response(응답):"]
    assert lines[start + 4].startswith("completion  7 tokens with loss")
    assert lines[start + 5 : start + 7] == ["|네|↵", "|또| |봐|요.|</s>|"]
    assert "\x1b" not in captured.out


def test_on_a_terminal_loss_is_colour(capsys, model, write_rows, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    path = write_rows({"prompt": "안녕?", "completion": "네 가요"})
    _, captured = preview(capsys, path, "--model", model)
    green, bright, end = "\x1b[32m", "\x1b[1;92m", "\x1b[0m"
    assert f"{green}네{end}{bright} {end}{green}가{end}" in captured.out
    assert f"{green}안" not in captured.out and "|" not in captured.out
    _, captured = preview(capsys, path, "--model", model, "--max_length", 1)
    assert "\x1b[9;31m네" in captured.out  # struck out, red


def test_what_is_cut_off_is_marked_and_told(capsys, model, write_rows):
    path = write_rows({"prompt": "안녕?", "completion": "가나다라"})
    _, whole = preview(capsys, path, "--model", model)
    length = next(int(word) for word in whole.out.split("with loss, ")[1].split() if word.isdigit())
    _, captured = preview(capsys, path, "--model", model, "--max_length", length - 2)
    assert "|가|나|다~라~</s>|" in captured.out
    assert f"max_length {length - 2} is 2 too short" in captured.out
    assert "! SFTTrainer cuts this row: the answer has no end." in captured.out
    _, captured = preview(capsys, path, "--model", model, "--max_length", 5)
    assert "! SFTTrainer drops this row." in captured.out and "\ncompletion  0 tokens with loss" in captured.out


def test_where_a_prompt_is_cut_is_marked_once(capsys, model, write_rows):
    path = write_rows({"prompt": "가나다라", "completion": "네"})
    _, captured = preview(capsys, path, "--model", model, "--max_length", 20)
    prompt = captured.out.partition("\ncompletion")[0]
    assert prompt.count("~") == 1 and "### Instruction" in prompt.partition("~")[0]


def test_nothing_in_a_row_is_obeyed_by_the_terminal(capsys, model, write_rows, monkeypatch):
    path = write_rows({"prompt": "\x1b[31m빨강\x07", "completion": "네\u202e"})
    for force in ("0", "1"):
        monkeypatch.setenv("FORCE_COLOR", force if force == "1" else "")
        _, captured = preview(capsys, path, "--model", "tiny-ko")
        assert "\x07" not in captured.out and "\u202e" not in captured.out and "\x1b[31m빨강" not in captured.out


def test_standard_preference_rows_are_shown_with_both_answers(capsys, model, write_rows):
    path = write_rows({"prompt": "안녕?", "chosen": "네", "rejected": "몰라"})
    status, captured = preview(capsys, path, "--model", model)
    assert status == 0 and "\nchosen " in captured.out and "\nrejected " in captured.out


@pytest.mark.parametrize("template", ["{% for m in %}", "{{ raise_exception('one turn only') }}"])
def test_a_template_that_does_not_render_is_one_line(capsys, write_rows, tmp_path, template):
    folder = healthy(tmp_path / "model", chat_template=template)
    status, captured = preview(capsys, write_rows({"prompt": "가", "completion": "나"}), "--model", folder)
    assert (
        status == 2 and "Row 0 (counted from 0): a conversation with the roles user: the chat template" in captured.err
    )


def test_a_border_that_merges_is_told(capsys, tmp_path, write_rows):
    """':)' is one token in KoGPT2, and the template ends in ':'."""
    folder = kogpt2_like(tmp_path / "model", emoji_special=True)
    path = write_rows({"prompt": "안녕?", "completion": ")하하"})
    _, captured = preview(capsys, path, "--model", folder)
    assert "! The end of the prompt, ':', merges with what follows" in captured.out


def test_messages_in_one_are_all_loss(capsys, model, write_rows):
    turns = [{"role": "user", "content": "안녕?"}, {"role": "assistant", "content": "네"}]
    _, captured = preview(capsys, write_rows({"messages": turns}), "--model", model, "--formatter", "whole_messages")
    assert "language_modeling" in captured.out and "prompt  " not in captured.out
    assert "|안|녕|?|↵" in captured.out


def test_another_template_can_be_tried(capsys, model, write_rows):
    path = write_rows({"prompt": "안녕?", "completion": "네"})
    status, captured = preview(capsys, path, "--model", model, "--chat_template", "chatml")
    assert status == 2 and "<|im_start|> as a single token" in captured.err


def test_the_number_of_rows_is_at_least_one(capsys, model, write_rows):
    status, captured = preview(capsys, write_rows({"prompt": "가", "completion": "나"}), "--model", model, "-n", 0)
    assert status == 2 and "-n is 0" in captured.err


@pytest.fixture(scope="module", params=[kogpt2_like, byte_fallback, healthy])
def tokenizer(request, tmp_path_factory):
    return load_tokenizer(request.param(tmp_path_factory.mktemp("pieces")))


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.sampled_from("안녕하세요 뷁쌤😀👍🏻a.\n")), border=st.integers(0, 20))
@example(text="뷁뷁뷁뷁", border=0)  # written in bytes, more of them than the context looks back
@example(text="뷁" * 9, border=0)
def test_pieces_are_the_text_and_count_every_token(tokenizer, text, border):
    ids = tokenizer.encode(text, add_special_tokens=False)
    found = pieces(tokenizer, ids[border:], ids[:border])
    assert sum(size for _, size in found) == len(ids[border:])
    if border == 0:
        assert "".join(piece for piece, _ in found) == tokenizer.decode(ids)
        # A character is never shown in halves where the whole can be shown.
        assert "\ufffd" not in "".join(piece for piece, _ in found)


def test_columns_by_other_names(capsys, model, write_rows):
    path = write_rows({"물음": "안녕?", "대답": "네"})
    status, captured = preview(capsys, path, "--model", model, "--columns", "물음=prompt", "대답=completion")
    assert status == 0 and "prompt_completion" in captured.out
    status, captured = preview(capsys, path, "--model", model)
    assert status == 2 and "--columns 물음=prompt 대답=completion" in captured.err


def test_marked_answers_are_for_kto(capsys, model, write_rows):
    path = write_rows({"prompt": "안녕?", "completion": "네", "label": True})
    status, captured = preview(capsys, path, "--model", model)
    assert status == 0 and captured.out.startswith("== row 1  label True  unpaired_preference  for KTOTrainer")
