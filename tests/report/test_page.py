import base64
import csv
import hashlib
import io
import re
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from trl_kochat.report import RunRecord, Sample, write_comparison, write_page
from trl_kochat.report.lengths import histogram

from .runs import COURSE_PROMPT, LOGS, make_run


class Page(HTMLParser):
    """The elements of a page and the text that a reader of one language sees."""

    def __init__(self, html: str, language: str = "en"):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._other = "ko" if language == "en" else "en"
        self._unseen: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag in ("style", "script", "svg", "title") or ("class", self._other) in attrs:
            self._unseen.append(tag)

    def handle_endtag(self, tag):
        if self._unseen and self._unseen[-1] == tag:
            self._unseen.pop()

    def handle_data(self, data):
        if not self._unseen:
            self.text += data + " "


def html_of(folder) -> str:
    return write_page(folder, png=False).read_text(encoding="utf-8")


def page_of(folder, language: str = "en") -> Page:
    return Page(write_page(folder).read_text(encoding="utf-8"), language)


def squeezed(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("method", LOGS)
def test_the_page_of_each_method_shows_its_curves(tmp_path, method):
    page = page_of(make_run(tmp_path, method))
    pictures = {path.stem for path in (tmp_path / "report").glob("*.png")}
    assert page.tags.count("svg") == len(pictures) > len(LOGS[method]) // 2
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "report").glob("*.png"))
    assert COURSE_PROMPT in page.text and "네, 한우입니다." in page.text
    for fact in ("tiny-ko", "preset cpu", "1 min 11 s", "1.00 GiB", "python recipes/x.py", "pad_is_eos", "identical"):
        assert fact in page.text


@pytest.mark.parametrize("make", ["run", "comparison"])
def test_the_page_needs_nothing_but_itself(tmp_path, make):
    folders = [make_run(tmp_path / method, method) for method in LOGS]
    path = tmp_path / "comparison.html"
    if make == "comparison":
        write_comparison(folders, path)
    else:
        path = write_page(folders[0])
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert not {"link", "iframe", "object", "img", "base", "form"} & set(page.tags)
    for name, value in page.attributes:
        assert not name.startswith("on") and name != "style"
        if name in ("src", "href", "xlink:href"):
            assert value is not None and value.startswith(("#", "data:text/csv;"))
    assert "url(" not in html and "@import" not in html and len(html) < 1_500_000


@pytest.mark.parametrize("tag", ["script", "style"])
def test_the_policy_lets_in_the_one_script_and_the_one_style_that_are_ours(tmp_path, tag):
    html = html_of(make_run(tmp_path, samples=[Sample(0, MALICIOUS, MALICIOUS)]))
    (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, flags=re.DOTALL)
    (policy,) = re.findall('Content-Security-Policy" content="([^"]*)"', html)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'" and "unsafe" not in policy


MALICIOUS = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'{{ 7 * 7 }}</pre></style>"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# A plain word may be a name that the page knows, `score` say, and is rightly drawn.
@given(st.text(min_size=1).filter(lambda text: not re.fullmatch("[a-z_/]+", text)))
@example(MALICIOUS)
@example("\ud800")  # half of a surrogate pair, as JSON can hold it
@example("\u202e거꾸로\u0000")
@example("0\r\r\r\r\x85\u2028\u20280")  # so many lines that it is folded
def test_text_of_data_and_models_stays_text(tmp_path, text):
    plain, hostile = (
        page_of(
            make_run(
                tmp_path,
                recipe=value,
                model=value,
                rows={"dropped": {value: 1}, "read": 1, "lengths": {value: histogram([1, 2])}},
                distributions={"before": {value: [1.0]}, value: {value: [1.0]}},
                tokenizer=[{"code": value, "severity": value, "fixed": False, "message": value}],
                before={value: 1.0},
                versions={value: value},
                history=[
                    {"step": 1, "health/code": value, "health/message": value},
                    {"step": 1, value: 1.0, f"ppo/time/{value}": 1.0, f"samples/{value}": 1.0},
                ],
                run={"status": "failed", "reason": value, "command": value, "max_steps": 3, "steps": 1}
                | {"settings": {value: value}},
                samples=[Sample(0, value, value), Sample(1, [{"role": value, "content": value}], value)],
            )
        )
        for value in (
            re.sub(r"\S", "가", text),
            text,
        )  # as long, and of as many lines, so that both are folded or none
    )
    assert hostile.tags == plain.tags
    assert {name for name, _ in hostile.attributes} == {name for name, _ in plain.attributes}


def test_a_script_in_a_prompt_is_shown_as_it_is(tmp_path):
    page = page_of(make_run(tmp_path, samples=[Sample(0, MALICIOUS, MALICIOUS)]))
    assert page.text.count("<script>alert(1)</script>") == 2


def test_names_of_runs_are_escaped_in_a_comparison(tmp_path):
    folders = [make_run(tmp_path / name, model=MALICIOUS) for name in ("a", "<b>한국어")]
    write_comparison(folders, tmp_path / "comparison.html")
    page = Page((tmp_path / "comparison.html").read_text(encoding="utf-8"))
    assert page.tags.count("script") == 1 and "b" not in page.tags
    assert "<b>한국어" in page.text


def test_before_and_after_stand_side_by_side_and_the_rest_is_folded_away(tmp_path):
    samples = [Sample(step, COURSE_PROMPT, f"답 {step}") for step in (10, 0, 20)]
    html = write_page(make_run(tmp_path, samples=samples)).read_text(encoding="utf-8")
    assert html.index("답 0") < html.index("답 20") < html.index("<details>") < html.index("답 10")


def test_scores_of_one_row_stand_together(tmp_path):
    samples = [
        Sample(step, COURSE_PROMPT, answer, side=side, score=score)
        for step in (0, 5)
        for side, answer, score in [("chosen", "네, 한우입니다.", step + 0.125), ("rejected", "몰라요.", -step - 0.5)]
    ]
    page = page_of(make_run(tmp_path, "reward", samples=samples))
    assert page.text.count(COURSE_PROMPT) == 1 and page.text.count("몰라요.") == 1
    for shown in ("step 0: 0.125", "step 5: 5.125", "step 0: -0.5", "step 5: -5.5"):
        assert shown in page.text


def test_the_table_judges_by_the_measure_and_not_by_the_sign(tmp_path):
    rows = {"eval_loss": (2.0, 1.0), "repetition": (0.1, 0.4), "accuracy": (0.5, 0.9), "kl": (0.0, 5.0)}
    record = {"before": {k: v[0] for k, v in rows.items()}, "after": {k: v[1] for k, v in rows.items()}}
    text = squeezed(page_of(make_run(tmp_path, **record)).text)
    for row in (
        "held-out rows before 2 after 1 ↓ better",
        "repetition in answers before 10.0% after 40.0% ↑ worse",
        "right order before 50.0% after 90.0% ↑ better",
    ):
        assert row in text
    assert re.search(r"KL to the reference \(nats a completion\) before 0 after 5 ↑ (?!better|worse)", text)


def run_with_intervals(folder, change):
    return make_run(
        folder,
        before={"right": 0.25},
        after={"right": 0.5},
        n={"right": 120},
        intervals={"before": {"right": [0.18, 0.33]}, "after": {"right": [0.41, 0.59]}, "change": {"right": change}},
    )


def test_a_measure_has_its_range_and_its_rows(tmp_path):
    text = squeezed(page_of(run_with_intervals(tmp_path, [0.1, 0.4])).text)
    assert "right answers before 25.0% 18.0%–33.0% after 50.0% 41.0%–59.0% ↑ better rows 120" in text


def test_an_arrow_stands_only_where_the_change_is_larger_than_chance(tmp_path):
    text = squeezed(page_of(run_with_intervals(tmp_path, [-0.1, 0.4])).text)
    assert "41.0%–59.0% no clear change rows 120" in text and "↑" not in text


def test_the_verdict_and_warnings_stand_above_every_better(tmp_path):
    history = [{"step": 3, "health/code": "never_ends", "health/message": "No answer ends."}]
    record = {"verdict": {"en": "It broke.", "ko": "망가졌어요."}, "history": history, "before": {"eval_loss": 2.0}}
    folder = make_run(tmp_path, **record, after={"eval_loss": 1.0})
    for language, words in {"en": ["It broke.", "No answer ends.", "better"], "ko": ["망가졌어요.", "좋아짐"]}.items():
        text = page_of(folder, language).text
        assert [text.index(word) for word in words] == sorted(text.index(word) for word in words)
    assert "No answer ends." in text and "It broke." not in text


def test_records_of_version_1_have_no_counts_among_their_measures(tmp_path):
    counts = {"n": 88, "n_answers": 88, "left_out": 2}
    text = page_of(make_run(tmp_path, before={"kl": 1.0} | counts, after={"kl": 1.0} | counts)).text
    assert "n_answers" not in text and "no ranges" in text and "88" not in text


def test_warnings_are_shown_and_silence_is_only_claimed_for_a_guard_that_watched(tmp_path):
    def text(history):
        return page_of(make_run(tmp_path, history=history)).text

    watched = {"step": 0, "health/warnings": 0}
    warning = {"step": 3, "health/code": "kl", "health/message": "KL is 40."}
    assert "KL is 40." in text([watched, warning]) and "step 3" in text([watched, warning])
    assert "found nothing to say" in text([watched])
    assert "found nothing to say" not in text([watched, warning])
    assert "Warnings" not in text([])


def test_an_aborted_run_says_so_and_offers_no_model(tmp_path):
    run = {"status": "failed", "reason": "OutOfMemoryError: 2 GiB", "command": "python x.py", "steps": 2}
    page = page_of(make_run(tmp_path, after={}, run=run | {"max_steps": 9, "output_dir": "runs/x"}))
    assert "OutOfMemoryError: 2 GiB" in page.text and "2 of 9 steps" in page.text
    assert "Load the model" not in page.text


def test_a_run_that_logged_nothing_has_a_page(tmp_path):
    folder = make_run(tmp_path, samples=[], history=[], before={}, after={}, rows={}, tokenizer=[], run={})
    assert "sft_recipe" in page_of(folder).text


def test_histograms_of_scores_before_and_after(tmp_path):
    distributions = {
        "before": {"chosen_rewards": [0.0, 0.0], "rejected_rewards": [0.0, 0.0]},
        "after": {"chosen_rewards": [1.0, None, 2.0], "rejected_rewards": [-1.0, 0.0], "chosen_by_row": [9.0]},
    }
    page = page_of(make_run(tmp_path, "reward", distributions=distributions))
    assert {"scores_before.png", "scores_after.png"} <= {path.name for path in (tmp_path / "report").iterdir()}
    assert "Scores of held-out answers, before" in page.text and "Scores of held-out answers, after" in page.text


@pytest.mark.parametrize("scores", [[None, None], []])
def test_a_model_whose_scores_are_no_numbers_has_a_page_without_histogram(tmp_path, scores):
    lists = {"chosen_scores": scores, "rejected_scores": scores}
    page = page_of(make_run(tmp_path, "reward", distributions={"before": lists, "after": lists}))
    assert "reward_recipe" in page.text and "Scores of held-out answers" not in page.text


def test_facts_that_nobody_knows_are_left_out(tmp_path):
    folder = make_run(tmp_path, rows={"read": 3, "dropped": None}, tokenizer=[{"code": "pad_is_eos"}])
    assert "pad_is_eos" in page_of(folder).text


def test_the_table_of_contents_leads_to_what_is_there(tmp_path):
    folders = [make_run(tmp_path / method, method) for method in LOGS]
    write_comparison(folders, tmp_path / "comparison.html")
    for path in (tmp_path / "comparison.html", write_page(folders[2])):
        html = path.read_text(encoding="utf-8")
        ids = re.findall(r'\bid="([^"]+)"', html)
        assert len(ids) == len(set(ids)) > 3
        assert re.findall(r'href="#([^"]+)"', html) == ids


def test_a_page_has_every_text_in_both_languages(tmp_path):
    for method in LOGS:
        html = html_of(make_run(tmp_path / method, method))
        assert html.count('class="en" lang="en"') == html.count('class="ko" lang="ko"') > 20
    english, korean = (page_of(tmp_path / "dpo" / "report", language).text for language in ("en", "ko"))
    assert "Before and after" in english and "학습 전과 후" not in english
    assert "학습 전과 후" in korean and "Before and after" not in korean


def test_answers_are_in_the_language_they_are_written_in(tmp_path):
    html = html_of(make_run(tmp_path, samples=[Sample(0, "한우예요?", "Yes.")]))
    assert '<p class="prompt" lang="ko">한우예요?</p>' in html and '<p lang="">Yes.</p>' in html


@pytest.mark.parametrize("long", ["길다 " * 200, "줄\n" * 20])
def test_long_answers_are_folded_and_whole(tmp_path, long):
    html = html_of(make_run(tmp_path, samples=[Sample(0, "질문", long), Sample(1, "질문", "짧다")]))
    assert html.count('<details class="long">') == 1 and long in html


def test_held_out_prompts_stand_in_groups_by_their_way(tmp_path):
    ways = {"둘?": "new_way", "하나?": "", "셋?": "only_read", "넷?": "new_way"}
    text = page_of(make_run(tmp_path, samples=[Sample(0, p, "답", held_out=way) for p, way in ways.items()])).text
    order = ["ways of asking never seen", "둘?", "넷?", "The course's prompts", "하나?", "facts only read", "셋?"]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    assert "The course's prompts" not in page_of(make_run(tmp_path / "b")).text


def csv_of(html, name):
    (address,) = re.findall(f'download="{name}" href="data:text/csv;base64,([^"]*)"', html)
    return list(csv.reader(io.StringIO(base64.b64decode(address).decode())))


def test_numbers_can_be_taken_out_as_csv(tmp_path):
    html = html_of(run_with_intervals(tmp_path, [0.1, 0.4]))
    header, row = csv_of(html, "measures.csv")
    cells = dict(zip(header, row, strict=True))
    assert cells["measure"] == "right" and float(cells["before"]) == 0.25 and float(cells["after_high"]) == 0.59
    header, *rows = csv_of(html, "curves.csv")
    assert [row[header.index("step")] for row in rows] == ["1", "2", "3", "4", "5"]
    assert float(rows[0][header.index("loss")]) == pytest.approx(2.02)


def test_a_spreadsheet_finds_no_formula_in_a_name(tmp_path):
    folder = make_run(tmp_path, before={"=1+1": 1.0}, history=[{"step": 1, "@SUM(A1)": 1.0}])
    html = html_of(folder)
    assert csv_of(html, "measures.csv")[1][0] == "'=1+1" and "'@SUM(A1)" in csv_of(html, "curves.csv")[0]


def test_the_page_says_nothing_of_the_machine_and_shows_no_python(tmp_path):
    settings = {"lora": {"r": 8, "target_modules": ["q_proj", "v_proj"]}, "bf16": False, "file": "/home/me/x.json"}
    run = {"status": "stopped", "reason": "No such file: '/home/me/rows.json'", "settings": settings}
    run |= {"command": "python /home/me/recipes/x.py --output_dir=/home/me/runs/a", "output_dir": str(tmp_path / "a")}
    html = html_of(make_run(tmp_path, run=run))
    assert "/home" not in html and str(tmp_path) not in html
    text = squeezed(page_of(tmp_path / "report").text)
    assert "lora.r 8 lora.target_modules q_proj, v_proj bf16 false file x.json" in text
    assert "{'" not in text and "False" not in text


def test_a_long_run_has_a_small_page(tmp_path):
    history = [{"step": n, **dict.fromkeys(LOGS["dpo"], n / 7), "grad_norm": 1 / n} for n in range(1, 20_000)]
    samples = [Sample(step, f"질문 {n}", "아주 긴 답 " * 40) for step in range(40) for n in range(10)]
    html = html_of(make_run(tmp_path, "dpo", history=history, samples=samples))
    assert len(html.encode()) < 1_500_000 and len(csv_of(html, "curves.csv")) <= 2001


def test_the_same_report_gives_the_same_page(tmp_path):
    folder = make_run(tmp_path)
    assert write_page(folder).read_bytes() == write_page(folder).read_bytes()


def test_comparison_shows_what_differs_and_answers_in_columns(tmp_path):
    folders = []
    for name, rate in (("slow", 1e-4), ("fast", 1e-2)):
        run = {"status": "finished", "seed": 42, "settings": {"learning_rate": rate, "max_steps": 5}}
        samples = [Sample(0, COURSE_PROMPT, "처음"), Sample(5, COURSE_PROMPT, f"{name} 답")]
        folders.append(make_run(tmp_path / name, run=run, samples=samples))
    write_comparison(folders, tmp_path / "comparison.html")
    text = squeezed(Page((tmp_path / "comparison.html").read_text(encoding="utf-8")).text)
    assert "learning_rate A 0.0001 B 0.01" in text and "max_steps" not in text
    assert text.count(COURSE_PROMPT) == 1
    assert text.index("처음") < text.index("slow 답") < text.index("fast 답")
    assert text.count("Loss: training (A, B)") == 1
    assert "A 2 → 2.25 ↑ worse B 2 → 2.25 ↑ worse" in text


def test_losses_of_two_methods_do_not_share_axes(tmp_path):
    folders = [make_run(tmp_path / method, method) for method in ("sft", "reward")]
    write_comparison(folders, tmp_path / "comparison.html")
    text = Page((tmp_path / "comparison.html").read_text(encoding="utf-8")).text
    assert "Loss: training (A)" in text and "Loss: training (B)" in text and "Loss: training (A, B)" not in text
    assert "Gradient norm (A, B)" in text


def test_a_page_can_be_made_from_the_contract_alone(tmp_path):
    folder = tmp_path / "report"
    RunRecord("dpo_orca", "dpo", "cpu", "m", 1.0, before={"accuracy": 0.5}, after={"accuracy": 0.9}).save(folder)
    assert "dpo_orca" in page_of(folder).text


def test_characters_that_html_does_not_have_are_shown_as_their_escapes(tmp_path):
    folder = make_run(tmp_path, model="a\x00\x1b[31m\x85\ufffe\ud83d b", samples=[Sample(0, "\x00", "\ud83d")])
    html = write_page(folder).read_text(encoding="utf-8")
    assert "a\\x00\\x1b[31m\\x85\\ufffe\\ud83d b" in html
    assert not re.search("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufffd\ufffe]", html)


@pytest.mark.parametrize("value", [10**400, 1e308, -1e308, 5e-324, 1e16 + 2])
def test_numbers_of_any_size_have_a_page(tmp_path, value):
    lists = {"chosen_scores": [value, 1e16], "rejected_scores": [-1e16]}
    history = [{"step": step, "loss": value, "grad_norm": value} for step in (1, 2)]
    changes = {"before": {"margin": value}, "distributions": {"after": lists, "other": lists}, "history": history}
    assert "margin" in page_of(make_run(tmp_path, "reward", **changes)).text


def test_both_memories_are_on_the_page(tmp_path):
    run = {
        "status": "finished",
        "peak_host_memory_mib": 512.0,
        "peak_device_memory_mib": 3072.0,
    }
    text = squeezed(page_of(make_run(tmp_path, run=run)).text)
    assert "memory at most 512 MiB" in text and "GPU memory at most 3.00 GiB" in text
