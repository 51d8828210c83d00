"""What is loaded by its name on the Hub ends in rows or a tokenizer, or in one sentence that says what to do."""

import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tests.conftest import ASSETS
from tests.hub import Hub, serving
from tests.tiny_lm import tiny_tokenizer
from trl_kochat.data.load import COURSE_FILES, COURSE_URL
from trl_kochat.sample import SAMPLE_DIR


ROOT = Path(__file__).parent.parent
PROBE = "불고기용 고기 한우에요?"
ORCA = [
    {"system": "", "question": f"질문 {number}?", "chosen": f"좋은 답 {number}.", "rejected": f"나쁜 답 {number}."}
    for number in range(12)
]


def parquet(rows):
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


SMALL = {"n_embd": 64, "n_layer": 2, "n_head": 2}


def kogpt2(folder, assets=None, *, shape=SMALL):
    """Files of a model with KoGPT2's layout: `config.json` of type gpt2, a `tokenizer.json` that is not byte-level GPT-2,
    and no `tokenizer_config.json`. The weights are random; without a shape given, a few of them."""
    torch.manual_seed(0)
    if assets is None:
        tiny_tokenizer().save_pretrained(folder)
        (folder / "tokenizer_config.json").unlink()
        size = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        vocabulary = len(size["model"]["vocab"]) + 8
    else:
        (folder / "tokenizer.json").write_bytes((assets / "kogpt2-base-v2" / "tokenizer.json").read_bytes())
        vocabulary = 51_200
    config = GPT2Config(vocab_size=vocabulary, n_positions=1024, **shape)
    GPT2LMHeadModel(config).save_pretrained(folder)
    names = ("config.json", "tokenizer.json", "model.safetensors", "generation_config.json")
    return {name: (folder / name).read_bytes() for name in names}


def real_files():
    """The folder with KoGPT2's own tokenizer, or `None`: then one made here has to do."""
    return ASSETS if ASSETS.is_dir() else None


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    files = kogpt2(tmp_path_factory.mktemp("kogpt2"), real_files())
    hub = Hub(cut={"cut.parquet", "course/kochatgpt_2_RM.jsonl"}, gated={"some/gated"})
    hub.add("models", "skt/kogpt2-base-v2", files)
    hub.add("models", "skt/kogpt2-base-v2", files, revision="v2")
    hub.add("models", "some/gated", files)
    hub.add("datasets", "Intel/orca_dpo_pairs", {"data/train-00000-of-00001.parquet": parquet(ORCA)})
    hub.add("datasets", "Intel/orca_dpo_pairs", {"data/train.parquet": parquet(ORCA[:5])}, revision="small")
    hub.add("datasets", "some/cut", {"cut.parquet": parquet(ORCA * 500)})
    hub.add("datasets", "some/gated", {"data/train.parquet": parquet(ORCA)})
    for name in COURSE_FILES:
        hub.plain[f"course/{name}"] = (SAMPLE_DIR / name).read_bytes()
    with serving(hub):
        yield hub


@pytest.fixture
def run(hub, tmp_path):
    """Run code in a process of its own, with this Hub, an empty cache and no switch that keeps libraries offline."""

    def run(code, *words, endpoint=None, **variables):
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
        environment = kept | {
            "HF_ENDPOINT": endpoint or hub.url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "TRL_KOCHAT_COURSE_URL": f"{endpoint or hub.url}/course/",
            "PYTHONPATH": str(ROOT),
            "WANDB_MODE": "disabled",
            **variables,
        }
        command = [sys.executable, "-c", code, *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=600)

    return run


ASK = """
import json, sys
from trl_kochat import load_rows, load_tokenizer
from trl_kochat.errors import InputError

for expression in sys.argv[1:]:
    try:
        print(json.dumps({"value": eval(expression)}, ensure_ascii=False))
    except InputError as error:
        print(json.dumps({"sentence": str(error)}, ensure_ascii=False))
    except OSError as error:
        print(json.dumps({"sentence": str(error)}, ensure_ascii=False))
"""


def answers(result):
    assert result.returncode == 0, result.stderr[-1500:]
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def test_rows_and_tokenizers_come_by_their_names(run):
    tokenizer = f"(lambda t: t.decode(t({PROBE!r}).input_ids))(load_tokenizer('skt/kogpt2-base-v2'%s))"
    got = answers(
        run(
            ASK,
            "[dict(row) for row in load_rows('Intel/orca_dpo_pairs')]",
            "len(list(load_rows('Intel/orca_dpo_pairs', streaming=True)))",
            tokenizer % "",
            tokenizer % ", revision='v2'",
            "len(load_rows('kochatgpt_1_SFT.jsonl'))",
            "len(load_rows('kochatgpt_1_SFT_conversation.jsonl'))",
        )
    )
    assert [one.get("sentence") for one in got] == [None] * 6
    values = [one["value"] for one in got]
    assert values[0] == ORCA and values[1] == len(ORCA)
    assert values[2] == values[3] == PROBE
    assert values[4] > 100 and values[5] > 10


def test_what_is_not_to_be_had_is_one_sentence_that_says_what_to_do(run, tmp_path):
    asked = {
        "load_rows('some/missing')": ("some/missing", "not to be had"),
        "load_rows('some/gated')": ("some/gated", "gated"),
        "load_rows('Intel/orca_dpo_pairs', split='test')": ("train", "test"),
        "load_tokenizer('some/missing')": ("some/missing", "not to be had"),
        "load_tokenizer('some/gated')": ("some/gated", "gated"),
        "load_tokenizer('skt/kogpt2-base-v2', revision='v9')": ("skt/kogpt2-base-v2", "v9"),
        "load_rows('kochatgpt_2_RM.jsonl')": ("kochatgpt_2_RM.jsonl", "cannot be fetched"),
    }
    for (expression, words), got in zip(asked.items(), answers(run(ASK, *asked)), strict=True):
        assert "value" not in got, expression
        assert "\n" not in got["sentence"], expression
        for word in words:
            assert word in got["sentence"], (expression, got["sentence"])


def test_nothing_half_fetched_is_taken_for_whole_later(run, hub):
    first = "load_rows('some/cut')", "load_rows('kochatgpt_2_RM.jsonl')"
    assert all("sentence" in one for one in answers(run(ASK, *first)))
    kept, hub.cut = hub.cut, set()
    try:
        second = "len(load_rows('some/cut'))", "len(load_rows('kochatgpt_2_RM.jsonl'))"
        rows, rankings = answers(run(ASK, *second))
    finally:
        hub.cut = kept
    assert rows == {"value": 12 * 500} and rankings["value"] > 100


@pytest.mark.slow
@pytest.mark.long  # libraries try again for some time
def test_without_a_network_there_is_one_sentence(run):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"  # bound, and nobody listens
        asked = "load_rows('some/name')", "load_tokenizer('some/name')", "load_rows('kochatgpt_3_PPO.jsonl')"
        for got in answers(run(ASK, *asked, endpoint=endpoint)):
            assert "value" not in got and "\n" not in got["sentence"]
            assert "some/name" in got["sentence"] or "kochatgpt_3_PPO.jsonl" in got["sentence"]


@pytest.mark.slow  # libraries try again for some time
def test_what_was_fetched_is_there_without_a_network(run):
    asked = "len(load_rows('Intel/orca_dpo_pairs'))", "len(load_tokenizer('skt/kogpt2-base-v2')) > 100"
    with_network = answers(run(ASK, *asked))
    assert answers(run(ASK, *asked, endpoint="http://127.0.0.1:9", HF_HUB_OFFLINE="1")) == with_network
    assert [one["value"] for one in with_network] == [len(ORCA), True]


def test_the_address_of_the_courses_files_is_the_courses_own():
    assert COURSE_URL == "https://raw.githubusercontent.com/airobotlab/KoChatGPT/main/data_kochatgpt/"


ROWS = {
    "sft_kochatgpt": ["kochatgpt_1_SFT.jsonl", "kochatgpt_1_SFT_conversation.jsonl"],
    "reward_kochatgpt": ["kochatgpt_2_RM.jsonl"],
    "ppo_kochatgpt": ["kochatgpt_3_PPO.jsonl"],
    "dpo_orca": ["Intel/orca_dpo_pairs"],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipes",
    [["dpo_orca"], pytest.param(["sft_kochatgpt", "reward_kochatgpt", "ppo_kochatgpt"], marks=pytest.mark.long)],
    ids=" ".join,
)
def test_the_recipes_run_with_the_names_of_the_gpu_presets(recipes, run, hub, tmp_path):
    """On random weights with KoGPT2's true vocabulary, width and positions, and two of its layers."""
    kept, hub.cut = hub.cut, set()
    small = hub.repositories["models", "skt/kogpt2-base-v2"]["main"]
    (tmp_path / "true").mkdir()
    hub.add("models", "skt/kogpt2-base-v2", kogpt2(tmp_path / "true", real_files(), shape={"n_layer": 2}))
    try:
        for recipe in recipes:
            words = [recipe, "--preset", "cpu", "--model_name_or_path", "skt/kogpt2-base-v2", "--max_steps", "1"]
            words += ["--dataset_name", *ROWS[recipe], "--warmup_steps", "0", "--save_strategy", "no"]
            words += ["--eval_fraction", "0.3", "--max_eval_samples", "8", "--per_device_train_batch_size", "2"]
            words += ["--eval_strategy", "no"]
            words += [] if recipe == "ppo_kochatgpt" else ["--lora_target_modules", "all-linear"]
            result = run("import sys; from trl_kochat.cli import main; sys.exit(main(sys.argv[1:]))", *words)
            assert result.returncode == 0, result.stderr[-3000:]
            assert (tmp_path / "runs" / recipe / "adapter_model.safetensors").is_file()
    finally:
        hub.cut = kept
        hub.add("models", "skt/kogpt2-base-v2", small)
