"""Numbers as people write them, in ASCII, full width and kanji, with one spelling for each value.

12, １２, 12.0, 十二 and 一二 are all "12", and 1万2千 is "12000": two answers are equal when their spellings are. What
looks like a number and is none is left out: the 2 of m² and m2, the 4 of A4. Kanji are read only at the start of an
answer, since 十分, 一緒 and 千葉 are words.
"""

import re
import unicodedata
from decimal import Decimal

_SUPERSCRIPTS = dict.fromkeys(map(ord, "²³¹⁰⁴⁵⁶⁷⁸⁹"))
_MINUS_SIGNS = str.maketrans(dict.fromkeys("−‐‑‒–—", "-"))  # NFKC has made "-" of the full-width one
_MINUS_IN_WORDS = re.compile(r"マイナス\s*(?=[0-9])")
_GROUPING_COMMA = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")

_KANJI_DIGITS = str.maketrans("〇零一二三四五六七八九", "00123456789")
_BELOW_MYRIAD = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10**4, "億": 10**8, "兆": 10**12}

_ARABIC = r"(?:[0-9]+(?:\.[0-9]+)?|(?<![\w.])\.[0-9]+)"
_NUMBER = re.compile(
    # After a digit, a letter, a unit or a bracket, "-" subtracts or joins a range; elsewhere it is a sign.
    r"(?P<sign>(?<![0-9A-Za-z)\]}%一-龯ァ-ヶー])(?<![0-9)\]}]\s)-)?[$¥€£]?"
    r"(?<![A-Za-z0-9])(?<![0-9]\.)"  # neither a name's part nor another number's
    rf"(?P<digits>{_ARABIC}(?:[百千万億兆]{_ARABIC}?)*)"
    rf"(?:/(?P<below>{_ARABIC}))?"
)
_KANJI_NUMBER = re.compile(
    r"[\s:、「『(約計]*(?P<digits>[〇零一二三四五六七八九十百千万億兆]+)"
    r"(?=$|[\s。、.,)」』]|です|だ|である|つ|[個人枚本円月日年時秒冊匹頭羽台回倍歳才点杯箱袋皿%]|ドル|セント|キロ|メートル|グラム)"
)


def readable(text: str) -> str:
    """The text in NFKC with one minus sign, without superscripts and without commas that group digits by three."""
    text = unicodedata.normalize("NFKC", text.translate(_SUPERSCRIPTS)).translate(_MINUS_SIGNS)
    return _GROUPING_COMMA.sub("", _MINUS_IN_WORDS.sub(" -", text))


def numbers_in(text: str) -> list[str]:
    """The numbers of a `readable` text in order, each in the one spelling of its value. A fraction is one number."""
    return [_spelling(found) for found in _NUMBER.finditer(text)]


def kanji_number_at_start(text: str) -> str | None:
    """The value of a kanji numeral with which a `readable` text begins, if its end or a counter follows."""
    found = _KANJI_NUMBER.match(text)
    return _spelled(_value(found["digits"])) if found else None


def _spelling(found: re.Match[str]) -> str:
    value = _value(found["digits"])
    if found["below"] and (below := Decimal(found["below"])):
        value /= below
    return _spelled(-value if found["sign"] else value)


def _spelled(value: Decimal) -> str:
    """Plain digits: no exponent, no trailing zeros; 28 significant digits are told apart."""
    return f"{value.normalize():f}"


def _value(numeral: str) -> Decimal:
    """The value of Arabic or kanji digits, by position (一八) or with 十百千万億兆 (2千8, 一億二千万)."""
    total = section = Decimal(0)  # myriads that are finished; what is gathered for the next one
    pending = ""  # digits that wait for their unit
    for part in re.findall(r"[0-9.]+|.", numeral.translate(_KANJI_DIGITS)):
        if part in _BELOW_MYRIAD:
            section += Decimal(pending or 1) * _BELOW_MYRIAD[part]
            pending = ""
        elif part in _MYRIADS:
            section += Decimal(pending or 0)
            total += (section or 1) * _MYRIADS[part]
            section, pending = Decimal(0), ""
        else:
            pending += part
    return total + section + Decimal(pending or 0)
