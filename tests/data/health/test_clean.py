import unicodedata

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.layouts import ASKED, BAD, FAIR, GOOD, LAYOUTS
from tests.data.test_layouts import without_id, written
from tests.tiny_lm import tiny_tokenizer
from trl_kochat import check_rows, detect_formatter, format_dataset, load_rows
from trl_kochat.data.columns import first_row, parse_columns
from trl_kochat.data.health import clean_rows
from trl_kochat.encode import tokenize_dataset
from trl_kochat.errors import InputError


def said(text):
    return [{"role": "assistant", "content": text}]


def pair(answer):
    return {"prompt": [{"role": "user", "content": "뭐예요?"}], "completion": said(answer)}


MENDED = {
    "네, 맞아요.<|endoftext|>": ("네, 맞아요.", "control_token"),
    "네, 맞아요. </s><pad>\n<pad> ": ("네, 맞아요.", "control_token"),
    "R&amp;D 예산은 &lt;표 1&gt;에 있어요.": ("R&D 예산은 <표 1>에 있어요.", "entities"),
    unicodedata.normalize("NFD", "다람쥐예요."): ("다람쥐예요.", "unicode_form"),
    "안녕하세요, 반갑습니다.".encode().decode("latin-1"): ("안녕하세요, 반갑습니다.", "mojibake"),
    "안녕하세요, 반갑습니다.".encode("cp949").decode("latin-1"): ("안녕하세요, 반갑습니다.", "mojibake"),
    # What Windows-1252 has no character for, programs leave as it is.
    "꽃이 피었다".encode().decode("latin-1").replace("\x94", "”"): ("꽃이 피었다", "mojibake"),
}


@pytest.mark.parametrize("take", [clean_rows, lambda rows: tokenize_dataset(rows, None)])
def test_rows_that_are_no_dataset_are_one_sentence(take):
    with pytest.raises(InputError, match="takes a datasets.Dataset, as format_dataset makes of rows, not a list"):
        take([pair("좋아요.")])


@pytest.mark.parametrize(("before", "after", "kind"), [(text, *mended) for text, mended in MENDED.items()])
def test_what_can_be_mended_without_loss_is(before, after, kind):
    made, mended = clean_rows(Dataset.from_list([pair("좋아요."), pair(before)]))
    assert [row["completion"][0]["content"] for row in made] == ["좋아요.", after]
    assert mended.texts == 1 and mended.kinds == {kind: 1} and mended.examples == [(before, after)]


@pytest.mark.parametrize(
    "text",
    [
        "`&amp;`는 &를 쓰는 법이에요.",
        "<s>는 취소선이에요.",
        "문장 끝 토큰은 `</s>`",
        "<pad>",  # nothing would be left
        "?덈뀞?섏꽭??",  # bytes are lost
        "안녕하세요".encode().decode("latin-1")[:-1],
        "안녕하세요".encode().decode("latin-1") + " 네",  # no encoding gives both
        "안녕하세요".encode("cp949").decode("latin-1") + " 네",
        "1장 ············ 3쪽, ½½½½½½",
        "이 그림은 뭐야? <image>",
        "뷁! ㅋㅋㅋ ① 1 < 2",
        "1 &nbsp없이",
    ],
)
def test_what_would_lose_something_or_is_no_damage_is_left(text):
    made, mended = clean_rows(Dataset.from_list([pair(text)]))
    assert made[0] == pair(text) and not mended.texts and "nothing to mend" in str(mended)


def test_the_tokens_of_a_tokenizer_are_taken_off_too():
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|끝|>"]})
    rows = Dataset.from_list([pair("네.<|끝|>")])
    assert clean_rows(rows)[0][0] == pair("네.<|끝|>")
    assert clean_rows(rows, tokenizer)[0][0] == pair("네.")


@pytest.mark.parametrize(
    "row",
    [
        {"text": "네.</s>"},
        {"prompt": "뭐?</s>", "completion": "네.</s>", "fact": "가</s>"},
        {"prompt": "뭐?", "chosen": "네.</s>", "rejected": "아니요.</s>", "margin": 1.0},
        {"prompt": "뭐?", "completion": "네.</s>", "label": True},
        {"messages": [{"role": "user", "content": "뭐?"}, *said("네.</s>")]},
        {"prompt": [{"role": "user", "content": "뭐?</s>"}], "tools": "[]"},
        {"prompt": "뭐?", "completion": [{"role": "assistant", "content": None}, *said("네.</s>")]},
    ],
)
def test_rows_of_every_type_are_mended_in_what_is_read_and_nowhere_else(row):
    dataset = Dataset.from_list([row])
    made, _ = clean_rows(dataset)
    assert made.features == dataset.features
    assert "</s>" not in str({name: value for name, value in made[0].items() if name != "fact"})
    assert made[0].get("fact") == row.get("fact")


@pytest.mark.parametrize("name", LAYOUTS)
def test_decomposed_text_of_every_layout_is_found_and_mended(name, tmp_path):
    layout = LAYOUTS[name]
    file, columns = written(layout, tmp_path), parse_columns(layout.columns)
    text = file.read_text(encoding="utf-8")
    for said in (ASKED, GOOD, FAIR, BAD):
        text = text.replace(said, unicodedata.normalize("NFD", said))
    file.write_text(text, encoding="utf-8")
    raw = load_rows(file)
    rows = format_dataset(raw, columns=columns)
    found = "rows_decomposed" in {finding.code for finding in check_rows(rows)}
    composes = detect_formatter(first_row(raw, columns)).startswith("kochatgpt")
    assert found == (not composes and not unicodedata.is_normalized("NFC", text))
    assert [without_id(row) for row in clean_rows(rows)[0]] == layout.made


def test_three_examples_show_where_a_text_has_changed():
    rows = [pair(f"{'길게 ' * 100}{i}번이에요.</s>") for i in range(5)]
    _, mended = clean_rows(Dataset.from_list(rows))
    first, *examples = str(mended).split("\n")
    assert first == "5 texts mended (control_token 5)" and len(examples) == 3
    assert "0번이에요.</s>' -> '" in examples[0] and "0번이에요.'" in examples[0] and len(examples[0]) < 160


@given(st.lists(st.text(st.sampled_from("가각힣\u1100\u1161 \n&lt;<>s/`é")), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_what_is_mended_stays_so_and_is_no_longer_found(texts):
    once, _ = clean_rows(Dataset.from_list([{"text": f"{text}."} for text in texts]))
    again, mended = clean_rows(once)
    assert again.to_list() == once.to_list() or mended.kinds.keys() <= {"entities"}  # &amp;lt; is written out twice
    assert "rows_decomposed" not in {finding.code for finding in check_rows(once)}


@given(st.text(st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), min_size=2, max_size=20))
@settings(max_examples=60, deadline=None)
def test_korean_read_as_latin_comes_back_as_it_was(text):
    made, mended = clean_rows(Dataset.from_list([{"text": text.encode().decode("latin-1")}]))
    assert made[0]["text"] == text and mended.kinds == {"mojibake": 1}
