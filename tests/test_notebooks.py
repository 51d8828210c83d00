"""The notebooks, run from top to bottom as a reader without a GPU or a network runs them."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from IPython.utils.text import DollarFormatter
from nbclient import NotebookClient

from tests.pretended import pretend_colab, pretend_torchao


ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "recipes" / "notebooks").glob("*.ipynb"))
# Those that train for longer; of them continuous integration sees four steps.
LONG = [path for path in NOTEBOOKS if path.stem != "dpo_by_hand"]
COLAB = "https://colab.research.google.com"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def read(path):
    return nbformat.read(path, as_version=4)


def sources(path, kind):
    return [cell.source for cell in read(path).cells if cell.cell_type == kind]


def repositories(path):
    """Every owner/name that the badge and the install cell name."""
    text = "\n".join(cell.source for cell in read(path).cells[:2])
    return set(re.findall(r"(?:colab\.research\.google\.com/github|github\.com)/([^/\s]+/[^/\s\"]+)", text))


def test_the_notebooks_are_there():
    names = ["dpo_by_hand", "grpo_korean", "quickstart_dpo_orca", "quickstart_kochatgpt"]
    assert [path.stem for path in NOTEBOOKS] == names


def test_a_notebook_is_valid_and_without_outputs_or_paths_of_a_machine(path):
    notebook = read(path)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
    assert not re.search(r"/(home|root|tmp|Users|content|work)/", path.read_text(encoding="utf-8"))


def test_a_notebook_begins_with_its_badge_and_the_install_cell(path):
    first, second = read(path).cells[:2]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    assert f"[![Open In Colab]({COLAB}/assets/colab-badge.svg)]({COLAB}/github/" in first.source
    assert f"/blob/main/recipes/notebooks/{path.name})" in first.source
    assert second.cell_type == "code" and "Colab" in second.source and "pip install" in second.source


def without_comments(text):
    return re.sub("<!--.*?-->", "", text, flags=re.DOTALL)


def test_as_long_as_there_is_no_address_a_reader_sees_no_badge():
    seen = {path.name: without_comments("\n".join(sources(path, "markdown"))) for path in NOTEBOOKS}
    seen |= {
        name: without_comments((ROOT / name).read_text(encoding="utf-8")) for name in ("README.md", "README.ko.md")
    }
    for name, text in seen.items():
        assert "<owner>" not in text, name
    if not any("Open In Colab" in text for text in seen.values()):
        assert all("`make wheel`" in seen[name] for name in ("README.md", "README.ko.md"))


def test_badges_and_install_cells_and_readmes_name_one_repository_the_packages_own():
    named = set().union(*map(repositories, NOTEBOOKS))
    for readme in ("README.md", "README.ko.md"):
        text = (ROOT / readme).read_text(encoding="utf-8")
        badges = re.findall(rf"\({COLAB}/github/([^/]+/[^/]+)/blob/main/recipes/notebooks/([\w.]+)\)", text)
        assert {name for _, name in badges} == {path.name for path in NOTEBOOKS}
        named |= {repository for repository, _ in badges}
    assert len(named) == 1
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"].get("urls", {})
    for address in urls.values():
        if "github.com" in address:
            assert f"github.com/{named.copy().pop()}" in address


def test_one_line_gives_the_address_to_badges_and_install_cells_and_shows_the_badges(tmp_path):
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^sed -i .+$", page, re.MULTILINE)
    holding = [
        path
        for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("recipes/**/*.ipynb")]
        if re.search("<owner>/trl_kochat[^`]", path.read_text(encoding="utf-8"))
    ]
    # All have an address, or none has.
    assert not holding or {*NOTEBOOKS, ROOT / "README.md", ROOT / "README.ko.md"} == set(holding)
    for path in holding:
        (tmp_path / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    if holding:
        subprocess.run(line.replace("NAME", "someone"), shell=True, cwd=tmp_path, check=True)
    for path in holding:
        text = (tmp_path / path.relative_to(ROOT)).read_text(encoding="utf-8")
        badges = re.findall(rf"\({COLAB}/github/someone/trl_kochat/blob/main/([\w./]+)\)", without_comments(text))
        assert len(badges) == (1 if path in NOTEBOOKS else len(NOTEBOOKS)) and "<owner>" not in text
        assert all((ROOT / badge).is_file() for badge in badges)


def test_every_heading_is_korean_and_links_between_notebooks_lead_somewhere(path):
    text = "\n".join(sources(path, "markdown"))
    for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE):
        assert re.search("[가-힣]", heading), heading
    for target in re.findall(r"\]\(([\w.]+\.ipynb)\)", text):
        assert (path.parent / target).is_file()


class Shell:
    """Notes what the install cell asks IPython to do, with the variables that IPython puts in."""

    def __init__(self):
        self.commands = []
        self.namespace = {"get_ipython": lambda: self}

    def run_line_magic(self, name, line):
        self.commands.append(f"%{name} {DollarFormatter().vformat(line, (), self.namespace)}")


def run_install_cell(path):
    """Run the cell as IPython would, and give what it asked IPython to do."""
    shell = Shell()
    code = TransformerManager().transform_cell(sources(path, "code")[0])
    exec(compile(code, path.name, "exec"), shell.namespace)
    return shell.commands


@pytest.mark.parametrize("place", ["installed", "colab", "colab with a wheel", "checkout", "top of the checkout"])
def test_the_install_cell_takes_the_checkout_or_a_wheel_or_github_and_does_nothing_where_the_package_is(
    path, place, monkeypatch, tmp_path
):
    checkout = tmp_path / "a folder"
    (checkout / "trl_kochat").mkdir(parents=True)
    (checkout / "trl_kochat" / "__init__.py").touch()
    (checkout / "recipes" / "notebooks").mkdir(parents=True)
    wheel = tmp_path / "content" / "trl_kochat-0.1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    if place == "colab with a wheel":
        wheel.touch()
    folders = {"checkout": checkout / "recipes" / "notebooks", "top of the checkout": checkout}
    monkeypatch.chdir(folders.get(place, tmp_path / "content"))
    if place != "installed":
        # From its top the package is found, though nothing that it needs is there.
        found = {"trl_kochat"} if place == "top of the checkout" else set()
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in found else None)
    commands = run_install_cell(path)
    (repository,) = repositories(path)
    source = checkout if place in folders else f"git+https://github.com/{repository}"
    source = wheel if place == "colab with a wheel" else source
    assert commands == ([] if place == "installed" else [f'%pip install -q "{source}"'])


def test_the_install_cell_takes_a_torchao_from_colab_that_is_too_old(path, monkeypatch, tmp_path):
    folder = pretend_torchao(tmp_path, monkeypatch, "0.10.0")
    pretend_colab(monkeypatch)
    removed = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: (removed.append(command), shutil.rmtree(folder)))
    run_install_cell(path)
    (command,) = removed
    assert command[:4] == [sys.executable, "-m", "pip", "uninstall"] and command[-1] == "torchao"


def test_the_install_cell_leaves_other_torchaos_and_machines_alone(path, monkeypatch, tmp_path):
    monkeypatch.setattr(subprocess, "run", None)
    pretend_torchao(tmp_path, monkeypatch, "0.10.0")
    with pytest.raises(ValueError, match=r"torchao 0\.10\.0 .*\(pip uninstall torchao\)"):
        run_install_cell(path)
    pretend_colab(monkeypatch)
    pretend_torchao(tmp_path, monkeypatch, "0.16.0")
    run_install_cell(path)


# From here on every notebook runs, once as it stands.


def with_four_steps(source):
    """A cell with its numbers of steps, and of rows to measure, made small, and a point on its curves."""
    few = r"--max_steps\g<1>4\g<1>--warmup_steps\g<1>0\g<1>--logging_steps\g<1>1"
    source = re.sub(r'--max_steps( |", ")\d+', few, source)
    source = re.sub(r'--max_eval_samples( |", ")\d+', r"--max_eval_samples\g<1>4", source)
    return re.sub(r"max_steps=\d+", "max_steps=4", source)


class Executed:
    """The outputs of a notebook: text as a reader sees it, and pictures."""

    def __init__(self, notebook):
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        self.install_outputs = cells[0].outputs
        outputs = [output for cell in cells for output in cell.outputs]
        self.errors = [output for output in outputs if output.output_type == "error"]
        shown = [output.data for output in outputs if "data" in output]
        self.pictures = [data["image/png"] for data in shown if "image/png" in data]
        printed = [output.text for output in outputs if output.output_type == "stream"]
        self.text = "".join(printed) + "\n".join(data.get("text/plain", "") for data in shown)

    def numbers(self, pattern):
        """The numbers that stand for `#` in the pattern, in the one place where it occurs."""
        number = r"(-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)"
        found = re.findall(re.escape(pattern).replace(r"\#", number), self.text)
        assert len(found) == 1, f"{pattern!r} occurs {len(found)} times"
        values = found[0] if isinstance(found[0], tuple) else found
        return [float(value.replace(",", "")) for value in values]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """`executed(name)` runs a notebook on the cpu preset in a folder of its own, with no network to reach."""
    done = {}

    def run(name, change=str):
        if (name, change) not in done:
            folder = tmp_path_factory.mktemp(name)
            notebook = read(ROOT / "recipes" / "notebooks" / f"{name}.ipynb")
            for cell in notebook.cells:
                cell.source = change(cell.source)
            with pytest.MonkeyPatch.context() as patch:
                for variable, value in {
                    "CUDA_VISIBLE_DEVICES": "",
                    "HF_HUB_OFFLINE": "1",
                    "HTTP_PROXY": "http://127.0.0.1:9",  # nobody answers there
                    "HTTPS_PROXY": "http://127.0.0.1:9",
                    "IPYTHONDIR": str(folder / "ipython"),
                }.items():
                    patch.setenv(variable, value)
                place = {"metadata": {"path": str(folder)}}
                NotebookClient(notebook, timeout=900, kernel_name="python3", resources=place).execute()
            done[name, change] = Executed(notebook)
        return done[name, change]

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "change"),
    [
        *(pytest.param(path, str, marks=pytest.mark.long if path in LONG else (), id=path.stem) for path in NOTEBOOKS),
        *(pytest.param(path, with_four_steps, id=f"{path.stem}, four steps") for path in LONG),
    ],
)
def test_it_runs_offline_without_an_error_or_a_missing_glyph(path, change, executed):
    code = "\n".join(sources(path, "code"))
    assert (with_four_steps(code) != code) == (path in LONG)
    outputs = executed(path.stem, change)
    assert outputs.errors == [] and outputs.install_outputs == []
    assert outputs.pictures
    assert "missing from" not in outputs.text  # what matplotlib says of a font without Hangul


@pytest.mark.slow
def test_dpo_by_hand_gives_the_numbers_of_dpo_trainer(executed):
    outputs = executed("dpo_by_hand")
    by_hand, ours = outputs.numbers("by hand: #   response_logps: #")
    assert by_hand == pytest.approx(ours, abs=1e-3)
    worst, even, best = outputs.numbers("loss at margin -60, 0, 60: #, #, #")
    assert worst > even > best > 0 and even == 0.6931
    first, last = outputs.numbers("mean loss, first round #, last round #")
    assert last < first
    assert outputs.numbers("max difference of the loss: #")[0] < 1e-4
    assert outputs.numbers("max difference of the margins: #")[0] < 1e-3
    weight, moved = outputs.numbers("norm of the difference of the LoRA weights: # (of their change in training: #)")
    assert weight < moved / 20
    assert outputs.numbers("held-out accuracy: # -> #")[0] == 0.5
    assert len(outputs.pictures) == 2


@pytest.mark.slow
def test_dpo_by_hand_shows_what_slicing_at_the_prompts_length_loses(executed):
    lost = re.findall(r"'(.+)'\s+sliced\s+(\S+)\s+response_logps\s+(\S+)\s+lost\s+(\S+)", executed("dpo_by_hand").text)
    assert [text[-1] for text, *_ in lost] == [":", " "]
    (_, *fine), (_, *wrong) = lost
    assert abs(float(fine[2])) < 1e-3 and abs(float(wrong[2])) > 0.1


@pytest.mark.slow
@pytest.mark.long
def test_quickstart_dpo_orca_learns_the_preference(executed):
    outputs = executed("quickstart_dpo_orca")
    assert "preset cpu: tiny-ko-chat, sample:orca_dpo_pairs.jsonl" in outputs.text
    read_, made = outputs.numbers("read #, made #,")
    train, held_out = outputs.numbers("# pairs to train on, # held out")
    assert train + held_out == made <= read_
    before, after = outputs.numbers("held-out accuracy: # -> #")
    assert before == 0.5 < after
    assert outputs.numbers("held-out margin: # -> #")[1] > 0
    assert outputs.text.count("\n  before: ") == outputs.text.count("\n   after: ") == 2
    assert len(outputs.pictures) == 2


@pytest.mark.slow
@pytest.mark.long
def test_quickstart_kochatgpt_shows_the_stages(executed):
    outputs = executed("quickstart_kochatgpt")
    characters, tokens = outputs.numbers("# characters, # tokens")
    assert 0 < tokens <= characters
    for way in ("greedy", "greedy, no_repeat_ngram 2", "beam 10, no_repeat_ngram 2", "sampling, top_p 0.9"):
        assert f"[{way}] " in outputs.text
    assert re.search(r"labels: \[-100, -100, .*\d+, \d+\]", outputs.text)
    rankings, pairs = outputs.numbers("# rankings -> # pairs")
    assert rankings < pairs <= 3 * rankings
    assert outputs.numbers("shuffled and sliced: #%")[0] > 50
    assert outputs.numbers("split_by_prompt:     #%")[0] == 0
    before, after = outputs.numbers("SFT held-out loss: # -> #")
    assert after < before
    before, after = outputs.numbers("reward model held-out accuracy: # -> #")
    assert after > max(before, 0.5)
    assert outputs.numbers("PPO held-out reward: # -> #, KL # nats")[2] > 0
    for role in ("policy", "value", "reward", "reference"):
        assert re.search(rf"^{role}\s+\d+\.\d+$", outputs.text, flags=re.MULTILINE)
    for stage in ("base", "SFT", "PPO"):
        assert outputs.text.count(f"\n{stage:>6}: ") == 4
    assert len(outputs.pictures) == 6


@pytest.mark.slow
@pytest.mark.long
def test_grpo_korean_shows_a_reward_hacked_and_cured(executed):
    outputs = executed("grpo_korean")
    for name in ("naive", "cured"):
        first, last = outputs.numbers(f"{name} reward: # -> #")
        assert last > first
    assert outputs.numbers("naive reward: # -> #")[1] > 0.9
    assert "the reward model may be fooled" in outputs.text
    stopped, steps = outputs.numbers("stopped at step # of #")
    assert stopped < steps
    before, naive, cured = (
        outputs.numbers(f"{name}: polite #, no repetition #, right #") for name in ("before", "naive", "cured")
    )
    assert cured[0] > before[0] + 0.3 and cured[1] > naive[1] + 0.3
    assert cured[2] > max(naive[2] + 0.3, before[2] - 0.1)
