"""The files a tokenizer came from, as far as they lie on this machine. Nothing is downloaded here."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HFValidationError
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..errors import InputError


@dataclass(frozen=True)
class Origin:
    """Where to look for the files of a tokenizer.

    Args:
        name_or_path (`str`): Folder, or id of a repository whose files are in the local cache.
        options (`dict`): What `from_pretrained` was given to find them: `revision`, `subfolder`, `cache_dir`.
    """

    name_or_path: str
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    def file(self, name: str) -> Path | None:
        """Path of a file of the model, or `None` when it is not on this machine."""
        folder = Path(self.name_or_path)
        if folder.is_dir():
            path = folder / self.options.get("subfolder", "") / name
            return path if path.is_file() else None
        if not self.name_or_path:
            return None
        try:
            return Path(hf_hub_download(self.name_or_path, name, local_files_only=True, **self.options))
        except (HFValidationError, OSError):  # no repository id, or a file that is not in the cache
            return None

    @cached_property
    def backend(self) -> Tokenizer | None:
        """The pipeline exactly as tokenizer.json describes it."""
        path = self.file("tokenizer.json")
        return Tokenizer.from_file(str(path)) if path else None

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file of the model; empty when there is none.

        Raises:
            ValueError: The file is there and broken.
        """
        path = self.file(name)
        try:
            content = json.loads(path.read_text(encoding="utf-8")) if path else {}
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is not JSON: {error}.") from error
        if not isinstance(content, dict):
            raise InputError(f"{path} is JSON and not an object with keys.")
        return content

    def matches(self, tokenizer: PreTrainedTokenizerBase) -> bool:
        """Whether the files hold the vocabulary of `tokenizer`.

        A tokenizer keeps the name of the one it was trained from (`train_new_from_iterator`), so a name proves little.
        """
        if self.backend is None:
            return False
        return self.backend.get_vocab(with_added_tokens=False).items() <= tokenizer.get_vocab().items()


def is_rebuilt_class(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the class of `tokenizer` builds its pipeline itself instead of taking it from tokenizer.json.

    Classes of transformers with an `__init__` of their own do. Where the class takes the file as it is, a pipeline that
    differs was changed on purpose; a class from outside transformers is its author's business.
    """
    cls = type(tokenizer)
    return (
        isinstance(tokenizer, PreTrainedTokenizerFast)
        and cls.__module__.startswith("transformers.")
        and cls.__init__ is not PreTrainedTokenizerFast.__init__
    )
