"""The examples in the package's docstrings hold."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest


PACKAGE = Path(__file__).parent.parent / "trl_kochat"
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", MODULES)
def test_examples_hold(module):
    results = doctest.testmod(import_module(module))
    assert results.attempted and not results.failed
