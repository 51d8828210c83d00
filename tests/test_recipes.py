"""What holds for every recipe in recipes/: they may look alike, and this keeps them so."""

import ast
import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open

from tests.no_network import without_network
from tests.tiny_lm import tiny_llama
from trl_kochat.run import trackers
from trl_kochat.run.presets import PRESETS, preset_values
from trl_kochat.sample import embedded


RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.py"))
CONFIGS = Path(__file__).parent.parent / "recipes" / "configs"
# Recipes that train on adapters which are there already.
ADAPTERS = {"ppo_kochatgpt": "LoRA of stages 1 and 2", "grpo_korean": "LoRA of stage 1"}
BEFORE_AND_AFTER = {
    "dpo": {"accuracy", "margin", "preferred", "logps_chosen", "repetition", "hanja", "latin", "eos_rate"},
    "kto": {"eval_loss", "repetition", "hanja", "latin", "eos_rate"},
    "sft": {"eval_loss", "repetition", "hanja", "latin", "eos_rate"},
    "reward": {"accuracy", "margin"},
    "grpo": {"reward", "reward_speech_level", "reward_std", "kl", "eos_rate", "distinct", "hanja", "latin"},
    "ppo": {"reward", "reward_std", "kl", "eos_rate", "mean_length", "repetition", "hanja", "latin"},
}


def load(path):
    spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=RECIPES, ids=lambda path: path.stem)
def recipe(request, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return load(request.param)


def values(recipe, preset):
    return preset_values(Path(recipe.__file__).stem, preset)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_one_screen_and_its_main_half_of_it(path):
    text = path.read_text(encoding="utf-8")
    (main,) = [node for node in ast.parse(text).body if getattr(node, "name", None) == "main"]
    assert main.end_lineno - main.lineno < 30 and text.count("\n") <= 60
    assert ast.get_docstring(ast.parse(text)) and text.endswith("Run.as_command(main)\n")


def test_the_gpu_preset_is_4bit_lora_with_wandb(recipe):
    gpu = values(recipe, "gpu")
    assert gpu["load_in_4bit"] and gpu["use_peft"] and gpu["report_to"] == ["wandb"]
    assert "/" in gpu["model_name_or_path"]


def test_the_cpu_preset_is_embedded_and_takes_the_same_4bit_path(recipe):
    cpu = values(recipe, "cpu")
    assert cpu["load_in_4bit"] and cpu["use_peft"] and cpu["report_to"] == ["none"]
    for source in [cpu["model_name_or_path"], *cpu["dataset_name"]]:
        assert embedded(source) != source and Path(embedded(source)).exists()


def test_a_resumed_run_logs_the_same_means(recipe):
    for preset in PRESETS:
        assert values(recipe, preset)["save_steps"] % values(recipe, preset)["logging_steps"] == 0
    assert values(recipe, "cpu")["max_steps"] >= 4 * values(recipe, "cpu")["save_steps"]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_preset_says_where_its_values_are_from(path):
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# The values of the " if path.stem == "gpu" else "# Ours: ")


def test_a_misspelt_flag_is_refused_before_anything_is_loaded(recipe):
    with pytest.raises(ValueError, match="did you mean 'learning_rate'"):
        recipe.main(["--lerning_rate", "1"])


def test_help_waits_neither_for_a_trainer_nor_for_what_draws_plots():
    code = (
        "import runpy, sys\n"
        "for path in sys.argv[1:]:\n"
        "    sys.argv = [path, '--help']\n"
        "    try:\n        runpy.run_path(path, run_name='__main__')\n"
        "    except SystemExit as stop:\n        assert not stop.code\n"
        "print('loaded:', *sys.modules)"
    )
    paths = [str(path) for path in RECIPES if path.stem not in ADAPTERS]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    text, _, loaded = done.stdout.rpartition("loaded:")
    assert len(paths) == text.count("--learning_rate ") == text.count("--dry_run") == 4
    assert not {"matplotlib", "wandb", "trl.trainer.base_trainer"} & set(loaded.split())


@pytest.mark.parametrize(("name", "adapters"), ADAPTERS.items())
def test_adapters_that_are_there_already_are_not_shaped(monkeypatch, tmp_path, name, adapters):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"^--lora_r would have no effect: this trains on the {adapters}"):
        load(next(path for path in RECIPES if path.stem == name)).main(["--preset", "cpu", "--lora_r", "4"])


def test_grpo_takes_rloo_and_no_other_trainer(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    main = load(next(path for path in RECIPES if path.stem == "grpo_korean")).main
    main(
        [
            "--preset",
            "cpu",
            "--trainer=rloo",
            "--dry_run",
            "--rewards",
            "ends",
            "reward_model",
            "--reward_weights",
            "1",
            "2",
        ]
    )
    assert "stopped before the first step" in capsys.readouterr().out
    with pytest.raises(ValueError, match="--trainer dpo: there are grpo and rloo"):
        main(["--preset", "cpu", "--trainer", "dpo"])


def test_a_dry_run_says_what_would_run_and_stops(recipe, capsys, tmp_path):
    recipe.main(["--preset", "cpu", "--dry_run"])
    out = capsys.readouterr().out
    name = Path(recipe.__file__).stem
    adapters = ADAPTERS.get(name) or f"LoRA r {values(recipe, 'cpu')['lora_r']}"
    model = values(recipe, "cpu")["model_name_or_path"]
    assert out.startswith(f"{name}: preset cpu (as asked), {model}, 4-bit {adapters} in float32, ")
    for text in ("rows:", "read,", "made,", "example 1", "example 2", "trainable parameters:", "stopped before"):
        assert text in out
    assert not list(tmp_path.rglob("*.safetensors")) and not list(tmp_path.rglob("report"))


def test_what_runs_is_said_before_what_it_is_left_without(recipe, monkeypatch, capsys):
    monkeypatch.setattr(trackers, "is_installed", lambda name: False)
    with pytest.raises(ValueError, match="nowhere"):
        recipe.main(["--preset", "cpu", "--report_to", "trackio", "--resume_from_checkpoint", "nowhere"])
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert first.startswith(Path(recipe.__file__).stem) and second.startswith("trackio is not installed")


TWO_STEPS = """
from importlib import import_module

from trl_kochat.startup import begin_command

begin_command()
flags = "--preset cpu --max_steps 2 --warmup_steps 0 --max_eval_samples 4 --eval_strategy no --output_dir".split()
names = {names}
for name in names:
    import_module(f"trl_kochat.recipes.{{name}}").main([*flags, name])
from trl_kochat.cli import main

assert not main(["report", *names, "--output", "both.html"])
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder where one process took two steps of every cpu preset, without network and nothing to say so."""
    folder = tmp_path_factory.mktemp("trained")
    run = without_network(folder)
    run(TWO_STEPS.format(names=[path.stem for path in RECIPES]), offline=False)
    assert run.tried() == "" and (folder / "both.html").is_file()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", [path.stem for path in RECIPES])
def test_two_steps_leave_an_adapter_and_a_report(trained, name):
    folder = trained / name
    metrics = json.loads((folder / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["recipe"] == name and metrics["preset"] == "cpu" and metrics["seconds"] > 0
    assert metrics["run"]["steps"] == 2
    card = (folder / "README.md").read_text(encoding="utf-8")
    base = preset_values(name, "cpu")["model_name_or_path"]
    assert f"made from `{base}` by `{name}`" in card and "## Measures on held-out rows" in card
    for moment in ("before", "after"):
        assert BEFORE_AND_AFTER[metrics["method"]] <= metrics[moment].keys()
        assert all(math.isfinite(value) for value in metrics[moment].values())
    lines = (folder / "report" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    scores = [json.loads(line)["score"] for line in lines]
    assert scores and all((score is not None) == (metrics["method"] in ("reward", "ppo", "grpo")) for score in scores)
    if metrics["method"] == "dpo":
        assert metrics["before"]["accuracy"] == 0.5  # the policy is its reference
    rows = metrics["rows"]
    assert rows["train"] + rows["eval"] == rows["made"]
    assert {"trl", "transformers", "peft", "torch"} <= metrics["versions"].keys()
    with safe_open(folder / "adapter_model.safetensors", "pt") as adapter:
        keys = list(adapter.keys())
        trained = [key for key in keys if "lora_B" in key]
        assert trained and any(adapter.get_tensor(key).abs().max() > 0 for key in trained)
        assert all(torch.isfinite(adapter.get_tensor(key)).all() for key in keys)
    if metrics["method"] == "reward":
        assert any("score" in key for key in keys)


def test_the_report_tells_what_a_row_too_long_became(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [
        {"prompt": f"질문 {i}", "completion_0": "좋은 답", "completion_1": "나쁜 답", "ranking": [0, 1]}
        for i in range(20)
    ]
    rows[3]["completion_0"] = "아주 긴 답이에요. " * 100
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    recipe = load(next(path for path in RECIPES if path.stem == "reward_kochatgpt"))
    recipe.main(["--preset", "cpu", "--dataset_name", "rows.json", "--max_length", "64", "--dry_run"])
    out = capsys.readouterr().out
    assert "1 rows left out: too long" in out and "20 read, 19 made, dropped: too_long 1" in out


def test_a_prompt_longer_than_max_length_is_counted(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"질문 {i}", "completion": "답이에요."} for i in range(20)]
    rows[3]["prompt"] = "아주 긴 질문 " * 100
    rows[4]["completion"] = "아주 긴 답 " * 100
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    recipe = load(next(path for path in RECIPES if path.stem == "sft_kochatgpt"))
    recipe.main(["--preset", "cpu", "--dataset_name", "rows.json", "--max_length", "64", "--dry_run"])
    out = capsys.readouterr().out
    assert "dropped: too_long 1" in out and "1 rows cut at --max_length 64" in out


def test_ppo_says_that_an_sft_adapter_belongs_to_another_base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = get_peft_model(tiny_llama(), LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
    other.peft_config["default"].base_model_name_or_path = "other/model"
    other.save_pretrained(tmp_path / "other")
    (path,) = [path for path in RECIPES if path.stem == "ppo_kochatgpt"]
    with pytest.raises(ValueError, match="other was trained on other/model, and this run has"):
        load(path).main(["--preset", "cpu", "--sft_adapter", str(tmp_path / "other")])
