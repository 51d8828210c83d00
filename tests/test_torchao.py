"""A torchao that peft does not bear is one sentence with the way out, before anything is loaded."""

import shutil

import pytest
import transformers
from peft import LoraConfig, import_utils

from tests.pretended import pretend_torchao
from trl_kochat import PPOTrainer
from trl_kochat.cli import main
from trl_kochat.measure.generate import load_generator
from trl_kochat.measure.score import load_reward_model
from trl_kochat.merging import merge_adapter
from trl_kochat.models import attach_adapter
from trl_kochat.sample import SAMPLE_DIR
from trl_kochat.versions import OLDEST_TORCHAO, check_torchao


BASE, SFT, REWARD = (str(SAMPLE_DIR / name) for name in ("tiny-ko", "tiny-ko-sft", "tiny-ko-reward"))
SENTENCE = r"^torchao 0\.10\.0 is installed, .* \(pip uninstall torchao\), .*\.$"


@pytest.fixture
def colabs_torchao(tmp_path, monkeypatch):
    """torchao 0.10.0 on the path, and no model that could be loaded."""
    pretend_torchao(tmp_path, monkeypatch, "0.10.0")

    def load(*args, **kwargs):
        raise AssertionError("a model is loaded")

    for name in ("AutoModelForCausalLM", "AutoModelForSequenceClassification"):
        monkeypatch.setattr(getattr(transformers, name), "from_pretrained", load)


@pytest.mark.parametrize(
    "load",
    [
        lambda: load_generator(BASE, [SFT]),
        lambda: load_reward_model(REWARD, base=BASE),
        lambda: attach_adapter(None, SFT, "sft"),
        lambda: merge_adapter(SFT, "merged", base=BASE),
        lambda: PPOTrainer(SFT, REWARD),
        lambda: PPOTrainer(BASE, [len], peft_config=LoraConfig()),
    ],
    ids=["load_generator", "load_reward_model", "attach_adapter", "merge_adapter", "PPOTrainer", "PPOTrainer, LoRA"],
)
def test_what_puts_an_adapter_on_a_model_says_so_first(load, colabs_torchao, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=SENTENCE):
        load()


@pytest.mark.parametrize(
    "words",
    [
        ["generate", BASE, "--adapter", SFT, "--prompt", "왜?"],
        ["score", REWARD, "--base", BASE, "--prompt", "왜?", "--completion", "그래서요."],
        ["merge", SFT, "merged", "--base", BASE],
    ],
    ids=lambda words: words[0],
)
def test_a_command_ends_with_the_sentence_alone(words, colabs_torchao, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"trl-kochat {words[0]}: torchao 0.10.0 is installed") and "pip uninstall torchao" in line
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    "recipe", ["sft_kochatgpt", "reward_kochatgpt", "dpo_orca", "ppo_kochatgpt", "grpo_korean", "kto_pairs"]
)
@pytest.mark.parametrize("flags", [[], ["--load_in_4bit", "false"]], ids=["4-bit", "not 4-bit"])
def test_a_recipe_says_so_before_it_loads(recipe, flags, colabs_torchao, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main([recipe, "--preset", "cpu", "--dry_run", *flags])
    assert "torchao 0.10.0 is installed" in str(stop.value) and len(str(stop.value).splitlines()) == 1


def test_a_model_without_an_adapter_needs_no_peft(tmp_path, monkeypatch):
    pretend_torchao(tmp_path, monkeypatch, "0.10.0")
    assert load_generator(BASE).num_parameters() > 0


def test_a_folder_that_is_no_package_counts_as_none(tmp_path, monkeypatch):
    folder = pretend_torchao(tmp_path, monkeypatch, "0.10.0")
    shutil.rmtree(folder / "torchao-0.10.0.dist-info")
    check_torchao()


@pytest.mark.parametrize("version", ["0.10.0", "0.15.99", OLDEST_TORCHAO, "99.0"])
def test_the_bound_is_pefts_own(version, tmp_path, monkeypatch):
    """What peft itself says of that version, and what we say."""
    pretend_torchao(tmp_path, monkeypatch, version)
    import_utils.is_torchao_available.cache_clear()
    try:
        if version in ("0.10.0", "0.15.99"):
            with pytest.raises(ImportError, match="incompatible version of torchao"):
                import_utils.is_torchao_available()
            with pytest.raises(ValueError, match=f"torchao {version}"):
                check_torchao()
        else:
            assert import_utils.is_torchao_available()
            check_torchao()
    finally:
        import_utils.is_torchao_available.cache_clear()
