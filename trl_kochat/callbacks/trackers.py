"""Numbers and tables of a callback to the trackers that a run reports to."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Trackers:
    """Sends to those of wandb, trackio and TensorBoard that `args.report_to` names; on the main process only.

    transformers' own callbacks open and close the runs; nothing can be sent once training has ended. A table is sent
    whole every time: neither wandb nor trackio adds rows to one that was sent.
    """

    def __init__(self, report_to: Sequence[str] | str | None, output_dir: str | os.PathLike[str]):
        names = [report_to] if isinstance(report_to, str) else list(report_to or ())
        self._names = [name for name in ("wandb", "trackio", "tensorboard") if name in names]
        # TensorBoard shows each folder of events as a run; the trainer's own has a name that nobody else is told.
        self._events = os.environ.get("TENSORBOARD_LOGGING_DIR") or Path(output_dir) / "runs" / "samples"

    def log(self, step: int, numbers: Mapping[str, float], name: str, columns: list[str], rows: list[list]) -> None:
        for tracker in self._names:
            getattr(self, f"_{tracker}")(step, dict(numbers), name, columns, rows)

    def _wandb(self, step: int, numbers: dict[str, Any], name: str, columns: list[str], rows: list[list]) -> None:
        import wandb

        if wandb.run is not None:
            table = wandb.Table(columns=[*columns], data=rows, allow_mixed_types=True)
            wandb.log({**numbers, name: table, "train/global_step": step})

    def _trackio(self, step: int, numbers: dict[str, Any], name: str, columns: list[str], rows: list[list]) -> None:
        import pandas as pd
        import trackio

        table = trackio.Table(dataframe=pd.DataFrame(rows, columns=columns))
        trackio.log({**numbers, name: table, "train/global_step": step})

    def _tensorboard(
        self, step: int, numbers: dict[str, Any], name: str, columns: list[str], rows: list[list]
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(log_dir=str(self._events)) as writer:
            for key, value in numbers.items():
                writer.add_scalar(key, value, step)
            latest = [row for row in rows if row[0] == step]
            writer.add_text(name, _markdown(columns, latest), step)


def _markdown(columns: list[str], rows: list[list]) -> str:
    """
    >>> _markdown(["step", "answer"], [[0, "a|b\\nc"]]).splitlines()
    ['| step | answer |', '| --- | --- |', '| 0 | a\\\\|b c |']
    """
    lines = [columns, ["---"] * len(columns), *rows]
    cells = [
        [str(cell).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
