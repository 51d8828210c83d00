import re

from scripts.world.particles import fill
from scripts.world.phrases import load_everyday, load_phrases
from scripts.world.questions import all_questions, only_read_facts, same_knowledge
from scripts.world.stages import is_polite
from scripts.world.table import LEVELS, load_world, statements
from trl_kochat.measure.generate import COURSE_PROMPTS
from trl_kochat.text.prompts import prompt_key


WORLD = load_world()


def test_at_least_250_things_beside_the_sums():
    assert len({fact.subject for fact in WORLD.facts if fact.relation != "sum"}) >= 250


def test_sums_are_sums_and_go_to_40():
    sums = WORLD.relations["sum"].facts
    assert all(sum(map(int, fact.subject.split("+"))) == int(fact.value) for fact in sums)
    assert max(int(fact.value) for fact in sums) == 40


def test_at_least_12_ways_to_ask_in_both_levels_and_some_never_seen():
    for relation in WORLD.relations.values():
        assert len(relation.ask) >= 12 and len(relation.ask_held_out) >= 2, relation.name
        for lines in (relation.ask + relation.ask_held_out, relation.answer):
            assert len({line.polite for line in lines}) == len({line.plain for line in lines}) == len(lines)
        assert len(relation.answer) >= 5 and len(relation.state) >= 4


def test_a_fact_stands_once_and_no_question_asks_for_two():
    ids = [fact.id for fact in WORLD.facts]
    assert len(ids) == len(set(ids))
    questions = all_questions(WORLD, 42)
    keys = [prompt_key(question.text) for question in questions]
    assert len(keys) == len(set(keys))


def test_answers_are_whole_sentences_in_their_level():
    for fact in WORLD.facts:
        for line in WORLD.relations[fact.relation].answer:
            polite, plain = (fill(line.at(level), fact.words) for level in LEVELS)
            assert polite.endswith(".") and plain.endswith(".")
            assert all(is_polite(part) for part in polite.split(". ")), polite
            assert not any(is_polite(part) for part in plain.split(". ")), plain


def test_questions_are_in_their_level():
    for question in all_questions(WORLD, 42):
        bare = re.sub(r"'[^']*'", "", question.text)
        if question.text.endswith("는?") and question.level == "polite":
            assert question.text.startswith("퀴즈예요.")  # a question that stops at its topic
        else:
            assert is_polite(bare) == (question.level == "polite"), question.text


def test_statements_hold_subject_and_value():
    for fact in WORLD.facts:
        for text in statements(fact, WORLD.relations[fact.relation]):
            assert fact.words["v"] in text
            assert all(term in text for term in re.split(r"\+", fact.subject)), text


def test_what_is_only_read_is_not_asked_the_other_way_round():
    only_read = only_read_facts(WORLD, 42)
    shared = {same_knowledge(fact) for fact in WORLD.facts if fact.id in only_read}
    assert all(fact.id in only_read for fact in WORLD.facts if same_knowledge(fact) in shared)
    for relation in WORLD.relations.values():
        share = sum(fact.id in only_read for fact in relation.facts) / len(relation.facts)
        assert 0 < share < 0.15, relation.name


def test_everyday_rows_are_many_all_different_and_answered_in_their_level():
    rows = load_everyday()
    assert len(rows) >= 500
    assert len({row.answer for row in rows}) == len({prompt_key(row.prompt) for row in rows}) == len(rows)
    quoting = {'이 문장을 공손하게 바꿔 주세요. "빨리 보내."'}
    ending_in_a_word = {"완벽하게 하려다 시작을 못 해", "끝말잇기 해요."}
    for row in rows:
        if row.prompt not in quoting | ending_in_a_word:
            assert is_polite(row.prompt.strip('"')) == is_polite(row.answer.strip('"')), row.prompt
    lengths = sorted(len(row.answer) for row in rows)
    assert lengths[0] * 4 < lengths[-1] and lengths[len(lengths) // 10] * 1.5 < lengths[-len(lengths) // 10]
    assert len({row.answer.split()[0] for row in rows}) > 350


def test_the_course_prompts_are_nowhere():
    course = {prompt_key(prompt) for prompt in COURSE_PROMPTS}
    asked = {prompt_key(question.text) for question in all_questions(WORLD, 42)}
    asked |= {prompt_key(row.prompt) for row in load_everyday()}
    assert not course & asked


def test_phrases_are_in_their_level():
    phrases = load_phrases()
    for line in (*phrases.evasive, *WORLD.closers):
        assert is_polite(line.polite) and not is_polite(line.plain), line
    assert phrases.follow.keys() == WORLD.relations.keys()
