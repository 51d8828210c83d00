"""PPO here against the last PPO that TRL shipped (1.12.0), side by side.

    python benchmarks/ppo_vs_trl.py                       # makes an environment with TRL 1.12.0 in a cache folder
    python benchmarks/ppo_vs_trl.py --trl-python PATH     # uses one that is there
    python benchmarks/ppo_vs_trl.py --bf16                # bfloat16 on all sides; what is trained is float32

Same model shape (34M parameters, Llama, float32, random weights), prompts (32 tokens), completions (48 tokens), batch
(16), PPO epochs (2) and LoRA (r 16 on all linear layers) on both sides. The sides take turns, each in a process of its
own, and every figure is the median over the rounds: on a busy machine only the ratios mean something.

Both sides take large tensors from huge pages (PyTorch's THP_MEM_ALLOC_ENABLE): without, the C library of many systems
leaves holes between aligned blocks, and which side it hits harder is chance. THP_MEM_ALLOC_ENABLE=0 measures that.

Writes a table and a JSON file: episodes per second, bytes of all weights, peak memory of the process, and where our
time goes.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path


TRL_VERSION = "1.12.0"
# Both sides run on the same torch; set the variable where another build is wanted.
TORCH = os.environ.get("TRL_KOCHAT_BENCH_TORCH", "torch==2.13.0")
TRANSFORMERS = "transformers==5.23.0"

PROMPT, COMPLETION, BATCH, EPOCHS = 32, 48, 16, 2
VOCAB, HIDDEN, LAYERS, INTERMEDIATE = 8192, 512, 8, 1376
SIDES = {
    "trl": "TRL 1.12.0",
    "adapter": "trl_kochat, value on an adapter",
    "policy": "trl_kochat, value on the policy",
    "4bit": "trl_kochat, value on an adapter, 4-bit base",
}
# Demanded of the ratio to TRL 1.12.0: (side, figure, comparison, bound). Where others use the machine, the processor's
# seconds tell more.
GOALS = [
    ("adapter", "episodes_per_second", ">=", 1.6),
    ("adapter", "episodes_per_cpu_second", ">=", 1.6),
    ("policy", "episodes_per_second", ">=", 2.5),
    ("policy", "episodes_per_cpu_second", ">=", 2.5),
    ("adapter", "weight_bytes", "<=", 0.4),
    ("adapter", "peak_bytes", "<=", 0.65),
    ("4bit", "weight_bytes", "<=", 0.16),
]


# What both sides share; nothing here imports this project.


def llama_config():
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=256,
        eos_token_id=0,
        pad_token_id=1,
        bos_token_id=2,
    )


def tokenizer(size: int = VOCAB):
    """A vocabulary of words w3, w4, ... of the model's size."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["</s>", "<pad>", "<s>", *(f"w{i}" for i in range(3, size))]
    inner = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", pad_token="<pad>", bos_token="<s>")


def prompts(count: int) -> list[list[int]]:
    import random

    random.seed(0)
    return [[random.randrange(3, VOCAB) for _ in range(PROMPT)] for _ in range(count)]


def lora(task_type: str):
    from peft import LoraConfig

    return LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", task_type=task_type)


def storage_bytes(modules) -> int:
    """Bytes of all parameters and buffers, storages counted once."""
    storages = {}
    for module in modules:
        for tensor in [*module.parameters(), *module.buffers()]:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


class Laps:
    """Collects when each rollout was finished; the first one warms up and does not count."""

    def __init__(self) -> None:
        self.marks: list[float] = []
        self.cpu_marks: list[float] = []

    def mark(self) -> None:
        self.marks.append(time.perf_counter())
        self.cpu_marks.append(time.process_time())

    @staticmethod
    def per_episode(marks: list[float]) -> float:
        return statistics.median(b - a for a, b in zip(marks, marks[1:], strict=False)) / BATCH


def result(laps: Laps, modules, **more) -> dict:
    return {
        "episodes_per_second": 1 / laps.per_episode(laps.marks),
        # Less moved by what else the machine does.
        "episodes_per_cpu_second": 1 / laps.per_episode(laps.cpu_marks),
        "weight_bytes": storage_bytes(modules),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        **more,
    }


# The two workers


def run_trl(rollouts: int, bf16: bool) -> dict:
    import torch
    from datasets import Dataset
    from transformers import LlamaForCausalLM, LlamaForSequenceClassification, TrainerCallback
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    class Marks(TrainerCallback):
        def on_log(self, *args, **kwargs):
            laps.mark()

    laps = Laps()
    torch.manual_seed(0)
    config = llama_config()
    policy = LlamaForCausalLM(config)
    config.num_labels = 1
    value, reward = LlamaForSequenceClassification(config), LlamaForSequenceClassification(config)
    if bf16:  # what is not trained
        policy, reward = policy.bfloat16(), reward.bfloat16()
    with tempfile.TemporaryDirectory() as folder:
        args = PPOConfig(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            gradient_accumulation_steps=1,
            num_ppo_epochs=EPOCHS,
            num_mini_batches=1,
            total_episodes=BATCH * (rollouts + 1),
            response_length=COMPLETION,
            temperature=1.0,
            num_sample_generations=0,
            bf16=bf16,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
        )
        rows = Dataset.from_dict({"input_ids": prompts(BATCH * 2)})
        trainer = PPOTrainer(
            args=args,
            processing_class=tokenizer(),
            model=policy,
            ref_model=None,
            reward_model=reward,
            value_model=value,
            train_dataset=rows,
            eval_dataset=rows,
            peft_config=lora("CAUSAL_LM"),
            callbacks=[Marks()],
        )
        modules = [trainer.policy_model, value, reward]
        trainer.train()
    return result(laps, modules)


def run_ours(rollouts: int, side: str, bf16: bool) -> dict:
    import torch
    from datasets import Dataset
    from peft import get_peft_model
    from transformers import BitsAndBytesConfig, LlamaForCausalLM, LlamaForSequenceClassification

    from trl_kochat.ppo import PPOConfig, PPOTrainer

    laps, seconds = Laps(), defaultdict(float)

    def timed(function, name):
        def call(*args, **kwargs):
            start = time.perf_counter()
            out = function(*args, **kwargs)
            seconds[name] += time.perf_counter() - start
            return out

        return call

    class Timed(PPOTrainer):
        def log(self, logs, start_time=None):
            if "loss" in logs:
                laps.mark()
                if len(laps.marks) == 1:
                    seconds.clear()
            return super().log(logs, start_time)

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        words = tokenizer()
        policy = LlamaForCausalLM(llama_config())
        if bf16:
            policy = policy.bfloat16()
        base, reward = f"{folder}/base", f"{folder}/reward"
        policy.save_pretrained(base)
        words.save_pretrained(base)
        config = llama_config()
        config.num_labels = 1
        scorer = LlamaForSequenceClassification(config)
        scorer.name_or_path = scorer.config.name_or_path = base
        get_peft_model(scorer, lora("SEQ_CLS")).save_pretrained(reward)
        del policy, scorer
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16 if bf16 else torch.float32,
        )
        args = PPOConfig(
            output_dir=f"{folder}/out",
            per_device_train_batch_size=BATCH,
            num_ppo_epochs=EPOCHS,
            max_steps=EPOCHS * (rollouts + 1),
            logging_steps=EPOCHS,
            max_completion_length=COMPLETION,
            value_trunk="policy" if side == "policy" else "adapter",
            bf16=bf16,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
        )
        rows = Dataset.from_dict({"prompt": [" ".join(f"w{i}" for i in ids) for ids in prompts(BATCH * 2)]})
        trainer = Timed(
            base,
            reward,
            args,
            rows,
            processing_class=words,
            peft_config=lora("CAUSAL_LM"),
            quantization_config=quantization if side == "4bit" else None,
        )
        speaker = trainer.model.language_model
        speaker.generate = timed(speaker.generate, "generation")
        trainer.maker = timed_maker(trainer.maker, timed)
        trainer.train()
        total = laps.marks[-1] - laps.marks[0]
        rollout = seconds["rollout"] - seconds["generation"]
        shares = {
            "generation": seconds["generation"] / total,
            "scoring": rollout / total,
            "update": (total - seconds["rollout"]) / total,
        }
        return result(laps, [trainer.model], shares=shares)


def timed_maker(maker, timed):
    """The maker with its rollouts timed; everything else is passed on."""

    class Maker:
        def __call__(self, *args, **kwargs):
            return timed(maker, "rollout")(*args, **kwargs)

        def __getattr__(self, name):
            return getattr(maker, name)

    return Maker()


# The rounds


def trl_python(cache: Path) -> str:
    """The interpreter of an environment with TRL 1.12.0, made on first use."""
    folder = cache / f"trl-{TRL_VERSION}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print(f"making an environment with TRL {TRL_VERSION} in {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        for packages in ([TORCH], [TRANSFORMERS, f"trl=={TRL_VERSION}", "peft"]):
            subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
        (folder / "ready").touch()
    return str(python)


def measure(python: str, side: str, rollouts: int, bf16: bool) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [python, __file__, "--worker", side, "--rollouts", str(rollouts), "--out", str(out)]
        command += ["--bf16"] if bf16 else []
        env = {"THP_MEM_ALLOC_ENABLE": "1"} | os.environ
        env |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return json.loads(out.read_text())


def summarize(runs: dict[str, list[dict]]) -> dict:
    sides = {}
    for side, results in runs.items():
        keys = ("episodes_per_second", "episodes_per_cpu_second", "weight_bytes", "peak_bytes")
        sides[side] = {key: statistics.median(r[key] for r in results) for key in keys}
        if "shares" in results[0]:
            shares = results[0]["shares"]
            sides[side]["shares"] = {k: statistics.median(r["shares"][k] for r in results) for k in shares}
    goals = []
    for side, figure, sign, bound in GOALS if "trl" in runs else ():
        if side not in runs:
            continue
        # Rounds are compared one by one: what disturbs the machine lasts longer than a turn.
        ratios = [a[figure] / b[figure] for a, b in zip(runs[side], runs["trl"], strict=True)]
        ratio = statistics.median(ratios)
        met = ratio >= bound if sign == ">=" else ratio <= bound
        goals.append({"side": side, "figure": figure, "ratio": ratio, "goal": f"{sign} {bound}", "met": met})
    return {"sides": sides, "goals": goals}


def show(summary: dict) -> None:
    print(
        f"\n{'':45}{'episodes/s':>11}{'a cpu s':>9}{'weights MB':>12}{'peak MB':>10}   generation / scoring / update"
    )
    for side, figures in summary["sides"].items():
        shares = figures.get("shares")
        where = " / ".join(f"{shares[k]:.0%}" for k in ("generation", "scoring", "update")) if shares else ""
        print(
            f"{SIDES[side]:45}{figures['episodes_per_second']:11.2f}{figures['episodes_per_cpu_second']:9.2f}"
            f"{figures['weight_bytes'] / 1e6:12.0f}"
            f"{figures['peak_bytes'] / 1e6:10.0f}   {where}"
        )
    print("\nratio to TRL 1.12.0")
    for goal in summary["goals"]:
        verdict = "met" if goal["met"] else "NOT MET"
        print(f"  {SIDES[goal['side']]:45}{goal['figure']:>25} {goal['ratio']:6.2f}   goal {goal['goal']}: {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rollouts", type=int, default=4, help="timed rollouts in each turn, after one to warm up")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast on all sides, frozen weights as well")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="what to measure")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "trl_kochat" / "benchmarks")
    parser.add_argument("--trl-python", help=f"interpreter of an environment that has TRL {TRL_VERSION}")
    parser.add_argument("--out", type=Path, default=Path("ppo_vs_trl.json"))
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        ours = args.worker != "trl"
        out = run_ours(args.rollouts, args.worker, args.bf16) if ours else run_trl(args.rollouts, args.bf16)
        args.out.write_text(json.dumps(out))
        return
    pythons = defaultdict(lambda: sys.executable) | {"trl": args.trl_python or trl_python(args.cache)}
    runs: dict[str, list[dict]] = {side: [] for side in args.sides}
    for turn in range(args.rounds):
        for side in args.sides:
            runs[side].append(measure(pythons[side], side, args.rollouts, args.bf16))
            print(
                f"round {turn + 1}: {SIDES[side]}: {runs[side][-1]['episodes_per_second']:.2f} episodes/s", flush=True
            )
    summary = summarize(runs)
    show(summary)
    args.out.write_text(json.dumps({"summary": summary, "runs": runs}, indent=2))


if __name__ == "__main__":
    main()
