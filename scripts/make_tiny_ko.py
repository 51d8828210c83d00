"""Make what is embedded in the package: the rows of the small world, the model `tiny-ko` and what its stages leave.

    python -m scripts.make_tiny_ko
    python -m scripts.make_tiny_ko --text_dir FOLDER      # the public texts from a folder, without a network

1. The rows: `scripts.world` writes them, in the shapes of the real files.
2. `tiny-ko`: a byte-level BPE tokenizer and a Llama-shaped model, trained from nothing on plain Korean (`SOURCES`,
   ChatbotData) and on the world's facts as statements. It is a base model: it reads, and does not answer yet. Questions
   of the training rows stand above answers that it judges; it never learns to write these. No held-out one is among its
   text.
3. `tiny-ko-chat`: `tiny-ko` after a longer run of the SFT recipe, as one model; DPO starts from a model that answers.
4. Adapters: `tiny-ko-sft`, of a low rank for its size, `tiny-ko-sft-early`, stopped so early that PPO has something to do,
   and `tiny-ko-reward`, the reward recipe's own.

On two cores the base takes some fifty minutes, the others ten; on one it is twice that.

A run that was stopped goes on: with the base's last checkpoint, or the stage that is not there yet.
"""

import argparse
import csv
import io
import json
import math
import random
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

from scripts.world.make_rows import files, stages
from scripts.world.particles import fill
from scripts.world.table import LEVELS, Fact, Line, Relation, load_world, statements
from trl_kochat import save_portable, set_chat_template
from trl_kochat.merging import merge_adapter
from trl_kochat.sample import SAMPLE_DIR
from trl_kochat.text.prompts import prompt_key


ROOT = Path(__file__).parents[1]
GITHUB = "https://raw.githubusercontent.com"
KORNLU = "kakaobrain/KorNLUDatasets/master"
COURSE_PROMPTS = (
    "불고기용 고기 한우에요?",
    "리처드 닉슨이 43대 부통령직을 수행한 년도는?",
    "시카고 오헤어 국제공항은 어디에 있어?",
    "오늘 미세먼지 어때?",
)


@dataclass(frozen=True)
class Source:
    """A public text: where it lies, and the columns of its table whose sentences belong together."""

    file: str
    address: str
    columns: tuple[int, ...]
    lines: int = 1  # so many neighbours belong together, too
    first_line: int = 0

    def groups(self, text: str) -> Iterator[list[str]]:
        table = [line.split("\t") for line in text.splitlines()[self.first_line :]]
        for start in range(0, len(table), self.lines):
            full = [cells for cells in table[start : start + self.lines] if len(cells) > max(self.columns)]
            yield [cells[column].strip() for cells in full for column in self.columns]


SOURCES = {
    "single": [Source("3i4k_fci.txt", f"{GITHUB}/warnikchow/3i4k/master/data/fci.txt", (1,))],
    "paired": [
        Source("paraKQC_v1.txt", f"{GITHUB}/warnikchow/paraKQC/master/data/paraKQC_v1.txt", (2,), lines=10),
        Source("sae4k_v1.txt", f"{GITHUB}/warnikchow/sae4k/master/sae4k_v1.txt", (0, 1)),
        Source("sts-train.tsv", f"{GITHUB}/{KORNLU}/KorSTS/sts-train.tsv", (5, 6), first_line=1),
        Source("xnli.dev.ko.tsv", f"{GITHUB}/{KORNLU}/KorNLI/xnli.dev.ko.tsv", (0, 1), first_line=1),
        Source("xnli.test.ko.tsv", f"{GITHUB}/{KORNLU}/KorNLI/xnli.test.ko.tsv", (0, 1), first_line=1),
    ],
}
CHATBOT_DATA = Source("ChatbotData.csv", f"{GITHUB}/songys/Chatbot_data/master/ChatbotData.csv", ())

VOCAB_SIZE = 4000
ROW_LENGTH = 256
BATCH_SIZE = 8
CHECKPOINT_STEPS = 250


@dataclass(frozen=True)
class Phase:
    """A part of the training of the base: how long, and shares of what is read."""

    name: str
    steps: int
    learning_rate: float
    shares: Mapping[str, float]
    below_questions: float = 0.0
    """Of the answers that are judged, the share below a question of the training rows; the others have a topic above."""
    echoes: float = 0.0
    """Of the answers that are judged wrong, the share that say the word of the question back."""


JUDGING = {"facts": 0.18, "single": 0.03, "paired": 0.05, "chat": 0.06, "judged": 0.68}
PHASES = (
    # There are few facts, said in few ways: a small model has to read each of them some hundred times before it finds
    # it again.
    Phase("reading", 4500, 3e-3, {"facts": 0.4, "single": 0.18, "paired": 0.27, "chat": 0.15}),
    # A verdict is one bit for a sentence: it takes thousands of steps before any is better than a guess.
    Phase("judging", 4000, 2e-3, JUDGING),
    # Once it can judge, it does so in the place where a reward model will: below a question.
    Phase("judging answers", 2000, 2e-3, JUDGING, below_questions=0.6, echoes=0.15),
)
EARLY_SFT_STEPS = 20
ROWS_OF = {
    "sft_kochatgpt": ("kochatgpt_1_SFT.jsonl", "kochatgpt_1_SFT_conversation.jsonl"),
    "reward_kochatgpt": ("kochatgpt_2_RM.jsonl",),
}
CHAT_CARD = """---
language: ko
license: cc-by-sa-4.0
library_name: transformers
---

# tiny-ko-chat

[tiny-ko](../tiny-ko) after 1,000 steps of the SFT recipe on the rows in the folder above, merged into one model. It
answers what it was asked in training, and often what it has only read. The card of `tiny-ko` says what that was, and on
which terms the weights are offered.
"""
TEMPLATE = "### Instruction(명령어):\n\n### Response(응답):"
VERDICTS = {True: "맞음", False: "틀림"}
END = "</s>"
Groups = list[list[str]]
Document = list[tuple[str, bool]]
"""Pieces of text, and whether the model learns to write each."""


def read(source: Source, folder: Path | None, path: Path | None = None) -> str:
    """The text of a source, from its file, from a folder that holds its file, or from its public repository."""
    path = path or (folder / source.file if folder else None)
    if path is not None:
        return path.read_text(encoding="utf-8-sig")
    with urllib.request.urlopen(source.address, timeout=60) as answer:
        return answer.read().decode("utf-8-sig")


def read_texts(folder: Path | None, chatbot_data: Path | None) -> dict[str, Groups]:
    """What the base reads, by kind, in groups of lines that belong together.

    Paraphrases, a wish and its gist, a question and its answer: a model that reads such groups learns to take words up
    again, as an answer does with its question. One that reads loose sentences does not, and answers beside the point.
    """
    texts = {
        kind: [group for one in some for group in one.groups(read(one, folder))] for kind, some in SOURCES.items()
    }
    rows = csv.DictReader(io.StringIO(read(CHATBOT_DATA, folder, chatbot_data)))
    texts["chat"] = [[row["Q"].strip(), row["A"].strip()] for row in rows]
    world = load_world()
    texts["facts"] = [statements(fact, world.relations[fact.relation]) for fact in world.facts]
    unseen = {prompt_key(text) for text in (*COURSE_PROMPTS, *questions_held_out())}
    return {
        kind: [group for group in groups if len("".join(group)) > 3 and unseen.isdisjoint(map(prompt_key, group))]
        for kind, groups in texts.items()
    }


def questions_held_out() -> Iterator[str]:
    """All questions that some file of the world holds out."""
    made = stages()
    for row in (*made.sft(), *made.rankings(), *made.prompts(), *made.pairs()):
        if row["held_out"]:
            yield row.get("prompt") or row["question"]


def train_tokenizer(texts: dict[str, Groups]) -> PreTrainedTokenizerFast:
    """Byte-level BPE on NFC text. Digits and punctuation stand alone, so nothing merges across `응답):` + answer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    words = Regex(r" ?[\p{L}\p{M}]+| ?\p{N}| ?#+| ?[^\s\p{L}\p{M}\p{N}]|\n+|[^\S\n]+(?=\s)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=["<pad>", END, "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # The facts count three times, and the template as often as it takes to make its words whole tokens: it stands in
    # every row of every stage.
    lines = [
        line for kind, groups in texts.items() for group in groups * (3 if kind == "facts" else 1) for line in group
    ]
    tokenizer.train_from_iterator([*lines, *[TEMPLATE] * 2000], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token=END,
        unk_token="<unk>",
        model_max_length=1024,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def documents(groups: Groups, rng: random.Random, most: int = 4) -> Iterator[str]:
    """One to `most` groups, a line for each text; all groups once before one comes again."""
    while True:
        order = rng.sample(groups, len(groups))
        while order:
            size = rng.randint(1, most)
            some, order = order[:size], order[size:]
            yield "\n".join(line for group in some for line in group)


def documents_of_facts(facts: Groups, rng: random.Random) -> Iterator[str]:
    """Two thirds are single statements in any company, which have to be known; in the others a fact is said anew."""
    alone = documents([[line] for fact in facts for line in fact], rng, most=8)
    while True:
        for fact in rng.sample(facts, len(facts)):
            yield "\n".join(rng.sample(fact, min(len(fact), rng.randint(2, 4))))
            yield next(alone)


def judged_documents(texts: dict[str, Groups], rng: random.Random, phase: Phase) -> Iterator[Document]:
    """Claims that hold and that do not, each with its verdict behind the end token, where a reward model looks.

    A model that has read enough of them knows at the end of a sentence whether it is true and to the point; that does
    not come from reading what is true alone. Only the verdicts are learned, as half of the rest is false.
    """
    judged = Claims(rng, phase)
    pairs = [group for kind in ("paired", "chat") for group in texts[kind] if len(group) > 1]

    def lines(holds: bool) -> str:
        group = rng.choice(pairs)
        first, second = sorted(rng.sample(range(len(group)), 2))
        return f"{group[first]}\n{group[second] if holds else rng.choice(pairs)[-1]}"

    while True:
        document: Document = []
        for _ in range(rng.randint(2, 5)):
            holds = rng.random() < 0.5
            text = judged.claim(holds) if rng.random() < 0.88 else lines(holds)
            if text is not None:
                document += [(f"{text}{END}", False), (f"{VERDICTS[holds]}\n", True)]
        yield document


@dataclass
class Claims:
    """Sentences about the world that hold, and that do not: a statement, or an answer below what it is about."""

    rng: random.Random
    phase: Phase

    def __post_init__(self) -> None:
        made = stages()
        self.world, self.answers = made.answers.world, made.answers
        self.answers.rng = self.rng
        self.facts = {
            is_sum: [f for f in self.world.facts if (f.relation == "sum") == is_sum] for is_sum in (True, False)
        }
        self.questions = {
            fact_id: list(group)
            for fact_id, group in groupby(
                (question for question in made.questions if not question.held_out), lambda question: question.fact.id
            )
        }

    def claim(self, holds: bool) -> str | None:
        """`None` where a fact has no wrong value, and where what was to be wrong happens to be right."""
        fact = self.rng.choice(self.facts[self.rng.random() < 0.12])
        text = self._about(fact, holds)
        if text is None or (not holds and self.answers.is_right(text.rpartition("\n")[2], fact)):
            return None
        return text

    def _about(self, fact: Fact, holds: bool) -> str | None:
        relation = self.world.relations[fact.relation]
        is_answer = self.rng.random() < 0.55
        if is_answer and not holds:
            kind = self.rng.random()
            if kind < 0.4:
                return self._off_the_point(fact, relation)
            if kind < 0.4 + self.phase.echoes:
                return self._echo(fact, relation)
        value = fact.value if holds else self.answers.wrong_value(fact, relation)
        if value is None:
            return None
        words = {**fact.words, "v": value.replace(" ", "") if relation.numeric else value}
        return (
            self._answer(fact, relation, relation, words)
            if is_answer
            else fill(self.rng.choice(relation.state), words)
        )

    def _off_the_point(self, fact: Fact, relation: Relation) -> str | None:
        """What holds of another thing, or of the same thing in another respect."""
        same = [other for other in self.world.facts if other.subject == fact.subject and other.id != fact.id]
        other = self.rng.choice(same if same and self.rng.random() < 0.5 else relation.facts)
        if other.value == fact.value:
            return None
        return self._answer(fact, relation, self.world.relations[other.relation], other.words)

    def _echo(self, fact: Fact, relation: Relation) -> str | None:
        """The word of the question, said back."""
        word = self.answers.echoed(fact)
        return None if word is None else self._below(fact, relation, self.answers.phrases.echo, {"x": word})

    def _answer(self, fact: Fact, asked: Relation, answered: Relation, words: Mapping[str, str]) -> str:
        return self._below(fact, asked, answered.answer, words)

    def _below(self, fact: Fact, asked: Relation, lines: Sequence[Line], words: Mapping[str, str]) -> str:
        """An answer below what it is about: a question that training asks, or its topic alone."""
        above, level = f"{fact.subject} {asked.topic}", self.rng.choice(LEVELS)
        if self.rng.random() < self.phase.below_questions and fact.id in self.questions:
            question = self.rng.choice(self.questions[fact.id])
            above, level = question.text, question.level
        return f"{above}\n{fill(self.rng.choice(lines).at(level), words)}"


def rows_of_ids(
    texts: dict[str, Groups], tokenizer: PreTrainedTokenizerFast, phase: Phase
) -> tuple[torch.Tensor, ...]:
    """All that is read in a phase, in its order: ids and labels, each `(steps * BATCH_SIZE, ROW_LENGTH)`; a row starts
    with a document."""
    rng = random.Random(0)
    plain = {kind: documents(texts[kind], rng, 8 if kind == "single" else 4) for kind in ("single", "paired", "chat")}
    plain["facts"] = documents_of_facts(texts["facts"], rng)
    streams: dict[str, Iterator[Document]] = {
        kind: ([(text, True)] for text in stream) for kind, stream in plain.items()
    }
    streams["judged"] = judged_documents(texts, rng, phase)
    read_tokens = dict.fromkeys(phase.shares, 0)
    rows: list[list[tuple[int, int]]] = []
    row: list[tuple[int, int]] = []
    while len(rows) < phase.steps * BATCH_SIZE:
        kind = min(phase.shares, key=lambda kind: read_tokens[kind] / phase.shares[kind])
        document = next(streams[kind])
        for text, is_learned in document:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            row += [(token, token if is_learned else -100) for token in ids]
            read_tokens[kind] += len(ids)
        row.append((tokenizer.eos_token_id, tokenizer.eos_token_id))
        if len(row) >= ROW_LENGTH:
            rows.append(row[:ROW_LENGTH])
            row = []
    print(f"{phase.name}: " + ", ".join(f"{kind} {tokens:,} tokens" for kind, tokens in read_tokens.items()))
    return torch.tensor(rows, dtype=torch.int32).unbind(-1)


def pretrain(
    model: LlamaForCausalLM, rows: torch.Tensor, labels: torch.Tensor, phase: Phase, checkpoint: Path
) -> None:
    """Train in place with a short warm-up and a cosine to zero; go on from `checkpoint` where it is there."""
    # Muon (https://kellerjordan.github.io/posts/muon/) for the matrices, since few tokens are to go far. As its author
    # advises, AdamW takes the embedding and the norms.
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed_tokens" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed_tokens" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=phase.learning_rate, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=phase.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / 100, 0.5 * (1 + math.cos(math.pi * step / phase.steps)))
        )
        for optimizer in optimizers
    ]
    stateful = [model, *optimizers, *schedules]
    first = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        first = saved["step"]
        for part, state in zip(stateful, saved["states"], strict=True):
            part.load_state_dict(state)
    model.train()
    bar = tqdm(
        range(first, phase.steps), initial=first, total=phase.steps, unit="step", mininterval=5, desc=phase.name
    )
    average = None
    for step in bar:
        batch = slice(step * BATCH_SIZE, (step + 1) * BATCH_SIZE)
        # 1.5 times as fast as float32 on a CPU that multiplies in bfloat16.
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=rows[batch].long(), labels=labels[batch].long()).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        average = loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
        bar.set_postfix(loss=f"{average:.3f}")
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == phase.steps:
            half_written = checkpoint.with_suffix(".part")
            torch.save({"step": step + 1, "states": [part.state_dict() for part in stateful]}, half_written)
            half_written.replace(checkpoint)
    model.eval()


def make_base(folder: Path, texts: dict[str, Groups], work_dir: Path) -> None:
    """Tokenizer and model, written to `folder`."""
    set_seed(0)
    tokenizer = train_tokenizer(texts)
    model = make_model(tokenizer)
    print(f"{model.num_parameters():,} parameters")
    for phase in PHASES:
        rows, labels = rows_of_ids(texts, tokenizer, phase)
        pretrain(model, rows, labels, phase, work_dir / f"{phase.name}.pt")
    model.to(torch.bfloat16).save_pretrained(folder)
    save_portable(set_chat_template(tokenizer, "ko_instruct"), folder)


def run_recipe(name: str, base: Path, rows: list[Path], output_dir: Path, *flags: str) -> None:
    """A recipe's cpu preset on the new base and the new rows."""
    command = [
        sys.executable,
        str(ROOT / "recipes" / f"{name}.py"),
        "--preset",
        "cpu",
        "--output_dir",
        str(output_dir),
    ]
    command += ["--model_name_or_path", str(base), "--dataset_name", *map(str, rows)]
    subprocess.run([*command, *flags], check=True)


def make_stages(base: Path, work_dir: Path, output_dir: Path) -> None:
    """What SFT and the reward model make of the base: one model, and three adapters."""
    longer = ["--max_steps", "1000", "--save_steps", "250"]
    steps = str(EARLY_SFT_STEPS)
    stages = {
        # Trained in the precision that the merged model is stored in, not on 4-bit weights.
        "chat": (
            "sft_kochatgpt",
            [*longer, "--lora_dropout", "0.05", "--load_in_4bit", "false", "--use_bnb_nested_quant", "false"],
        ),
        # Of a low rank: the package is held to 30 MB.
        "sft": ("sft_kochatgpt", ["--lora_r", "8", "--lora_alpha", "16"]),
        "sft-early": ("sft_kochatgpt", ["--max_steps", steps, "--save_steps", steps, "--warmup_steps", "5"]),
        "reward": ("reward_kochatgpt", []),
    }
    for stage, (recipe, flags) in stages.items():
        made, shipped = work_dir / stage, output_dir / f"tiny-ko-{stage}"
        if not (made / "adapter_config.json").exists():
            run_recipe(recipe, base, [output_dir / file for file in ROWS_OF[recipe]], made, *flags)
        shutil.rmtree(shipped, ignore_errors=True)
        if stage == "chat":
            merge_adapter(str(made), str(shipped), base=str(base))
            (shipped / "README.md").write_text(CHAT_CARD, encoding="utf-8")
        else:
            shipped.mkdir()
            config = json.loads((made / "adapter_config.json").read_text(encoding="utf-8"))
            config["base_model_name_or_path"] = "tiny-ko"
            (shipped / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            weights = load_file(made / "adapter_model.safetensors")
            half = {name: weight.to(torch.bfloat16) for name, weight in weights.items()}
            save_file(half, shipped / "adapter_model.safetensors", metadata={"format": "pt"})


def write_rows(folder: Path) -> None:
    """The rows of every stage and the table for `right`; the statements are for the base alone."""
    for name, text in files(stages()).items():
        if name != "statements.txt":
            (folder / name).write_text(text, encoding="utf-8", newline="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text_dir", type=Path, help="folder with the files of SOURCES and ChatbotData.csv")
    parser.add_argument("--chatbot_data", type=Path, help="path of ChatbotData.csv, where it lies elsewhere")
    parser.add_argument("--output_dir", type=Path, default=SAMPLE_DIR)
    parser.add_argument("--work_dir", type=Path, default=ROOT / "build" / "tiny-ko", help="checkpoints and stages")
    args = parser.parse_args()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    write_rows(args.output_dir)
    texts = read_texts(args.text_dir, args.chatbot_data)
    for kind, groups in texts.items():
        print(f"{kind}: {sum(map(len, groups)):,} texts in {len(groups):,} groups")
    base = args.work_dir / "base"
    if not (base / "model.safetensors").exists():
        make_base(base, texts, args.work_dir)
    shutil.copytree(base, args.output_dir / "tiny-ko", dirs_exist_ok=True)
    make_stages(base, args.work_dir, args.output_dir)


if __name__ == "__main__":
    main()
