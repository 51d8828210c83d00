"""What to do with the model of a finished run."""

import shlex
from pathlib import Path
from typing import NamedTuple

from .record import RunRecord


class NextStep(NamedTuple):
    text: str
    code: str


def next_steps(record: RunRecord) -> list[NextStep]:
    """How to load what a run saved, the command to go on with, and how to see the page again; nothing for a run that
    saved no model. They hold where the run was started, or beside its folder if that lies elsewhere: a page to share
    says nothing of what lies above.
    """
    if record.run["output_dir"] is None:
        return []
    folder = _from_here(record.run["output_dir"])
    quoted = shlex.quote(folder)
    peft = record.run["settings"].get("lora") is not None
    return [
        NextStep("Load the model:", _loading(record.method, folder, peft)),
        next_command(record.method, folder),
        NextStep("Make this page again, or one that compares runs:", f"trl-kochat report {quoted} [RUN ...]"),
    ]


def next_command(method: str, folder: str) -> NextStep:
    """What to type after a run of a method that saved its model in a folder."""
    quoted = shlex.quote(folder)
    if method == "sft":
        return NextStep("Then the reward model of the course:", "trl-kochat reward_kochatgpt")
    if method == "reward":
        return NextStep("Then PPO with this reward model:", f"trl-kochat ppo_kochatgpt --reward_adapter {quoted}")
    return NextStep("Ask it:", f"trl-kochat generate {quoted}")


def _from_here(folder: str) -> str:
    path = Path(folder)
    if not path.is_absolute():
        return folder
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name


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
