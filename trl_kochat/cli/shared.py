"""What several commands share: models by name and from disk, prompts as text, plain lines."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from rich.console import Console

from ..errors import InputError
from ..sample import embedded


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


EMBEDDED = "tiny-ko"
Answer = TypeVar("Answer")


class Candidate(NamedTuple):
    """One that answers: a base model, with or without an adapter."""

    label: str
    base: str
    adapter: str | None

    @property
    def tokenizer(self) -> str:
        """Where its tokenizer lies."""
        from ..models import tokenizer_source

        return self.base if self.adapter is None else tokenizer_source(self.adapter, self.base)


def add_loading_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--load_in_4bit", action="store_true", help="load base models in 4-bit NF4")
    parser.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the model")


def hide_progress_bars() -> None:
    """Of what transformers loads and downloads."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def model_path(name: str) -> str:
    """The name of a model or an adapter as given, or the folder of what is embedded under it (`tiny-ko`).

    Raises:
        ValueError: It is written like a path and there is no such folder; asking the Hub for it would take long.
    """
    name = embedded(name)
    path = Path(name)
    if path.is_file():
        raise InputError(f"{name} is a file; a model is a folder, or a repository of the Hub.")
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    if not path.is_dir() and (looks_local or (path.parent != Path() and path.parent.is_dir())):
        raise InputError(f"There is no folder {name}.")
    return name


def plan_candidates(models: Sequence[str], adapters: Sequence[str]) -> list[Candidate]:
    """Who answers, in order: the models as given, then the adapters on the one model.

    Raises:
        ValueError: Adapters are given with several models, or an adapter names no base.
    """
    from ..models import is_adapter, read_adapter_config

    if adapters and len(models) > 1:
        raise InputError(f"--adapter goes with one MODEL, its base; there are {len(models)}.")
    candidates = []
    for model in models:
        base: str | None = model
        if is_adapter(model):
            base = read_adapter_config(model).base_model_name_or_path
            if not base:
                raise InputError(f"The adapter {model} does not name its base; give the base as MODEL and --adapter.")
        candidates.append(Candidate(model, str(base), None if base == model else model))
    candidates += [Candidate(adapter, candidates[0].base, adapter) for adapter in adapters]
    return [
        candidate._replace(label=label)
        for candidate, label in zip(candidates, short_labels([c.label for c in candidates]), strict=True)
    ]


def ask_each(
    candidates: Sequence[Candidate],
    args: argparse.Namespace,
    ask: Callable[[Any, "PreTrainedTokenizerBase"], Answer],
) -> dict[Candidate, Answer]:
    """What `ask(model, tokenizer)` says of each candidate, in order; each base is loaded once, and one base at a time."""
    import gc

    import torch

    from ..measure.generate import load_generator, use_adapter
    from ..tokenizer import load_tokenizer

    hide_progress_bars()
    trust: dict[str, Any] = {"trust_remote_code": args.trust_remote_code}
    names = dict.fromkeys(candidate.tokenizer for candidate in candidates)
    tokenizers = {name: load_tokenizer(name, **trust) for name in names}
    said: dict[Candidate, Answer] = {}
    for base in dict.fromkeys(candidate.base for candidate in candidates):
        group = [candidate for candidate in candidates if candidate.base == base]
        adapters = [candidate.adapter for candidate in group if candidate.adapter is not None]
        model = load_generator(base, adapters, load_in_4bit=args.load_in_4bit, **trust)
        for candidate in group:
            with use_adapter(model, None if candidate.adapter is None else adapters.index(candidate.adapter)):
                said[candidate] = ask(model, tokenizers[candidate.tokenizer])
        del model
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return {candidate: said[candidate] for candidate in candidates}


def load_scorer(
    path: str, args: argparse.Namespace, *, base: str | None = None
) -> tuple[Any, "PreTrainedTokenizerBase"]:
    """A reward model, an adapter or a whole one, and its tokenizer."""
    from ..measure.score import load_reward_model
    from ..models import tokenizer_source
    from ..tokenizer import load_tokenizer

    hide_progress_bars()
    trust: dict[str, Any] = {"trust_remote_code": args.trust_remote_code}
    model = load_reward_model(path, base=base, load_in_4bit=args.load_in_4bit, **trust)
    return model, load_tokenizer(tokenizer_source(path, base), **trust)


def short_labels(names: Sequence[str]) -> list[str]:
    """The last part of each path, or as many parts as it takes to tell them apart; repeated names are numbered."""
    parts = [Path(name).parts for name in names]
    depth = 1
    while depth < max(map(len, parts)) and len({p[-depth:] for p in parts}) < len(set(parts)):
        depth += 1
    labels = ["/".join(p[-depth:]).replace("//", "/") for p in parts]
    return [
        label if labels.count(label) == 1 else f"{label} ({labels[:i].count(label) + 1})"
        for i, label in enumerate(labels)
    ]


def refuse_odd_turns(turns: Any, where: str) -> None:
    """Raise `ValueError` for what is neither text nor messages, which no template can write."""
    if isinstance(turns, str):
        return
    if not isinstance(turns, list) or not all(
        isinstance(turn, Mapping) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)
        for turn in turns
    ):
        raise InputError(f"{where}: {repr(turns):.80} is neither text nor messages {{role, content}}.")


def transcript(prompt: Any) -> str:
    """A prompt as one text, the turns of a conversation with their roles."""
    return prompt if isinstance(prompt, str) else "\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)


def write_plain(console: Console, text: str) -> None:
    print(text, file=console.file)  # as it is: rich would make spaces of tabs
