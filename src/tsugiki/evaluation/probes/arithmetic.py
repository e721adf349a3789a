"""Arithmetic with small numbers: bare sums, and word problems in English and Japanese.

The alternatives have as many digits as the answer and lie near it (one or two off, ten off), so that neither length
nor size gives the answer away.
"""

from random import Random

from tsugiki.evaluation.probes.items import Probe, ProbeItem, shuffled

VERSION = 1
ITEMS = 120

ENGLISH = (
    ("+", "{name} has {a} {things} and gets {b} more. Now {name} has", " {n} {things}."),
    ("-", "There were {a} {things} in the basket. {name} took {b} of them. That left", " {n} {things}."),
    ("×", "{name} packs {a} boxes with {b} {things} each. Together that makes", " {n} {things}."),
    ("+", "{a} {things} are on the table and {b} on the shelf. Altogether there are", " {n} {things}."),
    ("-", "{name} needs {a} {things} and has only {b}. Still missing are", " {n} {things}."),
)
JAPANESE = (
    ("+", "{name}は{things}を{a}個持っています。さらに{b}個もらいました。全部で", "{n}個です。"),
    ("-", "かごに{things}が{a}個ありました。{name}が{b}個取りました。残りは", "{n}個です。"),
    ("×", "一箱に{things}が{b}個入っています。{a}箱では", "{n}個です。"),
    ("+", "机の上に{things}が{a}個、棚の上に{b}個あります。合わせて", "{n}個です。"),
    ("-", "{name}は{things}が{a}個必要ですが、{b}個しかありません。足りないのは", "{n}個です。"),
)
NAMES = {"en": ("Anna", "Ben", "Clara", "David", "Emma"), "ja": ("太郎", "花子", "健太", "美咲", "直樹")}
THINGS = {
    "en": ("apples", "marbles", "stamps", "buttons", "shells"),
    "ja": ("りんご", "みかん", "ビー玉", "貝殻", "石"),
}


def arithmetic() -> Probe:
    """Bare sums: addition, subtraction and the multiplication table by turns, a third of them with one digit."""
    items: list[ProbeItem] = []
    used: set[tuple[str, int, int]] = set()
    for number in range(ITEMS):
        random = Random(f"arithmetic/{number}")
        sign = "+-×"[number % 3]
        left, right = new_terms(sign, random, 9 if number // 3 % 3 == 0 else 49, used)
        items.append(_item(number, f"{left} {sign} {right} =", " {n}", result(sign, left, right), random))
    return Probe("arithmetic", "sums", "math", VERSION, tuple(items))


def word_problems(language: str) -> Probe:
    """Short stories that end in a sum, in a language of NAMES."""
    items: list[ProbeItem] = []
    used: set[tuple[str, int, int]] = set()
    templates = {"en": ENGLISH, "ja": JAPANESE}[language]
    for number in range(ITEMS):
        random = Random(f"word problems/{language}/{number}")
        sign, question, ending = templates[number % len(templates)]
        left, right = new_terms(sign, random, 19, used)
        name, things = random.choice(NAMES[language]), random.choice(THINGS[language])
        context = question.format(a=left, b=right, name=name, things=things)
        items.append(_item(number, context, ending.replace("{things}", things), result(sign, left, right), random))
    return Probe(f"word_problems_{language}", f"word problems {language}", language, VERSION, tuple(items))


def new_terms(sign: str, random: Random, largest: int, used: set[tuple[str, int, int]]) -> tuple[int, int]:
    """Two numbers from 2 up, not yet `used` with this sign: factors of one digit, a difference of at least 2."""
    while True:
        largest_term = 9 if sign == "×" else largest
        left, right = random.randint(2, largest_term), random.randint(2, largest_term)
        left = left + right if sign == "-" else left
        if (sign, left, right) not in used:
            used.add((sign, left, right))
            return left, right


def result(sign: str, left: int, right: int) -> int:
    return {"+": left + right, "-": left - right, "×": left * right}[sign]


def _item(number: int, context: str, ending: str, answer: int, random: Random) -> ProbeItem:
    """`ending` has {n} in the number's place."""
    near = [answer + off for off in (-10, -2, -1, 1, 2, 10, 3, -3)]
    alike = [other for other in near if other >= 0 and len(str(other)) == len(str(answer))]
    truth, *others = (ending.format(n=each) for each in (answer, *random.sample(alike, 3)))
    return shuffled(f"{number + 1:03}", context, truth, others, random)
