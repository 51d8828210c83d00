"""Imports point down only, and siblings on a floor do not import each other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest


PACKAGE = Path(__file__).parent.parent / "trl_kochat"

FLOORS = {
    "errors": -1,  # under everything: each room raises it
    "findings": 0,
    "plugins": 0,
    "processes": 0,
    "sample": 0,
    "score_head": 0,
    "startup": 0,
    "text": 0,
    "versions": 0,
    "encode": 1,
    "models": 1,
    "notebook": 1,
    "data": 2,
    "measure": 2,
    "report": 2,
    "tokenizer": 2,
    "callbacks": 3,
    "rewards": 3,
    "merging": 3,
    "ppo": 3,
    "run": 4,
    "stages": 5,
    "recipes": 6,
    "cli": 7,
    "__main__": 8,
}


def rooms() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(path: Path) -> set[str]:
    """The rooms of this package that a file imports, wherever in the file it does."""
    package = ("trl_kochat", *path.relative_to(PACKAGE).parent.parts)
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = base + (node.module.split(".") if node.module else [])
            modules = [[*module, alias.name] for alias in node.names]
        else:
            continue
        rooms |= {module[1] for module in modules if module[0] == "trl_kochat" and len(module) > 1}
    return rooms & FLOORS.keys()


@pytest.mark.parametrize("path", rooms(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    room = room_of(path)
    assert room in FLOORS, f"{room} has no floor: add it to FLOORS and to CONTRIBUTING.md"
    for other in imported_rooms(path) - {room}:
        assert FLOORS[other] < FLOORS[room], f"{room} (floor {FLOORS[room]}) imports {other} (floor {FLOORS[other]})"


def loaded_modules(statement: str) -> set[str]:
    """Top-level names of the modules that a fresh interpreter holds after `statement`, less those it starts with."""
    code = f"import sys; before = set(sys.modules)\n{statement}\nprint(*(set(sys.modules) - before))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in result.stdout.split()}


def test_importing_the_package_loads_nothing_else():
    assert loaded_modules("import trl_kochat") - sys.stdlib_module_names == {"trl_kochat"}


def test_importing_the_package_takes_less_than_50_ms():
    """In processor time, the least of three, so that whatever else the machine computes does not count."""
    code = "import time; start = time.process_time(); import trl_kochat; print(time.process_time() - start)"
    runs = (subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3))
    assert min(float(run.stdout) for run in runs) < 0.05


def test_importing_every_formatter_loads_the_standard_library_only():
    formatters = [path.stem for path in (PACKAGE / "data" / "formatters").glob("[a-z]*.py")]
    statement = "\n".join(f"import trl_kochat.data.formatters.{name}" for name in formatters)
    assert len(formatters) >= 2
    assert loaded_modules(statement) - sys.stdlib_module_names == {"trl_kochat"}


def test_public_names_resolve():
    import trl_kochat

    assert set(trl_kochat.__all__) == {"__version__", *trl_kochat._PUBLIC}
    for name in trl_kochat.__all__:
        assert getattr(trl_kochat, name) is not None
