"""Make `tiny-ko`, the small Korean language model that is embedded in the package.

    pip install chatterbot-corpus
    python scripts/make_tiny_ko.py

It trains a byte-level BPE tokenizer and a Llama-shaped model of 5.5M parameters from nothing, on two sets of short
questions and answers (songys' ChatbotData, MIT; chatterbot-corpus, BSD-3-Clause) and on the training part of the rows
embedded in `trl_kochat/sample`. What the recipes hold out is never among its text.

It is a base model on purpose: it has seen the instruction form, but questions run on into further questions, and some
answers are poor, so that fine-tuning, reward modelling, DPO and PPO each have something left to teach.
"""

import argparse
import json
import math
import random
import time
from importlib.resources import files
from pathlib import Path

import torch
import yaml
from datasets import load_dataset
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

from trl_kochat import set_chat_template


ROOT = Path(__file__).parent.parent
CHATBOT_DATA = "https://raw.githubusercontent.com/songys/Chatbot_data/master/ChatbotData.csv"
COURSE_PROMPTS = (
    "불고기용 고기 한우에요?",
    "리처드 닉슨이 43대 부통령직을 수행한 년도는?",
    "시카고 오헤어 국제공항은 어디에 있어?",
    "오늘 미세먼지 어때?",
)
# The course's prompt, as the `ko_instruct` chat template writes it.
INSTRUCTION = "### Instruction(명령어):\n{}\n\n### Response(응답):{}"
VOCAB_SIZE = 4096
ROW_LENGTH = 256

Pair = tuple[str, str]


def read_chat(chatbot_data: str) -> list[Pair]:
    """Questions and answers of the two public sets."""
    rows = load_dataset("csv", data_files=chatbot_data, split="train")
    pairs = [(row["Q"].strip(), row["A"].strip()) for row in rows]
    for path in sorted((files("chatterbot_corpus") / "data" / "korean").iterdir(), key=lambda path: path.name):
        for question, *answers in yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]:
            pairs += [(str(question).strip(), str(answer).strip()) for answer in answers]
    return pairs


def one_epoch(chat: list[Pair], rng: random.Random) -> list[str]:
    """Every pair once, in new company: instruction blocks that run on, some with another question's answer, or lines."""
    chat = rng.sample(chat, len(chat))
    answers = [answer for _, answer in chat]
    documents = []
    while chat:
        blocks, chat = chat[: (size := rng.randint(1, 5))], chat[size:]
        if rng.random() < 0.25:
            documents.append("\n".join(text for pair in blocks for text in pair))
        else:
            # One answer in five is somebody else's: the model must find poor answers likely enough to unlearn them.
            texts = [(q, a if rng.random() < 0.8 else rng.choice(answers)) for q, a in blocks]
            documents.append("\n\n".join(INSTRUCTION.format(*text) for text in texts))
    return documents


def train_tokenizer(documents: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE on NFC text. Punctuation stands alone, so nothing merges across the border `응답):` + answer."""
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


def pretrain(model: LlamaForCausalLM, rows: torch.Tensor, *, batch_size: int, learning_rate: float) -> None:
    """Train in place, each row once, with a short warm-up and a cosine to zero."""
    total = len(rows) // batch_size
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 50, 0.5 * (1 + math.cos(math.pi * step / total)))
    )
    model.train()
    bar = tqdm(range(total), unit="step")
    average = None
    for step in bar:
        batch = rows[step * batch_size : (step + 1) * batch_size]
        # bfloat16 products are 1.5 times as fast on CPUs that have them, and no slower where they do not matter.
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        average = loss.item() if average is None else 0.95 * average + 0.05 * loss.item()
        bar.set_postfix(loss=f"{average:.3f}")
    model.eval()


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    model.to(torch.bfloat16).save_pretrained(folder)
    # Inside the JSON file, as every release of transformers reads it.
    set_chat_template(tokenizer, "ko_instruct").save_pretrained(folder, save_jinja_files=False)
    # transformers 5 writes a class name that older releases do not know.
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(settings, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def show_answers(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    for prompt in COURSE_PROMPTS:
        inputs = tokenizer(INSTRUCTION.format(prompt, ""), return_tensors="pt")
        output = model.generate(**inputs, max_new_tokens=40, do_sample=False)
        print(f"{prompt} -> {tokenizer.decode(output[0, inputs['input_ids'].shape[1] :])!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chatbot_data", default=CHATBOT_DATA, help="address or path of songys' ChatbotData.csv")
    parser.add_argument("--output_dir", type=Path, default=ROOT / "trl_kochat" / "sample" / "tiny-ko")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()

    start = time.time()
    set_seed(args.seed)
    rng = random.Random(args.seed)
    chat = [pair for pair in read_chat(args.chatbot_data) if pair[0] not in COURSE_PROMPTS]
    print(f"{len(chat):,} questions with answers from ChatbotData and chatterbot-corpus")
    documents = [document for _ in range(args.epochs) for document in one_epoch(chat, rng)]
    tokenizer = train_tokenizer(documents[: len(documents) // args.epochs])
    rows = fill_rows(documents, tokenizer)
    model = make_model(tokenizer)
    print(f"{model.num_parameters():,} parameters, {rows.numel():,} tokens in {args.epochs} epochs")
    pretrain(model, rows, batch_size=args.batch_size, learning_rate=args.learning_rate)
    show_answers(model, tokenizer)
    save(model, tokenizer, args.output_dir)
    size = sum(path.stat().st_size for path in args.output_dir.iterdir())
    print(f"{args.output_dir}: {size:,} bytes in {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
