"""An answer as it comes."""

from collections.abc import Callable
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.generation import BaseStreamer

from .generate import control_token_ids, decode_answer


class AnswerStream(BaseStreamer):
    """`generate_answers(..., streamer=...)` of one prompt: hands its answer on, piece by piece, as a reader is to see it.

    transformers' `TextStreamer` drops every special token, and with them all emoji of KoGPT2, and holds words back.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): The model's.
        write (callable): Takes each piece; a syllable comes when it is whole.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, write: Callable[[str], Any]):
        self.tokenizer, self.write = tokenizer, write
        self.text = ""
        self._ids: list[int] | None = None  # before the prompt, which `generate` puts first
        self._control_ids = control_token_ids(tokenizer)

    def put(self, value: Any) -> None:
        if self._ids is None:
            self._ids = []
            return
        self._ids += value.flatten().tolist()
        self.rest(decode_answer(self.tokenizer, self._ids, control_ids=self._control_ids))

    def end(self) -> None:
        pass

    def rest(self, text: str) -> None:
        """Write what `text` has beyond what was written."""
        if text.startswith(self.text) and text != self.text:
            piece, self.text = text[len(self.text) :], text
            self.write(piece)
