"""Log-probabilities of answers under a causal language model, and the DPO loss of two of them.

Shapes in this file: B rows, T tokens of the longest row, C tokens of the longest completion, V vocabulary entries.
Log-probabilities and entropies are natural (nats) and float32, whatever the precision of the model.
"""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..encode import as_turns, tokenize_rows
from ..errors import InputError


class PackedRows(NamedTuple):
    """Prompts, each followed by its completion without a gap, padded on the right.

    Right padding leaves every token at its own position and out of sight of the padding, so no `position_ids` are
    needed. What is real is told by lengths, never by ids: a completion may well hold the padding token.
    """

    input_ids: torch.Tensor  # (B, T)
    attention_mask: torch.Tensor  # (B, T), 1 on real tokens
    completion_ids: torch.Tensor  # (B, C)
    completion_mask: torch.Tensor  # (B, C), True on real tokens; they come first in each row
    prompt_lengths: tuple[int, ...]  # (B,)

    @property
    def completion_lengths(self) -> tuple[int, ...]:
        return tuple(self.completion_mask.sum(dim=1).tolist())


def pack_rows(
    prompt_ids: Sequence[Sequence[int]],
    completion_ids: Sequence[Sequence[int]],
    *,
    pad_token_id: int,
    device: torch.device | str | None = None,
) -> PackedRows:
    """Lay prompts and completions out as rows. A prompt holds at least one token: the first answer token follows it.

    >>> pack_rows([[5, 6], [7]], [[8], [9, 3]], pad_token_id=0).input_ids.tolist()
    [[5, 6, 8], [7, 9, 3]]
    """
    if not all(prompt_ids):
        raise InputError("A prompt without a token: nothing precedes the answer's first token. Is there a BOS token?")

    def padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        lengths = torch.tensor([len(row) for row in rows], device=device)
        width = max(map(len, rows))
        ids = torch.tensor([[*row, *[pad_token_id] * (width - len(row))] for row in rows], device=device)
        return ids.long(), torch.arange(width, device=device) < lengths[:, None]

    input_ids, attention_mask = padded([[*p, *c] for p, c in zip(prompt_ids, completion_ids, strict=True)])
    ids, mask = padded(completion_ids)
    return PackedRows(input_ids, attention_mask.long(), ids, mask, tuple(map(len, prompt_ids)))


def per_row(tensor: torch.Tensor, rows: PackedRows) -> Iterator[torch.Tensor]:
    """Yield what the model computed just before each real completion token, row by row.

    Args:
        tensor (`torch.Tensor`): Logits or hidden states of the last K columns of `rows`, `(B, K, ...)`.

    Yields:
        For each row a view `(tokens of its completion, ...)`.
    """
    dropped = rows.input_ids.shape[1] - tensor.shape[1]
    # `unbind` once: indexing row by row would allocate the whole batch's gradient for every row.
    for row, prompt_length, length in zip(tensor.unbind(0), rows.prompt_lengths, rows.completion_lengths, strict=True):
        start = prompt_length - 1 - dropped
        yield row[start : start + length]


def pad_rows(values: Sequence[torch.Tensor], width: int) -> torch.Tensor:
    """Stack 1-D tensors as rows of `width` columns, 0 past the end of each."""
    return torch.stack([F.pad(row, (0, width - row.shape[0])) for row in values])


def _keeps_logits(model: Any) -> bool:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(inner.forward).parameters


def feed_in_one_block(model: nn.Module) -> None:
    """Hand output layers their input in one block of memory, in place.

    A slice of a batch (`logits_to_keep`) torch multiplies by frozen weights row by row, and on a CPU copies the weights
    for each row: of 262,144 tokens in bfloat16, minutes for a batch of eight.
    """
    for module in model.modules():
        head = module.get_output_embeddings() if isinstance(module, PreTrainedModel) else None
        if isinstance(head, nn.Linear):
            head.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))


def completion_logits(model: nn.Module, rows: PackedRows) -> torch.Tensor:
    """Run a causal model over `rows`; logits from the first column that predicts an answer token on, `(B, K, V)`.

    [`per_row`] takes each row's part out of it. Logits over the prompts are not computed where the model can leave
    them out (`logits_to_keep`), which is most of the memory when prompts are long.
    """
    keep = rows.input_ids.shape[1] - min(rows.prompt_lengths) + 1
    kwargs = {"logits_to_keep": keep} if _keeps_logits(model) else {}
    out = model(input_ids=rows.input_ids, attention_mask=rows.attention_mask, use_cache=False, **kwargs)
    return out.logits


def token_logps(logits: torch.Tensor, rows: PackedRows, *, temperature: float = 1.0) -> torch.Tensor:
    """Log-probability of each completion token, `(B, C)`, 0 past the end of a row.

    Args:
        logits (`torch.Tensor`): Of the last K columns of `rows`, `(B, K, V)`, as [`completion_logits`] returns them.
        temperature (`float`): Of the distribution the tokens were sampled from.
    """
    logps = []
    for row, ids in zip(per_row(logits, rows), rows.completion_ids, strict=True):
        scaled = row.float() / temperature if temperature != 1.0 else row.float()
        chosen = scaled.gather(-1, ids[: row.shape[0], None]).squeeze(-1)
        logps.append(chosen - scaled.logsumexp(-1))
    return pad_rows(logps, rows.completion_ids.shape[1])


@torch.no_grad()
def token_entropies(logits: torch.Tensor, rows: PackedRows, *, temperature: float = 1.0) -> torch.Tensor:
    """Entropy of the distribution each completion token was drawn from, `(B, C)`, 0 past the end of a row."""
    entropies = []
    for row in per_row(logits, rows):
        logps = (row.float() / temperature).log_softmax(-1)
        entropies.append(-(logps.exp() * logps).sum(-1))
    return pad_rows(entropies, rows.completion_ids.shape[1])


def sequence_logps(
    model: nn.Module,
    sequences: Sequence[tuple[Sequence[int], int]],
    *,
    pad_token_id: int | None,
    batch_size: int = 8,
) -> list[torch.Tensor]:
    """Log-probability of each token of the answers, in batches of like length.

    Args:
        model (`torch.nn.Module`): Causal language model.
        sequences (sequence of `(ids, start)`): Ids of prompt and answer, and where the answer starts, at 1 or later.
        pad_token_id (`int`, *optional*): Any id does: it is never attended to and never scored.
        batch_size (`int`, *optional*, defaults to `8`): Sequences in one forward pass.

    Returns:
        One tensor `(tokens of the answer,)` for each sequence, in the order given.
    """
    device = next(model.parameters()).device
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i][0]))
    logps: dict[int, torch.Tensor] = {}
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        prompts, answers = zip(
            *[(ids[:start], ids[start:]) for ids, start in map(sequences.__getitem__, batch)], strict=True
        )
        rows = pack_rows(prompts, answers, pad_token_id=pad_token_id or 0, device=device)
        padded = token_logps(completion_logits(model, rows), rows)
        logps |= {i: row[:length] for i, row, length in zip(batch, padded, rows.completion_lengths, strict=True)}
    return [logps[i] for i in range(len(sequences))]


def response_logps(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str | list[dict[str, Any]],
    responses: Sequence[str],
    *,
    per_token: bool = False,
    count_eos: bool = True,
    batch_size: int = 8,
    chat_template_kwargs: dict[str, Any] | None = None,
) -> torch.Tensor | list[torch.Tensor]:
    """Log-probability of each response to one prompt, `log p(y | x) = sum_t log p(y_t | x, y_<t)`, in nats.

    The response begins where the encodings of the prompt alone and of prompt and response part. That is not always
    where the prompt's own encoding ends: its last token may merge with the response's first letters, and a slice at
    the prompt's length then loses the merged token. All responses begin at the same token, the earliest of their
    borders, so that they are compared under the same condition; `DPOTrainer` does so with chosen and rejected.

    Gradients flow to the model; wrap the call in `torch.no_grad()` to score only. Dropout is as the model's mode says.

    Args:
        model (`torch.nn.Module`): Causal language model.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        prompt (`str` or `list[dict]`): A text, or the messages of a conversation, to which the chat template applies.
        responses (`Sequence[str]`): Answers to the prompt, without an end-of-sequence token.
        per_token (`bool`, *optional*, defaults to `False`): Return each token's log-probability, not their sum.
        count_eos (`bool`, *optional*, defaults to `True`):
            Whether ending there is part of the answer. For a text, the EOS token is appended and counted; for a
            conversation, what the template writes after an answer is (`<|im_end|>` and a newline, say). With `False`
            neither is.
        batch_size (`int`, *optional*, defaults to `8`): Responses in one forward pass.
        chat_template_kwargs (`dict`, *optional*): More arguments for `apply_chat_template`.

    Returns:
        A float32 tensor `(responses,)` of sums, or with `per_token` a list with one float32 tensor per response, as
        long as the response has tokens. Both on the model's device.

    Raises:
        `ValueError`: No response, an empty response or prompt, or a tokenizer without what is to be counted.
    """
    if isinstance(responses, str) or not responses:
        raise InputError(f"responses is a list with at least one string, not {responses!r}")
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it is at least 1")
    conversational = not isinstance(prompt, str)
    if count_eos and not conversational and tokenizer.eos_token is None:
        raise InputError("The tokenizer has no eos_token to count; set one, or pass count_eos=False.")
    rows = [
        {
            "prompt": prompt,
            "completion": as_turns(response, "assistant") if conversational else response,
            "chat_template_kwargs": chat_template_kwargs,
        }
        for response in responses
    ]
    tokenized = tokenize_rows(tokenizer, rows, ended=[count_eos] * len(rows))
    border = min(row.completion_start for row in tokenized)
    if border == 0:
        raise InputError(
            f"No token of the prompt {prompt!r} is left before the response, so its first token has no probability; "
            "give a longer prompt or a tokenizer that begins with a BOS token."
        )
    sequences = [(row.sequences["completion"], border) for row in tokenized]
    for response, (ids, _) in zip(responses, sequences, strict=True):
        if len(ids) == border:
            raise InputError(f"The response {response!r} has no token; an empty answer needs count_eos=True.")
    logps = sequence_logps(model, sequences, pad_token_id=tokenizer.pad_token_id, batch_size=batch_size)
    return logps if per_token else torch.stack([row.sum() for row in logps])


class DPOLoss(NamedTuple):
    """What [`dpo_loss`] returns; every field is `(pairs,)`."""

    losses: torch.Tensor
    chosen_rewards: torch.Tensor  # detached
    rejected_rewards: torch.Tensor  # detached


def dpo_loss(
    policy_chosen: torch.Tensor,
    policy_rejected: torch.Tensor,
    ref_chosen: torch.Tensor,
    ref_rejected: torch.Tensor,
    *,
    beta: float = 0.1,
) -> DPOLoss:
    """Direct preference optimization: `-log sigmoid(beta * ((pc - rc) - (pr - rr)))` for each pair.

    `beta * (log p_policy - log p_ref)` is the implicit reward of an answer, and the loss is that of a logistic
    regression on the difference of two rewards (Rafailov et al., eq. 7, https://huggingface.co/papers/2305.18290).
    A policy equal to its reference has the loss log 2, whatever the answers.

    Args:
        policy_chosen, policy_rejected, ref_chosen, ref_rejected (`torch.Tensor`):
            Sums of log-probabilities as [`response_logps`] gives them, all of one shape; plain numbers do as well.
        beta (`float`, *optional*, defaults to `0.1`): How far the policy is held to the reference.

    Returns:
        [`DPOLoss`]: Losses, not averaged, and both implicit rewards.
    """
    if beta <= 0:
        raise InputError(f"beta is {beta}; it is above 0 (0.1 is DPO's usual value)")
    logps = [torch.as_tensor(logp) for logp in (policy_chosen, policy_rejected, ref_chosen, ref_rejected)]
    shapes = [tuple(logp.shape) for logp in logps]
    if len(set(shapes)) > 1:
        raise InputError(f"Four log-probabilities of shapes {shapes}; they are of one shape, one entry per pair.")
    # Each sum is hundreds of nats and their difference a few: half precision would round it away.
    logps = [logp.float() if logp.dtype in (torch.float16, torch.bfloat16) else logp for logp in logps]
    chosen_rewards = beta * (logps[0] - logps[2])
    rejected_rewards = beta * (logps[1] - logps[3])
    return DPOLoss(
        -F.logsigmoid(chosen_rewards - rejected_rewards), chosen_rewards.detach(), rejected_rewards.detach()
    )
