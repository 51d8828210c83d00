import json
import unicodedata

import pytest

from tests.tokenizers import healthy, kogpt2_like, qwen_like
from trl_kochat.cli import main


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def rows(tmp_path):
    """The course's SFT file: raw text under TRL's column names."""
    raw = [{"prompt": "걔 누구야?", "completion": "친구예요", "tokens": 3}, {"prompt": "안녕?", "completion": "네"}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in raw), encoding="utf-8")
    return path


def doctor(capsys, *arguments):
    status = main(["doctor", *map(str, arguments)])
    return status, capsys.readouterr()


def test_a_healthy_model_is_healthy(tmp_path, capsys):
    status, captured = doctor(capsys, healthy(tmp_path))
    assert status == 0
    assert captured.out.rstrip().endswith("Healthy.")


def test_an_error_is_told_and_is_the_exit_status(tmp_path, capsys):
    status, captured = doctor(capsys, kogpt2_like(tmp_path))
    assert status == 1
    line = next(line for line in captured.out.splitlines() if "pipeline_rebuilt" in line)
    assert line.split()[:3] == ["error", "repaired", "pipeline_rebuilt"] and line.endswith("survive.")
    assert "AutoTokenizer alone is not right here; load_tokenizer repairs" in captured.out
    # One line for each finding, no colours and no repetition on the other stream.
    assert "\x1b" not in captured.out and "pipeline_rebuilt" not in captured.err


def test_what_loading_the_tokenizer_does_not_repair_is_not_called_repaired(tmp_path, capsys):
    """A model's config is brought in line where there is a model; the doctor changed its own copy and said so."""
    folder = healthy(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": 3}))
    _, captured = doctor(capsys, folder)
    line = next(line for line in captured.out.splitlines() if "config_disagrees" in line)
    assert "repaired" not in line and "fix_tokenizer(tokenizer, model)" in line


def test_on_a_terminal_the_table_has_colours(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    _, captured = doctor(capsys, kogpt2_like(tmp_path))
    line = next(line for line in captured.out.splitlines() if "pipeline_rebuilt" in line)
    assert line.startswith("\x1b[1;31merror") and "\x1b[32mrepaired" in line


def test_a_warning_is_no_error(tmp_path, capsys):
    folder = qwen_like(tmp_path, pad_token="<|fim_pad|>")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["eos_token"] = "<|endoftext|>"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    status, captured = doctor(capsys, folder)
    assert status == 0 and "template_stop" in captured.out and "warning" in captured.out


def test_json_is_for_programs(tmp_path, capsys):
    status, captured = doctor(capsys, kogpt2_like(tmp_path), "--json")
    report = json.loads(captured.out)
    assert status == 1
    assert report["repaired"]["special_tokens"]["pad_token"] == ["<pad>", 3]
    by_code = {finding["code"]: finding for finding in report["findings"]}
    assert by_code["pipeline_rebuilt"]["severity"] == "error" and by_code["pipeline_rebuilt"]["fixed"]
    assert by_code["no_chat_template"]["fixed"]
    assert not by_code["learned_positions"]["fixed"]  # the config was read too


def test_rows_are_counted_as_load_tokenizer_sees_them(tmp_path, capsys, rows):
    status, captured = doctor(capsys, kogpt2_like(tmp_path / "model"), "--data", rows, "--json")
    by_code = {finding["code"]: finding for finding in json.loads(captured.out)["findings"]}
    assert by_code["rows_tokens"]["measured"]["rows"] == 2
    assert by_code["rows_unknown"]["measured"]["characters"] == {"걔": 1}
    assert "rows_length" not in by_code


def test_rows_of_the_file_are_counted_beside_those_made_of_them(tmp_path, capsys):
    row = {"prompt": "왜?", "completion_0": "가", "completion_1": "나", "completion_2": "다", "ranking": [0, 1, 1]}
    (tmp_path / "rows.json").write_text(json.dumps([row] * 2), encoding="utf-8")
    _, captured = doctor(capsys, healthy(tmp_path / "model"), "--data", tmp_path / "rows.json", "--json")
    by_code = {finding["code"]: finding for finding in json.loads(captured.out)["findings"]}
    assert "2 rows read, 4 made, 2 dropped (tie 2)" in by_code["rows_read"]["message"]
    assert by_code["rows_read"]["measured"]["read"] == 2


def test_max_length_is_the_trainers(tmp_path, capsys, rows):
    arguments = [kogpt2_like(tmp_path / "model"), "--data", rows, "--formatter", "kochatgpt_sft", "--max_length", "45"]
    _, captured = doctor(capsys, *arguments)
    assert "max_length 45 is too short for some of 2 rows" in captured.out and "SFTTrainer" in captured.out


def test_rows_of_trl_types_need_no_formatter(tmp_path, capsys):
    row = {
        "prompt": [{"role": "user", "content": "안녕?"}],
        "chosen": [{"role": "assistant", "content": "네"}],
        "rejected": [{"role": "assistant", "content": "몰라요"}],
    }
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps([row]), encoding="utf-8")
    status, captured = doctor(capsys, healthy(tmp_path / "model"), "--data", path)
    assert status == 0 and "1 row: median" in captured.out


@pytest.mark.parametrize(
    ("row", "tokens"),
    [
        ({"prompt": "안녕?", "chosen": "네", "rejected": "몰라요"}, "1 row: median"),
        ({"text": "안녕?"}, "1 row: median"),
    ],
)
def test_standard_rows_of_trl_are_taken_as_they_are(tmp_path, capsys, row, tokens):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([row]), encoding="utf-8")
    status, captured = doctor(capsys, healthy(tmp_path / "model"), "--data", path)
    assert status == 0 and tokens in captured.out


def test_in_a_file_nothing_is_cut_to_a_width(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    _, captured = doctor(capsys, kogpt2_like(tmp_path))
    assert "…" not in captured.out
    assert "AutoTokenizer  GPT2Tokenizer: entries" in captured.out
    assert "eos </s> 1, unk <unk> 5, pad <pad> 3" in captured.out


def test_nothing_in_a_tokenizer_is_obeyed_by_the_terminal(tmp_path, capsys):
    folder = healthy(tmp_path, chat_template="{{ raise_exception('\x1b[31mred') }}")
    status, captured = doctor(capsys, folder)
    assert status == 1 and "\x1b" not in captured.out and "\\x1b[31mred" in captured.out


def test_the_embedded_model_has_a_name_and_is_healthy(capsys):
    status, captured = doctor(capsys, "tiny-ko")
    assert status == 0 and captured.out.rstrip().endswith("Healthy.")


def test_an_unfixable_model_is_still_examined(tmp_path, capsys):
    folder = healthy(tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["eos_token"], config["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    state = json.loads((folder / "tokenizer.json").read_text())
    for token in state["added_tokens"]:
        token["content"] = {"</s>": "<s2>"}.get(token["content"], token["content"])
    (folder / "tokenizer.json").write_text(json.dumps(state))
    (folder / "config.json").write_text('{"model_type": "llama", "eos_token_id": null}')
    status, captured = doctor(capsys, folder)
    assert status == 1 and "no_eos" in captured.out and "1 error to look at" in captured.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/no/such/folder"], "There is no folder /no/such/folder."),
        (["{rows}"], "is a file; a model is a folder"),
        (["{model}", "--data", "/no/rows.json"], "There is no file or folder"),
        (["{model}", "--data", "{rows}", "--formatter", "nobody"], "No formatter 'nobody'"),
        (["{model}", "--formatter", "orca_pairs"], "--formatter has no effect without --data"),
        (["{model}", "--max_length", "64"], "--max_length has no effect without --data"),
        (["nobody/nothing"], "There is no folder nobody/nothing here"),
    ],
)
def test_what_a_user_got_wrong_is_one_line(tmp_path, capsys, rows, arguments, message):
    model = healthy(tmp_path / "model")
    status, captured = doctor(capsys, *(argument.format(model=model, rows=rows) for argument in arguments))
    assert status == 2 and message in captured.err and captured.out == ""
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("length", ["0", "-3", "many"])
def test_a_length_is_a_number_of_tokens(capsys, length):
    with pytest.raises(SystemExit):
        main(["doctor", "model", f"--max_length={length}"])
    assert "is no length" in capsys.readouterr().err


def test_what_is_wrong_with_the_rows_is_told_beside_the_tokenizer(tmp_path, capsys):
    rows = [{"prompt": f"{i}번?", "completion": f"{i}번이에요.{'<|endoftext|>' * (i < 2)}"} for i in range(40)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    status, captured = doctor(capsys, healthy(tmp_path / "model"), "--data", path)
    line = next(line for line in captured.out.splitlines() if "rows_control_token" in line)
    assert status == 0 and line.startswith("warning") and "2 of 40 rows (5.0%)" in line and "rows 0, 1," in line
    assert captured.out.count("rows_tokens") == 1 and "1 warning to look at" in captured.out


def test_decomposed_rows_are_told_once(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    text = unicodedata.normalize("NFD", "안녕하세요")
    path.write_text(json.dumps({"text": text}) + "\n", encoding="utf-8")
    _, captured = doctor(capsys, healthy(tmp_path / "model"), "--data", path, "--json")
    codes = [finding["code"] for finding in json.loads(captured.out)["findings"]]
    assert codes.count("rows_decomposed") == 1


def test_what_could_be_mended_is_listed_and_the_rows_are_read_as_mended(tmp_path, capsys):
    rows = [{"prompt": f"{i}번?", "completion": f"{i}번이에요.{'</s>' * (i < 20)}"} for i in range(30)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    before = path.read_bytes()
    model = healthy(tmp_path / "model")
    assert doctor(capsys, model, "--data", path)[0] == 1
    status, captured = doctor(capsys, model, "--data", path, "--clean")
    assert status == 0 and "20 texts mended (control_token 20)" in captured.out and "-> '2번이에요.'" in captured.out
    assert "rows_control_token" not in captured.out and path.read_bytes() == before


def test_a_model_type_that_nobody_knows_keeps_no_tokenizer_from_being_read(tmp_path, capsys):
    folder = healthy(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "of_tomorrow"}))
    status, captured = doctor(capsys, folder)
    assert status == 0 and "Healthy" in captured.out
