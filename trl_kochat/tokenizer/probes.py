"""Texts that the checks put through a tokenizer. All written for this purpose."""

import re

from ..text.damage import COMMON_SYLLABLES


HANGUL = re.compile("[가-힣]")

# Everyday Korean of several registers. What is lost here is lost in any data.
SENTENCES = (
    "안녕하세요. 오늘은 날씨가 맑아서 공원까지 걸어갔어요.",
    "내일 오후 세 시에 회의가 있으니 자료를 미리 읽어 주시기 바랍니다.",
    "점심으로 비빔밥을 먹을까, 아니면 된장찌개를 시킬까?",
    "서울에서 부산까지 고속 열차로 약 두 시간 사십 분이 걸립니다.",
    "그 영화는 처음에는 지루했지만 끝으로 갈수록 재미있었다.",
    "동생이 대학교를 졸업하고 작은 회사에 취직했습니다.",
    "물을 끓이고 소금을 조금 넣은 다음 국수를 삶으세요.",
    "한국의 수도는 서울이며 인구는 약 구백만 명이다.",
    "컴퓨터가 갑자기 꺼졌는데 어떻게 해야 하나요?",
    "괜찮아, 너무 걱정하지 마. 다음에는 더 잘할 수 있을 거야.",
    "책을 빌리려면 도서관 회원증을 꼭 가져오셔야 합니다.",
    "겨울에는 눈이 많이 내려서 길이 미끄럽고 위험해요.",
)

# Compared, id by id, between a tokenizer and its tokenizer.json: Hangul, digits, jamo, a line break, rare syllables,
# decomposed text, full-width letters, spaces.
PIPELINE = (
    "안녕하세요. 한국어를 공부합니다.",
    "2024년 12월 25일 오후 3시 40분, 1,234.5원",
    "ㅋㅋㅋ ㅠㅠ 정말?",
    "첫째 줄\n둘째 줄\n\n끝",
    "뷁 똠방각하 펲시 쀍",
    "\u1112\u1161\u11ab\u1100\u1173\u11af",
    "ＡＢＣ １２３",
    "  두 칸   띄움 ",
    "Korean 한국어 mixed 문장",
)

JAMO = ("ㅋㅋㅋ", "ㅠㅠ", "ㅎㅎ", "ㄱㄴㄷ", "ㅏㅑㅓ")

# Visible characters that Korean text uses.
CHARACTERS = (
    "“”‘’…·~₩%@#&*()[]{}/\\|^_=+-–—「」『』《》〈〉℃①②③㈜★☆♥♡→←■□○●◎※×÷±≤≥∞漢字日本あアéñüΩπЖ"
    "😀😂😭👍🙏🔥🎉❤★abcXYZ0123456789.,!?:;'\""
)

# Rare in books, common in chat; shown first when a vocabulary lacks them.
CHAT_SYLLABLES = "걔걍쌤뭥넘얌뀨쩔뙇헐꿀뻘챗"


def common_syllables() -> list[str]:
    """The syllables that nearly all Korean is written with, those of chat first."""
    return sorted(COMMON_SYLLABLES, key=lambda char: char not in CHAT_SYLLABLES)
