"""What to do with the model of a finished run."""

import shlex
from typing import NamedTuple

from .record import RunRecord


class NextStep(NamedTuple):
    text: str
    code: str


def next_steps(record: RunRecord) -> list[NextStep]:
    """How to load what a run saved, and where the pipeline goes from there; nothing for a run that saved no model."""
    folder = record.run["output_dir"]
    if folder is None:
        return []
    quoted = shlex.quote(folder)
    peft = record.run["settings"].get("lora") is not None
    steps = [NextStep("Load the model:", _loading(record.method, folder, peft))]
    if record.method == "sft":
        steps.append(NextStep("Then the reward model of the pipeline:", "trl-kochat reward_kochatgpt"))
    if record.method == "reward":
        steps.append(
            NextStep("Then PPO with this reward model:", f"trl-kochat ppo_kochatgpt --reward_adapter {quoted}")
        )
    steps.append(NextStep("Make this page again, or one that compares runs:", f"trl-kochat report {quoted} [RUN ...]"))
    return steps


def _loading(method: str, folder: str, peft: bool) -> str:
    head = "SequenceClassification" if method == "reward" else "CausalLM"
    package, auto = ("peft", f"AutoPeftModelFor{head}") if peft else ("transformers", f"AutoModelFor{head}")
    labels = ", num_labels=1" if method == "reward" else ""
    first = f"from {package} import {auto}\nfrom trl_kochat import load_tokenizer\n"
    load = f"model = {auto}.from_pretrained({folder!r}{labels})\ntokenizer = load_tokenizer({folder!r})"
    if method == "reward":
        use = (
            "from trl_kochat.measure.score import score_completions\n"
            'scores = score_completions(model, tokenizer, ["오늘 미세먼지 어때?"], ["오늘은 조금 나쁩니다."])'
        )
    else:
        use = (
            "from trl_kochat.measure.generate import generate_answers\n"
            'print(generate_answers(model, tokenizer, ["오늘 미세먼지 어때?"])[0].text)'
        )
    imports, _, call = use.partition("\n")
    return f"{first}{imports}\n\n{load}\n{call}"
