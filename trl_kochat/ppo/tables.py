"""Completions as a table, printed and sent to the loggers in use."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..text.shown import printable
from .config import PPOConfig


def show_completions(rows: Sequence[dict[str, Any]], *, name: str, step: int, args: PPOConfig) -> None:
    """Print completions with their rewards, as many as asked for, and send all to the wandb run that is open."""
    if not rows:
        return
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = Table(show_lines=True, expand=True)
    for column in columns:
        table.add_column(column, justify="left" if column in ("prompt", "completion") else "right")
    for row in rows[: args.num_completions_to_print]:
        table.add_row(*(_entry(row.get(column)) for column in columns))
    Console().print(Panel(table, title=f"{name}, step {step}"))
    if "wandb" not in (args.report_to or []):
        return
    import wandb

    if wandb.run is not None:
        values = ([row.get(column) for column in columns] for row in rows)
        data = [[step, *(str(v) if isinstance(v, list) else v for v in row)] for row in values]
        wandb.log({name: wandb.Table(columns=["step", *columns], data=data)})


def _entry(value: Any) -> Text:
    if isinstance(value, list):  # a conversation
        value = "\n".join(f"{message['role'].upper()}\n{message['content']}" for message in value)
    return Text("" if value is None else f"{value:.2f}" if isinstance(value, float) else printable(str(value)))
