"""Only `encode` renders conversations and names the columns of ids that TRL's trainers keep."""

import ast
from pathlib import Path

import pytest


PACKAGE = Path(__file__).parent.parent.parent / "trl_kochat"
COLUMNS = {
    "labels",
    "chosen_ids",
    "rejected_ids",
    "chosen_input_ids",
    "rejected_input_ids",
    "seq_lengths",
    "assistant_masks",
}


def strays(path: Path) -> set[str]:
    """What a file calls or names of a trainer's inside."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr == "apply_chat_template":
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and any(name.name == "apply_chat_template" for name in node.names):
            found.add("apply_chat_template")
        elif isinstance(node, ast.Constant) and node.value in COLUMNS:
            found.add(str(node.value))
    return found


FILES = sorted(path for path in PACKAGE.rglob("*.py") if "encode" not in path.relative_to(PACKAGE).parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_templates_and_columns_of_ids_are_left_to_encode(path):
    assert not strays(path)


def test_encode_itself_has_what_the_others_may_not():
    found = set().union(*map(strays, (PACKAGE / "encode").rglob("*.py")))
    assert {"apply_chat_template", "labels", "chosen_ids", "seq_lengths"} <= found
