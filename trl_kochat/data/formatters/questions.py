"""Tables of questions and answers: ChatbotData, OpenOrca, and what people write themselves."""

from ..messages import completion_row, first_columns, has_nothing, turns_of, with_context, with_system
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
    """A question and its answer as one row, behind the text of `system` or `system_prompt`; dropped when one is blank.

    A `context` stands below the question.
    """
    question, answer = first_columns(row, PAIRS)
    asked = turns_of(row, question, "user")
    if isinstance(row.get("context"), str) and not has_nothing(asked):
        asked[-1] = {**asked[-1], "content": with_context(row, asked[-1]["content"], ("context",))}
    return completion_row(with_system(row, asked), turns_of(row, answer, "assistant"))
