"""Rows of a TRL dataset as text and as ids, the way TRL's trainers make them: the only user of chat templates, and the
only room that names the columns of ids that trainers keep.

- `rows`: TRL's row types. [`row_type`], [`checked_rows`], [`is_conversational`], [`texts_of`], [`as_turns`].
- `ids`: [`render`] and [`render_row`] write text; [`prompt_ids`] makes ids of prompts to answer, [`tokenize_rows`] of whole
  rows with the border of prompt and answer, [`tokenize_dataset`] of a dataset for trainers that take ids; [`fate`] says
  what a trainer does to a row that is too long.
- `ends`: [`answer_end`] is what stands after an answer, [`end_token_ids`] what ends generation, [`score_position`] where a
  reward model reads.
- `trained`: a trainer's own dataset of ids. [`column_lengths`], [`row_lengths`], [`answer_lengths`], [`count_rows`],
  [`count_cut`].
- `vocabulary`: [`unused_ids`], which no token has.
"""

from .ends import AnswerEnd, answer_end, end_token_ids, score_position
from .ids import (
    TokenizedRow,
    encode_texts,
    fate,
    losses_by_length,
    prompt_ids,
    render_row,
    tokenize_dataset,
    tokenize_rows,
)
from .render import TEMPLATE_ERRORS, render
from .rows import Row, as_turns, checked_rows, is_conversational, row_type, texts_of
from .trained import answer_lengths, column_lengths, count_cut, count_rows, row_lengths
from .vocabulary import unused_ids


__all__ = [
    "TEMPLATE_ERRORS",
    "AnswerEnd",
    "Row",
    "TokenizedRow",
    "answer_end",
    "answer_lengths",
    "as_turns",
    "checked_rows",
    "column_lengths",
    "count_cut",
    "count_rows",
    "encode_texts",
    "end_token_ids",
    "fate",
    "is_conversational",
    "losses_by_length",
    "prompt_ids",
    "render",
    "render_row",
    "row_lengths",
    "row_type",
    "score_position",
    "texts_of",
    "tokenize_dataset",
    "tokenize_rows",
    "unused_ids",
]
