"""The error that is the user's to mend, and those by which a network says no."""

import sys


class InputError(ValueError):
    """What a user typed, or what a file, dataset, tokenizer or model of his holds, cannot be worked with.

    The message says what was given (with the row's number), what is allowed and what to do. Commands and recipes print
    it alone and end; any other `ValueError` is a fault of the program and keeps its traceback.
    """


def need_dataset(rows: object, taker: str) -> None:
    """Raise `ValueError` unless the rows are a [`datasets.Dataset`]; `taker` is what asks for one."""
    from datasets import Dataset

    if not isinstance(rows, Dataset):
        raise InputError(
            f"{taker} takes a datasets.Dataset, as format_dataset makes of rows, not a {type(rows).__name__}."
        )


# What HTTP clients raise when a connection breaks off in the middle of a file; which client is used differs with the
# version of huggingface_hub.
_CLIENTS = (("aiohttp", "ClientError"), ("httpx", "HTTPError"), ("httpx2", "HTTPError"))


def network_errors() -> tuple[type[Exception], ...]:
    """What a download may end in: `OSError`, and the own errors of those HTTP clients that are loaded."""
    loaded = [getattr(sys.modules[module], name) for module, name in _CLIENTS if module in sys.modules]
    return (OSError, *loaded)
