"""What every recipe shares."""

from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer
from trl import DPOConfig, SFTConfig

from trl_kochat.run import arguments as recipe_module
from trl_kochat.run.arguments import (
    choose_preset,
    cut_prompts,
    find_stage,
    lora_arguments,
    parse,
    precision,
    refuse_lora_settings,
    tokenize,
    use_float32_adapters,
)
from trl_kochat.sample import SAMPLE_DIR


PRESETS = {
    "cpu": {"model_name_or_path": "tiny", "dataset_name": ["rows"], "learning_rate": 1e-3, "report_to": ["none"]},
    "gpu": {"model_name_or_path": "big", "dataset_name": ["rows"], "learning_rate": 5e-5, "report_to": ["wandb"]},
}

ANSWER = [{"role": "assistant", "content": "네, 안녕하세요."}]


def parsed(*argv):
    return parse("some_recipe", DPOConfig, PRESETS, argv)


@pytest.fixture
def cuda(monkeypatch):
    """Pretends a CUDA device with (or without) bf16."""

    def pretend(bf16):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)

    return pretend


def test_auto_takes_cpu_without_cuda_and_says_why():
    plan, arguments, config, model_args = parsed()
    assert (plan.preset, plan.reason) == ("cpu", "no CUDA device is there")
    assert model_args.model_name_or_path == "tiny" and config.learning_rate == 1e-3
    assert config.output_dir == "runs/some_recipe" and not config.bf16 and model_args.dtype == "float32"


def test_auto_takes_gpu_with_cuda(cuda):
    cuda(bf16=True)
    assert choose_preset("auto", PRESETS)[0] == "gpu"


def test_gpu_without_cuda_is_an_error():
    with pytest.raises(ValueError, match="--preset gpu: no CUDA device"):
        parsed("--preset", "gpu")


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(ValueError, match="No preset 'tpu'; there are auto, cpu, gpu"):
        parsed("--preset", "tpu")


@pytest.mark.parametrize(
    ("bf16", "expected"),
    [(True, {"dtype": "bfloat16"}), (False, {"dtype": "float16", "fp16": True})],
    ids=["bf16", "T4"],
)
def test_the_gpu_preset_computes_in_what_the_card_has(cuda, bf16, expected):
    cuda(bf16=bf16)
    assert precision("gpu") == expected


def test_a_flag_beats_the_file_and_the_file_beats_the_preset(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("learning_rate: 3.0e-4\nmax_steps: 7\nbeta: 0.5\n")
    for form in (["--config", str(file)], [f"--config={file}"]):
        _, _, config, _ = parsed(*form, "--beta", "0.2")
        assert (config.learning_rate, config.max_steps, config.beta) == (3e-4, 7, 0.2)


def test_the_file_may_name_the_preset(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("preset: gpu\n")
    with pytest.raises(ValueError, match="no CUDA device"):
        parsed("--config", str(file))
    assert parsed("--config", str(file), "--preset", "cpu")[0].preset == "cpu"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--lerning_rate", "1"], "Unknown key 'lerning_rate' on the command line; did you mean 'learning_rate'"),
        (["--learning-rat=1"], "did you mean 'learning_rate'"),
        (["--learning_rat", "1"], "did you mean 'learning_rate'"),  # argparse alone would take the abbreviation
        (["--model_name", "x"], "did you mean 'model_name_or_path'"),
        (["--zzzzzzzz"], "--help lists all"),
        (["stray"], "Nothing takes the arguments stray"),
        (["--config"], "--config needs a YAML file"),
        (["--config", "missing.yaml"], "there is no file missing.yaml"),
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


def test_on_the_command_line_an_error_is_one_line(monkeypatch):
    monkeypatch.setattr("sys.argv", ["some_recipe.py", "--betta", "1"])
    with pytest.raises(SystemExit, match="some_recipe.py: Unknown key 'betta' .* did you mean 'beta'"):
        parse("some_recipe", DPOConfig, PRESETS)


def test_4bit_lora_arguments_reach_trl():
    argv = [
        "--load_in_4bit",
        "--use_bnb_nested_quant",
        "--use_peft",
        "--lora_r",
        "4",
        "--lora_target_modules",
        "q_proj",
        "v_proj",
    ]
    _, _, config, model_args = parsed(*argv)
    quantization, peft = lora_arguments(model_args, config)
    assert quantization.load_in_4bit and quantization.bnb_4bit_use_double_quant
    assert quantization.bnb_4bit_quant_type == "nf4" and quantization.bnb_4bit_compute_dtype == torch.float32
    assert (peft.r, set(peft.target_modules)) == (4, {"q_proj", "v_proj"})
    assert config.model_init_kwargs["dtype"] == "float32" and config.model_init_kwargs["use_safetensors"]


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--lora_r", "8"], "--lora_r"),
        (["--lora_r=16"], "--lora_r"),  # the default's value: the adapters may still have another
        (["--lora-alpha", "8"], "--lora_alpha"),
        (["--use_dora", "--lora_target_modules", "q_proj"], "--lora_target_modules, --use_dora"),
        (["--config", "{config}"], "--lora_dropout"),
        (["--use_peft", "False"], "--use_peft False"),
    ],
)
def test_a_stage_on_earlier_adapters_refuses_what_would_shape_new_ones(tmp_path, argv, named):
    config = tmp_path / "config.yaml"
    config.write_text("lora_dropout: 0.5\n")
    plan, _, _, model_args = parsed("--use_peft", *(word.format(config=config) for word in argv))
    with pytest.raises(ValueError, match=f"^{named} would have no effect: some_recipe trains on the adapters"):
        refuse_lora_settings(plan, model_args)


def test_what_is_not_about_lora_may_be_given_to_a_stage_on_earlier_adapters():
    plan, _, _, model_args = parsed("--use_peft", "True", "--load_in_4bit", "--learning_rate", "1")
    refuse_lora_settings(plan, model_args)


def test_without_bitsandbytes_lora_trains_without_4bit_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr(recipe_module.importlib.util, "find_spec", lambda name: None)
    _, _, config, model_args = parsed("--load_in_4bit", "--use_peft")
    quantization, peft = lora_arguments(model_args, config)
    assert quantization is None and peft is not None
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize(
    ("fp16", "bf16", "dtype"),
    [(True, False, torch.float32), (False, False, torch.float32), (False, True, torch.bfloat16)],
    ids=["fp16 on a T4", "float32 on a CPU", "bf16"],
)
def test_adapters_train_in_a_number_format_that_the_training_can_take(fp16, bf16, dtype):
    model = torch.nn.Linear(2, 2, dtype=torch.bfloat16)
    model.bias.requires_grad = False
    use_float32_adapters(SimpleNamespace(model=model, args=SimpleNamespace(fp16=fp16, bf16=bf16)))
    assert model.weight.dtype == dtype and model.bias.dtype == torch.bfloat16


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(SAMPLE_DIR / "tiny-ko")


def as_prompts(*texts):
    system = {"role": "system", "content": "짧게 답하세요."}
    return Dataset.from_dict({"prompt": [[system, {"role": "user", "content": text}] for text in texts]})


def test_a_long_prompt_is_cut_to_the_limit_and_counted(tokenizer, capsys):
    short, long = "오늘 뭐 먹지?", "뛟쀍 아주 긴 질문이에요. " * 40
    dataset = cut_prompts(as_prompts(short, long), tokenizer, 60)
    lengths = [
        len(tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)["input_ids"])
        for row in dataset
    ]
    texts = [row["prompt"][-1]["content"] for row in dataset]
    assert texts[0] == short and long.startswith(texts[1]) and len(texts[1]) > 10
    assert 55 <= lengths[1] <= 60
    assert dataset[1]["prompt"][0]["content"] == "짧게 답하세요."
    assert "1 prompts cut to --max_prompt_length 60 tokens" in capsys.readouterr().out


def test_short_prompts_are_left_alone(tokenizer, capsys):
    dataset = as_prompts("오늘 뭐 먹지?")
    assert cut_prompts(dataset, tokenizer, 96)[:] == dataset[:] and capsys.readouterr().out == ""
    assert cut_prompts(dataset, tokenizer, None) is dataset


def test_a_limit_without_room_for_a_prompt_is_an_error(tokenizer):
    with pytest.raises(ValueError, match="no room for a prompt"):
        cut_prompts(as_prompts("오늘 뭐 먹지?"), tokenizer, 10)


def test_an_earlier_stage_is_found_where_it_was_left(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match="No adapter in runs/sft_kochatgpt. Make it first: trl-kochat sft_kochatgpt --preset gpu"
    ):
        find_stage("sft_kochatgpt", None, "gpu")
    with pytest.raises(ValueError, match="No adapter in elsewhere"):
        find_stage("sft_kochatgpt", "elsewhere", "cpu")
    for folder in ("runs/sft_kochatgpt", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "adapter_config.json").write_text("{}")
    assert find_stage("sft_kochatgpt", None, "gpu") == "runs/sft_kochatgpt"
    assert find_stage("sft_kochatgpt", "elsewhere", "cpu") == "elsewhere"


def test_another_loss_leaves_the_weights_of_the_presets_losses(tmp_path):
    presets = {"cpu": {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.05], "dataset_name": ["rows"]}}

    def loss(*argv):
        config = parse("r", DPOConfig, presets, ["--preset", "cpu", *argv])[2]
        return config.loss_type, config.loss_weights

    file = tmp_path / "run.yaml"
    file.write_text("loss_type: [ipo]\n")
    assert loss() == (["sigmoid", "sft"], [1.0, 0.05])
    assert loss("--loss_type", "ipo") == loss("--loss_type=ipo") == loss("--config", str(file)) == (["ipo"], None)
    assert loss("--loss_type", "ipo", "sft", "--loss_weights", "1", "0.1") == (["ipo", "sft"], [1.0, 0.1])


@pytest.mark.parametrize(
    ("argv", "by_the_trainer"),
    [
        ([], False),
        (["--max_length", "64", "--packing", "True"], False),
        (["--completion_only_loss", "False"], True),
        (["--assistant-only-loss"], True),
        (["--chat_template_path=other.jinja"], True),
        (["--eos_token", "</s>"], True),
    ],
)
def test_rows_become_ids_unless_the_trainer_is_asked_for_other_ones(tokenizer, argv, by_the_trainer):
    plan, _, config, _ = parse("some_recipe", SFTConfig, PRESETS, argv)
    rows = Dataset.from_list([{"prompt": [{"role": "user", "content": "안녕?"}], "completion": ANSWER}])
    assert (tokenize(rows, tokenizer, plan, config) is rows) == by_the_trainer
