"""What `pip install` gives: the package with everything it needs, and nothing else."""

import os
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder with a source distribution and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        yield archive


def files(folder, pattern="*"):
    """Files below a folder of the repository, as paths in it, without caches and notebooks."""
    found = (path.relative_to(folder) for path in folder.rglob(pattern) if path.is_file())
    return {path.as_posix() for path in found if not {"__pycache__", "notebooks"} & set(path.parts)}


def test_the_wheel_holds_the_package_and_the_recipes_and_nothing_else(wheel):
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    package = {f"trl_kochat/{name}" for name in files(ROOT / "trl_kochat")}
    recipes = {f"trl_kochat/recipes/{name}" for name in files(ROOT / "recipes")}
    assert inside == package | recipes
    # Named, so that a file that is missing in the repository is missed here too.
    assert {
        "trl_kochat/py.typed",
        "trl_kochat/recipes/__init__.py",
        "trl_kochat/recipes/dpo_orca.py",
        "trl_kochat/recipes/ppo_kochatgpt.py",
        "trl_kochat/sample/kochatgpt_2_RM.jsonl",
        "trl_kochat/sample/orca_dpo_pairs.jsonl",
        "trl_kochat/sample/tiny-ko/model.safetensors",
        "trl_kochat/sample/tiny-ko/LICENSE-ChatbotData.txt",
        "trl_kochat/sample/tiny-ko/LICENSE-chatterbot-corpus.txt",
        "trl_kochat/sample/tiny-ko-sft/adapter_model.safetensors",
        "trl_kochat/sample/tiny-ko-reward/adapter_model.safetensors",
        "trl_kochat/tokenizer/chat_templates/ko_instruct.jinja",
        "trl_kochat/report/templates/run.html.jinja",
    } <= inside


def test_no_pickle_and_no_compiled_file_is_inside(wheel):
    suffixes = {Path(name).suffix for name in wheel.namelist()}
    assert not suffixes & {".bin", ".pt", ".pth", ".pkl", ".pyc", ".so", ".ipynb"}


def test_licences_and_commands_are_in_the_metadata(wheel):
    names = [name for name in wheel.namelist() if ".dist-info/" in name]
    text = {name.partition(".dist-info/")[2]: wheel.read(name).decode() for name in names}
    metadata = Parser().parsestr(text["METADATA"])
    assert metadata["Name"] == "trl_kochat" and metadata["License-Expression"] == "Apache-2.0"
    licences = metadata.get_all("License-File")
    assert "LICENSE" in licences and len(licences) == 3
    assert all(text[f"licenses/{licence}"].strip() for licence in licences)
    assert "trl-kochat = trl_kochat.cli:main" in text["entry_points.txt"]


def test_the_source_distribution_can_be_built_and_tested_from(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "recipes/dpo_orca.py", "tests/conftest.py"} <= inside
    tops = {name.partition("/")[0] for name in inside}
    assert not [top for top in tops if top.startswith(".") and top != ".gitignore"]
    assert not tops & {"runs", "wandb", "dist", "models"} and not any("__pycache__" in name for name in inside)


def python(site, *arguments, cwd):
    """Run Python elsewhere, with the package from `site` and not from this repository."""
    environment = {**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_what_is_in_the_wheel_runs_elsewhere(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    wheel.extractall(site)
    elsewhere.mkdir()
    code = "import trl_kochat, trl_kochat.recipes as recipes; print(trl_kochat.__file__, *recipes.__path__, sep='\\n')"
    where = python(site, "-c", code, cwd=elsewhere)
    assert where.stdout.split() == [str(site / "trl_kochat" / "__init__.py"), str(site / "trl_kochat" / "recipes")]
    doctor = python(site, "-m", "trl_kochat", "doctor", str(site / "trl_kochat/sample/tiny-ko"), cwd=elsewhere)
    assert doctor.returncode == 0 and "Healthy." in doctor.stdout, doctor.stderr
    assert not list(elsewhere.iterdir())


def test_a_recipe_of_the_wheel_is_a_module(wheel, tmp_path):
    wheel.extractall(tmp_path / "site")
    arguments = ["-m", "trl_kochat.recipes.sft_kochatgpt", "--preset", "cpu", "--dry_run"]
    result = python(tmp_path / "site", *arguments, cwd=tmp_path)
    assert result.returncode == 0 and "stopped before the first step" in result.stdout, result.stderr


@pytest.mark.slow
def test_a_recipe_of_the_wheel_trains_elsewhere(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    wheel.extractall(site)
    elsewhere.mkdir()
    arguments = ["-m", "trl_kochat", "reward_kochatgpt", "--preset", "cpu", "--max_steps", "1", "--warmup_steps", "0"]
    result = python(site, *arguments, cwd=elsewhere)
    assert result.returncode == 0, result.stderr
    run = elsewhere / "runs" / "reward_kochatgpt"
    assert (run / "adapter_model.safetensors").is_file() and (run / "report" / "index.html").is_file()
    assert "reward_kochatgpt.py --preset cpu" in (run / "report" / "metrics.json").read_text(encoding="utf-8")
