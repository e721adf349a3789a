"""Numbers are read as their writers meant them, and each value has one spelling."""

import random

import pytest

from tsugiki.evaluation.metrics.numerals import kanji_number_at_start, numbers_in, readable


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("12", ["12"]),
        ("１２", ["12"]),
        ("12.0 と 12.50", ["12", "12.5"]),
        ("007", ["7"]),
        ("0.5", ["0.5"]),
        ("$.50", ["0.5"]),
        ("100", ["100"]),
        ("1,000,000円", ["1000000"]),
        ("１，０００", ["1000"]),
        ("1,2,3", ["1", "2", "3"]),
        ("10,20", ["10", "20"]),
        ("12,3456", ["12", "3456"]),
        ("1．5", ["1.5"]),
        ("18.", ["18"]),
        ("1.5.2", ["1.5"]),  # a version, not 2
        ("です.5", ["5"]),
        ("...5", ["5"]),
        ("-5", ["-5"]),
        ("−5", ["-5"]),
        ("－５", ["-5"]),
        ("–5", ["-5"]),
        ("マイナス5度", ["-5"]),
        ("気温はマイナス 5度", ["-5"]),
        ("-$5 $-5", ["-5", "-5"]),
        ("-0.0", ["0"]),
        ("x=-5", ["-5"]),
        ("is -5", ["-5"]),
        ("10-3", ["10", "3"]),
        ("10 - 3", ["10", "3"]),
        ("10 -3", ["10", "3"]),
        ("100円-30円", ["100", "30"]),
        ("(4+6)-3", ["4", "6", "3"]),
        ("3〜5", ["3", "5"]),
        ("5cm²", ["5"]),
        ("5m2", ["5"]),
        ("A4 B12", []),
        ("x1.5", []),
        ("1/2", ["0.5"]),
        ("3/0", ["3"]),
        ("3万円", ["30000"]),
        ("1万2千3百45", ["12345"]),
        ("1億2000万", ["120000000"]),
        ("2.5万", ["25000"]),
        ("十分に一緒", []),
        ("③", ["3"]),
        ("9" * 400, None),
        ("", []),
    ],
)
def test_numbers_of_a_text(text, numbers):
    if numbers is None:  # nothing breaks
        assert len(numbers_in(readable(text))) == 1
    else:
        assert numbers_in(readable(text)) == numbers


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("十二", "12"),
        ("一二", "12"),
        ("二〇二四年", "2024"),
        ("二千二十四", "2024"),
        ("千", "1000"),
        ("三百五個", "305"),
        ("一億二千三百万", "123000000"),
        ("万", "10000"),
        (" 約十五人です", "15"),
        ("零", "0"),
        ("五つ", "5"),
        ("十分", None),
        ("一緒です", None),
        ("千葉県", None),
        ("答えは十二", None),
        ("", None),
    ],
)
def test_kanji_numerals(text, number):
    assert kanji_number_at_start(text) == number


def in_kanji(number: int) -> str:
    """The usual way to write a number below 10^16, from the definition of its parts."""
    parts = []
    for exponent, myriad in ((12, "兆"), (8, "億"), (4, "万"), (0, "")):
        section = number // 10**exponent % 10**4
        written = ""
        for place, unit in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
            digit = section // place % 10
            if digit:
                written += (
                    "" if digit == 1 and unit and not (unit == "千" and myriad) else "〇一二三四五六七八九"[digit]
                ) + unit
        parts.append(written + myriad if section else "")
    return "".join(parts)


def test_kanji_numerals_that_were_written_are_read_back():
    rng = random.Random(6)
    numbers = [rng.randrange(1, 10 ** rng.randrange(1, 16)) for _ in range(2000)]
    assert in_kanji(12003) == "一万二千三"
    for number in numbers:
        assert kanji_number_at_start(in_kanji(number)) == str(number)
        assert kanji_number_at_start("".join("〇一二三四五六七八九"[int(d)] for d in str(number))) == str(number)
        for shown in (
            str(number),
            f"{number:,}",
            f"{number:,}.00",
            str(number).translate(str.maketrans("0123456789", "０１２３４５６７８９")),
        ):
            assert numbers_in(readable(f"全部で{shown}円です。")) == [str(number)]
