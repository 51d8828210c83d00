"""Tiny tokenizers in the shapes of published ones, as folders that `from_pretrained` reads."""

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers


# Everyday Korean to train byte-level merges on; chat jamo are frequent enough to become tokens.
CORPUS = (
    "안녕하세요. 오늘 날씨가 참 좋네요.",
    "저녁에 무엇을 먹을까요? 김치찌개가 좋겠어요.",
    "한국어를 공부하는 사람이 많아지고 있습니다.",
    "ㅋㅋㅋㅋ 정말 재미있다 ㅋㅋㅋ ㅠㅠㅠ",
    "서울에서 부산까지 기차로 두 시간 반이 걸린다.",
    "The quick brown fox jumps over the lazy dog 0123456789.",
    "ㅎㅎㅎ 그래요? ㅋㅋㅋ 알겠습니다.\n내일 봐요.",
)
CHATML = (
    "{%- if messages[0]['role'] != 'system' -%}{{- '<|im_start|>system\\nYou are a helpful assistant of ours.<|im_end|>\\n' "
    "-}}{%- endif -%}{%- for m in messages -%}{{- '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' -}}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
PLAIN_TEMPLATE = (
    "{%- for m in messages -%}{{- m['role'] + '\\n' + m['content'] -}}{%- if m['role'] == 'assistant' -%}{{- eos_token "
    "-}}{%- endif -%}{{- '\\n' -}}{%- endfor -%}{%- if add_generation_prompt -%}{{- 'assistant\\n' -}}{%- endif -%}"
)
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def special(*tokens: str) -> list[AddedToken]:
    return [AddedToken(token, special=True, normalized=False) for token in tokens]


def common_syllables() -> list[str]:
    """The 2,350 of KS X 1001: other ones take eight bytes in this encoding."""
    return [char for char in map(chr, range(ord("가"), ord("힣") + 1)) if len(char.encode("euc_kr")) == 2]


def write(folder: Path, backend: Tokenizer, config: dict[str, Any], tokenizer_config: dict[str, Any] | None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    config = {"vocab_size": backend.get_vocab_size(), **config}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if tokenizer_config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config), encoding="utf-8")
    return folder


KOGPT2_SPECIALS = ("<s>", "</s>", "<usr>", "<pad>", "<sys>", "<unk>", "<mask>")
# Common syllables and '@' are missing, as in the real one.
KOGPT2_MISSING = "걔걍쌤"


def kogpt2_like(folder: Path, *, emoji_special: bool = False) -> Path:
    """Character BPE, NFKC, Metaspace, model_type gpt2 and no tokenizer_config.json."""
    characters = [*"▁\n.,?!:;()[]{}'\"#*-_=+/~%&0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    characters += [chr(code) for code in [*range(0x1100, 0x1113), *range(0x1161, 0x1176), *range(0x11A8, 0x11C3)]]
    characters += [*"“”‘’·₩^|\\<>「」『』《》〈〉★☆♥♡→←■□○●※×÷±≤≥∞漢字日本あアéñüΩπ—–°"]
    characters += [char for char in common_syllables() if char not in KOGPT2_MISSING]
    merges = [
        ("▁", "안"),
        ("▁안", "녕"),
        ("하", "세"),
        ("니", "다"),
        ("니다", "."),
        ("다", "."),
        ("다.", "\n"),
        ("요", "."),
    ]
    # "<eot>" is an ordinary entry that no merge reaches.
    entries = [*KOGPT2_SPECIALS, "<eot>", *dict.fromkeys(characters), *("".join(merge) for merge in merges)]
    vocab = {entry: position for position, entry in enumerate(entries)}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.NFKC()])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    backend.add_special_tokens(special(*KOGPT2_SPECIALS, *(("😀", "👍", ":)") if emoji_special else ())))
    config = {"model_type": "gpt2", "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 3, "n_positions": 1024}
    return write(folder, backend, config, None)


@cache
def _trained(normalizer: str | None, specials: tuple[str, ...], ordinary: tuple[str, ...], split: str | None) -> str:
    backend = Tokenizer(models.BPE())
    if normalizer is not None:
        backend.normalizer = getattr(normalizers, normalizer)()
    if split is None:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(split), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_special_tokens(special(*specials))
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in ordinary])
    return backend.to_str()


def byte_level(
    *, normalizer: str | None, specials: tuple[str, ...], ordinary: tuple[str, ...] = (), split: str | None = None
) -> Tokenizer:
    """Byte-level BPE, trained on a few sentences, so that every text has a writing."""
    return Tokenizer.from_str(_trained(normalizer, specials, ordinary, split))


EXAONE_SPECIALS = ("[PAD]", "[BOS]", "[EOS]", "[UNK]", "[|endofturn|]", "[|user|]", "[|assistant|]")


def exaone_like(folder: Path, *, declared: str = "GPT2Tokenizer") -> Path:
    """Byte-level with NFKC, and a declared class that knows nothing of NFKC."""
    tokenizer_config = {
        "tokenizer_class": declared,
        "bos_token": "[BOS]",
        "eos_token": "[|endofturn|]",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "chat_template": PLAIN_TEMPLATE,
    }
    backend = byte_level(normalizer="NFKC", specials=EXAONE_SPECIALS)
    eos, pad = backend.token_to_id("[|endofturn|]"), backend.token_to_id("[PAD]")
    config = {"model_type": "exaone4", "eos_token_id": eos, "pad_token_id": pad}
    return write(folder, backend, config, tokenizer_config)


def byte_fallback(folder: Path) -> Path:
    """Llama-2's shape: Metaspace and a token for each byte, so that `<unk>` is never written."""
    specials = ("<unk>", "<s>", "</s>")
    entries = [*specials, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"안녕하세요abc.\n"]
    vocab = {entry: position for position, entry in enumerate(entries)}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens(special(*specials))
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    return write(folder, backend, {"model_type": "llama", "eos_token_id": 2, "bos_token_id": 1}, tokenizer_config)


def qwen_like(folder: Path, *, pad_token: str = "<|endoftext|>") -> Path:
    """Byte-level with NFC, ChatML, an ordinary token spelled `<unk>`, and a class that follows the file."""
    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_pad|>")
    backend = byte_level(normalizer="NFC", specials=specials, ordinary=("<unk>",), split=QWEN_SPLIT)
    tokenizer_config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": pad_token,
        "chat_template": CHATML,
    }
    eos = backend.token_to_id("<|im_end|>")
    return write(folder, backend, {"model_type": "qwen2", "eos_token_id": eos}, tokenizer_config)


def healthy(folder: Path, **tokenizer_config: Any) -> Path:
    """Byte-level with NFC, a token for every role, a plain template. Keywords change its tokenizer_config.json."""
    specials = ("<pad>", "<s>", "</s>", "<unk>")
    backend = byte_level(normalizer="NFC", specials=specials)
    declared = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "chat_template": PLAIN_TEMPLATE,
        "model_input_names": ["input_ids", "attention_mask"],
        **tokenizer_config,
    }
    ids = {f"{role}_id": backend.token_to_id(declared[role]) for role in ("bos_token", "eos_token", "pad_token")}
    return write(folder, backend, {"model_type": "llama", "rope_theta": 10000.0, **ids}, declared)


def korean_text(seed: int, sentences: int = 20) -> str:
    rng = random.Random(seed)
    return " ".join(rng.choice(CORPUS) for _ in range(sentences))
