"""The error that is the user's to mend."""

import sys


class InputError(ValueError):
    """What a user typed, or what a file, dataset, tokenizer or model of his holds, cannot be worked with.

    The message says what was given (with the row's number), what is allowed and what to do. Commands and recipes print
    it alone and end; any other `ValueError` is a fault of the program and keeps its traceback.
    """


def http_errors() -> tuple[type[Exception], ...]:
    """What the Hub's client, httpx or httpx2 by its version, raises for a connection that breaks within a file."""
    return tuple(sys.modules[name].HTTPError for name in ("httpx", "httpx2") if name in sys.modules)
