"""What is saved: tokenizers that transformers 4 and 5 read alike, folders that behave elsewhere as they did here."""

import copy
import json
import re
from os import PathLike
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..encode import end_token_ids
from ..errors import InputError
from ..sample import SAMPLE_DIR


# Where transformers 5 was when it saved, and which backend it used: nothing that another machine or version needs.
_OF_THE_MOMENT = ("backend", "is_local", "local_files_only", "name_or_path")
_GENERATION = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")


def plain_template(template: str) -> str:
    """A chat template without the marks of what is trained, `{% generation %}`, which plain jinja2 does not parse.

    A block that is always written stands in their place, so that every space is as it was.

    >>> plain_template("{%- generation -%}{{ message['content'] }}{%- endgeneration %}")
    "{%- if true -%}{{ message['content'] }}{%- endif %}"
    """
    return _GENERATION.sub(lambda mark: f"{{%{mark[1]} {'endif' if mark[2] else 'if true'} {mark[3]}%}}", template)


def save_portable(tokenizer: PreTrainedTokenizerBase, folder: str | PathLike[str]) -> None:
    """Save a tokenizer so that transformers 4.57 and 5, and programs with a plain jinja2, load the same one.

    What transformers 5 saves by itself names classes and lists that 4.57 does not know. Here the class is
    `PreTrainedTokenizerFast`, which takes tokenizer.json as it is, `model_input_names` are `input_ids` and
    `attention_mask`, and further special tokens stand under the name that both versions read. The chat template renders
    the same text but loses its `{% generation %}` marks: for `assistant_only_loss` set it anew ([`set_chat_template`]).

    Raises:
        ValueError: The tokenizer has no tokenizer.json: its class is written in Python.
    """
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise InputError(f"{type(tokenizer).__name__} has no tokenizer.json, so only its own class can load it.")
    tokenizer.save_pretrained(folder)
    _save_plain_templates(Path(folder))
    path = Path(folder) / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in _OF_THE_MOMENT:
        config.pop(key, None)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["model_input_names"] = ["input_ids", "attention_mask"]
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    _write_json(path, config)


def save_hand_over(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, folder: str | PathLike[str]
) -> None:
    """Bring a folder that a model or an adapter was just saved in to behave elsewhere as it did here.

    It gets the tokenizer ([`save_portable`]); a generation_config.json, and the config.json of a whole model, that know
    every token that ends an answer and the padding; and an adapter_config.json that names an embedded base by its
    public name, not by a path of this machine.

    Args:
        model ([`~transformers.PreTrainedModel`] or `PeftModel`): What was saved; it is not changed.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): The model's.
        folder (`str`): Where `save_pretrained` or `save_model` wrote.
    """
    folder = Path(folder)
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        save_portable(tokenizer, folder)
    else:
        tokenizer.save_pretrained(folder)
        _save_plain_templates(folder)
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    generation_config = getattr(base, "generation_config", None)  # none where nothing is generated
    ends = end_token_ids(tokenizer, _declared(base.config.get_text_config(), generation_config))
    ids = {"eos_token_id": ends if len(ends) > 1 else next(iter(ends), None), "pad_token_id": tokenizer.pad_token_id}
    if generation_config is not None:
        generation_config = copy.deepcopy(generation_config)
        generation_config.update(**ids)
        generation_config.to_json_file(folder / "generation_config.json")
    if (folder / "config.json").is_file():
        config = copy.deepcopy(base.config)
        for part in {id(part): part for part in (config, config.get_text_config())}.values():
            part.update(ids)
        config.save_pretrained(folder)
    for path in (folder / "adapter_config.json", *folder.glob("*/adapter_config.json")):
        if path.is_file() and not path.parent.name.startswith("checkpoint-"):
            _name_base(path)


def _declared(*configs: Any) -> list[int]:
    values = [getattr(config, "eos_token_id", None) for config in configs if config is not None]
    return [one for value in values for one in ([value] if isinstance(value, int) else value or [])]


def _name_base(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    base = Path(config.get("base_model_name_or_path") or "")
    if base.is_absolute() and base.parent == SAMPLE_DIR:
        _write_json(path, config | {"base_model_name_or_path": base.name})


def _save_plain_templates(folder: Path) -> None:
    for path in (folder / "chat_template.jinja", *folder.glob("additional_chat_templates/*.jinja")):
        if path.is_file():
            path.write_text(plain_template(path.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
