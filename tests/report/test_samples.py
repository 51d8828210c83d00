import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trl_kochat.report import Sample, append_samples, read_samples, write_samples
from trl_kochat.report.samples import prompt_text


TEXT = st.text(st.characters(codec="utf-8"))
SAMPLES = st.lists(
    st.builds(
        Sample,
        step=st.integers(0, 10**6),
        prompt=TEXT | st.lists(st.fixed_dictionaries({"role": TEXT, "content": TEXT}), min_size=1),
        answer=TEXT,
        side=st.sampled_from(["", "chosen", "rejected"]),
        ended=st.none() | st.booleans(),
        tokens=st.none() | st.integers(0, 4096),
        score=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    )
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SAMPLES, SAMPLES)
def test_samples_read_back_as_written(tmp_path, first, second):
    write_samples(tmp_path, first)
    append_samples(tmp_path, second)
    assert read_samples(tmp_path) == first + second


def test_a_line_cut_by_a_kill_is_passed_over(tmp_path):
    samples = [Sample(0, "오늘 미세먼지 어때?", "조금\u2028나쁩니다."), Sample(5, "오늘 미세먼지 어때?", "좋아요.")]
    write_samples(tmp_path, samples)
    path = tmp_path / "samples.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    assert read_samples(tmp_path) == samples[:1]


def test_a_line_that_is_no_sample_is_named(tmp_path):
    (tmp_path / "samples.jsonl").write_text('{"step": 0, "prompt": "p", "answer": "a"}\n{"step": 0}\n')
    with pytest.raises(ValueError, match="line 2"):
        read_samples(tmp_path)


def test_no_file_is_no_samples(tmp_path):
    assert read_samples(tmp_path) == []


def test_a_conversation_reads_like_a_prompt():
    user = {"role": "user", "content": "점심 뭐 먹지?"}
    assert prompt_text([user]) == "점심 뭐 먹지?"
    assert prompt_text([{"role": "system", "content": ""}, user]) == "[user] 점심 뭐 먹지?"
    assert prompt_text([{"role": "system", "content": "짧게."}, user]) == "[system] 짧게.\n[user] 점심 뭐 먹지?"
