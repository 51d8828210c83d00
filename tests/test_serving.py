"""A merged model answers the same wherever it is put: in transformers' pipeline and behind `transformers serve`."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from transformers import AutoModelForCausalLM, pipeline

from trl_kochat import load_tokenizer
from trl_kochat.measure.generate import COURSE_PROMPTS, generate_answers
from trl_kochat.merging import merge_adapter
from trl_kochat.sample import SAMPLE_DIR


PROMPTS = ["수제비는 무엇으로 만드는지 알아?", *COURSE_PROMPTS[:2]]


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving") / "merged"
    merge_adapter(SAMPLE_DIR / "tiny-ko-sft", folder, base=str(SAMPLE_DIR / "tiny-ko"))
    return folder


@pytest.fixture(scope="module")
def answers(merged):
    """What our own commands give, in the precision that servers take: that of the saved weights."""
    model = AutoModelForCausalLM.from_pretrained(merged)
    given = generate_answers(model, load_tokenizer(merged), PROMPTS, max_new_tokens=48, batch_size=1)
    assert all(answer.ended and answer.text.strip() for answer in given)
    return [answer.text.strip() for answer in given]


def asked(prompt):
    return [{"role": "user", "content": prompt}]


def test_the_pipeline_of_transformers_gives_the_same_answers(merged, answers):
    answer = pipeline("text-generation", model=str(merged), device="cpu", do_sample=False)  # it samples by default
    given = [answer(asked(prompt), max_new_tokens=48)[0]["generated_text"] for prompt in PROMPTS]
    assert [messages[-1]["content"].strip() for messages in given] == answers


def free_port():
    with socket.socket() as bound:
        bound.bind(("localhost", 0))
        return bound.getsockname()[1]


def request(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
        return json.loads(answer.read())


@pytest.mark.slow
def test_transformers_serve_gives_the_same_answers_without_a_network(merged, answers):
    if missing := [name for name in ("fastapi", "uvicorn", "openai") if importlib.util.find_spec(name) is None]:
        pytest.skip(f"pip install 'transformers[serving]': {', '.join(missing)} is not here")
    url = f"http://localhost:{(port := free_port())}"
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(merged), "--port", str(port)]
    server = subprocess.Popen([*command, "--device", "cpu"], env=os.environ | {"HF_HUB_OFFLINE": "1"})
    try:
        for _ in range(120):
            assert server.poll() is None, "the server has left"
            try:
                request(f"{url}/health")
                break
            except urllib.error.URLError:
                time.sleep(0.5)
        body = {"model": str(merged), "max_tokens": 48, "temperature": 0}
        given = [request(f"{url}/v1/chat/completions", body | {"messages": asked(prompt)}) for prompt in PROMPTS]
        assert [answer["choices"][0]["message"]["content"].strip() for answer in given] == answers
    finally:
        server.terminate()
        server.wait(timeout=30)
