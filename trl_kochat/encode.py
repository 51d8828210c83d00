"""TRL rows as token ids, the way TRL's trainers make them."""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from .errors import InputError
from .text.normalize import refuse_half_characters
from .text.shown import cut, listed, shown


if TYPE_CHECKING:
    from datasets import Dataset


Row = Mapping[str, Any]
# What rendering a chat template may raise: it is a program, and divides by zero or looks for the fifth turn.
TEMPLATE_ERRORS = (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
# Column sets of TRL's dataset types (https://huggingface.co/docs/trl/dataset_formats), the most telling first.
_TYPES = {
    "preference": ({"chosen", "rejected"}, ("chosen", "rejected")),
    "prompt_completion": ({"prompt", "completion"}, ("completion",)),
    "language_modeling": ({"messages"}, ("messages",)),
    "language_modeling_text": ({"text"}, ("text",)),
    "prompt_only": ({"prompt"}, ()),
}


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


def row_type(columns: set[str]) -> tuple[str, tuple[str, ...]]:
    """TRL's name for rows with these columns, and the columns that hold answers.

    Raises:
        ValueError: No type that can be tokenized has these columns.
    """
    for name, (needed, answers) in _TYPES.items():
        if needed <= columns:
            return name.removesuffix("_text"), answers
    raise InputError(
        f"Rows with the columns {listed(sorted(map(str, columns)))} are no rows of TRL; expected prompt and completion, chosen "
        "and rejected with or without prompt, prompt alone, messages, or text."
    )


def tokenize_rows(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], *, first: int = 0) -> list[TokenizedRow]:
    """Render and tokenize rows, standard or conversational, as `SFTTrainer`, `DPOTrainer` and `RewardTrainer` do.

    Conversations go through the chat template, plain texts get EOS. Nothing is cut by length. `first` is the number of
    the first row, for errors to name.

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
    if kind == "language_modeling":
        sequences = _tokenize(tokenizer, rows, [row[answers[0]] for row in rows], ends=True, first=first)
        return [TokenizedRow(kind, [], {answers[0]: ids}, 0) for ids in sequences]
    prompts = _tokenize(tokenizer, rows, [row["prompt"] for row in rows], generation=True, first=first)
    columns = _tokenize_whole(tokenizer, rows, answers, first)
    tokenized = []
    for index, prompt_ids in enumerate(prompts):
        sequences_of_row = {answer: ids[index] for answer, ids in columns.items()}
        start = min((_common(prompt_ids, ids) for ids in sequences_of_row.values()), default=len(prompt_ids))
        tokenized.append(TokenizedRow(kind, prompt_ids, sequences_of_row, start))
    return tokenized


def _tokenize_whole(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], answers: Sequence[str], first: int
) -> dict[str, list[list[int]]]:
    """Prompt and answer together, for each column of answers."""
    return {
        answer: _tokenize(tokenizer, rows, [row["prompt"] + row[answer] for row in rows], ends=True, first=first)
        for answer in answers
    }


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
            whole = _tokenize_whole(tokenizer, rows, answers, indices[0])
            return {f"{answer}_ids": sequences for answer, sequences in whole.items()}
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


def checked_rows(rows: Iterable[Row], *, first: int = 0) -> list[Row]:
    """The rows as a list, all of one TRL type, standard or conversational like the first of them.

    Raises:
        ValueError: A row differs, or holds something else than text; with its number.
    """
    rows = list(rows)
    for number, row in enumerate(rows, start=first):
        try:
            if not isinstance(row, Mapping):
                raise InputError(f"{shown(row)} is not a row with named columns")
            if number == first:
                _, answers = row_type(set(row))
                columns = [column for column in dict.fromkeys(("prompt", *answers)) if column in row]
                read = _check_messages if is_conversational(row) else _check_text
            for column in columns:
                read(row.get(column), column)
        except ValueError as error:
            raise InputError(f"Row {number} (counted from 0): {error}".rstrip(".") + ".") from error
    return rows


def _check_text(text: object, column: str) -> None:
    if not isinstance(text, str):
        raise InputError(f"column {column!r} holds {shown(text)}, not text, as all rows of these columns must")
    refuse_half_characters(text)


def _check_messages(messages: object, column: str) -> None:
    if not isinstance(messages, list) or not messages:
        raise InputError(f"column {column!r} holds {shown(messages)}, not a list of messages {{role, content}}")
    for message in messages:
        content = message.get("content") if isinstance(message, Mapping) else None
        # A message that calls a tool has no content.
        if not isinstance(message, Mapping) or "role" not in message or not isinstance(content, str | None):
            raise InputError(f"column {column!r} has {shown(message)}, not a message {{role, content}} with text")
        refuse_half_characters(content or "")


def is_conversational(row: Row) -> bool:
    """Whether a row holds messages, which need a chat template, rather than text."""
    _, answers = row_type(set(row))
    return not isinstance(row[answers[0] if answers else "prompt"], str)


def texts_of(row: Row) -> list[str]:
    """The texts that people wrote in a row, without the template."""
    _, answers = row_type(set(row))
    values = [row[column] for column in dict.fromkeys(("prompt", *answers)) if column in row]
    return [text for value in values for text in _contents(value)]


def _contents(value: str | Sequence[Mapping[str, Any]]) -> list[str]:
    return [value] if isinstance(value, str) else [message["content"] for message in value if message.get("content")]


def _tokenize(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    values: Sequence[Any],
    *,
    generation: bool = False,
    ends: bool = False,
    first: int = 0,
) -> list[list[int]]:
    if isinstance(values[0], str):
        eos = tokenizer.eos_token or ""
        texts = [value if not ends or value.endswith(eos) else value + eos for value in values]
        return encode_texts(tokenizer, texts)
    if not tokenizer.chat_template:
        raise InputError(
            "These rows are conversations and the tokenizer has no chat template: use load_tokenizer, or "
            "set_chat_template(tokenizer, 'ko_instruct')."
        )
    rendered: list[Any] = []
    for number, (row, value) in enumerate(zip(rows, values, strict=True), start=first):
        options = {"tokenize": False, "add_generation_prompt": generation, **(row.get("chat_template_kwargs") or {})}
        try:
            rendered.append(tokenizer.apply_chat_template(value, tools=row.get("tools"), **options))
        except TEMPLATE_ERRORS as error:  # TypeError: a message without content
            raise InputError(
                f"Row {number} (counted from 0), with the roles {listed(message['role'] for message in value)}: the "
                f"chat template does not render it: {cut(str(error), 300)}"
            ) from error
    # The template wrote what begins and ends a sequence.
    return encode_texts(tokenizer, rendered, add_special_tokens=False)


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], **kwargs: Any) -> list[list[int]]:
    """Ids of each text.

    Raises:
        ValueError: The tokenizer has no writing for a text and no token for the unknown.
    """
    try:
        return tokenizer(list(texts), return_attention_mask=False, verbose=False, **kwargs)["input_ids"]
    except Exception as error:
        if type(error) is not Exception:  # `tokenizers` raises a bare one
            raise
        raise InputError(
            f"The tokenizer has no writing for a text such as {shown(texts[0])}: {cut(str(error), 200)}. The unk_token "
            "of its vocabulary is missing."
        ) from error


def _common(ids: list[int], others: list[int]) -> int:
    pair: list[Any] = [ids, others]
    return len(os.path.commonprefix(pair))
