"""What loading would run is refused with a sentence, wherever something is loaded: pickles, and code of a model's own."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from tests.tiny_lm import tiny_llama, tiny_reward_model, tiny_tokenizer
from trl_kochat import PPOConfig, PPOTrainer, load_tokenizer
from trl_kochat.cli import main
from trl_kochat.measure.generate import load_generator
from trl_kochat.measure.score import load_reward_model
from trl_kochat.merging import merge_adapter
from trl_kochat.models import adapter_folder, attach_adapter, load_base, refuse_what_runs_code
from trl_kochat.recipes import dpo_orca, grpo_korean, kto_pairs, ppo_kochatgpt, reward_kochatgpt, sft_kochatgpt
from trl_kochat.rewards import reward_model


class Trap:
    """Unpickling it leaves a file: the proof that a pickle was read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


CODE = "import pathlib\npathlib.Path(__file__).with_name('RAN').touch()\n"
PICKLE, REMOTE = "holds pickled weights", "needs Python code that comes with it"


def pickled(folder: Path, name: str, proof: Path) -> None:
    """Replace a folder's safetensors by a pickle under the name that older versions gave it."""
    (old,) = folder.glob("*.safetensors")
    old.unlink()
    torch.save({"weight": Trap(proof)}, folder / name)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model, a reward model and an adapter of each kind, each whole."""
    root = tmp_path_factory.mktemp("saved")
    tiny_llama().save_pretrained(root / "model")
    tiny_reward_model().save_pretrained(root / "scorer")
    for name in ("model", "scorer"):
        tiny_tokenizer().save_pretrained(root / name)
    policy = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear")
    base = AutoModelForCausalLM.from_pretrained(root / "model")
    get_peft_model(base, policy).save_pretrained(root / "policy")
    reward = LoraConfig(task_type="SEQ_CLS", target_modules="all-linear", modules_to_save=["score"])
    scorer = tiny_reward_model()
    scorer.config.name_or_path = scorer.name_or_path = str(root / "model")
    get_peft_model(scorer, reward).save_pretrained(root / "reward")
    return root


@pytest.fixture
def made(saved, tmp_path):
    """A copy of all of them, in which adapters name the copied base."""
    shutil.copytree(saved, tmp_path / "made")
    for name in ("policy", "reward"):
        path = tmp_path / "made" / name / "adapter_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**config, "base_model_name_or_path": str(tmp_path / "made" / "model")}))
    return tmp_path / "made"


def ppo(model, reward, *, trust_remote_code=False, **kwargs):
    """Build a PPO trainer, which loads everything that it is given as a path."""
    config = PPOConfig(
        output_dir=str(Path(str(reward)).parent / "out"),
        use_cpu=True,
        report_to=[],
        bf16=False,
        max_completion_length=4,
        trust_remote_code=trust_remote_code,
    )
    rows = Dataset.from_list([{"prompt": "안녕?"}] * 8)
    PPOTrainer(
        model, reward_funcs=reward, args=config, train_dataset=rows, processing_class=tiny_tokenizer(), **kwargs
    )


LORA = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear")
# Everything that loads a model or an adapter, by the one of `made` that it is tried on.
WAYS = {
    "load_base": ("model", lambda made: load_base(AutoModelForCausalLM, made / "model")),
    "load_generator": ("model", lambda made: load_generator(made / "model")),
    "load_generator, adapter": ("policy", lambda made: load_generator(made / "model", [made / "policy"])),
    "attach_adapter": ("policy", lambda made: attach_adapter(tiny_llama(), made / "policy", "policy")),
    "load_reward_model": ("scorer", lambda made: load_reward_model(made / "scorer")),
    "load_reward_model, adapter": ("reward", lambda made: load_reward_model(made / "reward")),
    "load_reward_model, base": ("model", lambda made: load_reward_model(made / "reward")),
    "merge_adapter": ("policy", lambda made: merge_adapter(made / "policy", made / "merged")),
    "merge_adapter, base": ("model", lambda made: merge_adapter(made / "policy", made / "merged")),
    "PPO policy": ("model", lambda made: ppo(str(made / "model"), str(made / "scorer"))),
    "PPO policy adapter": ("policy", lambda made: ppo(str(made / "policy"), str(made / "reward"))),
    "PPO policy adapter's base": ("model", lambda made: ppo(str(made / "policy"), str(made / "reward"))),
    "PPO reward": ("scorer", lambda made: ppo(tiny_llama(), str(made / "scorer"))),
    "PPO reward adapter": ("reward", lambda made: ppo(str(made / "model"), str(made / "reward"), peft_config=LORA)),
    "PPO reward adapter of its own base": ("reward", lambda made: ppo(tiny_llama(), str(made / "reward"))),
    "PPO value": ("scorer", lambda made: ppo(tiny_llama(), [len], value_model=str(made / "scorer"))),
    "PPO value adapter": (
        "reward",
        lambda made: ppo(str(made / "model"), [len], value_model=str(made / "reward"), peft_config=LORA),
    ),
}
NAMES = {"model": "pytorch_model.bin", "scorer": "pytorch_model.bin"}


@pytest.mark.parametrize("way", WAYS)
def test_pickled_weights_are_refused_and_not_read(made, tmp_path, way):
    which, load = WAYS[way]
    name = NAMES.get(which, "adapter_model.bin")
    pickled(made / which, name, tmp_path / "RAN")
    with pytest.raises(
        ValueError, match=f"{which} {PICKLE} .{name.replace('.', '[.]')}. and no safetensors.*save it again"
    ):
        load(made)
    assert not (tmp_path / "RAN").exists()


@pytest.mark.parametrize("way", [way for way in WAYS if WAYS[way][0] in ("model", "scorer")])
def test_code_of_the_models_own_is_refused_and_not_run(made, way):
    which, load = WAYS[way]
    with_code(made / which)
    with pytest.raises(ValueError, match=f"{which} {REMOTE}.*--trust_remote_code"):
        load(made)
    assert not list(made.rglob("RAN"))


def with_code(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    classes = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    path.write_text(json.dumps({**config, "model_type": "their_own", "auto_map": classes}), encoding="utf-8")
    (folder / "own.py").write_text(CODE, encoding="utf-8")


def test_code_that_lies_beside_a_known_model_is_left_alone(made):
    """Many models keep the code of the time before transformers knew them; it is not needed, and not run."""
    path = made / "model" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "auto_map": {"AutoModelForCausalLM": "own.Model"}}), encoding="utf-8")
    (made / "model" / "own.py").write_text(CODE, encoding="utf-8")
    assert load_base(AutoModelForCausalLM, made / "model").config.model_type == "llama"
    assert not list(made.rglob("RAN"))


def test_trusted_code_is_let_through(made):
    with_code(made / "model")
    refuse_what_runs_code(made / "model", trust_remote_code=True)


OWN = """from transformers import AutoModel, LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, LlamaModel
from transformers import PreTrainedTokenizerFast


class Own(PreTrainedTokenizerFast):
    pass


class Config(LlamaConfig):
    model_type = "their_own"


class Decoder(LlamaModel):
    config_class = Config


AutoModel.register(Config, Decoder, exist_ok=True)


class Model(LlamaForCausalLM):
    config_class = Config


class Scorer(LlamaForSequenceClassification):
    config_class = Config
"""


@pytest.fixture
def working(made, tmp_path, monkeypatch):
    """A model whose own code works, and adapters on it."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    with_code(made / "model")
    path = made / "model" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["auto_map"]["AutoModelForSequenceClassification"] = "own.Scorer"
    path.write_text(json.dumps(config), encoding="utf-8")
    (made / "model" / "own.py").write_text(OWN, encoding="utf-8")
    return made


def test_ppo_runs_code_of_policy_reward_model_and_tokenizer_when_it_is_told_to(working):
    with_tokenizer_code(working / "model")
    for policy in (str(working / "policy"), tiny_llama()):  # with the reward adapter on it, and on a base of its own
        ppo(policy, str(working / "reward"), trust_remote_code=True)
        with pytest.raises(ValueError, match="trust_remote_code"):
            ppo(policy, str(working / "reward"))


def test_a_reward_model_as_a_function_runs_code_of_model_and_tokenizer_when_it_is_told_to(working):
    with_tokenizer_code(working / "model")
    reward = reward_model(working / "reward", trust_remote_code=True)
    assert len(reward(prompts=["안녕?"], completions=["네"])) == 1
    with pytest.raises(ValueError, match="trust_remote_code"):
        reward_model(working / "reward")


@pytest.mark.parametrize("command", ["generate", "score", "merge"])
def test_commands_run_code_when_they_are_told_to(working, tmp_path, capsys, command):
    made = working
    arguments = {
        "generate": [str(made / "model"), "--adapter", str(made / "policy"), "--prompt", "안녕?"],
        "score": [str(made / "reward"), "--prompt", "안녕?", "--completion", "네"],
        "merge": [str(made / "policy"), str(tmp_path / "merged")],
    }[command]
    assert main([command, *arguments, "--trust_remote_code"]) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    "recipe",
    [sft_kochatgpt, reward_kochatgpt, dpo_orca, ppo_kochatgpt, grpo_korean, kto_pairs],
    ids=lambda r: r.__name__,
)
@pytest.mark.parametrize("kind", ["pickle", "code"])
def test_recipes_refuse_before_they_load_anything(made, tmp_path, monkeypatch, recipe, kind):
    monkeypatch.chdir(tmp_path)
    if kind == "pickle":
        pickled(made / "model", "pytorch_model.bin", tmp_path / "RAN")
    else:
        with_code(made / "model")
    with pytest.raises(ValueError, match=PICKLE if kind == "pickle" else REMOTE):
        recipe.main(["--preset", "cpu", "--model_name_or_path", str(made / "model"), "--output_dir", "out"])
    assert not list(tmp_path.rglob("RAN"))


@pytest.mark.parametrize("command", ["generate", "score", "merge"])
def test_commands_say_it_in_one_line(made, tmp_path, capsys, command):
    arguments = {
        "generate": [str(made / "model"), "--adapter", str(made / "policy"), "--prompt", "안녕?"],
        "score": [str(made / "reward"), "--prompt", "안녕?", "--completion", "네"],
        "merge": [str(made / "policy"), str(tmp_path / "merged")],
    }[command]
    pickled(made / ("reward" if command == "score" else "policy"), "adapter_model.bin", tmp_path / "RAN")
    try:
        status = main([command, *arguments])
    except SystemExit as exit:
        status = exit.code
    said = capsys.readouterr().err + str(status)
    assert status and PICKLE in said and "Traceback" not in said
    assert not (tmp_path / "RAN").exists()


def with_tokenizer_code(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    path.write_text(json.dumps(config), encoding="utf-8")


def test_a_tokenizer_with_code_of_its_own_is_refused_and_not_run(made):
    folder = made / "model"
    with_tokenizer_code(folder)
    (folder / "own.py").write_text(CODE, encoding="utf-8")
    with pytest.raises(ValueError, match=f"The tokenizer of .*model {REMOTE}.*--trust_remote_code"):
        load_tokenizer(folder)
    assert not list(made.rglob("RAN"))


def test_safetensors_beside_a_pickle_are_what_is_read(made, tmp_path):
    """`training_args.bin` and old copies lie in many folders; nobody reads them."""
    for folder, name in (
        ("model", "pytorch_model.bin"),
        ("policy", "adapter_model.bin"),
        ("policy", "training_args.bin"),
    ):
        torch.save({"weight": Trap(tmp_path / "RAN")}, made / folder / name)
    load_generator(made / "model", [made / "policy"])
    assert adapter_folder(made / "policy") == made / "policy" and not (tmp_path / "RAN").exists()
