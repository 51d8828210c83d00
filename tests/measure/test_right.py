import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.world.numbers import native_alone, native_number, sino_number
from scripts.world.particles import fill
from scripts.world.table import LEVELS, as_json, load_world
from trl_kochat.measure.right import embedded_world, right, right_by_way


WORLD = load_world()
TABLE = as_json(WORLD)
FACTS = st.sampled_from(WORLD.facts)


def says(answer, fact):
    return right(answer, {"fact": fact}, TABLE)


@pytest.mark.parametrize(
    ("fact", "answer"),
    [
        ("color/딸기", "딸기는 빨간색이에요."),
        ("color/딸기", "빨강"),
        ("color/딸기", "딸기는 빨갛습니다."),
        ("color/딸기", "노란색이 아니라 빨간색이에요."),
        ("color/딸기", "당연히 빨간색이죠!"),
        ("color/우유", "흰색이랍니다."),
        ("capital/브라질", "브라질의 수도는 브라질리아예요."),
        ("sum/3+4", "3 더하기 4는 7이에요."),
        ("sum/3+4", "4에 3을 더하면 일곱이야."),
        ("sum/13+10", "스물세 개예요."),
        ("sum/13+10", "이십삼입니다."),
        ("count/거미 다리", "거미 다리는 여덟 개예요."),
        ("count/일주일", "일주일은 7일이에요."),
        ("count/일 킬로미터", "1,000미터예요."),
        ("opposite/크다", "'크다'의 반대말은 '작다'예요."),
        ("use/가위", "종이를 자르는 데 써요."),
        ("use/톱", "나무를 자를 때 써요."),
        ("use/부채", "시원하게 하려고 써요."),
        ("use/수건", "얼굴을 닦을 때 써요."),
        ("count/코끼리의 코", "하나예요."),
        ("color/맑은 하늘", "푸른색이에요."),
        ("season/개나리꽃", "봄과 어울려요."),
        ("kind/참새", "참새는 동물이고 새예요."),
        ("counter/편지", "편지는 한 통, 두 통 하고 세요."),
        ("manner/누가 나를 도와주었을 때", "감사합니다라고 해요."),
    ],
)
def test_right(fact, answer):
    assert says(answer, fact)


@pytest.mark.parametrize(
    ("fact", "answer"),
    [
        ("color/딸기", "딸기는 노란색이에요."),
        ("color/딸기", "딸기는 빨간색이고 노란색이에요."),
        ("color/딸기", "빨간색이 아니에요."),
        ("color/딸기", "글쎄요, 잘 모르겠어요."),
        ("color/딸기", ""),
        ("color/벚꽃", "진분홍색 말고 회색이에요."),
        ("capital/브라질", "브라질의 수도는 브라질이에요."),
        ("sum/3+4", "3이에요."),
        ("sum/3+4", "3 더하기 4는 3이에요."),
        ("sum/3+4", "17이에요."),
        ("sum/3+4", "7이 아니라 8이에요."),
        ("count/거미 다리", "6개예요."),
        ("count/거미 다리", "8개나 13개예요."),
        ("count/일주일", "8일이에요."),
        ("opposite/크다", "'크다'의 반대말은 '크다'예요."),
        ("opposite/크다", "'작다'나 '낮다'예요."),
        ("kind/참새", "참새는 동물이에요."),
        ("material/곶감", "감자로 만들어요."),
        ("counter/편지", "편지 한 권이에요."),
        ("kind/수영", "수영은 구기 종목이에요."),
        ("kind/공책", "공책은 필기구예요."),
    ],
)
def test_not_right(fact, answer):
    assert not says(answer, fact)


def test_a_row_without_a_fact_of_this_world_is_refused():
    for row in ({}, {"fact": ""}, {"fact": "color/유니콘"}):
        with pytest.raises(ValueError, match="not in this world"):
            right("네.", row, TABLE)


@given(FACTS, st.data())
def test_every_wording_of_the_fact_is_right_and_of_another_value_is_not(fact, data):
    relation = WORLD.relations[fact.relation]
    wording = data.draw(st.sampled_from(relation.answer)).at(data.draw(st.sampled_from(LEVELS)))
    assert says(fill(wording, fact.words), fact.id)
    other = data.draw(st.sampled_from([o for o in relation.facts if o.value != fact.value]))
    assert not says(fill(wording, {**fact.words, "v": other.words["v"]}), fact.id)


@given(FACTS, st.data())
def test_a_second_value_beside_the_right_one_is_not_right(fact, data):
    relation = WORLD.relations[fact.relation]
    others = [
        other
        for other in relation.facts
        if other.value not in (fact.value, fact.subject) and not set(other.accepted) & {*fact.near, *fact.accepted}
    ]
    other = data.draw(st.sampled_from(others))
    polite = relation.answer[0].polite
    both = f"{fill(polite, fact.words)} {fill(polite, {**fact.words, 'v': other.words['v']})}"
    assert not says(both, fact.id)


@given(FACTS, st.text())
def test_any_text_has_an_answer(fact, text):
    assert says(text, fact.id) in (True, False)


@given(st.integers(1, 20), st.integers(1, 20))
def test_sums_in_digits_and_in_words(a, b):
    fact, total = f"sum/{a}+{b}", a + b
    for written in (f"{total}", f"{native_alone(total)}", f"{native_number(total)} 개", f"{total}개"):
        assert says(f"{written}입니다.", fact) and says(f"{a} 더하기 {b}: {written}입니다.", fact)
    if total >= 10:
        assert says(f"{sino_number(total)}입니다.", fact)
    assert not says(f"{total + 1}입니다.", fact) and not says(f"{a}입니다.", fact)


def test_no_word_names_two_values_of_a_relation():
    for relation in WORLD.relations.values():
        words = [word for forms in relation.values.values() for word in set(forms)]
        assert len(words) == len(set(words)), relation.name


def test_shares_are_of_rows_with_a_fact_and_by_the_way_they_are_held_out():
    rows = [
        {"fact": "color/딸기", "held_out": "new_way"},
        {"fact": "color/딸기", "held_out": "only_read"},
        {"fact": "color/우유", "held_out": "new_way"},
        {"fact": "", "held_out": "everyday"},
        {"fact": None},
        {"fact": "color/유니콘", "held_out": "new_way"},
        {},
    ]
    answers = ["빨간색이에요.", "파란색이에요.", "몰라요.", "안녕하세요.", "네.", "하얀색이에요.", "네."]
    expected = {"right": [1, 0, 0], "right_new_way": [1, 0], "right_only_read": [0]}
    assert right_by_way(answers, rows, TABLE) == expected
    assert right_by_way(answers[3:], rows[3:], TABLE) == {}


def test_the_embedded_table_is_one_that_right_reads():
    world = embedded_world()
    for fact in world["facts"].values():
        assert fact.keys() == {"relation", "subject", "accepted", "near", "numeric"}
        assert set(fact["accepted"]) <= set(world["values"][fact["relation"]])
    assert not right("네.", {"fact": next(iter(world["facts"]))}, world)
