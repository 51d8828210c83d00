"""What a model's output has rows for and its tokenizer no token."""

from transformers import PreTrainedTokenizerBase


def unused_ids(tokenizer: PreTrainedTokenizerBase, rows: int) -> list[int]:
    """Ids that no token has, of a model with `rows` output rows: vocabularies are padded to a round number.

    Their rows were never trained, an untrained row may come out likely all the same, and its id has no text.
    """
    return sorted(set(range(rows)) - set(tokenizer.get_vocab().values()))
