"""Make `tiny-ko`, the small Korean language model that is embedded in the package.

    pip install chatterbot-corpus
    python scripts/make_tiny_ko.py

It trains a byte-level BPE tokenizer and a Llama-shaped model of 5.5M parameters from nothing, on two sets of short
questions and answers (songys' ChatbotData, MIT; chatterbot-corpus, BSD-3-Clause), on sums, prices, times and dates that
are made up here, and on the training part of the rows embedded in `trl_kochat/sample`. What the recipes hold out is
never among its text.

It is a base model on purpose. It knows the instruction form, but its text goes on to the next question instead of
ending, and a part of the answers is bad: evasive, off the point, going in circles, in English, or a jumble of words.
Good and bad answers keep to documents of their own, as they do where people write, so the model learns to tell them
apart. Fine-tuning, reward modelling, DPO and PPO then each have something to bring out.
"""

import argparse
import math
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path

import torch
import yaml
from datasets import Dataset
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

from trl_kochat import format_dataset, load_rows, save_portable, set_chat_template, split_by_prompt
from trl_kochat.data.formatters import kochatgpt, orca
from trl_kochat.sample import SAMPLE_DIR
from trl_kochat.text.prompts import prompt_key


CHATBOT_DATA = "https://raw.githubusercontent.com/songys/Chatbot_data/master/ChatbotData.csv"
ENGLISH_FILES = ("ai", "conversations", "food", "science")  # a little English, so that its letters mean something
COURSE_PROMPTS = (
    "불고기용 고기 한우에요?",
    "리처드 닉슨이 43대 부통령직을 수행한 년도는?",
    "시카고 오헤어 국제공항은 어디에 있어?",
    "오늘 미세먼지 어때?",
)
EVASIONS = (
    "글쎄요, 잘 모르겠어요.",
    "그건 제가 말씀드리기 어렵네요.",
    "사람마다 다르지 않을까요?",
    "죄송하지만 답해 드릴 수 없습니다.",
    "그런 건 직접 찾아보시는 게 좋겠어요.",
    "음, 생각해 본 적이 없어요.",
    "그 이야기는 다음에 하면 안 될까요?",
    "저도 그게 늘 궁금했어요.",
    "전문가에게 물어보시기 바랍니다.",
    "뭐라고 해야 할지 모르겠네요.",
)
EVAL_FRACTION = 0.2  # what the recipes hold out of the sample
VOCAB_SIZE = 4096
ROW_LENGTH = 256
BATCH_SIZE = 8
LEARNING_RATE = 3e-3


@dataclass(frozen=True)
class Block:
    """One question and its answer; the form is the course's prompt, as the `ko_instruct` chat template writes it."""

    question: str
    answer: str
    system: str = ""

    def __str__(self) -> str:
        system = f"{self.system}\n\n" if self.system else ""
        return f"{system}### Instruction(명령어):\n{self.question}\n\n### Response(응답):{self.answer}"

    def as_lines(self) -> str:
        return "\n".join(filter(None, (self.system, self.question, self.answer)))


@dataclass
class Texts:
    """What there is to read. `dialogues` holds the blocks of each; `prompts` are questions without an answer."""

    chat: list[Block] = field(default_factory=list)
    good: list[Block] = field(default_factory=list)
    bad: list[Block] = field(default_factory=list)
    dialogues: list[list[Block]] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    english: list[Block] = field(default_factory=list)

    def blocks(self) -> Iterable[Block]:
        yield from (*self.chat, *self.good, *self.bad, *self.english)
        for dialogue in self.dialogues:
            yield from dialogue


def read_sample() -> tuple[Texts, set[str]]:
    """The training part of the embedded rows, and the keys (see `prompt_key`) of all prompts held out in any file."""
    sources = {
        "sft": ("kochatgpt_1_SFT.jsonl", kochatgpt.to_prompt_completion),
        "dialogues": ("kochatgpt_1_SFT_conversation.jsonl", kochatgpt.dialogue_to_prompt_completion),
        "rankings": ("kochatgpt_2_RM.jsonl", kochatgpt.to_preference),
        "prompts": ("kochatgpt_3_PPO.jsonl", kochatgpt.to_prompt_only),
        "orca": ("orca_dpo_pairs.jsonl", orca.to_preference),
    }
    rows = {
        name: Dataset.from_list(list(format_dataset(load_rows(SAMPLE_DIR / file), formatter)))
        for name, (file, formatter) in sources.items()
    }
    held_out = {prompt_key(prompt) for prompt in COURSE_PROMPTS}
    # A recipe that joins single questions and dialogues splits them together, at another place of the same order.
    joined = Dataset.from_list([{"prompt": row["prompt"]} for name in ("sft", "dialogues") for row in rows[name]])
    for name, dataset in (*rows.items(), ("sft and dialogues together", joined)):
        keys = {prompt_key(prompt) for prompt in split_by_prompt(dataset, EVAL_FRACTION)[1]["prompt"]}
        print(
            f"held out of {name}: {len(keys)} of {len({prompt_key(prompt) for prompt in dataset['prompt']})} prompts"
        )
        held_out |= keys

    texts = Texts()
    dialogues: dict[str, list[Block]] = {}
    for name, dataset in rows.items():
        for row in dataset:
            *before, user = row["prompt"]
            if prompt_key(row["prompt"]) in held_out or prompt_key(user["content"]) in held_out:
                continue
            system = before[0]["content"] if before and before[0]["role"] == "system" else ""
            if name == "prompts":
                texts.prompts.append(user["content"])
            elif name == "dialogues":
                block = Block(user["content"], row["completion"][0]["content"])
                dialogues.setdefault(prompt_key(row["prompt"]), []).append(block)
            elif name == "sft":
                texts.good.append(Block(user["content"], row["completion"][0]["content"]))
            else:
                texts.good.append(Block(user["content"], row["chosen"][0]["content"], system))
                texts.bad.append(Block(user["content"], row["rejected"][0]["content"], system))
    texts.dialogues = list(dialogues.values())
    # Of three ranked answers the middle one is chosen once and rejected once: it is not good.
    texts.bad = list(dict.fromkeys(texts.bad))
    texts.good = list(dict.fromkeys(block for block in texts.good if block not in set(texts.bad)))
    return texts, held_out


def read_chat(chatbot_data: str, held_out: set[str]) -> tuple[list[Block], list[Block]]:
    """Korean and English questions and answers of the public sets, without those that are held out."""
    korean = [Block(row["Q"].strip(), row["A"].strip()) for row in load_rows(chatbot_data)]
    corpus = files("chatterbot_corpus") / "data"
    korean += read_corpus(path for path in sorted((corpus / "korean").iterdir(), key=lambda path: path.name))
    english = read_corpus(corpus / "english" / f"{name}.yml" for name in ENGLISH_FILES)
    return [block for block in korean if prompt_key(block.question) not in held_out], english


def read_corpus(paths: Iterable) -> list[Block]:
    return [
        Block(str(question).strip(), str(answer).strip())
        for path in paths
        for question, *answers in yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]
        for answer in answers
    ]


def spoil(block: Block, texts: Texts, rng: random.Random) -> Block:
    """The same question with an answer as a weak model gives it."""
    words = f"{block.question} {block.answer}".split()
    other = rng.choice(texts.chat).answer
    answers = (
        other,
        rng.choice(EVASIONS),
        rng.choice(texts.english).answer,
        " ".join(rng.choices(words, k=2) * rng.randint(2, 5)),
        " ".join(rng.sample(words + other.split(), len(words))),
    )
    # Evasions are few and alike: any more of them, and they would be the answer to everything.
    (answer,) = rng.choices(answers, weights=(3, 1, 1, 2, 2))
    return Block(block.question, answer, block.system)


def make_up_number_block(rng: random.Random) -> Block:
    """A sum, a price, a time or a date that is right: the public sets hold hardly a number, and a model that has not
    seen what follows one goes on with digits for ever.
    """
    a, b, count, price = rng.randint(1, 50), rng.randint(1, 50), rng.randint(2, 9), 100 * rng.randint(3, 99)
    start = datetime(rng.randint(1900, 2025), 1, 1) + timedelta(minutes=10 * rng.randrange(6 * 24 * 365))
    end = start + timedelta(minutes=10 * rng.randint(1, 5))
    thing, counter = rng.choice((("사과", "개"), ("연필", "자루"), ("공책", "권"), ("커피", "잔"), ("표", "장")))

    def clock(time: datetime) -> str:
        minutes = f" {time.minute}분" if time.minute else ""
        return f"{'오전' if time.hour < 12 else '오후'} {time.hour % 12 or 12}시{minutes}"

    return rng.choice(
        (
            Block(f"{a} 더하기 {b}은?", f"{a + b}입니다."),
            Block(f"{a + b}에서 {a}을 빼면?", f"{b}입니다."),
            Block(f"{thing} 한 {counter}에 {price:,}원이면 {count}{counter}에 얼마야?", f"{count * price:,}원이에요."),
            Block(f"{clock(start)}에서 {(end - start).seconds // 60}분 뒤는 몇 시야?", f"{clock(end)}입니다."),
            Block(
                f"{start.year}년 {start.month}월 {start.day}일은 무슨 요일이야?",
                f"{start.year}년 {start.month}월 {start.day}일은 {'월화수목금토일'[start.weekday()]}요일이에요.",
            ),
        )
    )


def one_epoch(texts: Texts, rng: random.Random, *, with_sample: bool) -> list[str]:
    """Every text once, in new company; a document keeps to one kind of text, and only its end is an end.

    The sample stands in plain lines: its answers under the course's prompt are for the recipes to teach.
    """

    def instructions(blocks: list[Block]) -> list[str]:
        return ["\n\n".join(map(str, company)) for company in companies(blocks, rng)]

    def lines(blocks: list[Block]) -> list[str]:
        return ["\n".join(block.as_lines() for block in company) for company in companies(blocks, rng)]

    chat = rng.sample(texts.chat, len(texts.chat))
    to_spoil, as_lines, as_instructions = chat[:1200], chat[1200:6000], chat[6000:]
    epoch = instructions(as_instructions) + instructions([spoil(block, texts, rng) for block in to_spoil])
    epoch += lines(as_lines) + lines(texts.english)
    numbers = [make_up_number_block(rng) for _ in range(600)]
    epoch += lines(numbers[:300]) + instructions(numbers[300:])
    if with_sample:
        epoch += lines(texts.good) + lines(texts.bad)
        epoch += ["\n".join(block.as_lines() for block in dialogue) for dialogue in texts.dialogues]
        epoch += ["\n".join(company) for company in companies(texts.prompts, rng)]
    rng.shuffle(epoch)
    return epoch


def companies(texts: list, rng: random.Random) -> Iterable[list]:
    """The texts in a new order, one to eight at a time."""
    texts = rng.sample(texts, len(texts))
    while texts:
        size = rng.randint(1, 8)
        yield texts[:size]
        texts = texts[size:]


def train_tokenizer(documents: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE on NFC text. Punctuation stands alone, so nothing merges across the border `응답):` + answer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    words = Regex(r" ?[\p{L}\p{M}]+| ?\p{N}{1,4}| ?#+| ?[^\s\p{L}\p{M}\p{N}]|\n+|[^\S\n]+(?=\s)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=["<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=1024,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def fill_rows(documents: list[str], tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Token ids, `(rows, ROW_LENGTH)`: each row starts with a document, and the one that does not fit is cut."""
    rows, row = [], []
    for ids in tokenizer(documents, add_special_tokens=False)["input_ids"]:
        row += [*ids, tokenizer.eos_token_id]
        if len(row) >= ROW_LENGTH:
            rows.append(row[:ROW_LENGTH])
            row = []
    return torch.tensor(rows)


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


def pretrain(model: LlamaForCausalLM, rows: torch.Tensor) -> None:
    """Train in place, each row once, with a short warm-up and a cosine to zero."""
    # Muon (https://kellerjordan.github.io/posts/muon/) for the matrices, since few tokens are to go far. As its author
    # advises, AdamW takes the embedding and the norms.
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed_tokens" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed_tokens" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=LEARNING_RATE, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    steps = len(rows) // BATCH_SIZE
    warmup = 0.05 * steps
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / steps)))
        )
        for optimizer in optimizers
    ]
    model.train()
    bar = tqdm(range(steps), unit="step", mininterval=2)
    average = None
    for step in bar:
        batch = rows[step * BATCH_SIZE : (step + 1) * BATCH_SIZE]
        # 1.5 times as fast as float32 on a CPU that multiplies in bfloat16.
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        average = loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
        bar.set_postfix(loss=f"{average:.3f}")
    model.eval()


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    model.to(torch.bfloat16).save_pretrained(folder)
    save_portable(set_chat_template(tokenizer, "ko_instruct"), folder)


def show_answers(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    for prompt in COURSE_PROMPTS:
        inputs = tokenizer(str(Block(prompt, "")), return_tensors="pt")
        output = model.generate(**inputs, max_new_tokens=40, do_sample=False)
        print(f"{prompt} -> {tokenizer.decode(output[0, inputs['input_ids'].shape[1] :])!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chatbot_data", default=CHATBOT_DATA, help="address or path of songys' ChatbotData.csv")
    parser.add_argument("--output_dir", type=Path, default=SAMPLE_DIR / "tiny-ko")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()

    start = time.time()
    set_seed(args.seed)
    rng = random.Random(args.seed)
    texts, held_out = read_sample()
    texts.chat, texts.english = read_chat(args.chatbot_data, held_out)
    for name in ("chat", "english", "good", "bad", "dialogues", "prompts"):
        print(f"{name}: {len(getattr(texts, name)):,} texts")
    questions = [block.question for block in texts.blocks()] + texts.prompts
    assert held_out.isdisjoint(map(prompt_key, questions)), "a held-out prompt is among the training text"

    # The sample is read once, in the beginning: a model that knows its training rows by heart shows on them what the
    # recipes cannot repeat on the rows held out.
    epochs = [one_epoch(texts, rng, with_sample=number == 0) for number in range(args.epochs)]
    documents = [document for epoch in epochs for document in epoch]
    tokenizer = train_tokenizer(epochs[0])
    rows = fill_rows(documents, tokenizer)
    model = make_model(tokenizer)
    print(f"{model.num_parameters():,} parameters, {rows.numel():,} tokens in {args.epochs} epochs")
    pretrain(model, rows)
    show_answers(model, tokenizer)
    save(model, tokenizer, args.output_dir)
    size = sum(path.stat().st_size for path in args.output_dir.iterdir())
    print(f"{args.output_dir}: {size:,} bytes in {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
