import gzip
import http.server
import io
import json
import sys
import threading
import tracemalloc
import unicodedata
import zipfile

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trl_kochat import format_dataset, load_rows, split_by_prompt
from trl_kochat.data import load as loading


ROWS = [{"prompt": "안녕?", "completion": "반가워요."}, {"prompt": "줄\u2028바꿈", "completion": "그대로예요."}]
DIALOGUES = """<<start conversation>>
<사람>: 안녕
<챗봇>: 네,
반가워요.

<<start conversation>>
<사람>: 뭐 해?
"""


def write(folder, name, text, encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def zipped(members):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


def lines(rows):
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("text", [lines(ROWS), json.dumps(ROWS), json.dumps(ROWS, indent=4, ensure_ascii=False)])
@pytest.mark.parametrize("streaming", [False, True])
def test_arrays_and_lines_under_either_name_with_or_without_a_bom(tmp_path, name, encoding, text, streaming):
    assert list(load_rows(write(tmp_path, name, text, encoding), streaming=streaming)) == ROWS


def test_windows_line_ends_and_blank_lines(tmp_path):
    assert load_rows(write(tmp_path, "rows.jsonl", lines(ROWS).replace("\n", "\r\n\r\n"))) == ROWS


def test_one_row_on_one_line(tmp_path):
    assert load_rows(write(tmp_path, "row.jsonl", lines(ROWS[:1]))) == ROWS[:1]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "안녕?"}]},
        {"conversation": [{"speaker": "사람", "text": "안녕?"}]},
        {"input": {"messages": []}, "preferred_output": [{"role": "assistant", "content": "네"}]},
    ],
)
def test_one_row_of_messages_is_a_row_and_no_table_of_rows(tmp_path, row):
    assert load_rows(write(tmp_path, "row.jsonl", lines([row]))) == [row]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("encoding", ["cp949", "euc-kr", "utf-16", "utf-16-le", "UTF-8"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.json", json.dumps(["ROWS"], ensure_ascii=False)),
        ("rows.jsonl", '"ROWS"'),
        ("rows.csv", "prompt,completion\n펲시?,됬어요\n"),
    ],
)
def test_encodings_that_are_named(tmp_path, encoding, name, text, streaming):
    row = {"prompt": "펲시?", "completion": "됬어요"}  # syllables that EUC-KR proper lacks
    text = text.replace('"ROWS"', json.dumps(row, ensure_ascii=False))
    path = write(tmp_path, name, text, encoding.replace("euc-kr", "cp949"))
    assert list(load_rows(path, encoding=encoding, streaming=streaming)) == [row]


def test_another_encoding_than_the_one_named(tmp_path):
    path = write(tmp_path, "rows.json", json.dumps(ROWS, ensure_ascii=False))
    with pytest.raises(ValueError, match="line 1: byte .* is not CP949. .*--encoding utf-8"):
        load_rows(path, encoding="cp949")
    with pytest.raises(ValueError, match="is not utf-16"):
        load_rows(path, encoding="utf-16")
    with pytest.raises(ValueError, match="There is no encoding 'klingon'; Korean files are utf-8, cp949 or utf-16"):
        load_rows(path, encoding="klingon")
    with pytest.raises(ValueError, match="There is no encoding 'base64'"):
        load_rows(path, encoding="base64")


@pytest.mark.parametrize(
    ("name", "separator"),
    [("rows.csv", ";"), ("rows.csv", "\t"), ("rows.csv", "|"), ("rows.tsv", "\t"), ("rows.tsv", ",")],
)
def test_tables_with_other_separators(tmp_path, name, separator):
    text = separator.join(["prompt", "completion"]) + "\n" + separator.join(["안녕?", '"네, 또;|\t봐요."']) + "\n"
    assert load_rows(write(tmp_path, name, text)) == [{"prompt": "안녕?", "completion": "네, 또;|\t봐요."}]


@pytest.mark.parametrize("streaming", [False, True])
def test_packed_files(tmp_path, streaming):
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(lines(ROWS).encode()))
    assert list(load_rows(tmp_path / "rows.jsonl.gz", streaming=streaming)) == ROWS
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress("prompt\n안녕?\n".encode("cp949")))
    assert list(load_rows(tmp_path / "rows.csv.gz", streaming=streaming, encoding="cp949")) == [{"prompt": "안녕?"}]
    members = {
        "b/2.json": json.dumps(ROWS[1:]),
        "b/": b"",
        "a.jsonl": lines(ROWS[:1]),
        "읽기.md": b"",
        "__MACOSX/a.json": b"x",
    }
    (tmp_path / "rows.zip").write_bytes(zipped(members))
    assert list(load_rows(tmp_path / "rows.zip", streaming=streaming)) == ROWS


def test_rows_under_a_key(tmp_path):
    for about in ({}, {"version": 2, "info": {"by": "us"}}):
        for indent in (None, 2):
            text = json.dumps(about | {"data": ROWS}, indent=indent)
            assert load_rows(write(tmp_path, "rows.json", text)) == ROWS
    row = {"prompt": "안녕?", "completions": [{"response": "네", "score": 1}]}
    assert load_rows(write(tmp_path, "rows.jsonl", json.dumps(row))) == [row]


def test_csv(tmp_path):
    text = 'prompt,completion\n안녕?,"반가워요, 정말.\n또 봐요."\n'
    assert load_rows(write(tmp_path, "rows.csv", text, "utf-8-sig")) == [
        {"prompt": "안녕?", "completion": "반가워요, 정말.\n또 봐요."}
    ]


def test_a_stream_of_lines_or_csv_is_not_held_in_memory(tmp_path):
    text = "가나다라마바사아자차" * 50
    write(tmp_path, "rows.csv", "prompt\n" + f"{text}\n" * 10_000)
    write(tmp_path, "rows.jsonl", (json.dumps({"prompt": text}) + "\n") * 10_000)
    for name in ("rows.csv", "rows.jsonl"):  # 15 and 30 MB
        stream = load_rows(tmp_path / name, streaming=True)
        tracemalloc.start()
        assert sum(1 for _ in stream) == 10_000
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 5e6


def test_the_courses_dialogues(tmp_path):
    assert load_rows(write(tmp_path, "kochatgpt_1_SFT_conversation.jsonl", DIALOGUES)) == [
        {"conversation": [{"speaker": "사람", "text": "안녕"}, {"speaker": "챗봇", "text": "네,\n반가워요."}]},
        {"conversation": [{"speaker": "사람", "text": "뭐 해?"}]},
    ]


@pytest.mark.parametrize("streaming", [False, True])
def test_parquet(tmp_path, streaming):
    datasets.Dataset.from_list(ROWS).to_parquet(tmp_path / "rows.parquet")
    assert list(load_rows(tmp_path / "rows.parquet", streaming=streaming)) == ROWS


def test_a_folder_of_files_and_a_saved_dataset(tmp_path):
    write(tmp_path, "a.jsonl", lines(ROWS[:1]))
    write(tmp_path, "b.json", json.dumps(ROWS[1:]))
    assert load_rows(tmp_path) == ROWS
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    assert list(load_rows(tmp_path / "saved")) == ROWS


@pytest.mark.parametrize("streaming", [False, True])
def test_saved_splits(tmp_path, streaming):
    sides = {"train": ROWS[:1], "test": ROWS[1:]}
    datasets.DatasetDict({name: datasets.Dataset.from_list(side) for name, side in sides.items()}).save_to_disk(
        tmp_path
    )
    assert list(load_rows(tmp_path, streaming=streaming)) == ROWS[:1]
    assert list(load_rows(tmp_path, split="test", streaming=streaming)) == ROWS[1:]
    with pytest.raises(ValueError, match="has no split 'dev'; there are train, test"):
        load_rows(tmp_path, split="dev")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("rows.json", b"", "rows.json is empty"),
        ("rows.json", b"\xef\xbb\xbf \n", "rows.json is empty"),
        ("rows.json", b"[]", "no rows"),
        ("rows.csv", b"prompt,completion\n", "no rows"),
        ("rows.json", '[{"prompt": "안녕"}]'.encode("cp949"), "line 1: byte 0x.. is not UTF-8. .*--encoding cp949"),
        ("rows.jsonl", b'{"prompt": "a"}\n' + '{"prompt": "안녕"}'.encode("cp949"), "line 2: byte 0x.. is not UTF-8. .*CP949"),
        ("rows.jsonl", b'{"prompt": "\xff\xff"}', "line 1: byte 0xff is not UTF-8. Save the file as UTF-8"),
        ("rows.csv", "prompt\n안녕\n".encode("cp949"), "line 2: byte 0x.. is not UTF-8"),
        ("rows.json", '[{"prompt": "a"}]'.encode("utf-16"), "looks like UTF-16, not UTF-8. .*--encoding utf-16"),
        ("rows.json", '[{"prompt": "안"}]'.encode("utf-16-le"), "looks like UTF-16-LE.* --encoding utf-16-le"),
        ("rows.csv", "질문,답\n가가가가,네\n".encode("utf-16-be"), "looks like UTF-16-BE.* --encoding utf-16-be"),
        ("rows.tsv", "질문\t답\r\n안녕\t네\r\n".encode("utf-16"), "looks like UTF-16, .* --encoding utf-16 "),
        ("rows.xls", bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), r"holds no text. Save .* or \.xlsx"),
        ("rows.pdf", b"%PDF-1.7\n" + b"1 0 obj\n" * 600 + "\n가".encode("cp949") + b"\n\0\7", "rows.pdf holds no text. Save"),
        ("rows.jsonl", '{"a": "가"}\n'.encode("cp949") + '{"a": "😀"}'.encode(), "line 1: .* Save the file as UTF-8"),
        ("rows.json", b'[{"a": 1},\n {"a": }]', "line 2, column 8: broken JSON"),
        ("rows.jsonl", b'{"a": 1}\n{"a": 1\n', "line 2, column 8: broken JSON"),
        ("rows.jsonl", b'{"a": 1\n{"a": 1}\n', "line 2, column 1: broken JSON"),
        ("rows.jsonl", b'{"a": 1}\n[2]\n', r"line 2: \[2\] is not an object"),
        ("rows.json", b'[{"a": 1}, 2]', "element 1 .*is 2, not an object"),
        ("rows.json", b'{\n"a": 1,\n"b": 2\n}', "one JSON object with the keys a, b; expected an array"),
        ("rows.json", b'{"a": [{"b": 1}],\n"c": [{"d": 1}]}', "one JSON object with the keys a, c;.* its 'a' holds the rows"),
        ("rows.json", b'{"data": [{"a": 1}, 2]}', "'data': element 1 .*is 2, not an object"),
        ("rows.jsonl.gz", gzip.compress(b'{"a": 1}', mtime=0)[:-12], "cannot be unpacked"),
        ("rows.zip", b"PK\x03\x04 and no more", "broken archive"),
        ("rows.zip", zipped({"a.zip": zipped({"rows.csv": b"a"})}), "a.zip is no workbook that can be read"),
        ("rows.zip", zipped({"picture.png": b""}), "archive without a file of rows"),
        ("rows.zip", zipped({"rows.parquet": b"PAR1"}), "rows.zip/rows.parquet is a packed parquet file"),
        ("rows.json", b"[" * 100_000, "broken JSON|nested too deeply"),
        ("rows.csv", b"a,b\n1,2\n1\n", "line 3: 1 fields where the header has 2"),
        ("rows.csv", b"a,b\n1,2,3\n", "line 2: 3 fields where the header has 2"),
        ("rows.csv", b"a,b,a\n1,2,3\n", "line 1: the header has a more than once"),
        ("rows.csv", b'a,b\n1,2\n"1,2\n3,4\n', "row that begins on line 3: unexpected end"),
        ("rows.json", b'[{"a": ' + b"1" * 5000 + b"}]", "line 1 or later: broken JSON: .*4300 digits"),
        ("rows.parquet", b"PAR1 and no more", "rows.parquet is a broken parquet file"),
        ("rows.parquet", b"", "rows.parquet is empty"),
        ("rows.txt", b"hello", "starts with 'hello'"),
        ("d.txt", "<<start conversation>>\n안녕\n<사람>: 네".encode(), "a dialogue starts with '안녕'"),
    ],
)  # fmt: skip
def test_a_bad_file_is_an_error_that_says_where(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    for streaming in (False, True):
        with pytest.raises(ValueError, match=message):
            list(load_rows(tmp_path / name, streaming=streaming))


SHEET = [["질문", "답변", None], [], ["하늘은?", "파래요.\n맑아요."], ["둘 더하기 둘은?", 4], ["빈 답", None]]


def workbook(path, *sheets):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for sheet in sheets:
        page = book.create_sheet()
        for row in sheet:
            page.append(row)
        page.cell(9, 5).font = openpyxl.styles.Font(bold=True)  # which makes it part of the sheet
    del book["Sheet"]
    book.save(path)
    return path


@pytest.mark.parametrize("streaming", [False, True])
def test_the_first_sheet_of_a_workbook_reads_as_a_csv_file_of_it_would(tmp_path, caplog, streaming):
    csv = write(tmp_path, "rows.csv", '질문,답변\n하늘은?,"파래요.\n맑아요."\n둘 더하기 둘은?,4\n빈 답,\n')
    rows = list(load_rows(csv))
    assert list(load_rows(workbook(tmp_path / "rows.xlsx", SHEET), streaming=streaming)) == rows
    (tmp_path / "rows.zip").write_bytes(zipped({"표/a.xlsx": (tmp_path / "rows.xlsx").read_bytes()}))
    assert list(load_rows(tmp_path / "rows.zip", streaming=streaming)) == rows and not caplog.records
    assert list(load_rows(workbook(tmp_path / "two.xlsx", SHEET, [["다른 표"]]), streaming=streaming)) == rows
    assert "from its first sheet, 'Sheet1', alone" in caplog.text


@pytest.mark.parametrize(
    ("sheet", "message"),
    [([], "no rows below"), (SHEET[:1], "'Sheet1' has no rows below"), ([["a", "a"], [1, 2]], "has a more than once")],
)
def test_a_workbook_without_rows_is_an_error(tmp_path, sheet, message):
    with pytest.raises(ValueError, match=message):
        load_rows(workbook(tmp_path / "rows.xlsx", sheet))


def test_a_workbook_without_openpyxl_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "rows.xlsx").write_bytes(zipped({"xl/workbook.xml": b"<xml/>"}))
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(ValueError, match=r"rows.xlsx is an Excel workbook, .*pip install \"trl_kochat\[excel\]\""):
        load_rows(tmp_path / "rows.xlsx")


@pytest.mark.parametrize("streaming", [False, True])
def test_parquet_without_rows_or_with_other_columns_is_an_error(tmp_path, streaming):
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="a.parquet has columns and no rows"):
        load_rows(tmp_path / "a.parquet", streaming=streaming)
    pq.write_table(pa.table({"prompt": ["안녕?"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"prompt": ["안녕?"], "tokens": [1]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"a.parquet and .*b.parquet have different columns .*tokens \(int64\)"):
        load_rows(tmp_path, streaming=streaming)


def test_white_space_before_the_rows(tmp_path):
    assert load_rows(write(tmp_path, "rows.json", "\n" * 9000 + json.dumps(ROWS))) == ROWS


def test_decomposed_dialogues_have_the_same_speakers(tmp_path):
    made = load_rows(write(tmp_path, "d.txt", unicodedata.normalize("NFD", DIALOGUES)))
    assert [turn["speaker"] for row in made for turn in row["conversation"]] == ["사람", "챗봇", "사람"]
    assert made[0]["conversation"][0]["text"] == unicodedata.normalize("NFD", "안녕")  # the formatter composes it


@pytest.mark.parametrize("source", ["", " ", None, ["rows.json"], 3])
def test_what_is_no_source_is_an_error(source):
    with pytest.raises(ValueError, match="takes a file, folder, URL or Hub id, not"):
        load_rows(source)


def test_a_path_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "rows.json", json.dumps(ROWS))
    assert load_rows("~/rows.json") == ROWS


@pytest.mark.parametrize("source", ["Intel/orca_dpo_pair", "kochatgpt_1_SFT"])
def test_a_misspelt_hub_id_says_that_it_is_neither_here_nor_there(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"no file or folder {source} here, and as a dataset of the Hub"):
        load_rows(source)


@pytest.mark.parametrize("source", ["kochatgpt_1_SFT.jsonl", "http://127.0.0.1:9/rows.json"])
def test_offline_a_file_that_would_have_to_be_fetched_is_an_error(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"{source} is not on this machine and cannot be fetched"):
        load_rows(source)


@pytest.mark.parametrize("source", ["missing.jsonl", "./missing", "/missing/folder"])
def test_a_missing_file_is_not_asked_of_the_hub(source):
    with pytest.raises(ValueError, match="There is no file or folder"):
        load_rows(source)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="holds no file of rows"):
        load_rows(tmp_path)


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    write(folder, "kochatgpt_3_PPO.jsonl", json.dumps([{"prompt": "안녕?"}]), "utf-8-sig")
    handler = type("Handler", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: handler(*args, directory=str(folder)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}/"
    httpd.shutdown()


@pytest.fixture
def online(monkeypatch, tmp_path):
    """Lets datasets download, from this machine alone, into a cache of its own."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "cache")


def test_a_url(server, online):
    assert load_rows(server + "kochatgpt_3_PPO.jsonl") == [{"prompt": "안녕?"}]


def test_a_url_where_nothing_lies_is_an_error(server, online):
    with pytest.raises(ValueError, match="none.jsonl is not on this machine and cannot be fetched"):
        load_rows(server + "none.jsonl")


def test_the_courses_file_names_resolve_to_its_repository(server, online, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "COURSE_URL", server)
    assert load_rows("kochatgpt_3_PPO.jsonl") == [{"prompt": "안녕?"}]
    write(tmp_path, "kochatgpt_3_PPO.jsonl", '[{"prompt": "여기"}]')
    assert load_rows("kochatgpt_3_PPO.jsonl") == [{"prompt": "여기"}]


def test_a_hub_id_goes_to_datasets(monkeypatch):
    asked = {}
    monkeypatch.setattr(datasets, "load_dataset", lambda path, **kwargs: asked.update(path=path, **kwargs))
    load_rows("Intel/orca_dpo_pairs", split="train", streaming=True)
    assert asked == {"path": "Intel/orca_dpo_pairs", "split": "train", "streaming": True}


@pytest.mark.assets
def test_the_real_files_are_read_whole(assets):
    prompts = format_dataset(load_rows(assets / "kochatgpt" / "kochatgpt_3_PPO.jsonl"))
    assert len(prompts) == 11_997  # three are blank
    train, evaluation = split_by_prompt(prompts, 0.1)
    assert len(train) + len(evaluation) == 11_997
    dialogues = load_rows(assets / "kochatgpt" / "kochatgpt_1_SFT_conversation.jsonl")
    assert len(dialogues) == 439
    rows = format_dataset(dialogues)
    assert len(rows) == sum(turn["speaker"] == "챗봇" for row in dialogues for turn in row["conversation"]) == 1756


@pytest.mark.parametrize(
    "name", ["text", "json", "csv", "parquet", "imagefolder", "*", "owner/*", "a b", "owner/x.py"]
)
def test_a_name_that_is_no_repository_never_reaches_the_datasets_library(tmp_path, monkeypatch, name):
    """Its own readers go by such names, and `text` read whatever files lie in the working folder as rows."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "secret.py", "not rows")
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: pytest.fail("asked the datasets library"))
    with pytest.raises(ValueError, match="is named owner/name"):
        load_rows(name)


@pytest.mark.parametrize(
    "name", ["a" * 300, "a" * 300 + ".json", "a\0.json", "~nobody-of-that-name/x.json", "http://["]
)
def test_a_name_that_no_file_can_have_is_refused_in_our_words(name):
    with pytest.raises(ValueError, match="There is no file or folder|is no URL"):
        load_rows(name)


def test_a_dataset_that_comes_with_a_script_is_refused_in_our_words(monkeypatch):
    def as_datasets_does(*args, **kwargs):
        raise RuntimeError("Dataset scripts are no longer supported, but found name.py")

    monkeypatch.setattr(datasets, "load_dataset", as_datasets_does)
    with pytest.raises(ValueError, match=r"owner/name here, .*scripts are no longer supported"):
        load_rows("owner/name")


def test_a_quotation_mark_left_open_in_the_header_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"rows\.csv, in the row that begins on line 1"):
        load_rows(write(tmp_path, "rows.csv", '"a" b,c\n1,2\n'))


def test_a_parquet_file_with_a_broken_middle_is_said(tmp_path):
    path = tmp_path / "rows.parquet"
    datasets.Dataset.from_list(ROWS * 50).to_parquet(path)
    data = path.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for at in (4, footer):  # the header of the first page; the file's own description
        path.write_bytes(data[:at] + b"\xff" * 20 + data[at + 20 :])
        with pytest.raises(ValueError, match=r"rows\.parquet is a broken parquet file"):
            load_rows(path)


def test_a_huge_value_does_not_fill_the_message(tmp_path):
    with pytest.raises(ValueError, match="element 0") as refused:
        load_rows(write(tmp_path, "rows.json", json.dumps(["가" * 10_000])))
    assert len(str(refused.value)) < 500
