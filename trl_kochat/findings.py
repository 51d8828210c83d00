"""What a check says about a tokenizer or about rows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


Severity = Literal["error", "warning", "info"]
# The worst comes first.
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """One property of a tokenizer or of rows that a user should know.

    Args:
        code (`str`): Short stable name, for example `"pad_is_eos"`.
        severity (`str`): `"error"` (training goes wrong), `"warning"` (something is lost or masked) or `"info"` (what
            is healthy can have it).
        message (`str`): What it is, what it does and what to do, in one or two sentences.
        fixable (`bool`): Whether [`fix_tokenizer`] can repair it without losing anything.
        fixed (`bool`): Whether it has been repaired; a check after the repair no longer finds it.
        measured (`dict`): The numbers behind the message, ready for JSON.
    """

    code: str
    severity: Severity
    message: str
    fixable: bool = False
    fixed: bool = False
    measured: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"{'fixed ' if self.fixed else ''}{self.severity} {self.code}: {self.message}"


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
