import re
from pathlib import Path

import pytest

from trl_kochat.report import page
from trl_kochat.report.curves import known_plots
from trl_kochat.report.measures import MEASURES
from trl_kochat.report.words import both_or_same, korean


ROOM = Path(page.__file__).parent
SOURCES = [*ROOM.glob("*.py"), *(ROOM / "templates").glob("*.jinja")]
QUOTED = r'"((?:[^"\\]|\\.)*)"'


def called_with_text():
    """What the room's code and templates ask for in both languages by a text that stands there."""
    for path in SOURCES:
        source = path.read_text(encoding="utf-8")
        yield from re.findall(rf"\b(?:t|both)\(\s*{QUOTED}", source)
        yield from re.findall(rf"NextStep\({QUOTED}", source)
    yield from page.WAYS.values()


LABELS = [one.label for one in MEASURES.values()]
PLOTS = [
    text
    for plots in known_plots().values()
    for plot in plots
    for text in (plot.title, plot.hint, *(one.label for one in plot.series))
]


@pytest.mark.parametrize("text", sorted({*called_with_text(), *LABELS, *filter(None, PLOTS)}))
def test_every_text_of_ours_has_korean(text):
    assert re.search("[가-힣]", korean().get(text, "")) or not re.search("[A-Za-z]{2}", text)


def test_both_languages_have_the_same_places_to_fill_in():
    for english, text in korean().items():
        assert len(re.findall(r"\{\d?\}", english)) == len(re.findall(r"\{\d?\}", text)), english


def test_nothing_is_translated_that_nobody_says():
    said = "\n".join([path.read_text(encoding="utf-8") for path in SOURCES] + PLOTS)
    data = re.compile("right_|pairs in the right|right answers")
    unused = [text for text in korean() if text not in said and not data.match(text)]
    kinds = {"wrong fact", "other question", "evasive", "level", "unfinished", "long winded", "wrong language"}
    assert set(unused) <= kinds | {"off the point", "error", "warning", "info", "↑ {}", "↓ {}", "= {}"}


def test_labels_with_a_name_or_a_number_of_data_keep_it():
    assert both_or_same("pairs in the right order, rejected: wrong fact").ko.endswith("틀린 사실")
    assert both_or_same("pairs in the right order, rejected: 새_종류").ko.endswith("새_종류")
    assert both_or_same("right answers, held out: {x} 3").en == "right answers, held out: {x} 3"
