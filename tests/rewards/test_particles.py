import pytest

from trl_kochat.rewards import particles


score = particles()

WRONG = """사과은 맛있어요|책를 읽어요|책가 있어요|책는 두꺼워요|7는 홀수예요|AI은 좋아요|나무이 커요|친구을 만났어요|커피과 빵|빵와 커피|
서울는 수도예요|바다이 넓어요|3를 더해요|엄마과 아빠|동생가 울어요|강아지은 동물이에요|꽃가 예뻐요|비이 와요|LG은 회사예요"""
RIGHT = """작가 참 좋더라|고양이 귀여워요|먹는 밥|작은 책|지을 집|가을 하늘|마을 사람|나은 방법|나이 많은 아이|물가 비싸요|국가 대표|
결과 보고|사과 맛있어요|차이 없음|노을 지는 바다|효과 만점|치과 가요|누가 왔어요|길이 길어요|다음은 뭐예요|7은 홀수예요|AI는 좋아요|
kg을 재요|LG는 회사예요|2는 짝수예요|소아과 의사|많이 먹어요|이은 줄"""


@pytest.mark.parametrize("text", WRONG.replace("\n", "").split("|"))
def test_a_particle_that_does_not_fit(text):
    [found] = score(["?"], [text], None)
    assert found < 1


@pytest.mark.parametrize("text", RIGHT.replace("\n", "").split("|"))
def test_particles_that_fit_and_words_that_look_like_them(text):
    assert score(["?"], [text], None) == [1.0]


def test_a_long_text_without_spaces_is_judged_by_what_is_near(monkeypatch):
    from trl_kochat.rewards import particles as factory
    from trl_kochat.text.korean import analyser

    read = []

    class Recorder:
        def analyze(self, text):
            read.append(len(text))
            return analyser().analyze(text)

    monkeypatch.setitem(factory.__globals__, "analyser", Recorder)
    score(["?"], ["사람가. " + "사람가." * 200], None)
    assert read and max(read) < 100
