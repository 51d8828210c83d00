"""`save_portable`: a folder that transformers 4 and 5 read alike."""

import json
from os import PathLike
from pathlib import Path

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..errors import InputError


# Where transformers 5 was when it saved, and which backend it used: nothing that another machine or version needs.
_OF_THE_MOMENT = ("backend", "is_local", "local_files_only", "name_or_path")


def save_portable(tokenizer: PreTrainedTokenizerBase, folder: str | PathLike[str]) -> None:
    """Save a tokenizer so that transformers 4.57 and 5 load the same one.

    What transformers 5 saves by itself names classes and lists that 4.57 does not know. Here the class is
    `PreTrainedTokenizerFast`, which takes tokenizer.json as it is, `model_input_names` are `input_ids` and
    `attention_mask`, and further special tokens stand under the name that both versions read.

    Raises:
        ValueError: The tokenizer has no tokenizer.json: its class is written in Python.
    """
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise InputError(f"{type(tokenizer).__name__} has no tokenizer.json, so only its own class can load it.")
    tokenizer.save_pretrained(folder)
    path = Path(folder) / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in _OF_THE_MOMENT:
        config.pop(key, None)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["model_input_names"] = ["input_ids", "attention_mask"]
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    path.write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
