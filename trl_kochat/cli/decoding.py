"""Flags that say how answers are decoded, and ways of decoding in words: `"beam 7 ngram 2 T 2.0 top_k 50"`."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from ..errors import InputError


# What a way calls a setting -> its flag. A flag's own name does as well.
_WORDS = {"ngram": "no_repeat_ngram_size", "T": "temperature", "penalty": "repetition_penalty"}
_SAMPLING = ("temperature", "top_k", "top_p")
WAYS = "greedy, beam N, ngram N, T X, top_k K, top_p P, penalty X, sample, seed S"


def add_decoding_arguments(parser: argparse.ArgumentParser) -> None:
    decoding = parser.add_argument_group("decoding", "Greedy unless asked otherwise; --beam and --sample combine.")
    decoding.add_argument("--greedy", action="store_true", help="the likeliest token each time (the default)")
    decoding.add_argument("--beam", type=int, metavar="N", help="beam search with N beams")
    decoding.add_argument("--sample", action="store_true", help="draw tokens by their probability")
    decoding.add_argument("--temperature", type=float, metavar="T", help="above 1 flatter, below 1 sharper")
    decoding.add_argument("--top_k", type=int, metavar="K", help="draw from the K likeliest tokens only; 0 is all")
    decoding.add_argument("--top_p", type=float, metavar="P", help="draw from the likeliest tokens that make up P")
    decoding.add_argument("--seed", type=int, metavar="S", help="seed of the draw (default: 42)")
    decoding.add_argument(
        "--no_repeat_ngram_size", type=int, metavar="N", help="no run of N tokens twice, nor one of the prompt"
    )
    decoding.add_argument("--repetition_penalty", type=float, metavar="X", help="above 1: less of what was said")


def decoding_settings(args: argparse.Namespace) -> dict[str, Any]:
    """What `generate_answers` is told, from the flags.

    Raises:
        ValueError: A flag would have no effect or contradicts another one.
    """
    if args.greedy and (args.beam or args.sample):
        raise InputError("--greedy excludes --beam and --sample.")
    if args.beam is not None and args.beam < 2:
        raise InputError(f"--beam {args.beam} is no beam search; give 2 or more beams, or --greedy.")
    drawing = {name: getattr(args, name) for name in _SAMPLING}
    drawing = {name: value for name, value in drawing.items() if value is not None}
    idle = [*drawing, *(["seed"] if args.seed is not None else [])]
    if idle and not args.sample:
        raise InputError(f"{', '.join('--' + name for name in idle)} has no effect without --sample.")
    # Not every one of these is refused by `generate`; out of range they do nothing, or draw one token only.
    for name, good, allowed in (
        ("temperature", lambda value: value > 0, "above 0; for the likeliest tokens leave --sample out"),
        ("top_k", lambda value: value >= 0, "0 or more"),
        ("top_p", lambda value: 0 < value <= 1, "above 0 and at most 1"),
        ("no_repeat_ngram_size", lambda value: value >= 1, "1 or more"),
        ("repetition_penalty", lambda value: value > 0, "above 0"),
    ):
        value = getattr(args, name)
        if value is not None and not good(value):
            raise InputError(f"--{name} is {value}; it must be {allowed}.")
    settings: dict[str, Any] = {"do_sample": args.sample, "num_beams": args.beam or 1, **drawing}
    for name in ("no_repeat_ngram_size", "repetition_penalty"):
        if getattr(args, name) is not None:
            settings[name] = getattr(args, name)
    if args.sample:
        settings["seed"] = 42 if args.seed is None else args.seed
    return settings


class _Words(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; there are {WAYS}.")


def ways_of_decoding(ways: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What `generate_answers` is told for each way in words; one that gives a temperature, top_k or top_p draws.

    >>> ways_of_decoding(["beam 10 ngram 2"])
    {'beam 10 ngram 2': {'do_sample': False, 'num_beams': 10, 'no_repeat_ngram_size': 2}}

    Raises:
        ValueError: A word is none, or settings do not go together; with the way.
    """
    parser = _Words(prog="", add_help=False, allow_abbrev=False)
    add_decoding_arguments(parser)
    told = {}
    for way in ways:
        words = [_WORDS.get(word, word) for word in way.split()]
        words = [f"--{word}" if word[:1].isalpha() else word for word in words]
        try:
            args = parser.parse_args(words)
            args.sample |= any(getattr(args, name) is not None for name in _SAMPLING)
            told[way] = decoding_settings(args)
        except InputError as error:
            raise InputError(f"--decoding {way!r}: {error}") from error
    return told
