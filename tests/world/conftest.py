import json

import pytest

from scripts.world import make_rows


@pytest.fixture(scope="session")
def made():
    return make_rows.stages()


@pytest.fixture(scope="session")
def texts(made):
    """The text of every file, by name."""
    return make_rows.files(made)


@pytest.fixture(scope="session")
def rows(texts):
    """Parsed rows of the four files that are JSON."""
    array = {name: f"kochatgpt_{name}.jsonl" for name in ("1_SFT", "2_RM", "3_PPO")}
    parsed = {name: json.loads(texts[file].removeprefix("\ufeff")) for name, file in array.items()}
    parsed["pairs"] = [json.loads(line) for line in texts["orca_dpo_pairs.jsonl"].split("\n") if line]
    return parsed
