"""The page's own words in both languages; English stands in the code, Korean in `templates/korean.yaml`."""

import re
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import yaml
from markupsafe import Markup


class Both(NamedTuple):
    """A text in English and Korean; on a page both are there, and the page's language says which one is seen."""

    en: str
    ko: str

    def __html__(self) -> str:
        if self.en == self.ko:
            return Markup("{}").format(self.en)
        return Markup('<span class="en" lang="en">{}</span><span class="ko" lang="ko">{}</span>').format(*self)


@cache
def template_data(name: str) -> dict[str, Any]:
    """What a YAML file of `templates/` holds."""
    return yaml.safe_load((files(__package__) / "templates" / name).read_text(encoding="utf-8"))


def korean() -> dict[str, str]:
    return template_data("korean.yaml")


def both(text: str, *values: Any) -> Both:
    """A text of the page with values in place of its `{}`, each a value or a [`Both`].

    >>> both("step {}", 3)
    Both(en='step 3', ko='3스텝')
    """
    sides = [[str(value[side]) if isinstance(value, Both) else str(value) for value in values] for side in (0, 1)]
    return Both(text.format(*sides[0]), korean()[text].format(*sides[1]))


def both_or_same(text: str) -> Both:
    """The same for a text that may come from elsewhere, a name in somebody's log: as it is, if we have no Korean.

    >>> both_or_same("pairs in the right order, 2 ranks apart").ko, both_or_same("my_reward").ko
    ('두 답의 순서를 맞힌 비율, 등수 차이 2', 'my_reward')
    """
    if text in korean():
        return Both(text, korean()[text])
    counted = re.sub(r"\d+", "{}", text)
    if counted in korean():
        return both(counted, *re.findall(r"\d+", text))
    above, colon, last = text.rpartition(": ")
    return both("{}: {}", both_or_same(above), both_or_same(last)) if colon and above in korean() else Both(text, text)


def language(text: str) -> str:
    """The `lang` of a text of data: Korean where it has Hangul, else unknown.

    >>> language("GPT는 뭐야?"), language("What?")
    ('ko', '')
    """
    return "ko" if re.search("[\uac00-\ud7a3\u3131-\u318e]", text) else ""
