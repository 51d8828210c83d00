"""`load_tokenizer`: AutoTokenizer, then the repairs."""

import logging
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ..errors import InputError, network_errors
from ..findings import Finding
from ..models import not_to_be_had, remote_code
from ..sample import embedded
from ..text.shown import cut, shown
from .examined import ExaminedTokenizer
from .fix import repair
from .origin import Origin
from .templates import set_chat_template


logger = logging.getLogger(__name__)

# What decides which file is found.
_LOCATION = ("revision", "subfolder", "cache_dir")


def load_tokenizer(
    name_or_path: str | PathLike[str],
    *,
    chat_template: str | None = "auto",
    trust_remote_code: bool = False,
    revision: str | None = None,
    **kwargs: Any,
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model, right: what `AutoTokenizer` gives, repaired by [`fix_tokenizer`].

    Every repair is logged in one line, and so is every warning that remains.

    Args:
        name_or_path (`str`): Folder, repository id on the Hub (files in the local cache do when offline), or `tiny-ko`.
        chat_template (`str`, *optional*, defaults to `"auto"`): `"auto"` keeps the tokenizer's own template and
            installs `"ko_instruct"` when there is none; one that writes no token after an answer gets EOS there. The
            name of one of our templates installs that one; `"training"` is `"auto"` with the marks that
            `assistant_only_loss` needs (see [`set_chat_template`]); `None` leaves all as it is.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run a tokenizer class that comes with
            the model.
        revision (`str`, *optional*): Branch, tag or commit.
        kwargs: Passed to `AutoTokenizer.from_pretrained`, such as `eos_token`, `padding_side`, `cache_dir`.

    Raises:
        ValueError: Files that no tokenizer can be made of, no EOS and no special token that must be it, or a template
            that the vocabulary cannot write.
        OSError: The files are neither on this machine nor to be had.
    """
    kwargs |= {"trust_remote_code": trust_remote_code, "revision": revision}
    return load_tokenizer_with_findings(name_or_path, chat_template=chat_template, **kwargs)[0]


def _write_end(tokenizer: PreTrainedTokenizerBase, findings: list[Finding]) -> list[Finding]:
    """Let a template whose answers end in no token write EOS behind them, in place, if it is of a form that can."""
    try:
        set_chat_template(tokenizer, "training")
    except InputError:
        return findings
    return [replace(found, fixed=True) if found.code == "template_stop" else found for found in findings]


def load_tokenizer_with_findings(
    name_or_path: str | PathLike[str], *, chat_template: str | None = "auto", **kwargs: Any
) -> tuple[PreTrainedTokenizerBase, list[Finding]]:
    """[`load_tokenizer`], with what was found; `fixed` tells what has been repaired."""
    name_or_path = embedded(name_or_path) if isinstance(name_or_path, str) else name_or_path
    kwargs = {"trust_remote_code": False, **kwargs}
    kwargs = {key: value for key, value in kwargs.items() if value is not None or key not in _LOCATION}
    loaded = load_as_auto(name_or_path, **kwargs)
    origin = Origin(str(name_or_path), {key: kwargs[key] for key in _LOCATION if key in kwargs})
    return repair_loaded(ExaminedTokenizer(loaded, origin=origin), chat_template)


def repair_loaded(
    examined: ExaminedTokenizer, chat_template: str | None = "auto"
) -> tuple[PreTrainedTokenizerBase, list[Finding]]:
    """What [`load_tokenizer`] makes of a tokenizer as `AutoTokenizer` loads it, and what was found."""
    tokenizer, findings = repair(examined)
    if chat_template in ("auto", "training") and tokenizer.chat_template is None:
        set_chat_template(tokenizer, "ko_instruct")
        logger.warning("%s has no chat template: installed 'ko_instruct'.", examined.tokenizer.name_or_path)
        findings = [replace(found, fixed=True) if found.code == "no_chat_template" else found for found in findings]
    elif chat_template not in ("auto", None):
        set_chat_template(tokenizer, chat_template)
    elif chat_template == "auto" and any(one.code == "template_stop" and not one.measured["stop"] for one in findings):
        findings = _write_end(tokenizer, findings)
    for finding in findings:
        if not finding.fixed and finding.severity != "info":
            logger.warning("%s: %s", finding.code, finding.message)
    return tokenizer, findings


def load_as_auto(name_or_path: str | PathLike[str], **kwargs: Any) -> PreTrainedTokenizerBase:
    """`AutoTokenizer.from_pretrained`, which says in one sentence why there is no tokenizer."""
    refuse_missing_folder(name_or_path)
    folder = Path(name_or_path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, **kwargs)
        if not isinstance(tokenizer.model_max_length, int | float):
            raise InputError(f"model_max_length is {shown(tokenizer.model_max_length)}, not a number")
        return tokenizer
    except Exception as error:
        # `tokenizers` raises a bare Exception for a tokenizer.json that it cannot read.
        kinds = (ValueError, LookupError, TypeError, AttributeError, ImportError, StrictDataclassError)
        expected = isinstance(error, (*network_errors(), *kinds))
        if not expected and type(error) is not Exception:
            raise
        if isinstance(error, ValueError) and "trust_remote_code" in str(error):
            raise InputError(remote_code(f"The tokenizer of {name_or_path}")) from error
        reason = f"{error} is missing" if isinstance(error, LookupError) else cut(" ".join(str(error).split()), 600)
        if not folder.is_dir():
            if isinstance(error, network_errors()):
                raise not_to_be_had(name_or_path, reason) from error
            raise InputError(f"The tokenizer of {name_or_path} cannot be loaded: {reason}") from error
        files = "" if (folder / "tokenizer.json").is_file() else " It holds no tokenizer.json."
        if (folder / "adapter_config.json").is_file():
            files += " It is an adapter: take the tokenizer of its base model."
        raise InputError(f"The folder {folder} holds no tokenizer that can be loaded.{files} ({reason})") from error


def refuse_missing_folder(name_or_path: str | PathLike[str]) -> None:
    """Raise `FileNotFoundError` for a path that is no folder; transformers would look for a repository of that name.

    Raises:
        ValueError: It is no name at all.
    """
    if not isinstance(name_or_path, str | PathLike) or not str(name_or_path).strip():
        raise InputError(f"{shown(name_or_path)} is neither a folder nor the id of a repository.")
    name = str(name_or_path)
    if (isinstance(name_or_path, PathLike) or name.startswith(("/", ".", "~"))) and not Path(name).is_dir():
        raise FileNotFoundError(f"There is no folder {name}.")
