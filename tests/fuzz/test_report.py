"""Report pages with whatever a run, a model or an edited file may leave in a record."""

import json
import re
from types import SimpleNamespace

import html5lib
import pytest
from hypothesis import strategies as st

from tests.report.runs import LOGS, make_record
from trl_kochat.report import (
    RunRecord,
    Sample,
    before_after_table,
    read_samples,
    write_comparison,
    write_page,
)
from trl_kochat.report.lengths import histogram
from trl_kochat.report.record import plain, to_json
from trl_kochat.report.samples import write_samples

from .inputs import fuzz, numbers, outcome, texts, values


XHTML, SVG = "{http://www.w3.org/1999/xhtml}", "{http://www.w3.org/2000/svg}"
# Everything that our templates and drawings are made of. An element or attribute beyond came out of data.
ELEMENTS = {
    *(
        f"{XHTML}{name}"
        for name in "html head meta title style script body header nav a button section h1 h2 h3 p ul li br div".split()
    ),
    *(f"{XHTML}{name}" for name in "table thead tbody tr th td span strong code pre dl dt dd figure".split()),
    *(f"{XHTML}{name}" for name in "figcaption details summary".split()),
    *(f"{SVG}{name}" for name in "svg line polyline circle rect text".split()),
}
ATTRIBUTES = {
    *"lang charset name content http-equiv class id type value href download scope".split(),
    *"viewBox font-size data-chart x y x1 x2 y1 y2 cx cy r width height points text-anchor".split(),
}
METHOD = st.sampled_from(tuple(LOGS))
measured = st.dictionaries(st.sampled_from(("eval_loss", "accuracy", "kl")) | texts, numbers | st.none(), max_size=3)
histories = st.lists(
    st.dictionaries(
        st.sampled_from(("step", "loss", "grad_norm", "reward", "health/message", "health/code", "ppo/time/generate"))
        | texts,
        numbers | texts,
        max_size=3,
    ).map(lambda entry: {**entry, "step": entry["step"] if entry.get("step") in range(10**6) else 1}),
    max_size=3,
)
lists = st.dictionaries(
    st.sampled_from(("before", "after")) | texts,
    st.dictionaries(
        st.sampled_from(("chosen_scores", "rejected_scores")) | texts, st.lists(numbers | st.none(), max_size=3)
    ),
    max_size=2,
)
records = st.fixed_dictionaries(
    {"recipe": texts, "method": METHOD | texts, "preset": texts, "model": texts},
    optional={
        "seconds": st.floats(0, 1e12),
        "before": measured,
        "after": measured,
        "tokenizer": st.lists(
            st.dictionaries(st.sampled_from(("code", "severity", "fixed", "message")), values), max_size=2
        ),
        "versions": st.dictionaries(texts, texts, max_size=2),
        "rows": st.fixed_dictionaries(
            {},
            optional={
                "read": numbers,
                "made": texts,
                "dropped": st.dictionaries(texts, numbers, max_size=2) | st.none(),
                "lengths": st.dictionaries(
                    st.sampled_from(("prompt", "chosen")) | texts,
                    st.lists(st.integers(0, 10**6), min_size=1, max_size=4).map(histogram),
                    max_size=2,
                ),
            },
        ),
        "run": st.fixed_dictionaries(
            {},
            optional={
                "status": st.sampled_from(("finished", "failed", "stopped", "running")) | texts,
                "reason": texts | st.none(),
                "command": texts | st.none(),
                "seed": numbers | st.none(),
                "device": texts | st.none(),
                "started": texts,
                "steps": st.integers(0, 10**20),
                "max_steps": st.integers(0, 10**20) | st.none(),
                "resumed_from": st.lists(st.integers(), max_size=2),
                "output_dir": texts | st.none(),
                "peak_host_memory_mib": st.integers(0, 10**20) | st.none(),
                "settings": st.dictionaries(texts, values, max_size=2),
            },
        ),
        "distributions": lists,
        "history": histories,
    },
)
prompts = texts | st.lists(st.fixed_dictionaries({"role": texts, "content": texts}), min_size=1, max_size=2)
shares = st.none() | st.floats()
samples = st.builds(
    Sample,
    step=st.integers(0, 10**12),
    prompt=prompts,
    answer=texts,
    side=st.sampled_from(("", "chosen", "rejected")) | texts,
    ended=st.none() | st.booleans(),
    tokens=st.none() | st.integers(),
    repetition=shares,
    hanja=shares,
    latin=shares,
    score=st.none() | numbers,
    held_out=st.sampled_from(("", "new_way")) | texts,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


def check_page(path):
    """Well-formed to the letter, and made of our own elements and attributes alone."""
    data = path.read_bytes()
    html = data.decode("utf-8")
    # What HTML does not have: a browser shows U+FFFD for some of these, which nobody wrote.
    assert not re.search("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]", html)
    # Strict: the first parse error is an exception.
    tree = html5lib.HTMLParser(strict=True, tree=html5lib.getTreeBuilder("etree")).parse(
        data, transport_encoding="utf-8"
    )
    for element in tree.iter():
        if isinstance(element.tag, str):
            assert element.tag in ELEMENTS, element.tag
            for name, value in element.attrib.items():
                assert name in ATTRIBUTES, (element.tag, name)
                if name.endswith("href"):
                    assert value.startswith(("#", "data:text/csv;base64,"))
    return tree


def page_text(tree):
    return "".join(tree.itertext())


@fuzz(0.1, record=records, some=st.lists(samples, max_size=3))
def test_a_page_is_well_formed_and_data_stay_text(folder, record, some):
    RunRecord(**record).save(folder)
    write_samples(folder, some)
    before = [(folder / name).read_bytes() for name in ("metrics.json", "samples.jsonl")]
    tree = check_page(write_page(folder, png=False))
    assert [(folder / name).read_bytes() for name in ("metrics.json", "samples.jsonl")] == before
    given = to_json(record) + "".join(to_json(plain(vars(sample))) for sample in some)
    assert page_text(tree).count("\ufffd") <= 3 * given.count("\ufffd")
    before_after_table(RunRecord.load(folder))


@fuzz(0.03, some=st.lists(st.tuples(records, st.lists(samples, max_size=2)), min_size=1, max_size=3))
def test_a_comparison_is_well_formed_and_data_stay_text(folder, some):
    folders = []
    for number, (record, answers) in enumerate(some):
        folders.append(folder / str(number))
        RunRecord(**record).save(folders[-1])
        write_samples(folders[-1], answers)
    write_comparison(folders, folder / "comparison.html")
    check_page(folder / "comparison.html")


@fuzz(0.02, method=METHOD, value=numbers, factor=numbers)
def test_curves_of_any_numbers_are_drawn(folder, method, value, factor):
    history = [{"step": step, **{key: [value, factor, 1.0][step % 3] for key in LOGS[method]}} for step in range(1, 7)]
    make_record(
        method, history=history, distributions={"before": {"chosen": [1.0, factor], "rejected": [value]}}
    ).save(folder)
    write_samples(folder, [])
    check_page(write_page(folder))


# What an edited file may hold in place of a value: another type, anywhere.
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)


def places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


def replaced(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@fuzz(0.15, data=st.data(), new=json_values)
def test_a_record_with_a_value_of_another_type_has_a_page_or_is_refused(folder, data, new):
    content = json.loads(to_json(vars(make_record(history=[{"step": 1, "loss": 1.0}]))))
    path = data.draw(st.sampled_from(sorted(places(content), key=str)))
    (folder / "metrics.json").write_text(json.dumps(replaced(content, path, new)), encoding="utf-8")
    write_samples(folder, [Sample(0, "안녕?", "네")])
    page, _ = outcome(lambda: write_page(folder, png=False), says="metrics.json")
    if page is not None:
        check_page(page)


@fuzz(data=st.binary(max_size=30), place=st.floats(0, 1), cut=st.integers(0, 30))
def test_a_damaged_record_or_sample_file_is_read_or_refused_by_name(folder, data, place, cut):
    make_record().save(folder)
    write_samples(folder, [Sample(0, "안녕?", "네"), Sample(5, [{"role": "user", "content": "안녕?"}], "네")])
    for name, read in (("metrics.json", RunRecord.load), ("samples.jsonl", read_samples)):
        content = (folder / name).read_bytes()
        at = int(place * len(content))
        (folder / name).write_bytes(content[:at] + data + content[at + cut :])
        outcome(lambda read=read: read(folder), says=name)


@fuzz(
    0.5,
    line=json_values | st.dictionaries(st.sampled_from(("step", "prompt", "answer", "side", "score")), json_values),
)
def test_a_line_that_is_no_sample_is_refused_by_name(folder, line):
    make_record(history=[]).save(folder)
    (folder / "samples.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    page, _ = outcome(lambda: write_page(folder, png=False), says="samples.jsonl")
    if page is not None:
        check_page(page)


@fuzz(value=values | st.builds(SimpleNamespace))
def test_whatever_is_recorded_is_strict_json(value):
    def refuse(constant):
        raise AssertionError(constant)

    text, complaint = outcome(lambda: to_json(value))
    if complaint is None:
        json.loads(text, parse_constant=refuse)
