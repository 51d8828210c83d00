"""The first screen of a recipe's `--help`."""

from dataclasses import fields

import pytest
from trl import DPOConfig, ModelConfig

from trl_kochat import PPOConfig
from trl_kochat.run.arguments import RecipeArguments
from trl_kochat.run.short_help import short_help
from trl_kochat.stages import StageArguments


PRESETS = {
    "gpu": {"learning_rate": 5e-5, "dataset_name": ["owner/name"]},
    "cpu": {"learning_rate": 2e-3, "dataset_name": ["/some/where/rows.jsonl", "/some/where/more.jsonl"]},
}


@pytest.mark.parametrize("config_class", [DPOConfig, PPOConfig])
def test_twelve_flags_with_the_presets_values_on_one_screen(config_class, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    known = {f.name for kind in (RecipeArguments, StageArguments, config_class, ModelConfig) for f in fields(kind)}
    text = short_help("some_recipe", known, PRESETS)
    flags = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
    assert len(flags) == 12 and not {flag.removeprefix("--") for flag in flags} - known
    assert len(text.splitlines()) <= 24
    shown = " ".join(text.split())
    assert "gpu 5e-05, cpu 0.002" in shown and "rows.jsonl more.jsonl" in shown and "/some/where" not in text
    assert "--help_all" in text and text.startswith("usage: some_recipe.py")
