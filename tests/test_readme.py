"""What both READMEs say can be run: commands with their flags, Python, files, formatters."""

import ast
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from trl_kochat.cli import build_parser, recipe_files
from trl_kochat.formatters import format_dataset, formatter_names, get_formatter, registry


ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.ko.md")


@pytest.fixture(params=READMES)
def readme(request):
    return (ROOT / request.param).read_text(encoding="utf-8")


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(text):
    """Command lines of all shell blocks and of code in running text, without comments, as lists of words."""
    lines = [line for block in blocks(text, "bash") for line in block.splitlines()]
    lines += re.findall(r"(?<!`)`((?:python|make|trl-kochat|pip) [^`\n]+)`", text)
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def test_commands_of_trl_kochat_are_as_it_takes_them(readme):
    found = [words[1:] for words in commands(readme) if words[0] == "trl-kochat" and "--help" not in words]
    assert {"doctor", "preview", "generate", "score"} <= {words[0] for words in found}
    for words in found:
        if words[0] not in recipe_files():  # a recipe reads its own arguments
            build_parser().parse_args(words)  # leaves the interpreter on what it does not know


def test_scripts_and_make_targets_are_there(readme):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = commands(readme)
    assert ["make", "demo"] in found and ["make", "test"] in found
    for words in found:
        if words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), words
        if words[0] == "make":
            assert words[1] in targets, words


def test_links_lead_to_files(readme):
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", readme) if "://" not in link]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_python_blocks_import_what_there_is(readme):
    found = blocks(readme, "python")
    assert len(found) >= 3
    for block in found:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), block


def test_the_formatter_that_is_shown_works(readme, monkeypatch):
    monkeypatch.setattr(registry, "_FORMATTERS", dict(registry._FORMATTERS))
    (block,) = [block for block in blocks(readme, "python") if "@formatter" in block]
    exec(block, {"__name__": "readme"})
    assert get_formatter("my_pairs").type == "preference"
    made = format_dataset([{"q": "왜?", "good": "그래서요.", "bad": "몰라요."}], "my_pairs")[0]
    assert made["prompt"][0]["content"] == "왜?" and made["chosen"] != made["rejected"]


def test_every_formatter_is_in_the_table(readme):
    ours = [name for name in formatter_names() if get_formatter(name).function.__module__.startswith("trl_kochat.")]
    for name in ours:
        assert re.search(rf"^\| `{name}` \|", readme, flags=re.MULTILINE), name
