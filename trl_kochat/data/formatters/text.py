"""Running text, for language modelling."""

from ...text.normalize import is_blank
from ..rows import Row, Rows, text_of
from .registry import formatter


@formatter("text", type="language_modeling", columns=[{"text"}])
def to_language_modeling(row: Row) -> Rows:
    """`text` as it is, every token of it learned; dropped when it is blank (`empty_text`)."""
    text = text_of(row, "text")
    return Rows(dropped=["empty_text"]) if is_blank(text) else Rows([{"text": text}])
