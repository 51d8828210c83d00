"""The layouts of docs/data.md: each becomes what the table says, in Python and by `trl-kochat convert`."""

import json
import re
from pathlib import Path

import pytest

from trl_kochat import detect_formatter, format_dataset, load_rows
from trl_kochat.cli import main
from trl_kochat.data import RowCounts
from trl_kochat.data.columns import first_row, parse_columns
from trl_kochat.encode import row_type

from .layouts import LAYOUTS


PAGE = Path(__file__).parents[2] / "docs" / "data.md"
HEADINGS = ["layout", "a row has", "formatter", "becomes", "not read"]


def table():
    """Layout to what the page says of it."""
    lines = [line.strip(" |\n") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [[re.sub(r"[`*]", "", cell).strip() for cell in line.split("|")] for line in lines]
    start = cells.index(HEADINGS)
    rows = {}
    for row in cells[start + 2 :]:
        if len(row) < 4:
            break
        rows[row[0]] = dict(zip(HEADINGS, [*row, ""], strict=False))
    return rows


TABLE = table()


def named(cell):
    return {name for name in re.split(r",\s*", cell) if name}


def without_id(row):
    """A row as it was made: what stands in for a prompt is a hash of it; Arrow gives all messages all keys."""
    return {
        name: [{key: said for key, said in turn.items() if said is not None or key == "content"} for turn in value]
        if isinstance(value, list)
        else json.loads(value)
        if name == "tools"
        else value
        for name, value in row.items()
        if name != "prompt_id"
    }


def written(layout, folder):
    text = layout.given if isinstance(layout.given, str) else json.dumps(layout.given, ensure_ascii=False) + "\n"
    (folder / layout.file).write_text(text, encoding="utf-8")
    return folder / layout.file


def test_the_table_has_every_layout_once():
    assert list(TABLE) == list(LAYOUTS) and len(TABLE) >= 25


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_becomes_what_the_table_says(name, tmp_path):
    layout, told = LAYOUTS[name], TABLE[name]
    raw, columns = load_rows(written(layout, tmp_path)), parse_columns(layout.columns)
    has, _, said = told["a row has"].partition(" --columns ")
    assert named(has) == set(raw[0]) and said == " ".join(layout.columns)
    assert detect_formatter(first_row(raw, columns)) == told["formatter"]
    counts = RowCounts()
    rows = format_dataset(raw, columns=columns, counts=counts)
    assert row_type(set(rows.column_names))[0] == told["becomes"]
    assert counts.unread.keys() == named(told["not read"])
    assert [without_id(row) for row in rows] == layout.made


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_converted_for_trl(name, tmp_path, capsys):
    layout = LAYOUTS[name]
    columns = ["--columns", *layout.columns] if layout.columns else []
    assert main(["convert", str(written(layout, tmp_path)), str(tmp_path / "rows"), *columns]) == 0
    assert f"as {TABLE[name]['formatter']}: 1 rows read" in capsys.readouterr().out
    lines = (tmp_path / "rows" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert [without_id(json.loads(line)) for line in lines] == layout.made
