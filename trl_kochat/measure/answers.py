"""What greedy answers to held-out prompts are like: whether they are right, end, differ, and are good Korean."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..models import max_positions
from ..text.diversity import diversity_by_row
from ..text.health import summarize_health
from ..text.speech import speech_end
from .generate import Generation, encode_prompts, generate_answers
from .right import embedded_world, right_by_way


Measured = dict[str, Any]

# What follows the list of a measure's rows: `right` is the mean of `right_by_row`.
BY_ROW = "_by_row"


def means_of(by_row: Mapping[str, Sequence[float]]) -> Measured:
    """Measures and, beside each, what its rows add to it.

    >>> means_of({"accuracy": [1.0, 0.0]})
    {'accuracy': 0.5, 'accuracy_by_row': [1.0, 0.0]}
    """
    measured: Measured = {}
    for name, values in by_row.items():
        measured |= {name: fmean(values), name + BY_ROW: [round(value, 6) for value in values]}
    return measured


def evaluate_answers(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Mapping[str, Any]],
    *,
    reference: str | None = None,
    max_new_tokens: int = 64,
) -> Measured:
    """Greedy answers to the `prompt` of held-out rows.

    Prompts that leave no room for an answer within the model's positions are left out; nothing is said of none.

    Args:
        model ([`~transformers.PreTrainedModel`] or `PeftModel`): A causal language model.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Its tokenizer.
        rows (sequence of `Mapping`): Rows with a `prompt`; one with a `fact` of the embedded world is asked what is
            right, and told apart by what its column `held_out` says.
        reference (`str`, *optional*): Column that holds a good answer, as text or messages.
        max_new_tokens (`int`, *optional*, defaults to `64`): Longest answer, in tokens.

    Returns:
        `right` and `right_WAY` where rows ask for facts (see [`right_by_way`]), `distinct` (share of different answers),
        `most_common` (share of the most common one), `distinct_2`, `eos_rate` (share that the model ended itself),
        `mean_length` (tokens), `speech_level` (share in the level, 존댓말 or 반말, of the reference), and `repetition`,
        `hanja` and `latin` of [`summarize_health`]; each with its rows.
    """
    asked, given = greedy_answers(model, tokenizer, rows, max_new_tokens=max_new_tokens)
    return measure_answers(asked, given, reference=reference) if asked else {}


def greedy_answers(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Mapping[str, Any]],
    *,
    max_new_tokens: int = 64,
) -> tuple[list[Mapping[str, Any]], list[Generation]]:
    """The rows whose prompts leave room for an answer within the model's positions, and the answers to them."""
    positions = max_positions(model)
    asked = list(rows)
    if positions is not None and rows:
        encoded = encode_prompts(tokenizer, [row["prompt"] for row in rows])
        asked = [row for row, ids in zip(rows, encoded, strict=True) if len(ids) + max_new_tokens <= positions]
    prompts = [row["prompt"] for row in asked]
    return asked, generate_answers(model, tokenizer, prompts, max_new_tokens=max_new_tokens)


def measure_answers(
    rows: Sequence[Mapping[str, Any]], given: Sequence[Generation], *, reference: str | None = None
) -> Measured:
    """What [`evaluate_answers`] says, of answers that are there."""
    texts = [answer.text for answer in given]
    health = [summarize_health([text]) for text in texts]
    by_row = {
        **right_by_way(texts, rows, embedded_world()),
        **diversity_by_row(texts),
        "eos_rate": [float(answer.ended) for answer in given],
        "mean_length": [float(len(answer.ids)) for answer in given],
        **{name: [of_text[name] for of_text in health] for name in health[0]},
    }
    if reference is not None:
        due = [_is_polite(_last_text(row[reference])) for row in rows]
        by_row["speech_level"] = [float(_is_polite(text) == is_due) for text, is_due in zip(texts, due, strict=True)]
    return means_of(by_row)


def _is_polite(text: str) -> bool:
    return speech_end(text) == "polite"


def _last_text(answer: str | Sequence[Mapping[str, Any]]) -> str:
    return answer if isinstance(answer, str) else str(answer[-1]["content"] or "")
