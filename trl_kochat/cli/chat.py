"""Talk to a model in the terminal, through its chat template.

On a pipe each line is a turn, and each answer is printed plainly; what else there is to say goes to stderr.

  trl-kochat chat runs/sft_kochatgpt
  trl-kochat chat skt/kogpt2-base-v2 --adapter runs/ppo_kochatgpt --sample --top_p 0.9
  trl-kochat chat tiny-ko-chat < questions.txt
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..text.normalize import is_blank, normalize_text
from ..text.shown import cut, printable
from .decoding import add_decoding_arguments, decoding_settings
from .shared import EMBEDDED, Candidate, add_loading_arguments, hide_progress_bars, model_path, plan_candidates


if TYPE_CHECKING:
    from ..measure.generate import Generation

# Longest answer where nobody says: as many tokens as this, or half of the model's positions (ours).
MAX_NEW_TOKENS = 256
HELP = """\
/reset            begin a new conversation; the system text stays
/system TEXT      what stands before the conversation; without TEXT nothing does
/adapter FOLDER   answer with another adapter on the same base; without FOLDER with the base alone
/seed N           seed of the draw, with --sample
/save FILE.jsonl  write the conversation as a row of messages, which the recipes train on
/quit             end, as Ctrl-D does; Ctrl-C stops an answer
A message that begins with / is written //."""
COMMANDS = [line.split()[0] for line in HELP.splitlines()[:-1]] + ["/help"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help=f"folder or Hub id of a model, folder of an adapter, or {EMBEDDED}"
    )
    parser.add_argument("--adapter", metavar="A", help="folder or Hub id of an adapter on MODEL")
    parser.add_argument("--system", default="", metavar="TEXT", help="what stands before the conversation")
    add_decoding_arguments(parser)
    parser.add_argument(
        "--max_new_tokens", type=int, metavar="N", help=f"longest answer (default: {MAX_NEW_TOKENS}, if there is room)"
    )
    add_loading_arguments(parser)


def run(args: argparse.Namespace) -> int:
    settings = decoding_settings(args)
    adapters = [model_path(args.adapter)] if args.adapter else []
    candidate = plan_candidates([model_path(args.model)], adapters)[-1]

    hide_progress_bars()
    chat = Chat(candidate, settings, args)
    chat.take_system(args.system)
    typed = sys.stdin.isatty() and sys.stdout.isatty()
    if typed:
        note(f"{candidate.label}. /help says what else there is.")
    for line in typed_lines() if typed else piped_lines():
        try:
            if line.strip() == "/quit":
                break
            reply(chat, line)
        except (InputError, OSError) as error:
            if not typed:  # nobody is there to say it otherwise
                raise
            note(str(error))
        except KeyboardInterrupt:
            if not typed:
                raise
            note("\n(stopped; neither question nor answer is kept)")
    return 0


def note(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)


def piped_lines() -> Iterator[str]:
    try:
        for line in sys.stdin:
            yield line.removeprefix("\ufeff").rstrip()
    except UnicodeDecodeError as error:
        raise InputError(
            f"What comes on the pipe is not {error.encoding}; convert it (iconv), or set PYTHONUTF8=1."
        ) from error


def typed_lines() -> Iterator[str]:
    """What is typed, line by line, until Ctrl-D."""
    read: Callable[[], str] = partial(input, "> ")
    if find_spec("prompt_toolkit") is None:
        note(
            "Without prompt_toolkit lines are edited as the terminal does it, which may take Hangul apart: "
            "pip install prompt_toolkit"
        )
    else:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter

        words = WordCompleter(COMMANDS, sentence=True)
        read = partial(PromptSession(completer=words, complete_while_typing=False).prompt, "> ")
    while True:
        try:
            yield read()
        except EOFError:
            return
        except KeyboardInterrupt:
            note("/quit ends.")


def reply(chat: "Chat", line: str) -> None:
    """Print what the model answers to a line, or do what the line says where it begins with `/`."""
    if is_blank(line):
        return
    if line.startswith("/") and not line.startswith("//"):
        note(obey(chat, line))
        return
    message = normalize_text(line.removeprefix("/") if line.startswith("//") else line)
    answer, left_out = chat.answer(message, lambda piece: print(printable(piece), end="", flush=True))
    print(flush=True)
    if left_out:
        note(f"({left_out} turns from the beginning were left out: the model reads {chat.positions} tokens)")
    if not answer.ended:
        note(f"(cut after {len(answer.ids)} tokens; --max_new_tokens allows more)")


def obey(chat: "Chat", line: str) -> str:
    """Do what a line that begins with `/` says.

    Returns:
        What there is to say of it.

    Raises:
        ValueError: There is no such command, or what it is given does not fit.
    """
    command, _, given = line.strip().partition(" ")
    given = given.strip()
    match command:
        case "/help":
            return HELP
        case "/reset":
            chat.turns.clear()
            return "A new conversation."
        case "/system":
            chat.take_system(given)
            return f"System text: {given}" if given else "No system text."
        case "/adapter":
            chat.use(model_path(given) if given else None)
            return f"{given or chat.base} answers from here on."
        case "/seed":
            chat.take_seed(given)
            return f"Seed {given}."
        case "/save":
            path = Path(given).expanduser()
            return f"{path}: {chat.save(path)} turns, one row of messages."
    raise InputError(f"No command {cut(command)}; there are {', '.join(COMMANDS)}.")


class Chat:
    """A conversation, and the model that has it: a base with any number of adapters, of which one or none answers."""

    def __init__(self, candidate: Candidate, settings: dict[str, Any], args: argparse.Namespace):
        from ..models import max_positions

        self.base, self.settings = candidate.base, settings
        self.turns: list[dict[str, Any]] = []
        self.system: list[dict[str, Any]] = []
        self._adapters = [] if candidate.adapter is None else [candidate.adapter]
        self._active = 0 if self._adapters else None
        self._trust: dict[str, Any] = {"trust_remote_code": args.trust_remote_code}
        self._in_4bit = args.load_in_4bit
        self._saved: set[Path] = set()
        self._take_tokenizer()
        self.model = self._load()
        self.positions = max_positions(self.model)
        room = MAX_NEW_TOKENS if self.positions is None else min(MAX_NEW_TOKENS, self.positions // 2)
        self.max_new_tokens = room if args.max_new_tokens is None else args.max_new_tokens

    def _load(self) -> Any:
        from ..measure.generate import load_generator

        return load_generator(self.base, self._adapters, load_in_4bit=self._in_4bit, **self._trust)

    def _take_tokenizer(self) -> None:
        from ..tokenizer import load_tokenizer

        adapter = None if self._active is None else self._adapters[self._active]
        self.tokenizer = load_tokenizer(Candidate("", self.base, adapter).tokenizer, **self._trust)

    def answer(self, message: str, write: Callable[[str], Any]) -> tuple["Generation", int]:
        """The model's answer to one more turn, handed to `write` as it comes; with beams it comes whole.

        Returns:
            The answer, and how many turns from the beginning had to be left out.

        Raises:
            ValueError: The message alone is too long, or the template does not take it; it is not kept then.
        """
        from ..measure.generate import generate_answers, use_adapter
        from ..measure.stream import AnswerStream

        self.turns.append({"role": "user", "content": message})
        stream = AnswerStream(self.tokenizer, write)
        settings = dict(self.settings)
        if "seed" in settings:  # the same draw for each answer would make them alike
            settings["seed"] += len(self.turns)
        if settings["num_beams"] == 1:
            settings["streamer"] = stream
        answer = None
        try:
            start = self._first_that_fits()
            with use_adapter(self.model, self._active):
                (answer,) = generate_answers(
                    self.model,
                    self.tokenizer,
                    [self.system + self.turns[start:]],
                    max_new_tokens=self.max_new_tokens,
                    **settings,
                )
        finally:
            if answer is None:
                self.turns.pop()
        stream.rest(answer.text)
        self.turns.append({"role": "assistant", "content": answer.text})
        return answer, start

    def _first_that_fits(self) -> int:
        """Number of the first turn, a question, from which on the conversation leaves room for an answer."""
        from ..measure.generate import encode_prompts

        for start in range(0, len(self.turns), 2):
            (ids,) = encode_prompts(self.tokenizer, [self.system + self.turns[start:]])
            if self.positions is None or len(ids) + self.max_new_tokens <= self.positions:
                return start
        raise InputError(
            f"The message has {len(ids)} tokens with what stands around it; the model reads {self.positions}, of which "
            f"{self.max_new_tokens} are kept for its answer (--max_new_tokens)."
        )

    def take_system(self, text: str) -> None:
        """Put a system text before the conversation, or none.

        Raises:
            ValueError: The template takes none.
        """
        from ..encode import as_turns
        from ..measure.generate import encode_prompts

        system, asked = as_turns(normalize_text(text), "system") if text else [], as_turns("가", "user")
        with_it, without = encode_prompts(self.tokenizer, [system + asked, asked])
        if system and with_it == without:
            raise InputError("The chat template leaves a system text out.")
        self.system = system

    def take_seed(self, seed: str) -> None:
        if "seed" not in self.settings:
            raise InputError(
                "A seed has no effect: each answer is the likeliest one. Start with --sample to draw them."
            )
        if not seed.isdecimal():
            raise InputError(f"/seed takes a whole number, not {cut(seed)!r}.")
        self.settings["seed"] = int(seed)

    def use(self, adapter: str | None) -> None:
        """Let another adapter on the base answer, or the base alone; the conversation goes on.

        Raises:
            ValueError: It is no adapter that writes text, or belongs to another base; all stays as it was.
        """
        from ..measure.generate import refuse_reward_adapter
        from ..models import attach_adapter

        if adapter is not None and adapter not in self._adapters:
            refuse_reward_adapter(adapter)
            try:
                self.model = attach_adapter(self.model, adapter, f"adapter_{len(self._adapters)}")
            except InputError:
                self.model = self._load()  # what did not fit has changed it
                raise
            self._adapters.append(adapter)
        self._active = None if adapter is None else self._adapters.index(adapter)
        self._take_tokenizer()

    def save(self, path: Path) -> int:
        """Write the conversation into a new file, or again into one of its own, as one row `{"messages": [...]}`.

        Returns:
            The number of turns.

        Raises:
            ValueError: There is none yet, or the file is somebody else's.
        """
        if not self.turns:
            raise InputError("There is no conversation to save yet.")
        if path.suffix not in (".json", ".jsonl"):
            raise InputError(f"/save takes the name of a file that ends in .jsonl, not {cut(str(path))!r}.")
        if path.exists() and path not in self._saved:
            raise InputError(f"There is a file {path} already; give another name.")
        row = {"messages": self.system + self.turns}
        path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
        self._saved.add(path)
        return len(self.turns)
