"""The versions that the package says it works with, and that it leans on nothing but the public API of its stack."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from importlib import metadata
from pathlib import Path

import pytest
import trl
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from transformers import TrainerCallback
from trl import DPOConfig, GRPOConfig, KTOConfig, ModelConfig, RewardConfig, SFTConfig

from trl_kochat import PPOConfig, PPOTrainer
from trl_kochat.callbacks import HealthGuardCallback, InterruptCallback, KoreanSamplesCallback, RunReportCallback
from trl_kochat.run.arguments import RecipeArguments
from trl_kochat.run.presets import PRESETS, preset_values
from trl_kochat.stages import GroupArguments, StageArguments
from trl_kochat.versions import TESTED, newer_versions


ROOT = Path(__file__).parent.parent
FILES = sorted(
    [*(ROOT / "trl_kochat").rglob("*.py"), *(ROOT / "recipes").glob("*.py"), *(ROOT / "scripts").glob("*.py")]
)
STACK = set(TESTED)

# What is taken from elsewhere than the top of a package, and where it is documented.
ELSEWHERE = {
    "accelerate.utils": "package_reference/utilities",
    "peft.helpers": "package_reference/helpers",
    "peft.tuners.lora": "package_reference/lora",
    "transformers.generation": "main_classes/text_generation, the argument `streamer`",
    "transformers.integrations": "main_classes/callback",
    # No page of its own; the heads of transformers' own models are made of it.
    "transformers.modeling_layers": "what `LlamaForSequenceClassification` and its like derive from",
    "transformers.pytorch_utils": "internal/modeling_utils",
    "transformers.trainer_pt_utils": "internal/trainer_utils",
    "transformers.trainer_utils": "internal/trainer_utils",
    "transformers.utils": "main_classes/logging, internal/file_utils",
}


# Versions


def pins(lines):
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {requirement.name: requirement.specifier for requirement in requirements}


def test_the_oldest_versions_stand_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stated = pins(project["dependencies"])
    oldest = pins((ROOT / "tests" / "oldest.txt").read_text(encoding="utf-8").splitlines())
    for package, (first, last) in TESTED.items():
        assert Version(first) <= Version(last)
        (bound,) = [part.version for part in stated[package] if part.operator == ">="]
        assert bound == first
        assert str(oldest[package]) == f"=={first}"
        # Nobody is kept from what is newer.
        assert not [part for part in stated[package] if part.operator in ("<", "<=", "~=", "==")]


@pytest.mark.parametrize("package", TESTED)
def test_what_is_installed_here_is_allowed(package):
    requirements = [Requirement(text) for text in metadata.requires("trl_kochat")]
    (requirement,) = [r for r in requirements if r.name == package]
    assert metadata.version(package) in requirement.specifier


def in_lock(path):
    """Package -> its pins, of which each is for some Python or platform."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            requirement = Requirement(line)
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


@pytest.fixture(params=["lock.txt", "oldest.txt"])
def lock(request):
    return in_lock(ROOT / "requirements" / request.param)


def test_a_lock_holds_what_the_project_needs_here_and_elsewhere(lock):
    """A requirement added to pyproject.toml without `make lock` would be missing after `make`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for line in (
        *project["dependencies"],
        *extras["dev"],
        *extras["korean"],
        *extras["wandb"],
        *extras["gguf"],
        *extras["chat"],
    ):
        requirement = Requirement(line)
        if requirement.name != "torch":
            for pin in lock[canonicalize_name(requirement.name)]:
                (version,) = pin.specifier
                assert version.version in requirement.specifier, f"{pin}, asked for: {requirement}"


def test_a_lock_pins_each_package_and_says_nothing_of_where_it_came_from(lock):
    for pin in (pin for pins in lock.values() for pin in pins):
        assert [part.operator for part in pin.specifier] == ["=="] and not pin.url
    # Their lines for Windows and macOS too, and not torch nor what only a build of it needs.
    assert {"colorama", "appnope", "setuptools", "sympy"} <= lock.keys()
    assert not [name for name in lock if re.match("torch$|triton|nvidia|cuda", name)]


def test_the_locks_hold_both_ends_of_what_was_tested():
    newest, oldest = (in_lock(ROOT / "requirements" / name) for name in ("lock.txt", "oldest.txt"))
    for package, (first, last) in TESTED.items():
        assert [str(pin.specifier) for pin in newest[package]] == [f"=={last}"]
        assert [str(pin.specifier) for pin in oldest[package]] == [f"=={first}"]


def test_the_table_of_versions_is_what_was_tested():
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    table = re.search(r"^\| package \| oldest \| newest \|\n.+\n((?:\|.+\n)+)", page, flags=re.MULTILINE)[1]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert {package: (first, last) for package, first, last in rows} == TESTED


@pytest.fixture
def installed(monkeypatch):
    """Pretends versions; what is not named is the newest that was tested."""

    def pretend(**versions):
        monkeypatch.setattr(metadata, "version", {**{p: last for p, (_, last) in TESTED.items()}, **versions}.get)

    return pretend


def test_a_newer_version_is_one_sentence(installed):
    installed(trl="1.99.0")
    sentence = newer_versions()
    assert sentence.startswith("trl 1.99.0 is newer") and TESTED["trl"][1] in sentence
    assert "peft" not in sentence and sentence.count(". ") == 0


def test_several_newer_versions_are_one_sentence(installed):
    installed(trl="1.99.0", peft="0.99.0.dev0")
    assert newer_versions().startswith("trl 1.99.0 and peft 0.99.0.dev0 are newer")


def test_tested_versions_are_not_told_of(installed):
    installed(transformers=TESTED["transformers"][1] + "+local", trl=TESTED["trl"][0])
    assert newer_versions() is None


PRETENDED = """
from importlib import metadata
version = metadata.version
metadata.version = lambda name: "9.0" if name == "trl" else version(name)
"""


def run_pretended(code):
    """Run code in an interpreter that takes its trl for version 9.0."""
    return subprocess.run([sys.executable, "-c", PRETENDED + code], capture_output=True, text=True, cwd=ROOT)


def test_a_newer_version_that_works_is_not_told_of():
    result = run_pretended("from trl_kochat import load_rows, load_tokenizer, dpo_loss\nprint('imported')")
    assert result.returncode == 0 and result.stdout.endswith("imported\n")
    assert "newer" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "code",
    [
        "from trl_kochat.run.command import run_as_command\nrun_as_command(lambda: [][1])",
        "from trl_kochat.cli import doctor, main\ndoctor.run = lambda args: [][1]\nmain(['doctor', 'tiny-ko'])",
        "import sys\nsys.modules['transformers'] = None\nfrom trl_kochat import load_tokenizer",
    ],
    ids=["a recipe", "a command", "an import"],
)
def test_below_the_traceback_of_what_failed_a_newer_version_is_told_of(code):
    result = run_pretended(code)
    assert result.returncode == 1 and result.stderr.count("trl 9.0 is newer") == 1
    error, note = result.stderr.splitlines()[-2:]
    assert re.match("IndexError|ModuleNotFoundError", error) and note.startswith("trl 9.0 is newer")


def test_what_a_user_got_wrong_says_nothing_of_versions():
    result = run_pretended("from trl_kochat.cli import main\nmain(['doctor', 'no/such/folder'])")
    assert "no/such/folder" in result.stderr and "newer" not in result.stderr


def test_loading_rows_and_formatters_loads_none_of_the_stack():
    code = "import sys; from trl_kochat import format_dataset, load_rows; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"torch", "transformers", "peft", "trl"} & set(result.stdout.split())


# Public API


def resolved(module, name):
    """The object of that name, in a module or in a class of it."""
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def taken(tree):
    """Of the stack: (module, name) for each import and each attribute of an imported module; local name -> both, where
    that of an attribute is `module.attribute`."""
    names, modules = {}, {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {a.asname or a.name: a.name for a in node.names if a.name.partition(".")[0] in STACK}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module.partition(".")[0] in STACK:
            names |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            names[f"{node.value.id}.{node.attr}"] = (modules[node.value.id], node.attr)
    return set(names.values()), names


TAKEN = {path.relative_to(ROOT).as_posix(): taken(ast.parse(path.read_text(encoding="utf-8"))) for path in FILES}


def test_something_is_taken_of_every_package():
    assert {module.partition(".")[0] for found, _ in TAKEN.values() for module, _ in found} == STACK


@pytest.mark.parametrize(("module", "name"), sorted(set().union(*(found for found, _ in TAKEN.values()))))
def test_what_is_taken_is_public(module, name):
    assert not re.search(r"(^|\.)_", f"{module}.{name}") and "experimental" not in module
    assert module in STACK or module in ELSEWHERE, f"say in ELSEWHERE where {module} is documented"
    assert resolved(module, name) is not None
    public = getattr(importlib.import_module(module), "__all__", None)
    if module in ("trl", "transformers", "peft"):
        assert name in public, f"{module} no longer exports {name}"


def calls(path):
    """(line, what is called, keyword) for the keyword arguments given to what is imported from the stack."""
    names = TAKEN[path][1]
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    bases = {}  # a call of super().__init__ -> the class of the stack whose it is
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            of_stack = [base.id for base in node.bases if isinstance(base, ast.Name) and base.id in names]
            bases |= dict.fromkeys((n for n in ast.walk(node) if isinstance(n, ast.Call)), *of_stack[:1] or [None])
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function, target = node.func, None
        if ast.unparse(function) in names:
            target = names[ast.unparse(function)]
        elif (
            isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id in names
        ):
            module, name = names[function.value.id]
            target = (module, f"{name}.{function.attr}")
        elif ast.unparse(function) == "super().__init__" and bases.get(node):
            target = names[bases[node]]
        if target:
            yield from ((node.lineno, target, keyword.arg) for keyword in node.keywords if keyword.arg)


ARGUMENTS = [(path, *call) for path in TAKEN for call in calls(path)]


def test_arguments_are_found():
    found = {(target[1], keyword) for _, _, target, keyword in ARGUMENTS}
    assert ("Trainer", "processing_class") in found


@pytest.mark.parametrize(("path", "line", "target", "keyword"), ARGUMENTS)
def test_arguments_are_those_that_are_taken(path, line, target, keyword):
    parameters = inspect.signature(resolved(*target)).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    assert takes_any or keyword in parameters, f"{path}:{line}: {target[1]} takes no {keyword}"


@pytest.mark.parametrize("kind", [trl.DPOTrainer, trl.KTOTrainer, trl.RewardTrainer, trl.SFTTrainer, PPOTrainer])
def test_a_trainer_takes_what_a_run_gives_it(kind):
    keys = "model args train_dataset eval_dataset processing_class quantization_config peft_config"
    assert set(keys.split()) <= inspect.signature(kind).parameters.keys()


CONFIGS = {
    "sft_kochatgpt": (SFTConfig, RecipeArguments),
    "reward_kochatgpt": (RewardConfig, RecipeArguments),
    "dpo_orca": (DPOConfig, RecipeArguments),
    "ppo_kochatgpt": (PPOConfig, RecipeArguments, StageArguments),
    "kto_pairs": (KTOConfig, RecipeArguments),
    "grpo_korean": (GRPOConfig, RecipeArguments, GroupArguments),
}


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.py")), ids=lambda path: path.stem)
def test_keys_of_the_presets_are_fields(path):
    known = {field.name for kind in (*CONFIGS[path.stem], ModelConfig) for field in fields(kind)}
    for preset in PRESETS:
        values = preset_values(path.stem, preset)
        assert values and values.keys() <= known, preset


def test_callbacks_answer_to_events_that_there_are():
    for callback in (HealthGuardCallback, InterruptCallback, KoreanSamplesCallback, RunReportCallback):
        events = {name for name in vars(callback) if name.startswith("on_")}
        assert events and events <= set(dir(TrainerCallback)), callback


def test_ppo_overrides_nothing_private():
    """What a trainer overrides behind its base's back drifts in silence."""
    (base,) = PPOTrainer.__bases__
    own = {name for name in vars(PPOTrainer) if not name.startswith("__")}
    assert not {name for name in own if name.startswith("_") and hasattr(base, name)}
    for name in own & {name for name in dir(base) if callable(getattr(base, name))}:
        ours, theirs = (list(inspect.signature(getattr(kind, name)).parameters) for kind in (PPOTrainer, base))
        if "kwargs" not in ours:
            assert set(theirs) <= set(ours), name
