"""What `pip install` gives: the package with everything it needs, and nothing else."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
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
        "trl_kochat/sample/tiny-ko/LICENSE-CC-BY-SA-4.0.txt",
        "trl_kochat/sample/tiny-ko-chat/model.safetensors",
        "trl_kochat/sample/tiny-ko-sft/adapter_model.safetensors",
        "trl_kochat/sample/tiny-ko-sft-early/adapter_model.safetensors",
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
    assert metadata["Name"] == "trl_kochat" and metadata["License-Expression"] == "Apache-2.0 AND CC-BY-SA-4.0"
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


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """An environment of its own, with what pip made of the wheel; what the package needs is lent by this one."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment)
    interpreter = environment / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([interpreter, "-c", where], capture_output=True, text=True, check=True).stdout.strip())
    # Only its folder: a .pth inside it, which would lead to this repository, is not read.
    (site / "lent.pth").write_text(sysconfig.get_path("purelib"))
    wheel = next(built.glob("*.whl"))
    pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--quiet", "--no-index", "--no-deps"]
    result = subprocess.run([*pip, "--ignore-installed", str(wheel)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return environment / "bin"


def run(*command, cwd):
    """Run a command in a folder elsewhere, with nothing of this repository in sight."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = {**kept, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_what_pip_installs_runs_elsewhere(installed, tmp_path):
    code = "import trl_kochat, trl_kochat.recipes as recipes; print(trl_kochat.__file__, *recipes.__path__, sep='\\n')"
    module, recipes = run(installed / "python", "-c", code, cwd=tmp_path).stdout.split()
    assert Path(module).is_relative_to(installed.parent) and Path(recipes) == Path(module).parent / "recipes"
    doctor = run(installed / "trl-kochat", "doctor", "tiny-ko", cwd=tmp_path)
    assert doctor.returncode == 0 and "Healthy." in doctor.stdout, doctor.stderr
    assert not list(tmp_path.iterdir())


def test_a_recipe_of_the_wheel_is_a_module(installed, tmp_path):
    arguments = ["-m", "trl_kochat.recipes.sft_kochatgpt", "--preset", "cpu", "--dry_run"]
    result = run(installed / "python", *arguments, cwd=tmp_path)
    assert result.returncode == 0 and "stopped before the first step" in result.stdout, result.stderr


@pytest.mark.slow
@pytest.mark.long
def test_a_recipe_of_the_wheel_trains_elsewhere(installed, tmp_path):
    arguments = ["reward_kochatgpt", "--preset", "cpu", "--max_steps", "1", "--warmup_steps", "0"]
    arguments += ["--max_eval_samples", "16"]
    result = run(installed / "trl-kochat", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "runs" / "reward_kochatgpt"
    assert (folder / "adapter_model.safetensors").is_file() and (folder / "report" / "index.html").is_file()
    assert "reward_kochatgpt.py --preset cpu" in (folder / "report" / "metrics.json").read_text(encoding="utf-8")
