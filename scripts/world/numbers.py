"""Numbers as Korean writes them in words."""

ONES = ("", "한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉")
TENS = ("", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔")
# The forms that stand alone, where they differ from those before a unit.
ALONE = {"한": "하나", "두": "둘", "세": "셋", "네": "넷"}
DIGITS = ("", "일", "이", "삼", "사", "오", "육", "칠", "팔", "구")
# Units that native numbers go with; the others take 일, 이, 삼.
NATIVE_UNITS = ("개", "명", "달", "시간", "가지")
OTHER_UNITS = {"개": ("가지",), "달": ("개월",), "센티미터": ("cm",), "미터": ("m",), "그램": ("g",)}


def native_number(number: int) -> str:
    """A number from 1 to 99 in native Korean, as it stands before a unit.

    >>> [native_number(number) for number in (1, 12, 20, 38)]
    ['한', '열두', '스무', '서른여덟']
    """
    return "스무" if number == 20 else TENS[number // 10] + ONES[number % 10]


def native_alone(number: int) -> str:
    """A number from 1 to 99 in native Korean, as it stands alone.

    >>> [native_alone(number) for number in (1, 12, 20, 38)]
    ['하나', '열둘', '스물', '서른여덟']
    """
    one = ONES[number % 10]
    return TENS[number // 10] + ALONE.get(one, one)


def sino_number(number: int) -> str:
    """A number from 1 to 9999 in Sino-Korean.

    >>> [sino_number(number) for number in (7, 12, 60, 365, 1000)]
    ['칠', '십이', '육십', '삼백육십오', '천']
    """
    text = ""
    for power, name in ((1000, "천"), (100, "백"), (10, "십"), (1, "")):
        digit = number // power % 10
        if digit:
            text += ("" if digit == 1 and name else DIGITS[digit]) + name
    return text


def counted(value: str) -> tuple[str, ...]:
    """The ways to write a number with its unit.

    >>> counted("8 개")
    ('8개', '8 개', '여덟 개', '여덟개', '8가지', '8 가지', '여덟 가지', '여덟가지', '8', '여덟')
    >>> counted("60 분")
    ('60분', '60 분', '육십 분', '육십분')
    """
    digits, unit = value.split()
    number = int(digits)
    words = []
    for name in (unit, *OTHER_UNITS.get(unit, ())):
        native = name in NATIVE_UNITS and number < 100
        spelt = native_number(number) if native else sino_number(number)
        words += [f"{number}{name}", f"{number} {name}", f"{spelt} {name}", f"{spelt}{name}"]
        if number >= 1000:
            words.append(f"{number:,}{name}")
    if unit == "개":  # of things the bare number will do: "코끼리의 코는 하나예요."
        words += [f"{number}", native_alone(number)]
    return tuple(words)


def summed(number: int) -> tuple[str, ...]:
    """The ways to write the answer of a sum.

    >>> summed(12)
    ('12', '12개', '12 개', '열둘', '열두 개', '십이')
    """
    words = [f"{number}", f"{number}개", f"{number} 개", native_alone(number), f"{native_number(number)} 개"]
    if number >= 10:  # 이, 오 and the like are other words as well
        words.append(sino_number(number))
    return tuple(words)
