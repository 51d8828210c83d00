"""What several test files share. No test touches the network or needs a GPU."""

import os
from pathlib import Path

import pytest


os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).parent.parent
# Real rows and a real tokenizer whose terms keep them out of the project.
ASSETS = Path(os.environ.get("TRL_KOCHAT_ASSETS", ROOT.parent / "shared" / "assets"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that train come first, so that no process is left alone with one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def assets() -> Path:
    """The folder with real rows; a test that uses it is marked `assets` and skipped where the folder is missing."""
    if not ASSETS.is_dir():
        pytest.skip(f"REAL ROWS NOT TESTED: no folder {ASSETS}; set TRL_KOCHAT_ASSETS")
    return ASSETS
