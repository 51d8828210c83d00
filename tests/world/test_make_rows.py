"""The rows of every stage: shapes, sizes, what is held out, balance, levels."""

import re
from collections import Counter, defaultdict

import pytest

from scripts.world import make_rows
from scripts.world.answers import KINDS
from scripts.world.particles import fill
from scripts.world.phrases import load_everyday
from scripts.world.questions import HELD_OUT, all_questions
from scripts.world.stages import is_polite
from trl_kochat import format_dataset, load_rows
from trl_kochat.measure.generate import COURSE_PROMPTS
from trl_kochat.measure.right import right
from trl_kochat.sample import SAMPLE_DIR
from trl_kochat.text.prompts import prompt_key


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    make_rows.main(["--output", str(folder)])
    return folder


@pytest.fixture(scope="module")
def questions(made):
    """Every question of the world by its text."""
    return {question.text: question for question in all_questions(made.answers.world, make_rows.SEED)}


def asked(row):
    """The question of a row without the wish that may stand before it."""
    return (row.get("prompt") or row.get("question")).split("\n")[-1]


def all_rows(rows):
    return [row for file in rows.values() for row in file]


@pytest.mark.parametrize(
    ("file", "formatter", "at_least"),
    [
        ("kochatgpt_1_SFT.jsonl", "kochatgpt_sft", 2500),
        ("kochatgpt_1_SFT_conversation.jsonl", "kochatgpt_conversation", 500),
        ("kochatgpt_2_RM.jsonl", "kochatgpt_rm", 4500),
        ("kochatgpt_3_PPO.jsonl", "kochatgpt_ppo", 700),
        ("orca_dpo_pairs.jsonl", "orca_pairs", 1500),
    ],
)
def test_every_file_is_read_as_the_real_one_is_and_no_row_is_dropped(folder, file, formatter, at_least):
    raw = load_rows(folder / file)
    made = format_dataset(raw, formatter)
    assert len(made) >= at_least
    rows_of_one = {"kochatgpt_rm": 3}.get(formatter, 1)
    if formatter != "kochatgpt_conversation":
        assert len(made) == rows_of_one * len(raw)


def test_columns_stand_in_the_order_of_the_real_files(rows):
    more = ["fact", "held_out"]
    columns = {
        "1_SFT": ["prompt", "completion", "tokens", *more],
        "2_RM": ["prompt", "completion_0", "completion_1", "completion_2", "ranking", "kinds", *more],
        "3_PPO": ["prompt", *more],
        "pairs": ["system", "question", "chosen", "rejected", "kind", *more],
    }
    for name, expected in columns.items():
        assert all(list(row) == expected for row in rows[name]), name


def test_all_files_together_stay_under_4_mb(texts):
    assert sum(len(text.encode()) for text in texts.values()) < 4_000_000


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(texts):
    assert make_rows.files(make_rows.stages()) == texts
    assert make_rows.stages(seed=7).prompts() != make_rows.stages().prompts()


def test_each_prompt_stands_once_in_a_file(rows):
    for name in ("1_SFT", "2_RM", "3_PPO", "pairs"):
        keys = [prompt_key(asked(row)) for row in rows[name]]
        assert len(keys) == len(set(keys)), name


def test_no_held_out_question_is_trained_on_in_any_file(rows, texts):
    trained = {prompt_key(asked(row)) for row in all_rows(rows) if not row["held_out"]}
    said = re.findall(r"<사람>: (.*)", texts["kochatgpt_1_SFT_conversation.jsonl"])
    trained |= {prompt_key(text) for text in said}
    held_out = {prompt_key(asked(row)) for row in all_rows(rows) if row["held_out"]}
    assert held_out and not held_out & trained
    assert not {prompt_key(prompt) for prompt in COURSE_PROMPTS} & (trained | held_out)


def test_each_kind_of_held_out_question_is_what_it_says(rows, questions):
    trained, ways = set(), set()
    for row in all_rows(rows):
        if row["fact"] and not row["held_out"]:
            question = questions[asked(row)]
            trained.add(row["fact"])
            ways.add((question.fact.relation, question.way))
    counts = Counter()
    for row in rows["1_SFT"]:
        if row["held_out"] in HELD_OUT:
            question = questions[asked(row)]
            counts[row["held_out"]] += 1
            assert (row["fact"] in trained) == (row["held_out"] != "only_read")
            assert ((question.fact.relation, question.way) in ways) == (row["held_out"] != "new_way")
    assert counts.keys() == set(HELD_OUT) and min(counts.values()) >= 100


def test_sft_asks_for_every_fact_that_is_not_only_read(rows, made):
    trained = {row["fact"] for row in rows["1_SFT"] if not row["held_out"]}
    only_read = {question.fact.id for question in made.questions if question.held_out == "only_read"}
    assert all(
        (fact.id in trained) != (fact.id in only_read) for fact in made.answers.world.facts if fact.relation != "sum"
    )


def test_a_fact_that_is_only_read_stands_in_the_statements_and_in_no_dialogue(made, texts):
    stated = set(texts["statements.txt"].split("\n"))
    dialogues = texts["kochatgpt_1_SFT_conversation.jsonl"]
    for fact in {question.fact for question in made.questions if question.held_out == "only_read"}:
        relation = made.answers.world.relations[fact.relation]
        assert any(fact.words["v"] in line and fact.words["x"] in line for line in stated) or fact.relation == "sum"
        for line in relation.answer:
            if "{x" in line.polite:
                assert fill(line.polite, fact.words) not in dialogues


def test_best_answers_are_right_and_wrong_facts_are_not(rows, made):
    table = made.answers.table
    for row in rows["1_SFT"]:
        assert not row["fact"] or right(row["completion"], row, table), row
    by_kind = defaultdict(list)
    for row in rows["pairs"]:
        if row["fact"]:
            assert right(row["chosen"], row, table), row
            by_kind[row["kind"]].append(right(row["rejected"], row, table))
    for row in rows["2_RM"]:
        for i, kind in enumerate(row["kinds"]):
            if row["fact"]:
                by_kind[kind].append(right(row[f"completion_{i}"], row, table))
    for kind in ("wrong_fact", "other_question", "evasive", "echo", "wrong_language"):
        assert not any(by_kind[kind]), kind
    for kind in ("", "level", "long_winded"):
        assert all(by_kind[kind]), kind


def test_a_rejected_everyday_answer_is_not_a_good_one(rows):
    """Comfort fits most worries and "I do not know" fits what nobody can know: neither is rejected there."""
    worries, open_to_all = {"advice", "feelings", "greetings", "people"}, {"advice", "chat", "feelings", "greetings"}
    everyday = load_everyday()
    topic = {row.prompt: row.topic for row in everyday} | {row.answer: row.topic for row in everyday}
    compared = [(row["question"], row["kind"], row["rejected"]) for row in rows["pairs"] if not row["fact"]]
    for row in rows["2_RM"]:
        if not row["fact"]:
            compared += [(row["prompt"], kind, row[f"completion_{i}"]) for i, kind in enumerate(row["kinds"])]
    for prompt, kind, rejected in compared:
        if kind == "other_question":
            assert topic[rejected] != topic[prompt] and not {topic[rejected], topic[prompt]} <= worries, prompt
        assert kind != "evasive" or topic[prompt] not in open_to_all, prompt


def test_answers_are_in_the_level_that_is_due(rows, questions):
    for row in rows["1_SFT"]:
        if row["fact"]:
            wish = row["prompt"].split("\n")[0] if "\n" in row["prompt"] else ""
            due = questions[asked(row)].level == "polite"
            due = False if "반말" in wish else True if "존댓말" in wish or "공손" in wish else due
            assert is_polite(row["completion"]) == due, row
    for row in rows["pairs"]:
        if row["fact"]:
            due = questions[row["question"]].level == "polite"
            due = False if "반말" in row["system"] else True if re.search("존댓말|공손", row["system"]) else due
            assert is_polite(row["chosen"]) == due, row
            if row["kind"] == "level":
                assert is_polite(row["rejected"]) != due
            elif row["kind"] in ("wrong_fact", "other_question", "evasive", "long_winded"):
                assert is_polite(row["rejected"]) == due, row


def test_a_wish_for_length_is_kept(rows):
    for row in rows["pairs"]:
        if "한 문장" in row["system"] or "두 문장" in row["system"]:
            sentences = len(re.findall(r"[.?!](?= |$)", row["chosen"]))
            assert sentences == (1 if "한 문장" in row["system"] else 2), row


def test_an_echo_says_only_a_word_of_the_question(rows):
    echoes = [
        (row["prompt"], row[f"completion_{i}"])
        for row in rows["2_RM"]
        for i, kind in enumerate(row["kinds"])
        if kind == "echo"
    ]
    assert len(echoes) >= 300
    form = re.compile(r"(?:네, |응, |그건 )?(?:(.+)[은는] (?:그냥 )?\1|(.+?))(?:이?에요|예요|입니다|이?야|이?지)\.")
    for prompt, answer in echoes:
        found = form.fullmatch(answer)
        assert found and (found[1] or found[2]) in prompt, (prompt, answer)


def test_half_of_the_pairs_on_the_level_go_against_the_level_of_the_question(rows, questions):
    """What a system text asks for is learnt where the question alone would ask for the other level."""
    on_level = [row for row in rows["pairs"] if row["kind"] == "level" and row["fact"]]
    against = [is_polite(row["chosen"]) != (questions[row["question"]].level == "polite") for row in on_level]
    assert all(row["system"] for row in on_level) and 0.4 <= sum(against) / len(against) <= 0.6


def test_an_unfinished_answer_does_not_do_as_a_whole_one(rows, made):
    for row in rows["pairs"]:
        if row["fact"] and row["kind"] == "unfinished":
            last = row["rejected"].split(". ")[-1].split()[-1]
            accepted = made.answers.table["facts"][row["fact"]]["accepted"]
            assert last not in accepted and not re.search(r"(때|수도|\d)$", last), row


def test_a_wish_for_two_sentences_is_not_kept_by_a_long_winded_answer(rows):
    asked_for_two = [row for row in rows["pairs"] if "두 문장" in row["system"] and row["kind"] == "long_winded"]
    assert asked_for_two and not any(". " in row["rejected"] for row in asked_for_two)


def test_every_kind_is_there_and_spread_over_rank_differences(rows):
    pairs = Counter(row["kind"] for row in rows["pairs"])
    # An answer that says a word of the question back is what a policy tries on a reward model, not on DPO.
    assert pairs.keys() == KINDS.keys() - {"echo"} and min(pairs.values()) >= 60
    ranks = defaultdict(Counter)
    for row in rows["2_RM"]:
        assert sorted(row["ranking"]) == [0, 1, 2]
        for kind, rank in zip(row["kinds"], row["ranking"], strict=True):
            ranks[kind][rank] += 1
    assert ranks.keys() == {"", *KINDS} and ranks[""].keys() == {0}
    for kind in ("wrong_fact", "other_question"):
        assert ranks[kind][1] >= 60 and ranks[kind][2] >= 60


def compared(rows):
    """Better and worse texts of all pairs, by file."""
    yield "pairs", [(row["chosen"], row["rejected"]) for row in rows["pairs"]]
    ranked = []
    for row in rows["2_RM"]:
        texts = [row[f"completion_{row['ranking'].index(rank)}"] for rank in range(3)]
        ranked += [(texts[i], texts[j]) for i in range(3) for j in range(i + 1, 3)]
    yield "rankings", ranked


def accuracy(pairs, score):
    """How often the better text has the higher score; a tie counts for half."""
    return sum((score(a) > score(b)) + 0.5 * (score(a) == score(b)) for a, b in pairs) / len(pairs)


RULES = {
    "longer": len,
    "shorter": lambda text: -len(text),
    "less Latin": lambda text: -len(re.findall("[A-Za-z]", text)),
    "more Hangul": lambda text: len(re.findall("[가-힣]", text)) / len(text),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_on_length_or_script_alone_does_not_tell_better_from_worse(rows, rule):
    for name, pairs in compared(rows):
        assert accuracy(pairs, RULES[rule]) < 0.6, name


def test_the_best_answer_of_a_ranking_stands_at_any_place(rows):
    places = Counter(row["ranking"].index(0) for row in rows["2_RM"])
    assert min(places.values()) > 0.25 * len(rows["2_RM"])


def test_dialogues_refer_back(made):
    dialogues = made.dialogues()
    assert len(dialogues) >= 200 and all(2 <= len(turns) <= 4 for turns in dialogues)
    for turns in dialogues:
        levels = {is_polite(answered) for _, answered in turns}
        assert len(levels) == 1, turns
    assert sum(said.startswith("그럼") for turns in dialogues for said, _ in turns[1:]) > 100


def test_the_embedded_rows_are_what_the_scripts_make(texts):
    for name, text in texts.items():
        if name != "statements.txt":
            assert (SAMPLE_DIR / name).read_text(encoding="utf-8") == text, f"{name}: python -m scripts.make_tiny_ko"
