"""The gpu presets on a card without bf16 (a T4), pretended: no such card is here, so autocast on the CPU stands in."""

import importlib
from pathlib import Path

import pytest
import torch

from trl_kochat.run import run
from trl_kochat.run.presets import preset_values


RECIPES = sorted(path.stem for path in (Path(__file__).parent.parent / "recipes").glob("*.py"))


ONLINE = ("ppo_kochatgpt", "grpo_korean")


@pytest.fixture(params=RECIPES)
def built(request, monkeypatch, tmp_path):
    """A recipe's trainer as its gpu preset builds it on a card without bf16, of the embedded model and rows."""
    monkeypatch.chdir(tmp_path)
    recipe = importlib.import_module(f"trl_kochat.recipes.{request.param}")
    found = {"recipe": request.param}

    def parse_on_a_t4(*arguments, **options):
        with monkeypatch.context() as pretend:
            pretend.setattr(torch.cuda, "is_available", lambda: True)
            pretend.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
            parsed = parse(*arguments, **options)
        config = parsed.config
        found.update(preset=parsed.preset, fp16=config.fp16, bf16=config.bf16, dtype=parsed.model_args.dtype)
        config.fp16 = False  # accelerate makes its gradient scaler on a GPU only
        return parsed

    def train(self, trainer, *arguments, **options):
        found.update(trainer=trainer, quantization=self.trainer_arguments["quantization_config"])
        return go_on(self, trainer, *arguments, **options)

    parse, go_on = run.parse, run.Run.train
    monkeypatch.setattr(run, "parse", parse_on_a_t4)
    monkeypatch.setattr(run.Run, "train", train)
    flags = ["--use_cpu", "--dry_run", "--report_to", "none"]
    if request.param in ONLINE:
        flags += ["--sft_adapter", "tiny-ko-sft", "--reward_adapter", "tiny-ko-reward"]
    else:
        flags += ["--lora_target_modules", "all-linear", "--max_length", "128"]
    rows = preset_values(request.param, "cpu")["dataset_name"][0]
    recipe.main(["--model_name_or_path", "tiny-ko", "--dataset_name", rows, *flags])
    return found


def test_without_bf16_a_gpu_preset_computes_in_fp16_and_trains_in_float32(built):
    assert (built["preset"], built["fp16"], built["bf16"], built["dtype"]) == ("gpu", True, False, "float16")
    assert built["quantization"].load_in_4bit and built["quantization"].bnb_4bit_compute_dtype == torch.float16
    parameters = dict(built["trainer"].model.named_parameters())
    trained = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    assert trained and {parameter.dtype for parameter in trained.values()} == {torch.float32}
    # Nothing that the card would have to emulate is left anywhere.
    assert not [name for name, parameter in parameters.items() if parameter.dtype == torch.bfloat16]

    if built["recipe"] not in ONLINE:  # whose loss is taken on rollouts
        trainer = built["trainer"]
        batch = next(iter(trainer.get_train_dataloader()))
        with torch.autocast("cpu", dtype=torch.float16):
            loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        gradients = [parameter.grad for parameter in trained.values() if parameter.grad is not None]
        # The scaler of fp16 training takes float32 gradients alone.
        assert gradients and {gradient.dtype for gradient in gradients} == {torch.float32}
        assert loss.isfinite() and all(gradient.isfinite().all() for gradient in gradients)
        assert any(gradient.abs().max() > 0 for gradient in gradients)
