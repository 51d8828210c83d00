import pytest

from trl_kochat.cli import main

from ..report.runs import COURSE_PROMPT, make_run


def test_the_page_of_one_run(tmp_path, capsys):
    folder = make_run(tmp_path / "run")
    assert main(["report", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.split() == [str(folder / "index.html")]
    assert COURSE_PROMPT in (folder / "index.html").read_text(encoding="utf-8")
    assert (folder / "loss.png").exists()


def test_several_runs_give_a_comparison_beside_them(tmp_path, capsys):
    for method in ("sft", "reward", "ppo"):
        make_run(tmp_path / method, method)
    # The report folder names a run too, and a run named twice is one run.
    runs = [tmp_path / "sft", tmp_path / "reward" / "report", tmp_path / "ppo", tmp_path / "sft"]
    assert main(["report", *map(str, runs)]) == 0
    page = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert "3 runs compared" in page and all(f"{method}_recipe" in page for method in ("sft", "reward", "ppo"))
    assert str(tmp_path / "comparison.html") in capsys.readouterr().out
    assert all((tmp_path / method / "report" / "index.html").exists() for method in ("sft", "reward", "ppo"))


def test_the_comparison_goes_where_it_is_told(tmp_path):
    for name in ("a", "b"):
        make_run(tmp_path / name)
    assert main(["report", str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(tmp_path / "my.html")]) == 0
    assert (tmp_path / "my.html").exists() and not (tmp_path / "comparison.html").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["nothing"], "--output_dir of a run"), (["run", "--output", "x.html"], "comparison of several runs")],
)
def test_what_cannot_be_done_is_one_line(tmp_path, monkeypatch, capsys, arguments, complaint):
    make_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert main(["report", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("trl-kochat report: ") and complaint in line
    assert not (tmp_path / "x.html").exists()
