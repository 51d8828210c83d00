"""Every reward with options, and texts from bad to good for it."""

from trl_kochat import rewards


# Reward -> texts, each better than the one before.
ORDERED = {
    "korean_script": (
        rewards.korean_script(),
        ["今天天氣很好。", "오늘 天氣가 good이에요.", "오늘은 날씨가 good이에요.", "오늘은 날씨가 좋아요."],
    ),
    "speech_level": (
        rewards.speech_level("해요체"),
        [
            "비가 온다. 우산을 챙겨라.",
            "비가 와요. 우산을 챙겨라. 늦지 마.",
            "비가 와요. 우산을 챙겨라.",
            "비가 와요. 우산을 챙기세요.",
        ],
    ),
    "fluency": (
        rewards.fluency(),
        ["뷁를 쮊이 괣", "를 먹어요 밥이 제가", "저가 밥를 먹어요.", "저는 밥을 먹어요."],
    ),
    "no_repetition": (
        rewards.no_repetition(),
        [
            "한우 한우 한우 한우 한우 한우 한우",
            "저는 한우가 좋아요. 저는 한우가 좋아요.",
            "저는 한우가 좋아요. 당신은 무엇이 좋아요?",
        ],
    ),
    "length": (rewards.length(5, 20), ["", "네", "네네네", "오늘은 날씨가 좋아요."]),
    "too_long": (rewards.length(5, 20), ["가" * 50, "가" * 30, "가" * 25, "가" * 20]),
    "words": (rewards.length(2, 4, "words"), ["네", "네 그래요"]),
    "items": (rewards.format("3"), ["물과 소금", "- 물", "- 물\n- 소금", "1. 물\n2. 소금\n3. 밥"]),
    "json": (rewards.format("json"), ["물", '{"물": 1}']),
    "pattern": (rewards.format(r"\d{1,3}(,\d{3})*원"), ["1000원", "1,000원"]),
    "keyword": (rewards.keyword("한우", "불고기"), ["돼지예요.", "한우예요.", "불고기용 한우예요."]),
    "no_keyword": (rewards.no_keyword("한우", "불고기"), ["불고기용 한우예요.", "한우예요.", "돼지예요."]),
    "ends": (rewards.ends(), ["오늘은 날씨가", "오늘은 날씨가 좋아요."]),
    "spacing": (rewards.spacing(), ["오늘은날씨가좋아요.", "오늘은 날 씨가 좋아요.", "오늘은 날씨가 좋아요."]),
    "particles": (rewards.particles(), ["사과은 빵를 먹어요.", "사과는 빵를 먹어요.", "사과는 빵을 먹어요."]),
}
