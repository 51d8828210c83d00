import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trl_kochat.errors import InputError
from trl_kochat.report import RunRecord
from trl_kochat.report.lengths import histogram
from trl_kochat.report.record import plain, to_json, write_atomically

from .runs import make_record


HISTOGRAM = histogram([1, 2])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=10,
)


@given(VALUES)
def test_whatever_is_written_is_strict_json(value):
    def refuse(constant):
        raise AssertionError(constant)

    assert json.loads(to_json(value), parse_constant=refuse) == plain(value)


def test_scalars_of_torch_and_numpy_become_numbers():
    assert plain({"a": torch.tensor(1.5), "b": np.float32(0.5), "c": np.int64(3), "d": math.nan}) == {
        "a": 1.5,
        "b": 0.5,
        "c": 3,
        "d": None,
    }


def test_a_record_reads_back_what_was_written(tmp_path):
    record = make_record("dpo", before={"accuracy": 0.5, "margin": None})
    record.save(tmp_path)
    assert RunRecord.load(tmp_path) == record


def test_a_key_of_a_later_version_is_passed_over(tmp_path):
    make_record().save(tmp_path)
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"from_the_future": 1}))
    assert RunRecord.load(tmp_path) == make_record()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("{", "line 1 column 2"), ("[]", "it is no object"), ('{"recipe": "x"}', "it has no method, preset, model")],
)
def test_a_file_that_is_no_report_is_refused(tmp_path, content, complaint):
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(InputError, match=f"metrics.json is not a run report: .*{complaint}"):
        RunRecord.load(tmp_path)


def test_writing_that_fails_leaves_the_last_file(tmp_path):
    write_atomically(tmp_path / "file", "whole")
    (tmp_path / "file.partial").mkdir()  # the next write cannot even begin
    with pytest.raises(OSError, match="partial"):
        write_atomically(tmp_path / "file", "other")
    assert (tmp_path / "file").read_text() == "whole"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"history": None}, "'history' expected a list, got NoneType"),
        ({"history": [{"step": []}]}, "entry 0 has no step"),
        ({"before": {"kl": "x"}}, r"before\['kl'\]' with value 'x'"),
        ({"rows": {"lengths": {"input_ids": {}}}}, "input_ids has no counts"),
        ({"rows": {"lengths": {"input_ids": HISTOGRAM | {"edges": [3]}}}}, "1 edges are no histogram"),
        ({"run": {"settings": 3}}, "'settings' expected a dict, got int"),
        ({"method": 3}, "'method' expected str, got int"),
        ({"distributions": {"before": {"chosen": ["x"]}}}, r"chosen'\]\[0\]' with value 'x'"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_place(tmp_path, change, complaint):
    make_record().save(tmp_path)
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=complaint):
        RunRecord.load(tmp_path)


def test_bytes_that_are_no_text_are_refused_in_our_words(tmp_path):
    (tmp_path / "metrics.json").write_bytes(b'{"recipe": "\xff"}')
    with pytest.raises(InputError, match="is not a run report: .*byte 0xff in position 12"):
        RunRecord.load(tmp_path)


def test_what_was_said_again_and_again_is_one_warning_with_its_steps(tmp_path):
    said = {"health/code": "look_failed", "health/message": "A round of samples failed."}
    make_record(history=[{"step": step, **said} for step in (0, 2)]).save(tmp_path)
    warnings = json.loads((tmp_path / "metrics.json").read_text())["warnings"]
    assert warnings == [{"code": "look_failed", "message": "A round of samples failed.", "steps": [0, 2]}]


def test_half_a_character_comes_back_from_the_file(tmp_path):
    make_record(model="네 \ud83d").save(tmp_path)
    assert RunRecord.load(tmp_path).model == "네 \ud83d"
