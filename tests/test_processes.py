"""Every recipe on two processes against one, each started as a user would, and what is left when one of them dies.

But for GRPO: TRL samples on each process by numbers of its own.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tiny_lm import tiny_llama, tiny_tokenizer
from trl_kochat.report import RunRecord, read_samples


pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
RECIPES = [
    "dpo_orca",
    *(pytest.param(name, marks=pytest.mark.long) for name in ("sft_kochatgpt", "reward_kochatgpt", "ppo_kochatgpt")),
]
# Dropout draws its numbers in each process, so without it; and without the evaluations of transformers' Trainer, whose
# numbers are means over the batches of each process. Ours, before and after, are compared.
ARGUMENTS = (
    "--preset cpu --model_name_or_path tiny --output_dir out --max_steps 2 --gradient_accumulation_steps 2 "
    "--learning_rate 3e-4 --warmup_steps 0 --eval_fraction 0.25 --logging_steps 1 --eval_strategy no"
)
ROWS_OF_A_STEP = 4  # of one accumulation, over all processes
ANSWERS = [
    ("오늘 미세먼지 어때?", "오늘은 맑아요."),
    ("점심 뭐 먹지?", "칼국수 어때요?"),
    ("뭐 해?", "책을 읽고 있어요."),
    ("비 와?", "네, 우산을 챙기세요."),
]
# The launcher ends the others with SIGTERM, and after 30 seconds with SIGKILL.
SECONDS_TO_END = 60


def write_rows(folder: Path) -> None:
    pairs = [(f"{number}번. {question}", answer) for number in range(6) for question, answer in ANSWERS]
    ranking = {"completion_1": "몰라 몰라", "completion_2": "X", "ranking": [0, 1, 2]}
    rows = {
        # One that cannot be learned from, so that there is something to say of the rows.
        "sft_kochatgpt": [{"prompt": q, "completion": a} for q, a in [*pairs, ("빈 답?", "")]],
        "reward_kochatgpt": [{"prompt": q, "completion_0": a, **ranking} for q, a in pairs],
        "dpo_orca": [{"system": "", "question": q, "chosen": a, "rejected": "몰라"} for q, a in pairs],
        "ppo_kochatgpt": [{"prompt": q} for q, _ in pairs],
    }
    for recipe, of_recipe in rows.items():
        (folder / f"{recipe}.json").write_text(json.dumps(of_recipe), encoding="utf-8")


def start(program: list[str], folder: Path, processes: int) -> subprocess.Popen:
    """Start a program in `folder` on one process by itself, or on several by `accelerate launch`."""
    folder.mkdir()
    (folder / "tiny").symlink_to(folder.parent / "tiny")
    launcher = [sys.executable]
    if processes > 1:
        # Without MPI `--cpu` starts one process. `--multi_gpu` takes torchrun, and the preset's use_cpu does the rest.
        launcher += ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes)]
        launcher += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
        launcher += ["--main_process_port", "0"]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    return subprocess.Popen(
        launcher + program,
        cwd=folder,
        env=os.environ | environment,
        stdout=(folder / "stdout").open("w"),
        stderr=(folder / "stderr").open("w"),
    )


class Runs:
    """One run of a recipe on each number of processes, made when first asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        model = tiny_llama(hidden_size=64, eos_logit=4.0)
        model.config.max_position_embeddings = 1024
        model.save_pretrained(folder / "tiny")
        tiny_tokenizer().save_pretrained(folder / "tiny")
        write_rows(folder)
        self._made: dict[str, tuple[Path, Path]] = {}

    def __call__(self, recipe: str) -> tuple[Path, Path]:
        """The folders of a run on one process and of one on two."""
        if recipe not in self._made:
            arguments = [*ARGUMENTS.split(), "--dataset_name", str(self.folder / f"{recipe}.json")]
            if recipe == "ppo_kochatgpt":
                for stage in ("sft", "reward"):
                    arguments += [f"--{stage}_adapter", str(self(f"{stage}_kochatgpt")[0] / "out")]
                arguments += ["--max_completion_length", "16"]
            else:
                arguments += ["--lora_dropout", "0", "--lora_alpha", "16"]
            # Groups of like length are drawn by a process's batch; entropy is logged as a mean over its rows by itself.
            if recipe in ("sft_kochatgpt", "reward_kochatgpt", "dpo_orca"):
                arguments += ["--train_sampling_strategy", "random"]
            if recipe == "dpo_orca":  # the likelihood is a mean over the tokens of each process by itself
                arguments += ["--loss_weights", "1.0", "0.05"]
            folders = {processes: self.folder / f"{recipe}_{processes}" for processes in (1, 2)}
            running = []
            for processes, folder in folders.items():
                batch = ["--per_device_train_batch_size", str(ROWS_OF_A_STEP // processes)]
                program = ["-m", f"trl_kochat.recipes.{recipe}", *arguments, *batch]
                running.append(start(program, folder, processes))
            try:
                codes = [process.wait(timeout=300) for process in running]
            finally:
                for process in running:
                    process.terminate()
            assert codes == [0, 0], "".join((folder / "stderr").read_text()[-3000:] for folder in folders.values())
            self._made[recipe] = (folders[1], folders[2])
        return self._made[recipe]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("runs"))


def numbers(entry: dict) -> dict[str, float]:
    """The numbers of an entry, but for those of the clock, and for operations, which count padding."""
    return {
        name: value
        for name, value in entry.items()
        if isinstance(value, float | int)
        and not re.search(r"(^|[/_])(time|runtime|total_flos|.*per_second)(/|$)", name)
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_processes_give_what_one_does(runs, recipe):
    one, two = (RunRecord.load(folder / "out" / "report") for folder in runs(recipe))
    # A sum over rows is taken in another order, and Adam makes steps of one size of gradients near 0, whatever their
    # sign. The likelihood of the chosen answers in DPO's loss is a mean over the tokens of each process by itself. The
    # worst of all numbers is the margin of DPO, with 5e-4.
    close = {"rel": 1e-3, "abs": 1e-4}
    assert one.rows == two.rows
    for moment in ("before", "after"):
        assert getattr(two, moment) == pytest.approx(getattr(one, moment), **close), moment
    changes = [abs(one.after[name] - value) / (abs(value) + 0.1) for name, value in one.before.items()]
    assert max(changes) > 5e-3  # else all could be equal for want of training
    assert len(one.history) == len(two.history)
    for single, double in zip(one.history, two.history, strict=True):
        assert numbers(double) == pytest.approx(numbers(single), **close), single["step"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_processes_report_once(runs, recipe):
    one, two = (
        [(s.step, s.prompt, s.side, s.answer) for s in read_samples(folder / "out" / "report")]
        for folder in runs(recipe)
    )
    assert two == one and len(set(map(str, one))) == len(one)
    for place in ("out", "out/report"):
        one_process, two_processes = ({path.name for path in (folder / place).iterdir()} for folder in runs(recipe))
        assert two_processes == one_process


def spoken(folder: Path) -> list[str]:
    """What a run printed, but for answers and numbers, which are compared elsewhere, and transformers' own notes."""
    lines = (folder / "stdout").read_text(encoding="utf-8").splitlines()
    lines = [line.rpartition("\r")[2].rstrip() for line in lines]
    # Of the paths and the time left, too, each run has its own.
    lines = [re.sub(r"file://\S+|-?\d+\.\d+|\d+:\d\d left", "#", line) for line in lines]
    return [line for line in lines if line and not re.match(r"[┏┃┡│├└{]|\[INFO\]", line)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_processes_speak_once(runs, recipe):
    one, two = map(spoken, runs(recipe))
    assert two == one
    assert one[0].startswith(f"{recipe}: preset cpu") and any(line.startswith("Adapter") for line in one)
    errors = [(folder / "stderr").read_text(encoding="utf-8") for folder in runs(recipe)]
    if recipe == "sft_kochatgpt":
        assert [text.count("25 rows read") for text in errors] == [1, 1], errors


DIES = """
import os, signal, sys
from transformers import TrainerCallback
from trl_kochat.recipes import sft_kochatgpt
from trl_kochat.run import run

class Dies(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 2 and args.process_index == {rank}:
            open("died", "w").close()
            {how}

run.HealthGuardCallback = Dies
sft_kochatgpt.main()
"""


@pytest.mark.parametrize(
    ("rank", "how"),
    [
        (1, "os.kill(os.getpid(), signal.SIGKILL)"),
        pytest.param(0, "raise RuntimeError('broken')", marks=pytest.mark.long),
    ],
    ids=["the second is killed", "the first fails"],
)
def test_when_a_process_dies_the_other_ends_soon(runs, rank, how):
    folder = runs.folder / f"dies_{rank}"
    (runs.folder / f"dies_{rank}.py").write_text(DIES.format(rank=rank, how=how))
    arguments = [*ARGUMENTS.split(), "--max_steps", "1000", "--dataset_name", str(runs.folder / "sft_kochatgpt.json")]
    process = start([str(runs.folder / f"dies_{rank}.py"), *arguments], folder, 2)
    try:
        deadline = time.monotonic() + 240
        while not (folder / "died").exists():
            assert process.poll() is None and time.monotonic() < deadline, (folder / "stderr").read_text()[-3000:]
            time.sleep(0.1)
        assert process.wait(timeout=SECONDS_TO_END) != 0
    finally:
        process.terminate()
    record = RunRecord.load(folder / "out" / "report")
    assert record.run["status"] in ("failed", "interrupted") and record.run["steps"] <= 3
