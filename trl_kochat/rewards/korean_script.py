"""Hangul where Hangul belongs."""

from ..errors import InputError
from ..text.health import script_shares
from ..text.normalize import is_blank
from .contract import Reward, of_text


def korean_script(*, latin: float = 1.0) -> Reward:
    """1 less the share of letters out of place: Han, kana, Latin, others and broken ones (see [`script_shares`]).

    Code, addresses and explanations in parentheses are in place. From 0 to 1; 1 where there are no letters at all, 0 for
    nothing to read.

    Args:
        latin (`float`, *optional*, defaults to `1.0`): What a Latin letter costs beside the others' 1; less, where units
            and abbreviations are expected.
    """
    if not 0 <= latin <= 1:
        raise InputError(f"latin is {latin!r}; it is a number from 0 to 1.")

    def score(text: str) -> float:
        shares = script_shares(text)
        return 0.0 if is_blank(text) else 1 - (shares.han + shares.kana + shares.other + latin * shares.latin)

    return of_text("korean_script", score)
