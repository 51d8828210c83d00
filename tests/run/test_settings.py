"""Settings that do not fit together."""

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from tests.callbacks.training import sft_trainer
from trl_kochat.errors import InputError
from trl_kochat.recipes import sft_kochatgpt
from trl_kochat.run.settings import check_positions, check_schedule


@pytest.mark.parametrize(("warmup", "said"), [(9, False), (10, True), (100, True)])
def test_a_warmup_as_long_as_the_run_is_said(warmup, said, tmp_path, capsys):
    check_schedule(sft_trainer(tmp_path, max_steps=10, warmup_steps=warmup, learning_rate=1e-3))
    out = capsys.readouterr().out
    assert (f"--warmup_steps {warmup} is as long as the run of 10 steps" in out) == said
    assert ("does not get beyond 0.0001 of 0.001. For less: --warmup_steps 1" in out) == (warmup == 100)


def test_a_length_beyond_rotary_positions_is_said(tmp_path, capsys):
    trainer = sft_trainer(tmp_path, max_steps=1)
    positions = trainer.model.config.max_position_embeddings
    trainer.args.max_length = positions
    check_positions(trainer)
    assert capsys.readouterr().out == ""
    trainer.args.max_length = positions + 1
    check_positions(trainer)
    assert f"--max_length {positions + 1}: the model was made for {positions} tokens" in capsys.readouterr().out


def test_a_length_beyond_a_table_of_positions_is_refused(tmp_path):
    trainer = sft_trainer(tmp_path, max_steps=1)
    trainer.model = GPT2LMHeadModel(GPT2Config(n_positions=32, n_embd=8, n_layer=1, n_head=1, vocab_size=64))
    trainer.args.max_length = 32
    check_positions(trainer)
    trainer.args.max_length = 33
    with pytest.raises(InputError, match="--max_length 33: the model has 32 positions. Take 32 or less"):
        check_positions(trainer)


def test_answers_beyond_the_positions_are_said(tmp_path, capsys):
    trainer = sft_trainer(tmp_path, max_steps=1)
    trainer.args.max_completion_length = 5000
    check_positions(trainer)
    assert "--max_completion_length 5000: the model was made for" in capsys.readouterr().out


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("run") / "out"
    flags = ["--preset", "cpu", "--output_dir", str(output_dir), "--max_steps", "1", "--save_steps", "1"]
    flags += ["--warmup_steps", "0", "--max_eval_samples", "4", "--eval_strategy", "no"]
    sft_kochatgpt.main(flags)
    return [*flags, "--resume_from_checkpoint", "true", "--dry_run"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--learning_rate", "1e-5"], "with learning_rate 0.002, and this run has 1e-05"),
        (["--per_device_train_batch_size", "4"], "with rows of a step 16, and this run has 4"),
        (["--dataset_name", "sample:kochatgpt_1_SFT.jsonl"], "with dataset_name "),
        (["--max_length", "128"], "with max_length 256, and this run has 128"),
        (["--lora_r", "4"], "with LoRA r 32, and this run has 4"),
        (["--lora_target_modules", "q_proj", "k_proj"], r"with LoRA target_modules .* has \['k_proj', 'q_proj'\]"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(trained, flags, said):
    with pytest.raises(InputError, match=f"checkpoint-1 was trained {said}"):
        sft_kochatgpt.main([*trained, *flags])


def test_a_checkpoint_goes_on_with_what_changes_nothing_in_a_step(trained, capsys):
    sft_kochatgpt.main([*trained, "--max_steps", "3", "--logging_steps", "1"])
    assert "Going on from" in capsys.readouterr().out
    sft_kochatgpt.main([*trained, "--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "2"])
