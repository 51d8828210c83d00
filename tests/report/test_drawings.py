import re

import numpy as np
import pytest

from trl_kochat.report.charts import Chart, Line
from trl_kochat.report.drawings import HEIGHT, WIDTH, draw
from trl_kochat.report.words import both


def drawn(values, *, log_scale=False, steps=None):
    steps = np.arange(1, len(values) + 1) if steps is None else np.array(steps)
    line = Line(both("training"), steps, np.array(values, dtype=float))
    return draw(Chart("x", both("Loss"), both("step"), [line], log_scale=log_scale))


def ticks(svg):
    return re.findall(r">([^<]+)</text>", svg)


@pytest.mark.parametrize(
    ("values", "log_scale", "among"),
    [
        ([0.8, 1.2], False, "0.8"),
        ([0.0, 0.0005], False, "0.0005"),
        ([0.3, 30.0], True, "10"),
        ([0.8, 1.1], True, "0.9"),
        ([1e-5, 2e-5], False, "0.00001"),
        ([10_000, 20_000], False, "20,000"),
        ([3.0, 3.0], False, "3"),
        ([1e-3, 1e5], True, "1"),
    ],
)
def test_ticks_are_numbers_as_people_write_them(values, log_scale, among):
    found = ticks(drawn(values, log_scale=log_scale))
    assert among in found and 5 <= len(found) <= 14
    assert not any("e" in tick or "×" in tick for tick in found)


@pytest.mark.parametrize("values", [[1.0], [0.0, 0.0], [1e150, -1e150], [5e-324, 0.0], list(range(500))])
def test_whatever_is_drawn_lies_within_the_drawing(values):
    svg = drawn(values)
    for points in re.findall(r'points="([^"]*)"', svg):
        for point in points.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= WIDTH and 0 <= y <= HEIGHT
    assert "nan" not in svg and "inf" not in svg


def test_steps_are_whole():
    assert [tick for tick in ticks(drawn([2.5], steps=[1])) if tick.startswith(("0.9", "1"))] == ["1"]
    assert not any("." in tick for tick in ticks(drawn([2, 2, 2], steps=[1, 2, 3]))[-3:])
