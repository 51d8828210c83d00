"""A run on several processes speaks once."""

import logging
import os

import torch


def is_main_process() -> bool:
    """True on the first of the processes that train together, and where there is only one.

    accelerate's `PartialState` would answer too, but starts the process group where nobody has yet; this only looks.
    Before that start, what the launcher (`accelerate launch`, `torchrun`) set for each process is the answer.
    """
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank() == 0
    return os.environ.get("RANK", "0") == "0"


def say(text: str = "", end: str = "\n") -> None:
    """Print, on the main process only."""
    if is_main_process():
        print(text, end=end, flush=True)


def hush_other_processes() -> None:
    """On every process but the main one: no progress bars, and of this package's log nothing short of an error."""
    if is_main_process():
        return
    import datasets
    from transformers.utils import logging as transformers_logging

    logging.getLogger(__package__).setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
