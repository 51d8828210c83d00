"""What the fuzz tests share: how many inputs they make, odd text and values, and what counts as our own error.

One definition, two sizes: `TRL_KOCHAT_FUZZ=nightly` (`make fuzz`) makes over ten thousand inputs, anew each time; without
it the tests make some hundreds, the same ones every time.
"""

import os
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from trl_kochat.errors import InputError


NIGHTLY = os.environ.get("TRL_KOCHAT_FUZZ") == "nightly"
# What `make fuzz` promises; tests/fuzz/conftest.py fails it for less.
PROMISED = 10_000

_SHARED: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
}
settings.register_profile("fuzz-tests", max_examples=20, derandomize=True, database=None, **_SHARED)
settings.register_profile("fuzz-nightly", max_examples=350, print_blob=True, **_SHARED)
PROFILE = settings.get_profile("fuzz-nightly" if NIGHTLY else "fuzz-tests")

# Test -> inputs that it was given.
COUNTS: Counter[str] = Counter()


def fuzz(weight: float = 1.0, /, **strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """`given`, at the size of the profile times `weight`, and counted."""

    def decorate(test: Callable[..., None]) -> Any:
        @settings(PROFILE, max_examples=max(2, round(PROFILE.max_examples * weight)))
        @given(**strategies)
        @wraps(test)
        def counted(*args: Any, **kwargs: Any) -> None:
            COUNTS[test.__name__] += 1
            test(*args, **kwargs)

        return counted

    return decorate


def outcome(call: Callable[[], Any], *, says: str = "") -> tuple[Any, str | None]:
    """What `call` returns and `None`, or `None` and its complaint, which has to be an `InputError`.

    Of that very class (a `UnicodeError` or a `JSONDecodeError` is a `ValueError` too, and nobody's sentence), short
    enough to be read, and with `says` in it.
    """
    try:
        return call(), None
    except ValueError as error:
        assert type(error) is InputError, f"{type(error).__name__} instead of our own sentence: {error}"
        message = str(error)
        assert 20 < len(message) < 1_500, f"{len(message)} characters: {message[:300]}"
        assert says in message, f"{message!r} does not name {says!r}"
        return None, message


# What breaks text: half characters, combining marks, decomposed Hangul, nothing to see, control characters, the
# replacement character, other directions and line ends, what the course's files hold, markup.
PIECES = (
    "\ud83d",
    "\udc00",
    "\u0301",
    "e\u0301",
    "\u1112\u1161\u11ab",
    "\u11ab",
    "한글",
    "뷁",
    "ㅋㅋㅋ",
    "漢字",
    "\u200b",
    "\u200d",
    "\u3164",
    "\ufeff",
    "👩\u200d👩\u200d👧",
    "😀",
    "\x00",
    "\x07",
    "\x1b[31m",
    "\x7f",
    "\x85",
    "\ufffd",
    "\ufffe",
    "\U0010ffff",
    "\u2028",
    "\u202e",
    "\r\n",
    "\r\r\n",
    "\n",
    " ",
    "\t",
    "\\n",
    "'",
    "“",
    "ﬁ①Ａ",
    "<script>alert(1)</script>",
    "</style>",
    "</title>",
    "]]>",
    "<!--",
    "--!>",
    "&amp;",
    "&#0;",
    "\" onload='x'",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "%s %(x)d",
    "$\\alpha$",
    "</s>",
    "<<start conversation>>",
    "<사람>:",
    "### Response(응답):",
    "가" * 1_200,
)
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=6).map("".join)
# Text that UTF-8 can write, as Arrow and files hold it.
whole_texts = texts.map(lambda text: text.encode("utf-8", "ignore").decode("utf-8"))
numbers = st.one_of(
    st.integers(-3, 5),
    st.integers(),
    st.sampled_from((10**19, -(10**400), 10**4_000, 2**63)),
    st.floats(),
    st.sampled_from((float("nan"), float("inf"), -0.0, 1e308, 5e-324)),
)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(texts | st.integers() | st.none(), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=6,
)


def replacements(value: Any) -> int:
    """How many U+FFFD stand in the texts of a value."""
    if isinstance(value, str):
        return value.count("\ufffd")
    if isinstance(value, dict):
        return sum(replacements(key) + replacements(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return sum(map(replacements, value))
    return 0
