"""The error that is the user's to mend."""


class InputError(ValueError):
    """What a user typed, or what a file, dataset, tokenizer or model of his holds, cannot be worked with.

    The message says what was given (with the row's number), what is allowed and what to do. Commands and recipes print
    it alone and end; any other `ValueError` is a fault of the program and keeps its traceback.
    """
