"""Rows as the ids that TRL's trainers make of them, and what a trainer does to those that are too long."""

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from transformers import PreTrainedTokenizerBase

from ..errors import InputError, need_dataset
from ..text.shown import listed
from .ends import answer_end
from .render import encode_texts, render
from .rows import Messages, Row, checked_rows, is_conversational, row_type


if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class TokenizedRow:
    """A row of a TRL dataset as ids.

    Args:
        type (`str`): `"preference"`, `"prompt_completion"`, `"language_modeling"` or `"prompt_only"`.
        prompt_ids (`list[int]`): What the model answers to at inference; empty in language modeling.
        sequences (`dict`): Column, such as `"chosen"`, to the ids of prompt and answer together, EOS included.
        completion_start (`int`): Position of the first token that is trained on: where prompt and sequences part. It
            is `len(prompt_ids)` unless tokens merge across the border.
    """

    type: str
    prompt_ids: list[int]
    sequences: dict[str, list[int]]
    completion_start: int

    @property
    def prompt_is_prefix(self) -> bool:
        return self.completion_start == len(self.prompt_ids)

    @property
    def length(self) -> int:
        """Tokens of the longest sequence, or of the prompt where there is no answer."""
        return max(map(len, self.sequences.values()), default=len(self.prompt_ids))


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str | Messages], **template_kwargs: Any
) -> list[list[int]]:
    """Ids of prompts, as a model is asked to answer them: texts as they are; conversations with a turn of the assistant
    opened, or gone on with where the last message is the assistant's.

    Raises:
        ValueError: A prompt is neither text nor messages, or the chat template is missing or does not render one.
    """
    rows = [{"prompt": prompt, "chat_template_kwargs": template_kwargs} for prompt in prompts]
    encoded = [row.prompt_ids for row in tokenize_rows(tokenizer, rows)]
    return [_without_end(tokenizer, prompt, ids) for prompt, ids in zip(prompts, encoded, strict=True)]


def tokenize_rows(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], *, first: int = 0, ended: Sequence[bool] | None = None
) -> list[TokenizedRow]:
    """Render and tokenize rows, standard or conversational, as `SFTTrainer`, `DPOTrainer` and `RewardTrainer` do.

    Conversations go through the chat template, plain texts get EOS. Nothing is cut by length.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): The trainer's.
        rows (sequence of `Mapping`): Of one TRL type; `tools` and `chat_template_kwargs` may be columns.
        first (`int`, *optional*, defaults to `0`): Number of the first row, for errors to name.
        ended (sequence of `bool`, *optional*): `False` for rows whose answer was cut: what [`answer_end`] writes after an
            answer is left out. All answers have ended if not given.

    Raises:
        ValueError: The columns are those of no TRL type, a row differs from the first in kind or holds no text, or the
            chat template is missing or does not render a row.
    """
    rows = checked_rows(rows, first=first)
    if not rows:
        return []
    kind, answers = row_type(set(rows[0]))
    if kind == "preference" and "prompt" not in rows[0]:
        from trl import extract_prompt  # what both answers begin with; importing trl takes seconds

        rows = [extract_prompt(dict(row)) for row in rows]
    prompts = [[]] * len(rows) if kind == "language_modeling" else _tokenize(tokenizer, rows, "prompt", first=first)
    columns = {answer: _tokenize(tokenizer, rows, answer, first=first, ended=ended) for answer in answers}
    tokenized = []
    for index, ids in enumerate(prompts):
        sequences = {answer: column[index] for answer, column in columns.items()}
        start = min((_common(ids, sequence) for sequence in sequences.values()), default=len(ids))
        tokenized.append(TokenizedRow(kind, ids, sequences, start))
    return tokenized


def _tokenize(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    column: str,
    *,
    first: int,
    ended: Sequence[bool] | None = None,
) -> list[list[int]]:
    """Ids of the prompts, or of prompt and answer together."""
    conversational = is_conversational(rows[0])
    texts = []
    for number, row in enumerate(rows, start=first):
        try:
            texts.append(_write(tokenizer, row, column))
        except InputError as error:
            raise InputError(f"Row {number} (counted from 0): {error}") from error
    if ended is not None:
        end = answer_end(tokenizer, conversational=conversational).text
        texts = [text if done else text.removesuffix(end) for text, done in zip(texts, ended, strict=True)]
    # A template wrote what begins and ends a sequence.
    encoded = encode_texts(tokenizer, texts, add_special_tokens=not conversational)
    if ended is not None and not conversational:
        pairs = zip(texts, encoded, strict=True)
        return [
            ids if done else _without_end(tokenizer, text, ids) for (text, ids), done in zip(pairs, ended, strict=True)
        ]
    return encoded


def _write(tokenizer: PreTrainedTokenizerBase, row: Row, column: str) -> str:
    """The text of a prompt that asks for an answer, or of the whole sequence that ends with an answer."""
    asks = column == "prompt"
    value = row[column] if asks or "prompt" not in row else row["prompt"] + row[column]
    if isinstance(value, str):
        eos = tokenizer.eos_token or ""
        return value if asks or value.endswith(eos) else value + eos
    # As TRL does with rows of prompts alone; in rows with answers the answer is a turn of its own.
    continued = asks and not row_type(set(row))[1] and value[-1]["role"] == "assistant"
    return render(
        tokenizer,
        value,
        generation=asks and not continued,
        continued=continued,
        tools=row.get("tools"),
        **(row.get("chat_template_kwargs") or {}),
    )


def render_row(tokenizer: PreTrainedTokenizerBase, row: Row) -> dict[str, str]:
    """The text of each column of a row as a model sees it: the prompt, and what follows it in each answer.

    Raises:
        ValueError: The row is of no TRL type, or the chat template is missing or does not render it.
    """
    (row,) = checked_rows([row])
    _, answers = row_type(set(row))
    written = {column: _write(tokenizer, row, column) for column in ("prompt", *answers) if column in row}
    start = written.get("prompt", "")
    return {name: text if name == "prompt" else text.removeprefix(start) for name, text in written.items()}


def _without_end(tokenizer: PreTrainedTokenizerBase, text: str | Messages, ids: list[int]) -> list[int]:
    """Ids of a text without the EOS that some tokenizers append themselves."""
    appended = isinstance(text, str) and tokenizer.eos_token and not text.endswith(tokenizer.eos_token)
    return ids[:-1] if appended and ids[-1:] == [tokenizer.eos_token_id] else ids


def _common(ids: list[int], others: list[int]) -> int:
    pair: list[Any] = [ids, others]
    return len(os.path.commonprefix(pair))


def tokenize_dataset(
    dataset: "Dataset", tokenizer: PreTrainedTokenizerBase, *, num_proc: int | None = None, desc: str = "Tokenizing"
) -> "Dataset":
    """Prompt-completion or preference rows as the ids that `SFTTrainer` and `RewardTrainer` take ready-made.

    The trainers tokenize row by row; here the fast tokenizer gets batches, for the same ids. What a trainer's config
    says of tokenizing (`chat_template_path`, `assistant_only_loss`, `completion_only_loss=False`, `eos_token`) it does
    not say of rows that come as ids. `DPOTrainer` takes none.

    Args:
        dataset ([`~datasets.Dataset`]): Rows with `prompt` and `completion`, or with `prompt`, `chosen`, `rejected`.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): The trainer's.
        num_proc (`int`, *optional*): Processes to share the work.
        desc (`str`, *optional*): What the progress bar says.

    Returns:
        [`~datasets.Dataset`]: `input_ids` and `labels` (-100 up to where the completion starts); or `chosen_ids` and
        `rejected_ids`, and `margin` where the rows have one. Nothing is cut by length.

    Raises:
        ValueError: The rows are of another type, or one cannot be tokenized; with its number.
    """
    need_dataset(dataset, "tokenize_dataset")
    columns = set(dataset.column_names)
    kind, answers = row_type(columns)
    if kind not in ("prompt_completion", "preference") or "prompt" not in columns:
        raise InputError(
            f"Rows with the columns {listed(sorted(columns))}: ids can be made ahead of prompt and completion, or of "
            "prompt, chosen and rejected. Give others to the trainer as they are."
        )

    def ids(batch: dict[str, list[Any]], indices: list[int]) -> dict[str, list[list[int]]]:
        rows: list[Row] = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
        if kind == "preference":
            rows = checked_rows(rows, first=indices[0])
            return {f"{answer}_ids": _tokenize(tokenizer, rows, answer, first=indices[0]) for answer in answers}
        tokenized = tokenize_rows(tokenizer, rows, first=indices[0])
        if not all(row.prompt_is_prefix for row in tokenized):
            warnings.warn(
                "The prompt alone gets other tokens than at the start of prompt and completion: training starts where "
                "they part. `trl-kochat doctor` with these rows says where.",
                stacklevel=2,
            )
        sequences = [row.sequences["completion"] for row in tokenized]
        starts = [row.completion_start for row in tokenized]
        labels = [[-100] * start + whole[start:] for start, whole in zip(starts, sequences, strict=True)]
        return {"input_ids": sequences, "labels": labels}

    return dataset.map(
        ids,
        batched=True,
        with_indices=True,
        remove_columns=sorted(columns - {"margin"}),
        num_proc=num_proc,
        desc=desc,
    )


def fate(row: TokenizedRow, max_length: int | None, trainer: str) -> Literal["whole", "cut", "dropped"]:
    """What `SFTTrainer`, `DPOTrainer` or `RewardTrainer` does to a row for its length.

    `SFTTrainer` drops rows with no answer token left, `DPOTrainer` those whose prompt fills `max_length`, and both cut
    the others; `RewardTrainer` drops whatever is longer (TRL 1.16, `truncation_mode="keep_start"`). None of them says so,
    and a row that is cut has no end.
    """
    if max_length is None or row.length <= max_length:
        return "whole"
    return "dropped" if trainer == "RewardTrainer" or row.completion_start >= max_length else "cut"


_TRAINERS = {"preference": ("DPOTrainer", "RewardTrainer"), "unpaired_preference": ("KTOTrainer",)}


def losses_by_length(rows: Sequence[TokenizedRow], max_length: int) -> dict[str, dict[str, int]]:
    """Trainer to what it does to rows (of one type) that `max_length` is too short for, with their number."""
    if rows[0].type == "prompt_only":
        full = sum(row.length >= max_length for row in rows)
        return {"An online trainer": {"finds no room for an answer in": full}}
    trainers = _TRAINERS.get(rows[0].type, ("SFTTrainer",))
    fates = {trainer: Counter(fate(row, max_length, trainer) for row in rows) for trainer in trainers}
    return {trainer: {"drops": count["dropped"], "cuts": count["cut"]} for trainer, count in fates.items()}
