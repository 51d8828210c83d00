"""`check_rows`: what a user should know about rows before training on them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...encode import Row
from ...errors import InputError
from ...findings import Finding, worst_first
from .batches import batches
from .damaged import Damaged
from .language import Language
from .leaks import check_leaks
from .signal import Alike, Repeated, Uniform


if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from transformers import PreTrainedTokenizerBase

# Each reads the rows batch by batch and then says what it found.
CHECKS = (Damaged, Repeated, Alike, Uniform, Language)


def check_rows(
    dataset: "Dataset | IterableDataset | Iterable[Row]",
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    *,
    held_out: "Dataset | Iterable[Row] | None" = None,
    max_length: int | None = None,
) -> list[Finding]:
    """What a user should know about rows before training on them, the worst first, one finding per code.

    A fault in one row of a hundred is a warning, in fewer a remark; where half of the rows have one that training would
    teach, it is an error. `measured` has the number of rows, the first twenty of them by number, counted from 0, and an
    example.

    | code | rows that |
    |---|---|
    | `rows_control_token` | hold a control token as text, of this tokenizer or of a well-known one |
    | `rows_mojibake` | hold Korean that was read in another encoding than it was written in |
    | `rows_replaced` | hold U+FFFD |
    | `rows_markup` | hold HTML entities or tags outside code |
    | `rows_no_value` | have an answer like "nan", "None", "null" |
    | `rows_decomposed`, `rows_half_width` | hold text that is not NFC, or half-width jamo |
    | `rows_duplicate`, `rows_both_ways` | repeat a row, or a pair with its answers exchanged |
    | `rows_same_answers`, `rows_same_within_length` | have answers with the same ids, or the same up to `max_length` |
    | `rows_one_length`, `rows_one_opening` | have answers that are nearly all as long, or begin alike |
    | `rows_leak` | are held out and near-identical to a training prompt |
    | `rows_language` | (a fact) 존댓말, 반말 and foreign letters among the answers |

    Args:
        dataset ([`datasets.Dataset`], [`datasets.IterableDataset`] or iterable of `dict`): Rows of one TRL type. A stream
            is read to its end; a hash of each row is kept.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*): The trainer's; ids are compared with it.
        held_out (rows, *optional*): Rows that training does not see, to look for among the prompts of `dataset`.
        max_length (`int`, *optional*): Length in tokens that the trainer will be given.

    Raises:
        ValueError: There is no row, the rows are of no TRL type, or one of them holds no text; with its number.
    """
    checks = [check(tokenizer, max_length) for check in CHECKS]
    total = 0
    for batch in batches(dataset):
        total += len(batch)
        for check in checks:
            check.look(batch)
    if not total:
        raise InputError("There are no rows to check.")
    found = [finding for check in checks for finding in check.findings(total)]
    return worst_first([*found, *(check_leaks(dataset, held_out) if held_out is not None else ())])
