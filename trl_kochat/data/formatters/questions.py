"""Tables of questions and answers: ChatbotData, OpenOrca, and what people write themselves."""

from ..messages import completion_row, first_columns, turns_of, with_system
from ..rows import Row, Rows
from .registry import formatter


PAIRS = [
    ("question", "answer"),
    ("question", "response"),
    ("Q", "A"),
    ("질문", "답변"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("query", "response"),
    ("query", "answer"),
]


@formatter("questions", type="prompt_completion", columns=PAIRS)
def to_prompt_completion(row: Row) -> Rows:
    """A question and its answer as one row, behind the text of `system` or `system_prompt`; dropped when one is blank."""
    question, answer = first_columns(row, PAIRS)
    return completion_row(with_system(row, turns_of(row, question, "user")), turns_of(row, answer, "assistant"))
