import io
import json
import sys

import pytest
import torch
from peft import LoraConfig, get_peft_model
from rich.cells import cell_len
from rich.console import Console

from tests.tiny_lm import tiny_llama, tiny_tokenizer
from trl_kochat.cli import main
from trl_kochat.cli.generate import show_answers, show_prompt, show_summary, show_tokens
from trl_kochat.cli.shared import Candidate, plan_candidates, short_labels
from trl_kochat.measure.generate import COURSE_PROMPTS, Generation, generate_answers
from trl_kochat.text.shown import printable


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with two bases and three adapters; `sft` and `ppo` are on `base`, `wide` on the other one."""
    folder = tmp_path_factory.mktemp("models")
    for name, model in (("base", tiny_llama()), ("other", tiny_llama(hidden_size=64))):
        model.save_pretrained(folder / name)
        tiny_tokenizer().save_pretrained(folder / name)
    for seed, (name, base) in enumerate({"sft": "base", "ppo": "base", "wide": "other"}.items()):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        model = type(tiny_llama()).from_pretrained(folder / base)
        get_peft_model(model, config).save_pretrained(folder / name)
    return folder


def generate(*arguments) -> int:
    return main(["generate", *map(str, arguments)])


def answers_in(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("[")]


# What is asked and answered.


def test_the_four_prompts_of_the_course_are_asked_by_default(models, capsys):
    assert generate(models / "base", "--max_new_tokens", 4) == 0
    output = capsys.readouterr().out
    assert [line[2:] for line in output.splitlines() if line.startswith("# ")] == list(COURSE_PROMPTS)


def test_answers_are_those_of_the_library(models, capsys):
    assert generate(models / "base", "--prompt", "안녕", "네?", "--max_new_tokens", 12) == 0
    output = capsys.readouterr().out
    expected = generate_answers(tiny_llama(), tiny_tokenizer(), ["안녕", "네?"], max_new_tokens=12)
    for answer in expected:
        assert f"[base] {printable(answer.text).strip()}" in output


def test_models_and_adapters_stand_side_by_side(models, capsys):
    assert generate(models / "base", "--adapter", models / "sft", models / "ppo", "--prompt", "안녕") == 0
    labels = [line.split("]")[0][1:] for line in answers_in(capsys.readouterr().out)]
    assert [label for label in dict.fromkeys(labels) if label in ("base", "sft", "ppo")] == ["base", "sft", "ppo"]


def test_one_base_is_loaded_once_however_many_adapters(models, capsys, monkeypatch):
    import trl_kochat.measure.generate as generation

    loaded = []
    load_base = generation.load_base
    monkeypatch.setattr(generation, "load_base", lambda *a, **k: loaded.append(str(a[1])) or load_base(*a, **k))
    given = [models / "sft", models / "other", models / "ppo", models / "wide", models / "base"]
    assert generate(*given, "--prompt", "안녕", "--max_new_tokens", 4) == 0
    assert sorted(loaded) == sorted([str(models / "base"), str(models / "other")])
    summary = [line.split("]")[0][1:] for line in answers_in(capsys.readouterr().out) if "repetition" in line]
    assert summary == ["sft", "other", "ppo", "wide", "base"]  # as they were given


def test_an_adapter_alone_finds_its_base(models, capsys):
    assert generate(models / "sft", "--prompt", "안녕", "--max_new_tokens", 12) == 0
    alone = answers_in(capsys.readouterr().out)
    assert generate(models / "base", "--adapter", models / "sft", "--prompt", "안녕", "--max_new_tokens", 12) == 0
    both = answers_in(capsys.readouterr().out)
    assert all(line.startswith("[sft]") for line in alone) and set(alone) < set(both)


def test_prompts_come_from_a_file(models, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("\ufeff안녕?\r\n\r\n네?\n", encoding="utf-8")
    rows = [{"prompt": "안녕?"}, {"prompt": [{"role": "user", "content": "네?"}]}]
    (tmp_path / "rows.jsonl").write_text("\ufeff" + json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    outputs = []
    for name in ("prompts.txt", "rows.jsonl"):
        assert generate(models / "base", "--file", tmp_path / name, "--max_new_tokens", 4) == 0
        outputs.append([line for line in capsys.readouterr().out.splitlines() if not line.startswith("# ")])
    assert outputs[0] == outputs[1]


def test_stop_strings_are_written_as_in_the_source(models, capsys, monkeypatch):
    import trl_kochat.measure.generate as generation

    seen = {}
    monkeypatch.setattr(
        generation,
        "generate_answers",
        lambda *a, **k: seen.update(k) or [Generation(p, "네.", [5], True) for p in a[2]],
    )
    assert generate(models / "base", "--stop_strings", r"\n", "사람:", "--beam", 3, "--no_repeat_ngram_size", 2) == 0
    assert seen["stop_strings"] == ["\n", "사람:"]
    assert (seen["num_beams"], seen["no_repeat_ngram_size"], seen["do_sample"]) == (3, 2, False)


COURSE_WAYS = {
    "greedy": ["--greedy"],
    "beam 10 ngram 2": ["--beam", 10, "--no_repeat_ngram_size", 2],
    "beam 7 ngram 2 T 2.0 top_k 50": [
        *("--beam", 7, "--no_repeat_ngram_size", 2),
        *("--sample", "--temperature", 2.0, "--top_k", 50),
    ],
    "beam 7 ngram 2 top_p 0.9": ["--beam", 7, "--no_repeat_ngram_size", 2, "--sample", "--top_p", 0.9],
}


def test_the_courses_four_ways_of_decoding_side_by_side_answer_as_each_does_alone(models, capsys):
    asked = [models / "base", "--raw", "--prompt", "오늘", "--max_new_tokens", 6]
    expected = []
    for way, flags in COURSE_WAYS.items():
        assert generate(*asked, *flags) == 0
        first, _ = answers_in(capsys.readouterr().out)
        expected.append(first.replace("[base]", f"[{way}]"))
    assert generate(*asked, "--decoding", *COURSE_WAYS) == 0
    assert answers_in(capsys.readouterr().out)[:4] == expected


def test_each_model_answers_in_each_way_under_both_their_names(models, capsys):
    asked = [models / "base", "--adapter", models / "sft", "--prompt", "안녕", "--max_new_tokens", 4]
    assert generate(*asked, "--decoding", "greedy", "T 2 seed 7", "--stop_strings", "사람:") == 0
    labels = [line.split("]")[0][1:] for line in answers_in(capsys.readouterr().out)]
    assert labels[:4] == ["base: greedy", "base: T 2 seed 7", "sft: greedy", "sft: T 2 seed 7"]


def test_seeds_draw_differently(models, capsys):
    outputs = set()
    for seed in (1, 2, 1):
        assert generate(models / "base", "--prompt", "안녕", "--sample", "--temperature", 3, "--seed", seed) == 0
        outputs.add(capsys.readouterr().out)
    assert len(outputs) == 2


def test_the_token_table_has_every_token_and_id(models, capsys):
    assert generate(models / "base", "--prompt", "hello", "--tokens", "--max_new_tokens", 2) == 0
    ids = tiny_tokenizer()("hello")["input_ids"]
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines() if "\t" in line]
    assert [int(row[0]) for row in rows] == ids and "".join(row[1] for row in rows) == "hello"


def test_the_embedded_model_has_a_name(capsys):
    assert generate("tiny-ko", "--prompt", "오늘 미세먼지 어때?", "--max_new_tokens", 4, "--load_in_4bit") == 0
    assert "[tiny-ko]" in capsys.readouterr().out


# What cannot be asked.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "2"], "--temperature has no effect without --sample"),
        (["--beam", "3", "--top_k", "5", "--top_p", "0.5"], "--top_k, --top_p has no effect"),
        (["--seed", "1"], "--seed has no effect"),
        (["--greedy", "--sample"], "--greedy excludes"),
        (["--beam", "1"], "no beam search"),
        (["--file", "no/such/file.jsonl"], "no file or folder"),
        (["--adapter", "./nowhere"], "no folder ./nowhere"),
        (["--prompt", "", "--raw"], "no tokens"),
        (["--prompt", "a\ud83d"], "half a character"),
        (["--stop_strings", ""], "stop string is empty"),
        (["--sample", "--temperature", "0"], "--temperature is 0.0; it must be above 0"),
        (["--sample", "--top_p", "2"], "--top_p is 2.0; it must be above 0 and at most 1"),
        (["--sample", "--top_p", "0"], "--top_p is 0.0"),
        (["--sample", "--top_k", "-2"], "--top_k is -2; it must be 0 or more"),
        (["--no_repeat_ngram_size", "-1"], "--no_repeat_ngram_size is -1; it must be 1 or more"),
        (["--repetition_penalty", "0"], "--repetition_penalty is 0.0; it must be above 0"),
        (
            ["--decoding", "beam"],
            "--decoding 'beam': argument --beam: expected one argument; there are greedy, beam N",
        ),
        (["--decoding", "top 5"], "--decoding 'top 5': unrecognized arguments: --top 5; there are greedy, beam N"),
        (["--decoding", "beam 10 greedy"], "--decoding 'beam 10 greedy': --greedy excludes"),
        (["--decoding", "T 0"], "--decoding 'T 0': --temperature is 0.0; it must be above 0"),
        (["--decoding", "greedy", "--beam", "3"], "--decoding says how to decode, way by way"),
        (["--file", "no/such/file.txt"], "There is no file no/such/file.txt"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(arguments, message, models, capsys):
    assert generate(models / "base", *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("trl-kochat generate: ") and message in error


def test_an_adapter_of_another_base_is_said_in_one_line(models, capsys):
    assert generate(models / "base", "--adapter", models / "wide") == 2
    assert "wide does not belong to the base model" in capsys.readouterr().err.strip().splitlines()[-1]


def test_adapters_need_one_base(models, capsys):
    assert generate(models / "base", models / "other", "--adapter", models / "sft") == 2
    assert "--adapter goes with one MODEL" in capsys.readouterr().err


def test_rows_without_prompts_are_named(models, tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "가"}\n{"question": "나"}\n', encoding="utf-8")
    assert generate(models / "base", "--file", tmp_path / "rows.jsonl") == 2
    assert "Row 1" in capsys.readouterr().err
    (tmp_path / "empty.txt").write_text("\n\n")
    assert generate(models / "base", "--file", tmp_path / "empty.txt") == 2
    assert "no prompts" in capsys.readouterr().err


def test_prompts_that_are_no_text_are_named(models, tmp_path, capsys):
    for prompt in (3, [{"role": "user"}], ["가"]):
        (tmp_path / "rows.json").write_text(json.dumps([{"prompt": "가"}, {"prompt": prompt}]), encoding="utf-8")
        assert generate(models / "base", "--file", tmp_path / "rows.json") == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert "Row 1 of" in error and "neither text nor messages" in error
    (tmp_path / "rows.txt").write_bytes("안녕".encode("cp949"))
    assert generate(models / "base", "--file", tmp_path / "rows.txt") == 2
    assert "rows.txt, line 1: byte 0xbe is not UTF-8. It reads as CP949: --encoding cp949" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "text"), [("rows.txt", "안녕?\r\n"), ("rows.csv", "prompt\n안녕?\n")])
def test_prompts_in_the_encoding_that_is_said(name, text, models, tmp_path, capsys):
    (tmp_path / name).write_bytes(text.encode("cp949"))
    file = ("--file", tmp_path / name, "--encoding", "cp949")
    assert generate(models / "base", *file, "--max_new_tokens", 2) == 0
    assert capsys.readouterr().out.startswith("# 안녕?\n")


def test_help_needs_no_torch():
    import subprocess

    code = "import sys; from trl_kochat.cli import build_parser; build_parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Names.


def test_labels_are_as_short_as_they_can_be():
    assert short_labels(["skt/kogpt2", "runs/sft", "runs/ppo"]) == ["kogpt2", "sft", "ppo"]
    assert short_labels(["runs/a/checkpoint-10", "runs/b/checkpoint-10"]) == ["a/checkpoint-10", "b/checkpoint-10"]
    assert short_labels(["m", "m"]) == ["m (1)", "m (2)"]
    assert short_labels(["/a/b", "b"]) == ["a/b", "b"]


def test_training_leaves_a_tokenizer_beside_the_adapter_that_is_taken(models, tmp_path):
    beside = tmp_path / "adapter"
    assert Candidate("a", "base", str(beside)).tokenizer == "base"
    tiny_tokenizer().save_pretrained(beside)
    assert Candidate("a", "base", str(beside)).tokenizer == str(beside)
    assert Candidate("b", "base", None).tokenizer == "base"
    assert [c.label for c in plan_candidates([str(models / "base")], [str(models / "sft")])] == ["base", "sft"]


# How it looks.


def answer(text: str, ended: bool = True) -> Generation:
    return Generation("?", text, list(range(7)), ended)


def shown(show, *arguments, width: int = 100, terminal: bool = True) -> list[str]:
    console = Console(
        file=io.StringIO(), force_terminal=terminal, width=width, color_system=None, markup=False, emoji=False
    )
    show(console, *arguments)
    return console.file.getvalue().splitlines()


KOREAN = "불고기용 고기는 보통 한우 목심이나 설도를 얇게 썬 것이고, 정육점에서 원산지를 물어보면 알려 줍니다. 😀"


@pytest.mark.parametrize("width", [72, 100, 141])
def test_borders_of_korean_tables_line_up(width):
    answers = {"base": answer(KOREAN, False), "sft": answer("네 " + KOREAN[:11]), "한국어 이름": answer("韓 ㅋㅋ")}
    for lines in (shown(show_answers, answers, width=width), shown(show_summary, _lists(answers), width=width)):
        bordered = [line for line in lines if line.startswith(tuple("┏┃┡│└├╭╰"))]
        assert len(bordered) >= 5 and len({cell_len(line) for line in bordered}) == 1
    assert "".join(KOREAN.split()) in "".join(
        "".join(line.strip("│ ").split("│")[0] for line in shown(show_answers, {"base": answer(KOREAN)})).split()
    )


def _lists(answers):
    return {label: [generation] for label, generation in answers.items()}


def test_narrow_terminals_get_blocks_instead_of_columns():
    answers = {"base": answer("하나"), "sft": answer("둘")}
    wide, narrow = shown(show_answers, answers, width=100), shown(show_answers, answers, width=50)
    assert any("하나" in line and "둘" in line for line in wide)
    assert not any("하나" in line and "둘" in line for line in narrow)
    assert "하나" in "".join(narrow) and "둘" in "".join(narrow)


def test_whether_an_answer_ended_is_told():
    lines = "\n".join(shown(show_answers, {"a": answer("네."), "b": answer("네", False)}))
    assert "ended after 7 tokens" in lines and "cut after 7 tokens" in lines


@pytest.mark.parametrize("terminal", [True, False])
def test_what_a_terminal_would_obey_is_spelt_out(terminal):
    evil = "\x1b[2J\x1b]0;title\x07[bold]굵게[/bold] :smile:\u202e"
    for show, argument in (
        (show_prompt, evil),
        (show_answers, {"a": answer(evil)}),
        (show_tokens, [(evil, 1)]),
    ):
        text = "\n".join(shown(show, argument, terminal=terminal))
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
        assert r"\x1b" in text and "[bold]굵게[/bold] :smile:" in text


def test_the_summary_names_leakage_and_repetition():
    answers = {"좋은": [answer("네, 한우예요.")] * 2, "나쁜": [answer("韓牛 " * 30, False), answer("네")]}
    plain = shown(show_summary, answers, terminal=False)
    assert plain[0] == "[좋은] ended 2/2, tokens 7.0, repetition 0.00, hanja 0.00, latin 0.00"
    assert plain[1].startswith("[나쁜] ended 1/2") and "hanja 0.50" in plain[1]
