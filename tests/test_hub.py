"""What a user of the Hub meets: rows and tokenizers, or one sentence; the Hub is a server on this machine."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset

from trl_kochat.sample import embedded

from .hub import COMMIT, Repository, files_of, hub


ORCA = [{"system": "", "question": f"질문 {i}", "chosen": f"좋은 답 {i}", "rejected": "음"} for i in range(8)]
COURSE = "/airobotlab/KoChatGPT/main/data_kochatgpt/kochatgpt_1_SFT.jsonl"

# Calls each expression of argv[1] and prints what came of it, one JSON object for all.
ASK = """
import json, sys
from trl_kochat import load_rows, load_tokenizer
from trl_kochat.errors import InputError

results = {}
for name, call in json.loads(sys.argv[1]).items():
    try:
        results[name] = ["value", eval(call)]
    except (InputError, OSError) as error:
        results[name] = [type(error).__name__, str(error)]
print("RESULTS" + json.dumps(results))
"""


def parquet(rows: list[dict]) -> bytes:
    file = io.BytesIO()
    Dataset.from_list(rows).to_parquet(file)
    return file.getvalue()


def ask(endpoint: str, home: Path, calls: dict[str, str]) -> dict[str, list]:
    """What each call gave in one process that knows the Hub at `endpoint` only, with nothing in its cache."""
    left_out = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN")
    environment = {key: value for key, value in os.environ.items() if key not in left_out}
    nowhere = "http://127.0.0.1:9"  # nobody answers there
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    environment |= {"HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere, "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", ASK, json.dumps(calls)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.split("RESULTS")[1])


def unfinished(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.suffix == ".incomplete" and path.is_file()]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    model = files_of(Path(embedded("tiny-ko")))
    orca = {"data/train-00000-of-00001.parquet": parquet(ORCA)}
    repositories = {
        "skt/kogpt2-base-v2": Repository(model),
        "owner/gated": Repository(model, gated=True),
        "datasets/Intel/orca_dpo_pairs": Repository(orca),
        "datasets/owner/gated": Repository(orca, gated=True),
    }
    course = json.dumps([{"prompt": "안녕?", "completion": "안녕하세요."}], ensure_ascii=False).encode()
    with hub(repositories, {COURSE: course}) as endpoint:
        calls = {
            "rows": "list(load_rows('Intel/orca_dpo_pairs'))",
            "streamed": "list(load_rows('Intel/orca_dpo_pairs', streaming=True))",
            "course": f"load_rows({endpoint + COURSE!r})",
            "no split": "len(load_rows('Intel/orca_dpo_pairs', split='test'))",
            "gated rows": "len(load_rows('owner/gated'))",
            "missing rows": "len(load_rows('owner/missing'))",
            "tokenizer": "load_tokenizer('skt/kogpt2-base-v2')('안녕하세요').input_ids",
            "commit": f"load_tokenizer('skt/kogpt2-base-v2', revision={COMMIT!r})('안녕하세요').input_ids",
            "no revision": "len(load_tokenizer('skt/kogpt2-base-v2', revision='v9'))",
            "gated tokenizer": "len(load_tokenizer('owner/gated'))",
            "missing tokenizer": "len(load_tokenizer('owner/missing'))",
        }
        return ask(endpoint, tmp_path_factory.mktemp("home"), calls)


@pytest.mark.parametrize("name", ["rows", "streamed"])
def test_rows_of_the_hub(answers, name):
    assert answers[name] == ["value", ORCA]


def test_the_course_from_another_address(answers):
    assert answers["course"] == ["value", [{"prompt": "안녕?", "completion": "안녕하세요."}]]


def test_a_tokenizer_of_the_hub_and_of_one_commit(answers):
    kind, ids = answers["tokenizer"]
    assert kind == "value" and ids
    assert answers["commit"] == answers["tokenizer"]


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("no split", "InputError", "test"),
        ("gated rows", "InputError", "gated"),
        ("missing rows", "InputError", "owner/missing"),
        ("no revision", "OSError", "v9"),
        ("gated tokenizer", "OSError", "gated"),
        ("missing tokenizer", "OSError", "owner/missing"),
    ],
)
def test_what_is_not_to_be_had_is_one_sentence(answers, name, kind, words):
    assert answers[name][0] == kind, answers[name]
    assert words in answers[name][1]
    assert "\n" not in answers[name][1]


def test_a_connection_cut_leaves_nothing_that_passes_for_whole(tmp_path):
    model = files_of(Path(embedded("tiny-ko")))
    orca = Repository({"train.parquet": parquet(ORCA)}, cut={"train.parquet"})
    kogpt2 = Repository(model, cut={"tokenizer.json"})
    calls = {
        "rows": "list(load_rows('Intel/orca_dpo_pairs'))",
        "tokenizer": "load_tokenizer('skt/kogpt2-base-v2')('안녕하세요').input_ids",
    }
    with hub({"datasets/Intel/orca_dpo_pairs": orca, "skt/kogpt2-base-v2": kogpt2}) as endpoint:
        cut = ask(endpoint, tmp_path, calls)
        assert cut["rows"][0] == "InputError" and cut["tokenizer"][0] == "OSError", cut
        orca.cut, kogpt2.cut = set(), set()
        whole = ask(endpoint, tmp_path, calls)
    assert whole["rows"] == ["value", ORCA]
    assert whole["tokenizer"][0] == "value"
    assert not unfinished(tmp_path)


@pytest.mark.slow  # transformers tries for half a minute
def test_no_network_is_one_sentence(tmp_path):
    calls = {
        "rows": "len(load_rows('Intel/orca_dpo_pairs'))",
        "tokenizer": "len(load_tokenizer('skt/kogpt2-base-v2'))",
    }
    alone = ask("http://127.0.0.1:9", tmp_path, calls)
    assert alone["rows"][0] == "InputError" and "Intel/orca_dpo_pairs" in alone["rows"][1]
    assert alone["tokenizer"][0] == "OSError" and "skt/kogpt2-base-v2" in alone["tokenizer"][1]
    assert not any("\n" in message for _, message in alone.values())
