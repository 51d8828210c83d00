"""What another installation of transformers reads of the same files: `trl-kochat doctor MODEL --against PYTHON`.

Conversions of tokenizers change between versions: transformers 5.24 wrote that of SentencePiece models anew. A model
trained under one version and served under another then reads other ids, and nothing tells.
"""

import json
import subprocess
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..findings import Finding
from ..text.shown import cut, shown


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# What the other interpreter runs: texts come in and ids go out, so that nothing of ours need be installed there.
_PROGRAM = """
import json, sys
asked = json.load(sys.stdin)
import transformers
tokenizer = transformers.AutoTokenizer.from_pretrained(asked["model"], trust_remote_code=asked["trust_remote_code"])
ids = [tokenizer(text)["input_ids"] for text in asked["texts"]]
print(json.dumps({"version": transformers.__version__, "class": type(tokenizer).__name__, "ids": ids}))
"""


def differences(
    model: str,
    tokenizer: "PreTrainedTokenizerBase",
    python: str,
    *,
    repaired: "PreTrainedTokenizerBase",
    rows: Any = None,
    trust_remote_code: bool = False,
) -> Finding:
    """The texts, of ours and of the rows, to which the `transformers` of another interpreter gives other ids.

    Args:
        model (`str`): Folder or repository id.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): As `AutoTokenizer` loads it here.
        python (`str`): The other interpreter.
        repaired ([`~transformers.PreTrainedTokenizerBase`]): As [`load_tokenizer`] does.
        rows (*optional*): Rows of TRL whose texts are read as well.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether a tokenizer class of the model's own may run.

    Raises:
        ValueError: The interpreter is none, or loads no tokenizer there.
    """

    from ..encode import texts_of
    from ..tokenizer.probes import JAMO, PIPELINE, SENTENCES, common_syllables

    texts = [*PIPELINE, *SENTENCES, *JAMO, " ".join(common_syllables())]
    texts += [text for row in rows or () for text in texts_of(row)]
    there = _ask(python, {"model": model, "trust_remote_code": trust_remote_code, "texts": texts})
    here: list[Any] = [tokenizer(text)["input_ids"] for text in texts]
    pairs = zip(texts, here, there["ids"], strict=True)
    parted = [(text, ours, theirs) for text, ours, theirs in pairs if ours != theirs]
    kinds = f"{type(tokenizer).__name__}) and {there['version']} there ({there['class']})"
    versions = f"transformers {metadata.version('transformers')} here ({kinds}"
    if not parted:
        return Finding("same_ids", "info", f"{versions} give {len(texts):,} texts the same ids.")
    settled = all(repaired(text)["input_ids"] == theirs for text, _, theirs in parted)
    way_out = "load_tokenizer gives those of there." if settled else "Train and serve with one of them."
    examples = "; ".join(f"{cut(text, 40)!r}: {_around(ours, theirs)}" for text, ours, theirs in parted[:3])
    return Finding(
        "other_ids",
        "warning" if settled else "error",
        f"{versions} give {len(parted):,} of {len(texts):,} texts other ids: {examples}. {way_out}",
        measured={"texts": [{"text": text, "here": ours, "there": theirs} for text, ours, theirs in parted]},
    )


def _around(ours: Sequence[int], theirs: Sequence[int]) -> str:
    start = next(
        (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
    )
    return f"from token {start} on {list(ours[start : start + 5])} here and {list(theirs[start : start + 5])} there"


def _ask(python: str, question: dict[str, Any]) -> dict[str, Any]:
    try:
        done = subprocess.run([python, "-c", _PROGRAM], input=json.dumps(question), capture_output=True, text=True)
    except OSError as error:
        raise InputError(f"--against {shown(python)} is no Python that runs: {error}.") from error
    try:
        answer: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
        return {key: answer[key] for key in ("version", "class", "ids")}
    except (ValueError, KeyError, TypeError) as error:
        last = cut(done.stderr.strip().rpartition("\n")[2] or "it said nothing", 300)
        raise InputError(f"--against {python} loads no tokenizer of {question['model']}: {last}") from error
