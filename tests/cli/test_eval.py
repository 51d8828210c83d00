import json
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from tests.tiny_lm import tiny_llama, tiny_reward_model, tiny_tokenizer
from trl_kochat.cli import build_parser, main
from trl_kochat.cli.eval import rows_to_measure
from trl_kochat.cli.judge import command_judge, compare, reward_judge
from trl_kochat.errors import InputError
from trl_kochat.measure.answers import evaluate_answers
from trl_kochat.measure.generate import Generation
from trl_kochat.measure.preferences import evaluate_preferences, evaluate_reward


PAIRS = [
    {"prompt": "오늘 미세먼지 어때?", "chosen": "오늘은 맑아요.", "rejected": "몰라", "kind": "evasive"},
    {"prompt": "파이썬이 뭐야?", "chosen": "배우기 쉬운 언어입니다.", "rejected": "hello", "kind": "wrong_language"},
    {"prompt": "불고기용 고기 한우에요?", "chosen": "네, 한우입니다.", "rejected": "네", "kind": "evasive"},
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A base, an adapter and a reward adapter on it, another base, and pairs."""
    folder = tmp_path_factory.mktemp("models")
    for name, model in (("base", tiny_llama()), ("other", tiny_llama(seed=3, eos_logit=3.0))):
        model.save_pretrained(folder / name)
        tiny_tokenizer().save_pretrained(folder / name)
    for name, task, kind in (("sft", "CAUSAL_LM", tiny_llama), ("reward", "SEQ_CLS", tiny_reward_model)):
        torch.manual_seed(7)
        config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type=task)
        model = type(kind()).from_pretrained(
            folder / "base", **({"num_labels": 1} if kind is tiny_reward_model else {})
        )
        get_peft_model(model, config).save_pretrained(folder / name)
    write(folder / "pairs.jsonl", PAIRS)
    return folder


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def evaluate(models, capsys):
    """`evaluate(arguments)`: what is printed; names of the folder stand for what lies in it."""

    def run(*arguments, status=0):
        words = [str(models / word) if (models / str(word)).exists() else str(word) for word in arguments]
        assert main(["eval", *words, "--max_new_tokens", "8"]) == status
        return capsys.readouterr()

    return run


def in_messages(pairs):
    return [
        {
            "prompt": [{"role": "user", "content": pair["prompt"]}],
            "chosen": [{"role": "assistant", "content": pair["chosen"]}],
            "rejected": [{"role": "assistant", "content": pair["rejected"]}],
            "kind": pair["kind"],
        }
        for pair in pairs
    ]


def test_measures_are_those_of_the_report_on_the_same_rows(evaluate):
    told = json.loads(evaluate("base", "pairs.jsonl", "--json").out)
    (model,) = told["models"]
    rows = in_messages(PAIRS)
    expected = evaluate_preferences(tiny_llama(), tiny_tokenizer(), rows)
    expected |= evaluate_answers(tiny_llama(), tiny_tokenizer(), rows, reference="chosen", max_new_tokens=8)
    numbers = {name: value for name, value in expected.items() if not name.endswith("_by_row") and name != "n"}
    assert {name: one["value"] for name, one in model["measures"].items()} == pytest.approx(numbers, abs=1e-5)
    assert {"preferred_kind_evasive", "preferred_kind_wrong_language"} <= numbers.keys()
    assert model["measures"]["preferred"]["n"] == 3 and model["measures"]["preferred_kind_evasive"]["n"] == 2
    low, high = model["measures"]["mean_length"]["interval"]
    assert low <= model["measures"]["mean_length"]["value"] <= high
    assert told["type"] == "preference" and told["rows"] == 3 and model["change"] == {}
    assert [row["prompt"] for row in told["answers"]] == [row["prompt"] for row in rows]


def test_the_file_may_stand_before_the_adapters_or_behind():
    for words in ("M --adapter A --adapter B F", "M F --adapter A --adapter B", "--adapter A --adapter B M F"):
        args = build_parser().parse_args(["eval", *words.split()])
        assert (args.model, args.adapter, args.data) == (["M"], ["A", "B"], "F")
    assert build_parser().parse_args(["eval", "M", "N", "F"]).model == ["M", "N"]


def test_adapters_stand_beside_their_base_and_are_compared_with_it(evaluate):
    told = json.loads(evaluate("base", "--adapter", "sft", "--adapter", "sft", "pairs.jsonl", "--json").out)
    first, one, two = told["models"]
    assert [model["label"] for model in told["models"]] == ["base", "sft (1)", "sft (2)"]
    assert first["change"] == {} and one["measures"] == two["measures"] != first["measures"]
    assert set(one["change"]) == set(first["measures"])
    assert all(len(row["answers"]) == 3 for row in told["answers"])
    # Fewer than eight rows show no change, whatever the numbers say.
    assert {change["judged"] for change in one["change"].values()} == {"same"}


def test_a_reward_model_is_asked_for_the_order_of_pairs_by_kind(evaluate, models):
    from trl_kochat.measure.score import load_reward_model

    told = json.loads(evaluate("base", "--adapter", "reward", "pairs.jsonl", "--json").out)
    writer, scorer = told["models"]
    expected = evaluate_reward(load_reward_model(models / "reward"), tiny_tokenizer(), in_messages(PAIRS))
    assert scorer["measures"]["accuracy_kind_evasive"]["value"] == expected["accuracy_kind_evasive"]
    assert scorer["measures"]["margin"]["value"] == pytest.approx(expected["margin"], abs=1e-5)
    assert "preferred" in writer["measures"] and "preferred" not in scorer["measures"]
    rows = write(models / "asked.jsonl", [{"prompt": pair["prompt"]} for pair in PAIRS])
    assert "reward is a reward model, which is measured on pairs" in evaluate("reward", rows, status=2).err


def test_rows_of_answers_have_a_loss_and_rows_of_prompts_only_answers(evaluate, models):
    answered = write(
        models / "answered.jsonl", [{"prompt": pair["prompt"], "completion": pair["chosen"]} for pair in PAIRS]
    )
    measures = json.loads(evaluate("base", answered, "--json").out)["models"][0]["measures"]
    assert {"eval_loss", "speech_level", "distinct"} <= measures.keys() and "preferred" not in measures
    asked = write(models / "prompts.jsonl", [{"prompt": pair["prompt"]} for pair in PAIRS])
    measures = json.loads(evaluate("base", asked, "--formatter", "kochatgpt_ppo", "--json").out)["models"][0][
        "measures"
    ]
    assert "distinct" in measures and not {"eval_loss", "speech_level"} & measures.keys()


def rows_of(path, *flags):
    return rows_to_measure(build_parser().parse_args(["eval", "M", str(path), *map(str, flags)]))


def test_answers_marked_bad_are_left_out_and_counted(tmp_path, capsys):
    rows = [{"prompt": pair["prompt"], "completion": pair["chosen"], "label": n > 0} for n, pair in enumerate(PAIRS)]
    kind, left = rows_of(write(tmp_path / "marked.jsonl", rows))
    assert kind == "prompt_completion" and len(left) == 2 and "label" not in left[0]
    assert "1 answers that are marked bad are left out." in capsys.readouterr().err


def test_no_more_rows_than_asked_and_always_the_same(tmp_path, capsys):
    file = write(tmp_path / "pairs.jsonl", PAIRS)
    assert rows_of(file, "--max_eval_samples", 2) == rows_of(file, "--max_eval_samples", 2)
    assert len(rows_of(file, "--max_eval_samples", 2)[1]) == 2 and len(rows_of(file)[1]) == 3
    assert "2 of 3 rows, always the same (--max_eval_samples)." in capsys.readouterr().err


def test_rewards_by_name_are_means_over_the_answers(evaluate):
    told = json.loads(evaluate("base", "pairs.jsonl", "--rewards", "korean_script", "length:1,999", "--json").out)
    measures = told["models"][0]["measures"]
    assert measures["reward_length:1,999"]["value"] == 1 and measures["reward_length:1,999"]["n"] == 3
    assert 0 <= measures["reward_korean_script"]["value"] <= 1
    assert "right says nothing of these rows" in evaluate("base", "pairs.jsonl", "--rewards", "right", status=2).err


# Judges.


def given(*texts, ended=True):
    return [Generation("?", text, [1], ended) for text in texts]


def saying(verdict):
    """A judge that says what `verdict(a, b)` says of two texts."""
    return lambda prompts, first, second: [verdict(a.text, b.text) for a, b in zip(first, second, strict=True)]


def longer(a, b):
    return "a" if len(a) > len(b) else "b" if len(b) > len(a) else "tie"


def test_a_judge_counts_wins_losses_and_ties_and_same_texts_are_never_asked():
    asked = []

    def verdict(a, b):
        asked.append((a, b))
        return longer(a, b)

    ours, theirs = given("가가가", "나", "다", "같다"), given("가", "나나", "라", "같다")
    told = compare(saying(verdict), ("sft", "base"), ["?"] * 4, ours, theirs)
    assert (told.label, told.against) == ("sft", "base")
    assert (told.wins, told.losses, told.ties, told.disagreements) == (1, 1, 2, 0)
    assert told.rate == 0.5 and told.low <= 0.5 <= told.high
    assert asked == [("가가가", "가"), ("나", "나나"), ("다", "라"), ("가", "가가가"), ("나나", "나"), ("라", "다")]


def test_a_judge_that_goes_by_the_place_decides_nothing():
    told = compare(
        saying(lambda a, b: "a"), ("sft", "base"), ["?"] * 3, given("가", "나", "다"), given("라", "마", "바")
    )
    assert (told.wins, told.losses, told.ties, told.disagreements) == (0, 0, 0, 3)
    assert (told.rate, told.low, told.high) == (0.5, 0.5, 0.5)


def test_changing_sides_changes_wins_into_losses():
    ours, theirs = given("가가", "나", "다다"), given("가", "나나", "다")
    one, other = (compare(saying(longer), ("x", "y"), ["?"] * 3, *sides) for sides in ((ours, theirs), (theirs, ours)))
    assert (one.wins, one.losses) == (other.losses, other.wins) == (2, 1)
    assert one.rate == pytest.approx(1 - other.rate)


def test_a_reward_model_judges_by_its_scores_and_knows_what_was_cut():
    from trl_kochat.measure.score import score_completions

    model, tokenizer = tiny_reward_model(), tiny_tokenizer()
    a, b = given("네, 한우입니다."), given("네, 한우입니다.", ended=False)
    scores = [
        score_completions(model, tokenizer, ["?"], ["네, 한우입니다."], ended=[done])[0] for done in (True, False)
    ]
    assert scores[0] != scores[1]
    assert reward_judge(model, tokenizer)(["?"], a, b) == ["a" if scores[0] > scores[1] else "b"]
    assert reward_judge(model, tokenizer)(["?"], a, a) == ["tie"]


PROGRAM = """
import json, sys
for line in sys.stdin:
    pair = json.loads(line)
    assert set(pair) == {"prompt", "a", "b"}
    print(json.dumps({"verdict": "a" if len(pair["a"]) > len(pair["b"]) else "b"}))
"""


def test_a_judge_of_ones_own_is_asked_about_each_model_and_the_first(evaluate, tmp_path):
    (tmp_path / "judge.py").write_text(PROGRAM)
    judge = ["--judge_command", f"{sys.executable} -S {tmp_path / 'judge.py'}"]
    said = evaluate("base", "other", "pairs.jsonl", *judge, "--html", tmp_path / "page.html").out
    *lines, verdict = said.splitlines()
    assert len({line.count("\t") for line in lines}) == 1 and verdict.startswith("other against base: ")
    assert verdict in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_model_alone_is_judged_against_the_answers_of_the_rows(evaluate, models):
    said = json.loads(evaluate("base", "pairs.jsonl", "--judge", "reward_model", models / "reward", "--json").out)
    (verdict,) = said["judge"]
    assert (verdict["label"], verdict["against"]) == ("base", "the rows' answers")
    assert sum(verdict[name] for name in ("wins", "losses", "ties", "disagreements")) == 3


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("print('a')", "wrote 1 lines for 2 pairs"),
        ("print('a'); print('b')", 'wrote \'a\' in line 1; a verdict is {"verdict": "a"}'),
        ("print('{\"verdict\": \"c\"}'); print('b')", "in line 1"),
        ("raise SystemExit(3)", "ended with status 3"),
    ],
)
def test_a_judge_that_says_something_else_is_named(program, message, tmp_path):
    (tmp_path / "judge.py").write_text(program)
    judge = command_judge(f"{sys.executable} -S {tmp_path / 'judge.py'}")
    with pytest.raises(InputError, match="judge_command") as raised:
        judge(["?", "?"], given("가", "나"), given("다", "라"))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--judge", "gpt", "x"], "--judge gpt is none"),
        (["--judge_command", "no-such-program"], "does not run"),
        (["--max_eval_samples", 0], "must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(arguments, message, evaluate):
    error = evaluate("base", "pairs.jsonl", *arguments, status=2).err.strip().splitlines()[-1]
    assert error.startswith("trl-kochat eval: ") and message in error


def test_a_judge_needs_two_to_compare(evaluate, models):
    asked = write(models / "asked_alone.jsonl", [{"prompt": pair["prompt"]} for pair in PAIRS])
    assert "give two models that write" in evaluate("base", asked, "--judge_command", "cat", status=2).err


# lm-eval.


FOLDER = Path(__file__).parents[2] / "benchmarks" / "lm_eval"


@pytest.fixture
def task(monkeypatch):
    """The task of lm-eval as its YAML says, with the functions that it names."""
    import importlib

    import yaml

    monkeypatch.syspath_prepend(FOLDER)

    class Loader(yaml.SafeLoader):
        pass

    def function(loader, node):
        module, _, name = loader.construct_scalar(node).rpartition(".")
        return getattr(importlib.import_module(module), name)

    Loader.add_constructor("!function", function)
    return yaml.load((FOLDER / "world.yaml").read_text(encoding="utf-8"), Loader)


def test_the_lm_eval_task_asks_the_held_out_questions_of_the_embedded_rows(task):
    import world

    rows = list(task["custom_dataset"](version=1)[task["test_split"]])
    assert rows == world.held_out_rows(), "python benchmarks/lm_eval/world.py writes them anew"
    assert len({row["prompt"] for row in rows}) == len(rows) > 300 and all(row["held_out"] for row in rows)
    assert task["metric_list"][0]["metric"] == "right" and task["task"] == "trl_kochat_world"


def test_the_lm_eval_task_takes_right_answers_for_right(task):
    rows = list(task["custom_dataset"]()[task["test_split"]])[::12]
    assert all(task["process_results"](row, [row["completion"]]) == {"right": 1.0} for row in rows)
    assert all(task["process_results"](row, ["몰라요."]) == {"right": 0.0} for row in rows)


@pytest.mark.slow
def test_lm_eval_runs_the_task_on_a_merged_folder(tmp_path):
    """Where it is installed; it is no dependency."""
    pytest.importorskip("lm_eval")
    import subprocess

    assert main(["merge", "tiny-ko-sft", str(tmp_path / "merged"), "--base", "tiny-ko"]) == 0
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args"]
    command += [f"pretrained={tmp_path / 'merged'}", "--tasks", "trl_kochat_world", "--include_path", str(FOLDER)]
    command += ["--apply_chat_template", "--limit", "8", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "|right |" in done.stdout, done.stderr[-2000:]
