"""How well `trl_kochat.text.speech_level` knows the level of a sentence: found and false, by level.

    python -m benchmarks.speech_level            # the table of docs/rewards.md
    python -m benchmarks.speech_level --misses   # and every sentence that was taken for another level

The sentences are of known level: conjugated below by the rules of the grammar, written by hand in speech_level.txt
(quotes, fragments, lists, emoji), and what scripts/world says in 존댓말 and in 반말.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from scripts.world.particles import fill
from scripts.world.phrases import load_phrases
from scripts.world.table import load_world
from trl_kochat.text.speech_level import LEVELS, speech_levels


HERE = Path(__file__).parent
# What stands before the verb; its stem; the form that 해체 says; verb (v) or adjective (a).
PREDICATES = """
학교에|가|가|v
집에|오|와|v
영화를|보|봐|v
숙제를|하|해|v
밥을|먹|먹어|v
책을|읽|읽어|v
의자에|앉|앉아|v
물을|마시|마셔|v
피아노를|배우|배워|v
편지를|쓰|써|v
빵을|만들|만들어|v
손을|씻|씻어|v
길을|찾|찾아|v
조금|쉬|쉬어|v
버스를|기다리|기다려|v
노래를|부르|불러|v
선물을|고르|골라|v
크게|웃|웃어|v
일찍|자|자|v
친구를|만나|만나|v
창문을|열|열어|v
옷을|입|입어|v
문을|닫|닫아|v
사진을|찍|찍어|v
날씨가|좋|좋아|a
키가|크|커|a
방이|작|작아|a
꽃이|예쁘|예뻐|a
국이|맛있|맛있어|a
오늘은|바쁘|바빠|a
시간이|없|없어|a
둘이|같|같아|a
생각이|다르|달라|a
산이|높|높아|a
강이|길|길어|a
"""
# Level -> endings. `+` joins as it is to the form of 해체, `ㅂ`, `ㄴ`, `ㄹ` go under a vowel or have 스, 느 and 으 after
# a consonant (written out behind the slash), `-` joins to the stem, `^` to the stem of the past. v: verbs only.
ENDINGS = {
    "합쇼체": "ㅂ니다/습니다 ㅂ니까?/습니까? ^습니다 ^습니까? -겠습니다 ㅂ시다/읍시다:v -십시오/으십시오:v -고_있습니다:v",
    "해요체": "+요 +요? ^어요 -지요 -죠? -네요 ㄹ까요?/을까요? ㄹ_거예요/을_거예요 ㄹ게요/을게요:v ㄹ래요?/을래요?:v -세요/으세요:v "
    "-거든요 -는데요:v -고_있어요:v",
    "해체": "+ +? ^어 ^어? -지 -네 ㄹ까?/을까? ㄹ_거야/을_거야 ㄹ게/을게:v ㄹ래?/을래?:v -거든 -는데:v -고_있어:v -잖아",
    "해라체": "ㄴ다/는다:v ^다 ^니? ^냐? -겠다 -더라 -자:v +라:v -는구나:v -니?:v -냐?:v ㄹ_것이다/을_것이다 -고_있다:v",
}
_FINALS = {"ㄴ": 4, "ㄹ": 8, "ㅂ": 17}


def final_of(text: str) -> int:
    return (ord(text[-1]) - ord("가")) % 28


def conjugated(stem: str, plain: str, ending: str) -> str:
    """A predicate with an ending of the table.

    >>> [conjugated("먹", "먹어", e) for e in ("ㅂ니다/습니다", "+요", "^다")], conjugated("만들", "만들어", "ㄴ다/는다")
    (['먹습니다', '먹어요', '먹었다'], '만든다')
    """
    after_vowel, _, after_consonant = ending.replace("_", " ").partition("/")
    kind, rest = after_vowel[0], after_vowel[1:]
    if kind == "+":
        return plain + rest
    if kind == "^":
        past = "했" if plain == "해" else plain[:-1] + chr(ord(plain[-1]) + 20)
        return past + rest
    drops = final_of(stem) == 8 and (kind in _FINALS or rest[0] in "네느니냐는세십")
    stem_now = stem[:-1] + chr(ord(stem[-1]) - 8) if drops else stem
    if final_of(stem_now) and after_consonant:
        return stem + after_consonant
    if kind == "-":
        return stem_now + rest
    return stem_now[:-1] + chr(ord(stem_now[-1]) + _FINALS[kind]) + rest


def conjugations() -> Iterator[tuple[str, str]]:
    for line in PREDICATES.split():
        before, stem, plain, kind = line.split("|")
        for level, endings in ENDINGS.items():
            for ending in endings.split():
                form, _, verbs_only = ending.partition(":")
                if not verbs_only or kind == "v":
                    text = f"{before} {conjugated(stem, plain, form)}"
                    yield level, text if text.endswith("?") else f"{text}."
        if kind == "a":
            yield "해라체", f"{before} {conjugated(stem, plain, '-다')}."


def by_hand() -> Iterator[tuple[str, str]]:
    for line in (HERE / "speech_level.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            level, _, text = line.partition(" | ")
            yield level, text


def of_the_world() -> Iterator[tuple[str, str]]:
    """What scripts/world says in 존댓말 (합쇼체 or 해요체) and in 반말 (the other two): phrases, and an answer to a fact."""
    phrases, world = load_phrases(), load_world()
    lines = [*phrases.evasive, *(line for pair in phrases.thanks for line in pair)]
    wordings = [(line, {}) for line in lines]
    for number, fact in enumerate(world.facts):
        answers = world.relations[fact.relation].answer
        wordings.append((answers[number % len(answers)], fact.words))
    for line, words in wordings:
        yield "존댓말", fill(line.polite, words)
        yield "반말", fill(line.plain, words)


def sentences() -> list[tuple[str, str]]:
    """`(level, text)`, the level as it is known; "-" where there is no finished sentence."""
    return list(dict.fromkeys([*conjugations(), *by_hand(), *of_the_world()]))


# Known -> what it may be taken for.
FITS = {level: {level} for level in (*LEVELS, "-")} | {"존댓말": {*LEVELS[:2]}, "반말": {*LEVELS[2:]}}


def taken_for(text: str) -> set[str]:
    """The levels of a text; "-" where no sentence has one."""
    return {level for level in speech_levels(text) if level} or {"-"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--misses", action="store_true")
    show = parser.parse_args().misses
    taken = [(level, text, taken_for(text)) for level, text in sentences()]
    print("| level | sentences | found | others | taken for it falsely |\n|---|---|---|---|---|")
    for level, fits in FITS.items():
        found = [levels <= fits for known, _, levels in taken if known == level]
        row = f"| {level if level != '-' else 'no sentence'} | {len(found)} | {sum(found) / len(found):.1%} |"
        others = [bool(levels & fits) for known, _, levels in taken if not FITS[known] & fits]
        print(f"{row} {len(others)} | {sum(others) / len(others):.1%} |")
    for level, text, levels in taken:
        if show and not levels <= FITS[level]:
            print(level, text, *levels, sep="\t")


if __name__ == "__main__":
    main()
