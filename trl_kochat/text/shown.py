"""Values, names and texts for a reader: short enough to be read, and nothing that a terminal would obey."""

import re
from collections.abc import Iterable


# Of a list of names, such as columns, as many as fit in a line or two (ours).
MAX_NAMES = 12


def shown(value: object, limit: int = 80) -> str:
    """A value for an error message: its `repr`, no longer than a line.

    >>> shown("가" * 100)[-8:], shown(10**5000)
    ('가가가가가...', 'an int too long to show')
    """
    try:
        return cut(repr(value), limit)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        article = "an" if type(value).__name__[0] in "aeiou" else "a"
        return f"{article} {type(value).__name__} too long to show"


def listed(names: Iterable[object], limit: int = 80) -> str:
    """Names for an error message, each no longer than `limit`, and how many more there are.

    >>> listed(["prompt", "completion"]), listed(range(15))
    ('prompt, completion', '0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 3 more')
    """
    every = list(names)
    text = ", ".join(cut(name if isinstance(name, str) else shown(name), limit) for name in every[:MAX_NAMES])
    return f"{text} and {len(every) - MAX_NAMES} more" if len(every) > MAX_NAMES else text


def unique_names(names: list[str]) -> list[str]:
    """Add a number to names that come again: each is a column of a log.

    >>> unique_names(["length", "reward", "length"])
    ['length', 'reward', 'length_2']
    """
    return [name if (n := names[: i + 1].count(name)) == 1 else f"{name}_{n}" for i, name in enumerate(names)]


def cut(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def printable(text: str) -> str:
    """Text of a model or a file for a terminal: control characters and changes of direction are spelt out.

    >>> printable("가\\x1b[2J\\n나")
    '가\\\\x1b[2J\\n나'
    """
    return re.sub(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", lambda found: ascii(found[0])[1:-1], text
    )
