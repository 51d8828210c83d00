"""The whole chain on a real pretrained model that speaks Korean: SFT, reward model, PPO, DPO and GRPO of Gemma 3 270M.

    make real-ko AGREE=yes                       # AGREE=yes: you agree to Gemma's terms of use, which are shown first
    python scripts/real_ko.py --agree --chatbot_data ChatbotData.csv
    python scripts/real_ko.py --only sft reward  # some of the stages

Every stage is a recipe run as anybody would run it, with the values in recipes/configs/real_ko, on ChatbotData
(github.com/songys/Chatbot_data, MIT) and the embedded rows; about ten minutes each on one core that multiplies bfloat16.
A stage that is finished is passed over, one that was stopped goes on from its last checkpoint: run the command again.
To do a stage anew, delete its folder. docs/results.md says what came of it.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "recipes" / "configs" / "real_ko"
CHATBOT_DATA = "https://raw.githubusercontent.com/songys/Chatbot_data/master/ChatbotData.csv"


@dataclass(frozen=True)
class Stage:
    name: str
    command: list[str]
    is_done: Callable[[], bool]
    folder: Path | None = None  # with checkpoints, where it trains


def is_trained(folder: Path) -> bool:
    """Whether a recipe came to its end: its report says so, and the adapter, which it saves last, is there."""
    report = folder / "report" / "metrics.json"
    if not report.is_file() or not (folder / "adapter_model.safetensors").is_file():
        return False
    return json.loads(report.read_text(encoding="utf-8"))["run"]["status"] == "finished"


def training(name: str, recipe: str, out: Path, *arguments: str) -> Stage:
    """A stage that trains, in `out/name`."""
    folder = out / name
    command = [str(ROOT / "recipes" / f"{recipe}.py"), "--config", str(CONFIGS / f"{name}.yaml")]
    return Stage(name, [*command, "--output_dir", str(folder), *arguments], lambda: is_trained(folder), folder)


def plan(model: Path, out: Path, chatbot_data: str) -> list[Stage]:
    """The stages in order, each with the command that a user would type."""
    sft, merged, answers = out / "sft", out / "sft-merged", out / "answers.txt"
    of_model = ["--model_name_or_path", str(model)]
    trained = [str(out / name) for name in ("sft", "ppo", "grpo")]
    ours = ["-m", "trl_kochat"]
    fetch = [str(ROOT / "scripts" / "fetch_model.py"), "gemma3-270m", str(model)]
    everyday = ["--dataset_name", chatbot_data, "sample:kochatgpt_1_SFT.jsonl"]
    return [
        Stage("model", fetch, (model / "config.json").is_file),
        training("sft", "sft_kochatgpt", out, *of_model, *everyday),
        training("reward", "reward_kochatgpt", out, *of_model),
        training(
            "ppo", "ppo_kochatgpt", out, *of_model, "--sft_adapter", str(sft), "--reward_adapter", str(out / "reward")
        ),
        Stage("sft-merged", [*ours, "merge", str(sft), str(merged)], (merged / "config.json").is_file),
        training("dpo", "dpo_orca", out, "--model_name_or_path", str(merged)),
        training("grpo", "grpo_korean", out, *of_model, "--dataset_name", chatbot_data, "--sft_adapter", str(sft)),
        Stage(
            "answers",
            [*ours, "generate", str(model), *trained, str(out / "dpo"), "--file", str(CONFIGS / "prompts.txt")],
            answers.is_file,
        ),
        Stage(
            "comparison",
            [*ours, "report", *(str(out / name) for name in ("sft", "reward", "ppo", "dpo", "grpo"))],
            (out / "comparison.html").is_file,
        ),
    ]


def run(stage: Stage, out: Path, *, agree: bool) -> None:
    """Run a stage to its end, from its last checkpoint where it has one; leaves the program where it fails."""
    command = list(stage.command)
    if stage.folder is not None and any(stage.folder.glob("checkpoint-*")):
        command += ["--resume_from_checkpoint", "true"]
    if stage.name == "model" and agree:
        command.append("--agree")
    print(f"$ python {shlex.join(command)}", flush=True)
    start = time.monotonic()
    if stage.name == "answers":  # what it prints is what is wanted
        done = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, text=True, encoding="utf-8")
        print(done.stdout)
        if not done.returncode:
            (out / "answers.txt").write_text(done.stdout, encoding="utf-8")
    else:
        done = subprocess.run([sys.executable, *command])
    if done.returncode:
        sys.exit(
            f"Stopped in {stage.name} with status {done.returncode}. Run the same command again to go on from here."
        )
    print(f"{stage.name}: {(time.monotonic() - start) / 60:.1f} minutes", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/gemma-3-270m"), help="folder for the model")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/real_ko"), help="folder for the stages")
    parser.add_argument("--chatbot_data", default=CHATBOT_DATA, help="ChatbotData.csv, as a file or a URL")
    parser.add_argument("--agree", action="store_true", help="you agree to Gemma's terms of use")
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="these stages only")
    args = parser.parse_args()
    stages = plan(args.model, args.output_dir, args.chatbot_data)
    names = [stage.name for stage in stages]
    if unknown := set(args.only or ()) - set(names):
        parser.error(f"no stage {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for number, stage in enumerate(stages, 1):
        if args.only and stage.name not in args.only:
            continue
        done = stage.is_done()
        print(f"== {number} of {len(stages)}: {stage.name}{', done' if done else ''}", flush=True)
        if not done:
            run(stage, args.output_dir, agree=args.agree)


if __name__ == "__main__":
    main()
