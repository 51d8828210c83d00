"""Each finding with a planted row that has it, and sound rows that have none."""

import re
import unicodedata

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.inputs import whole_texts
from tests.tokenizers import byte_fallback, healthy, kogpt2_like
from trl_kochat import check_rows, format_dataset, load_rows, load_tokenizer
from trl_kochat.data.health.batches import BATCH_ROWS
from trl_kochat.sample import SAMPLE_DIR


QUESTIONS = "어디에 살아요? 오늘 뭐 먹지? 파이썬이 뭐야? 서울에서 부산까지 얼마나 걸려요? ㅋㅋㅋ 진짜야?".split("? ")
# What people write, with all that looks like damage and is none.
SOUND = (
    "네, 한우예요. 😀👍🏽",
    "ㅋㅋㅋㅋ 뷁! 걔 쌤이 그랬어 ㅠㅠ",
    "`<br>`은 줄을 바꾸고 `&lt;`는 <를 뜻해요.",
    "```html\n<p>안녕 &amp; 잘 가</p>\n```\n이렇게 쓰면 됩니다.",
    "1 < 2이고 a[0] > b[1]이며 [참고] <제목> R&D 예산이에요.",
    "한국어(韓國語)는 café와 naïve와 Ångström을 빌려 써요.",
    "수도는 서울이다.",
    "null은 값이 없다는 뜻이에요.",
    "https://example.com/?a=1&b=2 를 보세요.",
    "x = y[i] | z, {이름}",
)


def user(text):
    return [{"role": "user", "content": text}]


def assistant(text):
    return [{"role": "assistant", "content": text}]


def completions(*planted, sound=60):
    """Sound rows with planted answers among them, from row 10 on."""
    answers = [f"{SOUND[i % len(SOUND)]} {i}번째예요." for i in range(sound)]
    answers[10:10] = planted
    return [
        {"prompt": user(f"{i}: {QUESTIONS[i % len(QUESTIONS)]}"), "completion": assistant(answer)}
        for i, answer in enumerate(answers)
    ]


def pairs(*planted, sound=60):
    made = [
        {
            "prompt": user(f"{i}번째 질문"),
            "chosen": assistant(f"{SOUND[i % 10]} {i}"),
            "rejected": assistant(f"몰라 {i}"),
        }
        for i in range(sound)
    ]
    made[10:10] = [
        {"prompt": user(prompt), "chosen": assistant(chosen), "rejected": assistant(rejected)}
        for prompt, chosen, rejected in planted
    ]
    return made


def found(rows, *args, **kwargs):
    return {finding.code: finding for finding in check_rows(rows, *args, **kwargs)}


def troubles(findings):
    return [str(finding) for finding in findings if finding.severity != "info"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(healthy(tmp_path_factory.mktemp("healthy")))


# Silence


@pytest.mark.parametrize("form", [list, datasets.Dataset.from_list], ids=["list", "Dataset"])
@pytest.mark.parametrize("make", [completions, pairs])
def test_sound_rows_are_not_spoken_of(make, form, tokenizer):
    assert set(found(form(make()), tokenizer, max_length=1024)) == {"rows_language"}


@pytest.mark.parametrize("file", [path.name for path in sorted(SAMPLE_DIR.glob("*.jsonl"))])
def test_the_embedded_rows_are_sound(file):
    rows = format_dataset(load_rows(f"sample:{file}"))
    assert troubles(check_rows(rows, load_tokenizer("tiny-ko"), max_length=512)) == []


# One planted row for each finding


def control_token(answer):
    return completions(answer), "rows_control_token"


PLANTED = {
    "a control token at the end": (completions("네, 맞아요.<|endoftext|>"), "rows_control_token"),
    "the place of a picture": (completions("<image>\n고양이예요."), "rows_control_token"),
    "a control token in the middle": (completions("네.</s><s>[INST] 또요? [/INST] 네."), "rows_control_token"),
    "UTF-8 read as Latin-1": (completions("안녕하세요. 반갑습니다.".encode().decode("latin-1")), "rows_mojibake"),
    "UTF-8 read as Windows-1252": (
        completions("저는 한국 사람이에요.".encode().decode("cp1252", "replace")),
        "rows_mojibake",
    ),
    "UTF-8 read as CP949": (
        completions("안녕하세요. 반갑습니다.".encode().decode("cp949", "replace")),
        "rows_mojibake",
    ),
    "UTF-8 read as CP949, with question marks": (completions("?덈뀞?섏꽭?? 諛섍컩?듬땲??"), "rows_mojibake"),
    "half a character": (completions("오늘 날씨는 맑\ufffd"), "rows_replaced"),
    "an entity": (completions("연구&amp;개발 예산은 &quot;비밀&quot;이에요."), "rows_markup"),
    "a tag": (completions("첫 줄<br>둘째 줄"), "rows_markup"),
    "nan": (completions("nan"), "rows_no_value"),
    "None": (completions(" None "), "rows_no_value"),
    "NFD": (completions(unicodedata.normalize("NFD", "안녕하세요")), "rows_decomposed"),
    "half-width jamo": (completions("ﾡﾢﾣ 안녕"), "rows_half_width"),
    "the same row again": (completions() + completions()[:1], "rows_duplicate"),
    "both ways round": (pairs(("물어요", "네.", "아니요."), ("물어요", "아니요.", "네.")), "rows_both_ways"),
    "the same text": (pairs(("물어요", "네.", "네.")), "rows_same_answers"),
    "white space": (pairs(("물어요", "네, 맞아요. ", "네,  맞아요.\n")), "rows_same_answers"),
}


@pytest.mark.parametrize(("rows", "code"), PLANTED.values(), ids=PLANTED)
def test_a_planted_row_is_found_with_its_number_and_an_example(rows, code):
    finding = found(rows)[code]
    assert finding.severity == "warning"
    number = len(rows) - 1 if code == "rows_duplicate" else 11 if code == "rows_both_ways" else 10
    assert finding.measured["rows"] == 1 and finding.measured["numbers"] == [number]
    assert finding.measured["example"] and f"(row {number}, counted from 0)" in finding.message


@pytest.mark.parametrize(("rows", "code"), PLANTED.values(), ids=PLANTED)
def test_nothing_else_is_said_of_a_planted_row(rows, code):
    others = {"rows_replaced"} if code == "rows_mojibake" else set()
    assert set(found(rows)) - others == {code, "rows_language"}


def test_one_in_many_is_a_remark_and_most_are_an_error():
    few = completions("네.</s>", sound=400)
    most = completions(*["네.</s>"] * 100)
    assert found(few)["rows_control_token"].severity == "info"
    finding = found(most)["rows_control_token"]
    assert finding.severity == "error" and "100 at the end of a text" in finding.message
    assert len(finding.measured["numbers"]) == 20 and "rows 10, 11, 12, 13, 14, ..." in finding.message


def test_a_token_of_this_tokenizer_is_a_warning_in_one_row_of_many(tokenizer):
    finding = found(completions("네.</s>", sound=400), tokenizer)["rows_control_token"]
    assert finding.severity == "warning" and "reads it as the token itself" in finding.message


def test_special_tokens_that_people_write_are_no_control_tokens(tmp_path):
    tokenizer = load_tokenizer(kogpt2_like(tmp_path, emoji_special=True))
    assert "rows_control_token" not in found(completions("좋아요 :) 👍"), tokenizer)


def test_an_end_that_trl_does_not_write_twice_is_none_too_many(tokenizer):
    rows = [{"prompt": f"{i}번?", "completion": f"네, {i}번이에요.</s>"} for i in range(30)]
    assert "rows_control_token" not in found(rows, tokenizer)
    assert found(rows)["rows_control_token"].severity == "error"


def test_answers_that_are_the_same_in_ids_alone(tmp_path):
    """KoGPT2 folds full-width letters, and does not know 걔 and 걍."""
    tokenizer = load_tokenizer(kogpt2_like(tmp_path))
    rows = pairs(
        ("물어요", "ＡＢＣ라고 해요", "ABC라고 해요"), ("또", "그래 걔 맞아", "그래 걍 맞아"), ("셋", "네 응", "네 음")
    )
    assert "rows_same_answers" not in found(rows)
    finding = found(rows, tokenizer)["rows_same_answers"]
    assert finding.measured["numbers"] == [10, 11] and finding.measured["kinds"] == {"same ids": 2}


def test_answers_that_no_limit_tells_apart(tokenizer):
    long = "이 문장은 아주 길어서 끝까지 읽을 수 없어요. " * 20
    rows = pairs(("물어요", f"{long}네.", f"{long}아니요, 그렇지 않습니다."))
    assert found(rows, tokenizer, max_length=64)["rows_same_within_length"].measured["numbers"] == [10]
    assert "rows_same_within_length" not in found(rows, tokenizer, max_length=4096)


def test_answers_of_one_length_and_of_one_opening():
    cut = [{"prompt": f"{i}번?", "completion": f"{i:03d}" + "가나다라마바사아자차" * 5} for i in range(40)]
    begun = [{"prompt": f"{i}번?", "completion": f"물론이죠! 도와드릴게요. {'가' * (i + 1)}"} for i in range(40)]
    assert "53 characters" in found(cut)["rows_one_length"].message
    assert "'물론이죠! 도와'" in found(begun)["rows_one_opening"].message
    labels = [{"prompt": f"{i}번?", "completion": "긍정" if i % 2 else "부정"} for i in range(40)]
    assert not {"rows_one_length", "rows_one_opening"} & set(found(labels))


def test_an_opening_of_the_chosen_answers_alone_is_named():
    rows = [
        {"prompt": f"{i}", "chosen": f"물론이죠! 도와드릴게요. 자, {i}", "rejected": f"{i} 몰라"} for i in range(40)
    ]
    finding = found(rows)["rows_one_opening"]
    assert "100.0% of chosen" in finding.message and "rejected" not in finding.message


def test_speech_levels_and_scripts_are_facts():
    answers = ["네, 맞아요."] * 6 + ["응, 맞아."] * 3 + ["It is right."]
    rows = [{"prompt": f"{i}번?", "completion": answer} for i, answer in enumerate(answers)]
    finding = found(rows)["rows_language"]
    assert finding.severity == "info" and "존댓말 60%, 반말 30%, -다 0%, other 10%" in finding.message
    assert finding.measured["scripts"]["latin"] == pytest.approx(0.1)


def test_what_is_damaged_is_read_as_it_was_meant():
    answers = ["네, 맞아요.<|endoftext|>", unicodedata.normalize("NFD", "네, 맞아요.")]
    measured = found([{"prompt": f"{i}번?", "completion": text} for i, text in enumerate(answers)])[
        "rows_language"
    ].measured
    assert measured["levels"]["polite"] == 1 and measured["scripts"]["latin"] == 0


# Row types


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "물어요"},
        {"text": "이야기입니다"},
        {"messages": user("물어요") + assistant("네")},
        {"prompt": "물어요", "completion": "네", "label": True},
        {"chosen": user("물어요") + assistant("네"), "rejected": user("물어요") + assistant("아니요")},
    ],
)
def test_every_type_of_trl_is_read(row):
    def damaged(value):
        return (
            f"{value}&amp;"
            if isinstance(value, str)
            else [{**turn, "content": f"{turn['content']}&amp;"} for turn in value]
        )

    rows = [{name: value if name == "label" else damaged(value) for name, value in row.items()}]
    assert found(rows)["rows_markup"].measured["numbers"] == [0]
    assert "rows_markup" not in found([row])


def test_a_label_tells_two_rows_apart():
    row = {"prompt": "물어요", "completion": "네"}
    assert "rows_duplicate" not in found([{**row, "label": True}, {**row, "label": False}])


def test_calls_of_tools_tell_two_rows_and_two_answers_apart():
    def calls(city):
        call = {"type": "function", "function": {"name": "날씨", "arguments": {"city": city}}}
        return [{"role": "assistant", "content": None, "tool_calls": [call]}]

    rows = [{"prompt": user("날씨?"), "chosen": calls(city), "rejected": calls("부산")} for city in ("서울", "대구")]
    assert not {"rows_duplicate", "rows_same_answers"} & found(rows).keys()
    assert not {"rows_duplicate", "rows_same_answers"} & found(format_dataset(rows, "trl", check=False)).keys()


def test_rows_are_numbered_over_batches_and_streams_are_read():
    rows = completions(sound=BATCH_ROWS + 500)
    rows[BATCH_ROWS + 7]["completion"] = assistant("nan")
    stream = datasets.Dataset.from_list(rows).to_iterable_dataset()
    for form in (rows, datasets.Dataset.from_list(rows), stream, iter(rows)):
        assert found(form)["rows_no_value"].measured["numbers"] == [BATCH_ROWS + 7]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows to check"),
        ([{"question": "네"}], "no rows of TRL"),
        ([{"prompt": "가", "completion": "나"}, {"prompt": "가", "completion": None}], r"Row 1 .*completion"),
        (
            datasets.Dataset.from_list([{"prompt": "가", "completion": None}, {"prompt": "가", "completion": "나"}]),
            "Row 0",
        ),
        ("rows.jsonl", "load_rows"),
        (datasets.DatasetDict(train=datasets.Dataset.from_list([{"text": "가"}])), "train"),
    ],
)
def test_what_cannot_be_checked_is_said(rows, message):
    with pytest.raises(ValueError, match=message):
        check_rows(rows)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(whole_texts, whole_texts, whole_texts), min_size=1, max_size=6))
def test_any_text_is_read_and_the_rows_are_not_changed(tokenizer, texts):
    rows = [{"prompt": user(p), "chosen": assistant(c), "rejected": assistant(r)} for p, c, r in texts]
    before = [dict(row) for row in rows]
    findings = check_rows(rows, tokenizer, max_length=32)
    assert rows == before
    assert len({finding.code for finding in findings}) == len(findings)
    for finding in findings:
        assert all(0 <= number < len(rows) for number in finding.measured.get("numbers", ()))
        assert finding.measured.get("rows", 0) <= len(rows)


def test_decomposed_rows_and_their_cost(tmp_path):
    rows = [
        {"prompt": "안녕?", "completion": unicodedata.normalize("NFD", "오늘 날씨가 좋네요")},
        {"prompt": "나", "completion": "다"},
    ]

    def found(rows, make):
        tokenizer = load_tokenizer(make(tmp_path))
        return {finding.code: finding for finding in check_rows(rows, tokenizer)}.get("rows_decomposed")

    composes = found(rows, kogpt2_like)
    assert composes.severity == "info" and composes.measured["rows"] == 1 and composes.measured["share"] == 0.5
    costs = found(rows, byte_fallback)
    assert costs.severity == "warning" and float(re.search(r"costs ([\d.]+) times", costs.message)[1]) > 1.5
    assert found(rows[1:], byte_fallback) is None
