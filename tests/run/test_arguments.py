"""The command line of a recipe: preset, file, flags."""

import re
from dataclasses import dataclass

import pytest
from trl import DPOConfig

from trl_kochat import PPOConfig
from trl_kochat.errors import InputError
from trl_kochat.run.arguments import RecipeArguments, parse
from trl_kochat.stages import StageArguments


@dataclass
class WithStages(StageArguments, RecipeArguments):
    """As a recipe of stage 3 has them."""


PRESETS = {
    "cpu": {"model_name_or_path": "tiny", "dataset_name": ["rows"], "learning_rate": 1e-3, "report_to": ["none"]},
    "gpu": {"model_name_or_path": "big", "dataset_name": ["rows"], "learning_rate": 5e-5, "report_to": ["wandb"]},
}


def parsed(*argv, presets=PRESETS):
    return parse("some_recipe", DPOConfig, argv, presets=presets)


def test_auto_takes_cpu_without_cuda_and_says_why():
    found = parsed()
    assert (found.preset, found.reason) == ("cpu", "no CUDA device is there")
    assert found.model_args.model_name_or_path == "tiny" and found.config.learning_rate == 1e-3
    assert found.config.output_dir == "runs/some_recipe" and not found.config.bf16
    assert found.model_args.dtype == "float32"


def test_gpu_without_cuda_is_an_error():
    with pytest.raises(ValueError, match="--preset gpu: no CUDA device"):
        parsed("--preset", "gpu")


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(ValueError, match="No preset 'tpu'; there are auto, cpu, gpu"):
        parsed("--preset", "tpu")


def test_a_flag_beats_the_file_and_the_file_beats_the_preset(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("learning_rate: 3.0e-4\nmax_steps: 7\nbeta: 0.5\n")
    for form in (["--config", str(file)], [f"--config={file}"]):
        config = parsed(*form, "--beta", "0.2").config
        assert (config.learning_rate, config.max_steps, config.beta) == (3e-4, 7, 0.2)


def test_epochs_that_are_asked_for_beat_the_steps_of_a_preset():
    presets = {"cpu": {**PRESETS["cpu"], "max_steps": 100}}
    assert parsed("--num_train_epochs", "2", presets=presets).config.max_steps == -1
    assert parsed("--num_train_epochs", "2", "--max_steps", "7", presets=presets).config.max_steps == 7


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("learning_rate", "-1"),
        ("learning_rate", "nan"),
        ("num_train_epochs", "0"),
        ("per_device_train_batch_size", "0"),
        ("gradient_accumulation_steps", "0"),
        ("save_steps", "-1"),
        ("lora_r", "0"),
        ("max_length", "0"),
        ("max_steps", "0"),
        ("max_steps", "-5"),
    ],
)
def test_a_number_that_nothing_can_train_with_is_refused(flag, value):
    with pytest.raises(InputError, match=rf"--{flag} {value}: give"):
        parsed(f"--{flag}={value}")


def test_a_file_gives_what_the_same_flags_would_give(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(
        "dataset_name: rows.json\ncolumns: {질문: prompt, 번호: ''}\nmax_length: null\nbeta: 1e-1\n", "utf-8"
    )
    found = parsed("--config", str(file))
    assert found.arguments.dataset_name == ["rows.json"] and found.arguments.columns == ["질문=prompt", "번호="]
    assert found.config.max_length is None and found.config.beta == 0.1


@pytest.mark.parametrize(
    "line", ["max_steps: 2.5", "max_steps: null", "learning_rate: [1, 2]", "load_in_4bit: maybe", "3: 4"]
)
def test_a_value_of_another_type_in_a_file_is_refused(line, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(line)
    with pytest.raises((InputError, SystemExit)):
        parsed("--config", str(file))


def test_the_file_may_name_the_preset(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("preset: gpu\n")
    with pytest.raises(ValueError, match="no CUDA device"):
        parsed("--config", str(file))
    assert parsed("--config", str(file), "--preset", "cpu").preset == "cpu"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--lerning_rate", "1"], "Unknown key 'lerning_rate' on the command line; did you mean 'learning_rate'"),
        (["--learning-rat=1"], "did you mean 'learning_rate'"),
        (["--learning_rat", "1"], "did you mean 'learning_rate'"),  # argparse alone would take the abbreviation
        (["--model_name", "x"], "did you mean 'model_name_or_path'"),
        (["--zzzzzzzz"], "--help_all lists all"),
        (["stray"], "Nothing takes the arguments stray"),
        (["--config"], "--config needs a YAML file"),
        (["--config", "missing.yaml"], "There is no file missing.yaml"),
    ],
)
def test_a_misspelt_flag_names_the_nearest_one(argv, message):
    with pytest.raises(ValueError, match=message):
        parsed(*argv)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lora_alfa: 8\n", "Unknown key 'lora_alfa' in .*config.yaml; did you mean 'lora_alpha'"),
        ("- 1\n", "does not hold `key: value` lines"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_a_bad_config_file_is_an_error(tmp_path, text, message):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        parsed("--config", str(file))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--max_steps", "8", "--save_strategy", "steps", "--load_best_model_at_end"], "load_best_model_at_end"),
        (["--loss_type", "sigmoid", "sft", "--loss_weights", "1"], "loss_weights"),
        (["--bf16", "true", "--fp16", "true"], "fp16"),
    ],
)
def test_what_the_configs_of_trl_and_transformers_refuse_is_the_users_to_mend(argv, message):
    with pytest.raises(InputError, match=message):
        parsed(*argv)


def test_a_preset_with_an_unknown_key_is_an_error():
    with pytest.raises(InputError, match="Unknown key 'learning_rat' in the preset cpu of some_recipe; did you mean"):
        parsed(presets={"cpu": {"learning_rat": 1}})


def test_another_loss_leaves_the_weights_of_the_presets_losses(tmp_path):
    presets = {"cpu": {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.05], "dataset_name": ["rows"]}}

    def loss(*argv):
        config = parsed("--preset", "cpu", *argv, presets=presets).config
        return config.loss_type, config.loss_weights

    file = tmp_path / "run.yaml"
    file.write_text("loss_type: [ipo]\n")
    assert loss() == (["sigmoid", "sft"], [1.0, 0.05])
    assert loss("--loss_type", "ipo") == loss("--loss_type=ipo") == loss("--config", str(file)) == (["ipo"], None)
    assert loss("--loss_type", "ipo", "sft", "--loss_weights", "1", "0.1") == (["ipo", "sft"], [1.0, 0.1])


@pytest.mark.parametrize("argv", [["--rewards", "ends"], ["--rewards=ends"], ["--config", "run.yaml"]])
def test_other_rewards_leave_the_weights_of_the_presets_rewards(argv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text("rewards: [ends]\n")
    cpu = {"dataset_name": ["rows"], "rewards": ["right", "reward_model"], "reward_weights": [2.0, 0.5]}

    def weights(*argv):
        return parse(
            "some_recipe", PPOConfig, argv, presets={"cpu": cpu}, arguments_class=WithStages
        ).config.reward_weights

    assert weights() == [2.0, 0.5] and weights(*argv) is None
    assert weights(*argv, "--reward_weights", "3") == [3.0]


def test_help_is_one_screen_and_help_all_has_every_flag(capsys):
    for word, flags in (("--help", 12), ("-h", 12), ("--help_all", 160)):
        with pytest.raises(SystemExit) as end:
            parse("some_recipe", DPOConfig, [word], presets=PRESETS)
        shown = re.findall(r"^  --(\w+)", capsys.readouterr().out, flags=re.MULTILINE)
        assert not end.value.code and len(set(shown)) >= flags and (len(shown) == 12) == (flags == 12)


def test_a_value_of_the_wrong_kind_is_told_without_a_page_of_flags(capsys):
    with pytest.raises(SystemExit):
        parse("dpo_orca", DPOConfig, ["--preset", "cpu", "--learning_rate", "abc"])
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) <= 3 and "--learning_rate" in lines[-1] and "'abc'" in lines[-1]
