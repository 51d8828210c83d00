"""What is checked before the first step; each check is made to fail."""

import importlib
import json
import os
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from tests.callbacks.training import ppo_trainer, sft_trainer
from tests.test_recipes import RECIPES, load
from tests.tiny_lm import tiny_llama
from trl_kochat.models import keep_4bit_gradients
from trl_kochat.run import checks as preflight
from trl_kochat.run.checks import (
    bytes_to_save,
    check_before_training,
    check_bitsandbytes,
    check_lora_targets,
    check_output_dir,
    check_quantized_layers,
    check_room,
    check_same_lora,
    check_tokenizer_findings,
    leave_earlier_run,
    set_up_wandb,
)
from trl_kochat.tokenizer.findings import Finding


GIB = 2**30


# The output folder


def test_a_folder_that_can_be_written_is_not_made(tmp_path):
    check_output_dir(str(tmp_path / "runs" / "new"))
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "out").write_text("")
    for output_dir in (tmp_path / "out", tmp_path / "out" / "run"):
        with pytest.raises(ValueError, match=r"--output_dir .*out is a file. Give another folder"):
            check_output_dir(str(output_dir))


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(preflight.tempfile, "TemporaryFile", refuse)
    with pytest.raises(ValueError, match=r"--output_dir .* cannot be written \(Permission denied\)"):
        check_output_dir(str(tmp_path))


# Room on the disk


def pretend_free(monkeypatch, size):
    usage = SimpleNamespace(total=2 * size, used=size, free=size)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: usage)


def lora_trainer(output_dir, **settings):
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    return sft_trainer(output_dir, peft_config=config, **{"max_steps": 10, "save_steps": 2} | settings)


@pytest.mark.parametrize("kind", ["LoRA", "all parameters", "PPO", "PPO with LoRA"])
def test_a_run_writes_about_what_was_said(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "_SMALL_FILES", 0)
    if kind.startswith("PPO"):
        lora = LoraConfig(r=64, target_modules="all-linear") if "LoRA" in kind else None
        reward = lambda completions, **kwargs: [1.0 for _ in completions]  # noqa: E731
        trainer = ppo_trainer(tmp_path, reward, peft_config=lora, max_steps=2, save_steps=1)
    elif kind == "LoRA":
        trainer = sft_trainer(
            tmp_path, max_steps=2, save_steps=1, peft_config=LoraConfig(r=64, target_modules="all-linear")
        )
    else:
        trainer = sft_trainer(tmp_path, max_steps=2, save_steps=1)
    model_bytes, checkpoint_bytes, kept = bytes_to_save(trainer)
    trainer.train()
    trainer.save_model()
    files = (".safetensors", "optimizer.pt")

    def written(folder):
        return sum(file.stat().st_size for file in folder.rglob("*") if file.name.endswith(files))

    assert kept == 2
    assert written(tmp_path / "checkpoint-2") == pytest.approx(checkpoint_bytes, rel=0.4)
    final = sum(f.stat().st_size for f in tmp_path.glob("*.safetensors"))
    assert final == pytest.approx(model_bytes, rel=0.4)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"max_steps": 10, "save_steps": 2}, 5),
        ({"max_steps": 10, "save_steps": 4}, 3),  # the last step is saved too
        ({"max_steps": 10, "save_steps": 2, "save_total_limit": 3}, 3),
        ({"max_steps": 10, "save_steps": 0.5}, 2),
        ({"max_steps": 10, "save_strategy": "no"}, 0),
        ({"max_steps": -1, "num_train_epochs": 3, "save_strategy": "epoch"}, 3),
        ({"max_steps": -1, "num_train_epochs": 3, "save_steps": 4}, 3),  # 8 rows in batches of 2
    ],
)
def test_kept_checkpoints_are_counted(settings, kept, tmp_path):
    trainer = sft_trainer(tmp_path, **settings)
    assert bytes_to_save(trainer)[2] == kept


def test_a_full_disk_is_an_error_before_the_first_step(tmp_path, monkeypatch):
    trainer = lora_trainer(tmp_path)
    pretend_free(monkeypatch, 10 * 2**20)
    with pytest.raises(ValueError, match=r"10 MiB free, and the model with 2 checkpoints takes about 48 MiB"):
        check_room(trainer)


def test_a_disk_that_will_be_full_is_said(tmp_path, monkeypatch, capsys):
    trainer = lora_trainer(tmp_path)
    pretend_free(monkeypatch, 60 * 2**20)
    check_room(trainer)
    assert "5 checkpoints of about 16 MiB will not fit: --save_total_limit 2" in capsys.readouterr().out
    pretend_free(monkeypatch, GIB)
    check_room(trainer)
    assert capsys.readouterr().out == ""


# 4-bit


def test_bitsandbytes_that_does_not_load_is_said(monkeypatch):
    def fail(name):
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ValueError, match="bitsandbytes does not load, .*libcudart.* --load_in_4bit false"):
        check_bitsandbytes()


@pytest.mark.parametrize(("capability", "good"), [((5, 2), False), ((6, 0), True), ((7, 5), True)])
def test_a_gpu_that_is_too_old_for_4bit_is_said(capability, good, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla M40")
    if good:
        check_bitsandbytes()
    else:
        with pytest.raises(ValueError, match="Tesla M40 has compute capability 5.2; 4-bit needs 6.0"):
            check_bitsandbytes()


def four_bit(folder, **shape):
    tiny_llama(**shape).save_pretrained(folder)
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=config, dtype=torch.float32)
    keep_4bit_gradients(model)
    return model


def test_4bit_layers_that_compute_pass(tmp_path):
    check_quantized_layers(four_bit(tmp_path))


def test_a_4bit_layer_that_does_not_compute_is_named(tmp_path, monkeypatch):
    model = four_bit(tmp_path)
    layer = model.model.layers[0].mlp.down_proj

    def fail(x):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(layer, "forward", fail)
    with pytest.raises(ValueError, match=r"4-bit layer model.layers.0.mlp.down_proj .* no kernel image .*4bit false"):
        check_quantized_layers(model)


def test_without_bitsandbytes_there_is_no_layer_to_try(monkeypatch):
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None)
    check_quantized_layers(tiny_llama())


# Tokenizer


def finding(code="no_eos", severity="error", fixed=False):
    return Finding(code, severity, "It never ends.", fixed=fixed)


def test_a_fault_that_could_not_be_repaired_stops_the_run():
    with pytest.raises(ValueError, match=r"no_eos: It never ends. To train all the same: --accept_findings no_eos b$"):
        check_tokenizer_findings([finding(), finding("b")])


def test_a_fault_that_was_repaired_or_accepted_or_is_no_error_does_not():
    check_tokenizer_findings([finding(fixed=True), finding(severity="warning"), finding("b")], accept=["b"])


# LoRA


def test_modules_that_lora_does_not_find_are_named(capsys):
    model = get_peft_model(tiny_llama(), LoraConfig(target_modules=["q_proj", "c_attn", "v_prj"]))
    check_lora_targets(model)
    assert "the model has no module c_attn, v_prj; trained are q_proj (" in capsys.readouterr().out


@pytest.mark.parametrize("modules", ["all-linear", ["q_proj", "mlp.up_proj"], r".*\.v_proj"])
def test_modules_that_lora_finds_are_not_spoken_of(modules, capsys):
    check_lora_targets(get_peft_model(tiny_llama(), LoraConfig(target_modules=modules)))
    check_lora_targets(tiny_llama())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ({"r": 8}, "with LoRA r 8, and this run has 4"),
        ({"lora_alpha": 32}, "with LoRA lora_alpha 32, and this run has 8"),
        ({"target_modules": ["q_proj"]}, r"target_modules \['q_proj'\], and this run has \['q_proj', 'v_proj'\]"),
        ({"base_model_name_or_path": "skt/kogpt2-base-v2"}, "was trained on skt/kogpt2-base-v2, and this run has"),
    ],
)
def test_a_checkpoint_of_another_lora_is_refused(saved, said, tmp_path):
    model = get_peft_model(tiny_llama(), LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]))
    model.peft_config["default"].base_model_name_or_path = "models/tiny"
    model.save_pretrained(tmp_path)
    check_same_lora(model, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "models/tiny"
    moved = {"base_model_name_or_path": "elsewhere/tiny"}
    for change, refused in ((moved, False), (saved, True)):
        (tmp_path / "adapter_config.json").write_text(json.dumps(config | change))
        if refused:
            with pytest.raises(ValueError, match=said):
                check_same_lora(model, tmp_path)
        else:
            check_same_lora(model, tmp_path)


# Checkpoints of an earlier run


@pytest.fixture
def run(tmp_path):
    for step in (2, 4, 6):
        (tmp_path / "run" / f"checkpoint-{step}").mkdir(parents=True)
        (tmp_path / "run" / f"checkpoint-{step}" / "weights").write_text(str(step))
    return tmp_path / "run"


def names(folder):
    return sorted(path.parent.name for path in folder.rglob("weights"))


def test_a_fresh_run_moves_those_of_an_earlier_one_and_says_where(run, capsys):
    arguments = SimpleNamespace(output_dir=str(run))
    leave_earlier_run(arguments, None, dry_run=True)
    said = capsys.readouterr().out
    assert (
        "(checkpoint-2, checkpoint-4, checkpoint-6): they would be moved" in said and "checkpoint true goes on" in said
    )
    assert len(list(run.glob("checkpoint-*"))) == 3
    leave_earlier_run(arguments, None)
    said = capsys.readouterr().out
    (place,) = (run / "earlier").iterdir()
    assert f"moved to {place}; --resume_from_checkpoint {place} goes on with that run" in said
    assert not list(run.glob("checkpoint-*")) and names(place) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]


def test_a_resumed_run_moves_only_what_it_does_not_come_from(run, capsys):
    leave_earlier_run(SimpleNamespace(output_dir=str(run)), run / "checkpoint-4")
    said = capsys.readouterr().out
    assert f"Going on from {run / 'checkpoint-4'}." in said and "(checkpoint-6)" in said
    assert names(run / "earlier") == ["checkpoint-6"]
    assert sorted(path.name for path in run.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]


def test_the_report_stays_with_its_run(run, tmp_path):
    arguments = SimpleNamespace(output_dir=str(run))
    (run / "report").mkdir()
    (run / "report" / "metrics.json").write_text("the first run")
    leave_earlier_run(arguments, run / "checkpoint-4")  # it goes on
    assert (run / "report" / "metrics.json").read_text() == "the first run"
    leave_earlier_run(arguments, None)  # another begins
    assert not (run / "report").exists()
    (run / "report").mkdir()
    (run / "report" / "metrics.json").write_text("the second run")
    (run / "checkpoint-2").mkdir()
    (first,) = (place for place in (run / "earlier").iterdir() if (place / "checkpoint-4").is_dir())
    leave_earlier_run(arguments, first / "checkpoint-4")  # the first one goes on after all
    assert (run / "report" / "metrics.json").read_text() == "the first run"
    leave_earlier_run(SimpleNamespace(output_dir=str(tmp_path / "elsewhere")), first / "checkpoint-4")
    assert (tmp_path / "elsewhere" / "report" / "metrics.json").read_text() == "the first run"
    reports = [path.read_text() for path in sorted((run / "earlier").rglob("metrics.json"))]
    assert reports == ["the first run", "the second run"]


def test_a_run_in_an_empty_folder_says_nothing(tmp_path, capsys):
    leave_earlier_run(SimpleNamespace(output_dir=str(tmp_path / "new")), None)
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())


# All of them


class Refused(Exception):
    pass


@pytest.mark.parametrize(
    "check",
    [
        "check_tokenizer_findings",
        "check_lora_targets",
        "check_quantized_layers",
        "check_same_lora",
        "check_room",
        "leave_earlier_run",
    ],
)
def test_every_check_is_made_before_training(check, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise Refused

    trainer = lora_trainer(tmp_path)
    arguments = SimpleNamespace(accept_findings=[], dry_run=True)
    trainer.model.save_pretrained(tmp_path / "checkpoint-2")
    check_before_training(trainer, arguments, [], str(tmp_path / "checkpoint-2"))
    monkeypatch.setattr(preflight, check, refuse)
    with pytest.raises(Refused):
        check_before_training(trainer, arguments, [], str(tmp_path / "checkpoint-2"))


# In the recipes


@pytest.fixture(params=RECIPES, ids=lambda path: path.stem)
def main(request, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    recipe = load(request.param)

    def dry_run(*flags):
        return recipe.main(["--preset", "cpu", "--dry_run", *flags])

    return dry_run, recipe, monkeypatch


def test_a_dry_run_checks_before_it_loads(main, tmp_path):
    dry_run, recipe, monkeypatch = main
    monkeypatch.setattr(recipe, "load_tokenizer_with_findings", lambda *args, **kwargs: pytest.fail("loaded"))
    monkeypatch.setattr(recipe, "load_raw_rows", lambda *args, **kwargs: pytest.fail("loaded"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is a file. Give another folder"):
        dry_run("--output_dir", "file")
    with pytest.raises(ValueError, match="There is no checkpoint to go on from in runs"):
        dry_run("--resume_from_checkpoint", "true")
    monkeypatch.setattr(preflight, "LEAST_COMPUTE_CAPABILITY", (99, 0))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H")
    with pytest.raises(ValueError, match="4-bit needs 99.0"):
        dry_run()


def test_a_dry_run_checks_what_it_has_built(main):
    dry_run, recipe, monkeypatch = main
    good = recipe.load_tokenizer_with_findings
    monkeypatch.setattr(
        recipe, "load_tokenizer_with_findings", lambda *args, **kwargs: (good(*args, **kwargs)[0], [finding()])
    )
    with pytest.raises(ValueError, match="The tokenizer has a fault .* no_eos"):
        dry_run()
    pretend_free(monkeypatch, 2**20)
    with pytest.raises(ValueError, match="1 MiB free, and the model with 2 checkpoints takes about"):
        dry_run("--accept_findings", "no_eos")


# PPO takes the adapters of the stages before.
@pytest.mark.parametrize(
    "main", [path for path in RECIPES if path.stem != "ppo_kochatgpt"], ids=lambda path: path.stem, indirect=True
)
def test_lora_modules_that_are_not_there_at_all_are_an_error(main):
    dry_run, _, _ = main
    # PEFT's own sentences.
    with pytest.raises(ValueError, match="c_attn not found in the base model|No modules were targeted"):
        dry_run("--lora_target_modules", "c_attn")


def test_rows_that_leave_nothing_to_train_on_or_to_measure_stop_the_run(main, tmp_path):
    dry_run, recipe, _ = main
    row = {"prompt": "질문", "completion": "답", "completion_0": "가", "completion_1": "나", "ranking": [0, 1]}
    row |= {"question": "질문", "system": "", "chosen": "가", "rejected": "나"}
    (tmp_path / "one.json").write_text(json.dumps([row]), encoding="utf-8")
    with pytest.raises(ValueError, match="1 distinct prompts: at least 2 are needed"):
        dry_run("--dataset_name", "one.json")
    with pytest.raises(ValueError, match="eval_fraction is 0"):
        dry_run("--eval_fraction", "0")


def test_lengths_that_leave_nothing_stop_the_run(main):
    dry_run, recipe, _ = main
    if "max_length" in recipe.DEFAULTS["cpu"]:
        with pytest.raises(ValueError, match="No train row is left within --max_length 8 tokens; raise it"):
            dry_run("--max_length", "8")
    else:
        with pytest.raises(ValueError, match="--max_prompt_length 8 has no room for a prompt"):
            dry_run("--max_prompt_length", "8")


# wandb


@pytest.fixture
def no_wandb_settings(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield
    os.environ.pop("WANDB_MODE", None)


def config(*report_to):
    return SimpleNamespace(report_to=list(report_to))


def test_wandb_without_a_key_is_offline_and_says_how_to_sync(no_wandb_settings, capsys):
    set_up_wandb(config("wandb"))
    assert os.environ["WANDB_MODE"] == "offline"
    assert "wandb sync" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["environment", "netrc"])
def test_wandb_with_a_key_is_left_alone(no_wandb_settings, monkeypatch, tmp_path, where):
    if where == "environment":
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    else:
        (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password 0000\n")
        (tmp_path / ".netrc").chmod(0o600)
    set_up_wandb(config("wandb"))
    assert "WANDB_MODE" not in os.environ


def test_a_run_that_does_not_ask_for_wandb_hears_nothing_of_it(no_wandb_settings, capsys):
    set_up_wandb(config("tensorboard"))
    assert "WANDB_MODE" not in os.environ and capsys.readouterr().out == ""


def test_without_wandb_the_run_goes_on_without_it(no_wandb_settings, monkeypatch, capsys):
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None)
    reporting = config("wandb", "tensorboard")
    set_up_wandb(reporting)
    assert reporting.report_to == ["tensorboard"]
    assert "pip install 'trl_kochat[wandb]'" in capsys.readouterr().out
