"""Why padding with EOS matters: a reward model then cannot see whether an answer ended."""

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

from tests.tokenizers import kogpt2_like
from trl_kochat.tokenizer import fix_tokenizer


@pytest.fixture
def folder(tmp_path):
    return kogpt2_like(tmp_path)


def score_with_and_without_end(tokenizer):
    """Scores of an answer that ends and of the same one cut short, as a reward model gives them."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForSequenceClassification(config).eval()
    ids = tokenizer.encode("안녕하세요. 답입니다", add_special_tokens=False)
    with torch.no_grad():
        return [model(torch.tensor([row])).logits.item() for row in ([*ids, tokenizer.eos_token_id], ids)]


def test_the_end_counts_after_the_fix(folder):
    course = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "</s>"}
    fixed, _ = fix_tokenizer(AutoTokenizer.from_pretrained(folder, **course))
    ended, cut = score_with_and_without_end(fixed)
    assert abs(ended - cut) > 1e-6
    # The same with EOS as padding: the last token that is not padding is the one before the end.
    fixed.pad_token = fixed.eos_token
    ended, cut = score_with_and_without_end(fixed)
    assert ended == pytest.approx(cut, abs=1e-6)
