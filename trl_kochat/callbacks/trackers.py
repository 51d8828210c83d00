"""Numbers and tables of a callback to the trackers that a run reports to."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainingArguments


def send_to_trackers(
    args: TrainingArguments, step: int, numbers: Mapping[str, float], name: str, columns: list[str], rows: list[list]
) -> None:
    """Send a round to those of wandb, trackio and TensorBoard that `args.report_to` names; on the main process only.

    transformers' own callbacks open and close the runs; nothing can be sent once training has ended. A table is sent
    whole every time: neither wandb nor trackio adds rows to one that was sent. TensorBoard gets the rows of this step.
    """
    trackers = list(args.report_to or ())
    if "wandb" in trackers:
        import wandb

        if wandb.run is not None:
            table: Any = wandb.Table(columns=[*columns], data=rows, allow_mixed_types=True)
            wandb.log({**numbers, name: table, "train/global_step": step})
    if "trackio" in trackers:
        import pandas as pd
        import trackio

        table = trackio.Table(dataframe=pd.DataFrame(rows, columns=columns))
        trackio.log({**numbers, name: table, "train/global_step": step})
    if "tensorboard" in trackers:
        from torch.utils.tensorboard import SummaryWriter

        # TensorBoard shows each folder of events as a run; the trainer's own has a name that nobody else is told.
        events = os.environ.get("TENSORBOARD_LOGGING_DIR") or Path(str(args.output_dir)) / "runs" / "samples"
        with SummaryWriter(log_dir=str(events)) as writer:
            for key, value in numbers.items():
                writer.add_scalar(key, value, step)
            writer.add_text(name, _markdown(columns, [row for row in rows if row[0] == step]), step)


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
