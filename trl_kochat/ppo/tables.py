"""Completions as a table, printed and sent to the loggers in use."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text


def _entry(value: Any) -> Text:
    if isinstance(value, list):  # a conversation
        return Text("\n").join(Text(f"{message['role'].upper()}\n{message['content']}") for message in value)
    return Text("" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value))


def print_completions(rows: Sequence[dict[str, Any]], *, title: str, limit: int | None = None) -> None:
    """Print completions with their rewards, the first `limit` of them."""
    if not rows:
        return
    table = Table(show_lines=True, expand=True)
    for name in rows[0]:
        table.add_column(name, justify="left" if name in ("prompt", "completion") else "right")
    for row in rows[:limit]:
        table.add_row(*(_entry(value) for value in row.values()))
    Console().print(Panel(table, title=title))


def show_completions(
    rows: Sequence[dict[str, Any]], *, name: str, step: int, limit: int | None, report_to: Sequence[str]
) -> None:
    """Print completions, and send them to wandb where it is in use."""
    print_completions(rows, title=f"{name}, step {step}", limit=limit)
    if "wandb" in report_to:
        log_table_to_wandb(rows, name=name, step=step)


def log_table_to_wandb(rows: Sequence[dict[str, Any]], *, name: str, step: int) -> None:
    """Send completions to the wandb run that is open, if one is."""
    import wandb

    if wandb.run is None or not rows:
        return
    columns: list[Any] = ["step", *rows[0]]
    data = [[step, *(str(v) if isinstance(v, list) else v for v in row.values())] for row in rows]
    wandb.log({name: wandb.Table(columns=columns, data=data)})
