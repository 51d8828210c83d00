"""Tiny tokenizers and models made on the spot, for tests of log-probabilities and PPO."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)


SENTENCES = [
    "오늘 미세먼지 어때? 오늘은 맑아요.",
    "불고기용 고기 한우에요? 네, 한우입니다.",
    "파이썬이 뭐야? 파이썬은 배우기 쉬운 프로그래밍 언어입니다.",
    "a quick brown fox jumps over the lazy dog",
    "hello hello world world",
]
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def tiny_tokenizer(*, pad: bool = True, vocab_size: int = 300) -> PreTrainedTokenizerFast:
    """A byte-level BPE that merges over spaces, so that a prompt's last token may merge with the answer's first."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["</s>", "<pad>", "<s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(SENTENCES * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="</s>",
        pad_token="<pad>" if pad else "</s>",
        bos_token="<s>",
        unk_token="<unk>",
        chat_template=TEMPLATE,
        model_input_names=["input_ids", "attention_mask"],
    )


def llama_config(vocab_size: int = 300, *, hidden_size: int = 32, layers: int = 2, **kwargs) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        # Far wider than usual, so that an untrained model has opinions and a wrong position or mask shows.
        initializer_range=0.3,
        eos_token_id=0,
        pad_token_id=1,
        bos_token_id=2,
        **kwargs,
    )


def tiny_llama(seed: int = 0, *, eos_logit: float | None = None, **kwargs) -> LlamaForCausalLM:
    """A Llama of random weights; with `eos_logit`, EOS has about that logit, so that some completions end."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(llama_config(**kwargs)).eval()
    if eos_logit is not None:
        with torch.no_grad():
            usual = model.model(torch.randint(3, model.config.vocab_size, (4, 20))).last_hidden_state.mean((0, 1))
            model.lm_head.weight[0] = usual * eos_logit / usual.square().sum()
    return model


def tiny_reward_model(seed: int = 1, num_labels: int = 1, **kwargs) -> LlamaForSequenceClassification:
    torch.manual_seed(seed)
    return LlamaForSequenceClassification(llama_config(num_labels=num_labels, **kwargs)).eval()


def tiny_gpt2(seed: int = 0, vocab_size: int = 300) -> GPT2LMHeadModel:
    """A model with learned absolute positions, to which a shifted row is another row."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=vocab_size,
        n_positions=256,
        n_embd=32,
        n_layer=2,
        n_head=2,
        initializer_range=0.3,
        eos_token_id=0,
        bos_token_id=2,
    )
    return GPT2LMHeadModel(config).eval()
