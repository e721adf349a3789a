"""Exercises in copying, order, counting and arithmetic, each asked in English or Japanese.

An exercise names its argument in a form that is the same in both languages and whatever way round it is asked: the
set of words or numbers for lists; for sums and differences the two addends, so that 7 + 5, 5 + 7, 12 - 5 and the story
of the apples are one; for products and quotients the two factors. What is held out is held out in all these forms.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tsugiki.quickstart.instruct.examples import Argument
from tsugiki.quickstart.instruct.words import LETTERS, THINGS, WORDS


@dataclass(frozen=True)
class Exercise:
    """A question and its answer."""

    argument: Argument
    question: str
    answer: str
    number: str = ""
    """The answer as a bare number, where it is one"""


Kind = Callable[[Random, str], Exercise]

ENGLISH = "en"
SEPARATOR = {"en": ", ", "ja": "、"}


def copied_words(random: Random, language: str) -> Exercise:
    """Two to four words repeated."""
    argument, words = _some_words(random, language, 4)
    shown = SEPARATOR[language].join(words)
    question = _one(
        random,
        language,
        ("Repeat these words: {}", "Write the same words: {}", "Copy this: {}"),
        ("次の言葉をそのまま繰り返してください。{}", "同じ言葉を書いてください。{}", "まねして言ってください。{}"),
    )
    return Exercise(argument, question.format(shown), shown)


def copied_digits(random: Random, language: str) -> Exercise:
    """A number of three to five digits repeated."""
    length = random.randint(3, 5)
    number = str(random.randint(10 ** (length - 1), 10**length - 1))
    question = _one(
        random,
        language,
        ("Repeat this number: {}", "Write the same number: {}"),
        ("次の数をそのまま書いてください。{}", "同じ数を書いてください。{}"),
    )
    return Exercise(("digits", int(number)), question.format(number), number)


def reversed_words(random: Random, language: str) -> Exercise:
    """Two to four words said backwards."""
    argument, words = _some_words(random, language, 4)
    question = _one(
        random,
        language,
        ("Put these words in reverse order: {}", "Write these words from last to first: {}"),
        ("次の言葉を逆の順に並べてください。{}", "次の言葉を後ろから順に書いてください。{}"),
    )
    comma = SEPARATOR[language]
    return Exercise(argument, question.format(comma.join(words)), comma.join(reversed(words)))


def end_of_list(random: Random, language: str) -> Exercise:
    """The first or the last of two to five words."""
    argument, words = _some_words(random, language, 5)
    last = random.random() < 0.5
    english, japanese = ("last", "最後") if last else ("first", "最初")
    shown, word = SEPARATOR[language].join(words), words[-1 if last else 0]
    if language == ENGLISH:
        return Exercise(argument, f"Which word is the {english}? {shown}", f'It is "{word}".')
    return Exercise(argument, f"{japanese}の言葉は何ですか。{shown}", f"「{word}」です。")


def sorted_numbers(random: Random, language: str) -> Exercise:
    """Three or four numbers put in order, upwards or downwards."""
    argument, numbers = _some_numbers(random)
    down = random.random() < 0.5
    english, japanese = ("large to small", "大きい") if down else ("small to large", "小さい")
    comma = SEPARATOR[language]
    question = _one(
        random,
        language,
        (f"Sort from {english}: {{}}", f"Put these numbers in order from {english}: {{}}"),
        (f"次の数を{japanese}順に並べてください。{{}}", f"{japanese}順に書いてください。{{}}"),
    )
    ordered = sorted(numbers, reverse=down)
    return Exercise(argument, question.format(comma.join(map(str, numbers))), comma.join(map(str, ordered)))


def extreme_number(random: Random, language: str) -> Exercise:
    """The largest or the smallest of three or four numbers."""
    argument, numbers = _some_numbers(random)
    large = random.random() < 0.5
    english, japanese = ("largest", "大きい") if large else ("smallest", "小さい")
    shown = SEPARATOR[language].join(map(str, numbers))
    question = _one(
        random,
        language,
        (f"Which number is the {english}? {shown}",),
        (f"いちばん{japanese}数はどれですか。{shown}",),
    )
    return _numeric(argument, language, question, max(numbers) if large else min(numbers))


def sorted_letters(random: Random, language: str) -> Exercise:
    """Three or four letters in the order of the dictionary."""
    letters = random.sample(LETTERS[language], random.randint(3, 4))
    ordered = sorted(letters, key=LETTERS[language].index)
    comma = SEPARATOR[language]
    question = _one(
        random,
        language,
        ("Put these letters in alphabetical order: {}", "Sort these letters: {}"),
        ("次の文字を五十音順に並べてください。{}", "五十音順に書いてください。{}"),
    )
    return Exercise(("letters", *ordered), question.format(comma.join(letters)), comma.join(ordered))


def counted_words(random: Random, language: str) -> Exercise:
    """How many words a list of two to seven has."""
    argument, words = _some_words(random, language, 7)
    shown, count = SEPARATOR[language].join(words), len(words)
    question = _one(
        random,
        language,
        (f"How many words are there? {shown}", f"Count the words: {shown}"),
        (f"言葉はいくつありますか。{shown}", f"言葉の数を数えてください。{shown}"),
    )
    answer = f"There are {count}." if language == ENGLISH else f"{count}つあります。"
    return Exercise(argument, question, answer, str(count))


def counted_repeats(random: Random, language: str) -> Exercise:
    """How often one of two words occurs in a shuffled list of both."""
    one, other = random.sample(range(len(WORDS)), 2)
    count, others = random.randint(1, 5), random.randint(1, 3)
    places = [one] * count + [other] * others
    random.shuffle(places)
    word = _word(one, language)
    shown = SEPARATOR[language].join(_word(place, language) for place in places)
    argument: Argument = ("repeats", *sorted((one, other)), count, others)
    if language == ENGLISH:
        answer = f"{count} {'time' if count == 1 else 'times'}."
        return Exercise(argument, f'How many times does "{word}" occur? {shown}', answer, str(count))
    return Exercise(argument, f"「{word}」は何回出てきますか。{shown}", f"{count}回です。", str(count))


def counting(random: Random, language: str) -> Exercise:
    """Three to six numbers said in turn, upwards or downwards."""
    low = random.randint(1, 40)
    high = low + random.randint(2, 5)
    down = random.random() < 0.5
    first, last = (high, low) if down else (low, high)
    said = SEPARATOR[language].join(map(str, range(first, last - 1, -1) if down else range(first, last + 1)))
    if language == ENGLISH:
        question = f"Count {'down ' if down else ''}from {first} to {last}."
    else:
        question = f"{first}から{last}まで{'逆に' if down else ''}数えてください。"
    return Exercise(("counting", low, high), question, said)


def neighbour(random: Random, language: str) -> Exercise:
    """The number after or before another; the pair of both is the argument."""
    low = random.randint(1, 98)
    after = random.random() < 0.5
    shown, result = (low, low + 1) if after else (low + 1, low)
    question = _one(
        random,
        language,
        (f"Which number comes {'after' if after else 'before'} {shown}?",),
        (f"{shown}の{'次' if after else '一つ前'}の数は何ですか。",),
    )
    return _numeric(("neighbours", low), language, question, result)


def addition(random: Random, language: str) -> Exercise:
    """Two numbers up to 20 added."""
    argument, one, other = _sum(random)
    question = _one(
        random,
        language,
        ("What is {} + {}?", "Add {} and {}.", "How much is {} plus {}?"),
        ("{} + {}はいくつですか。", "{}と{}を足すといくつになりますか。", "{}足す{}は？"),
    )
    return _numeric(argument, language, question.format(one, other), one + other)


def subtraction(random: Random, language: str) -> Exercise:
    """The inverse of `addition`."""
    argument, one, other = _sum(random)
    question = _one(
        random,
        language,
        ("What is {0} - {1}?", "Take {1} from {0}.", "How much is {0} minus {1}?"),
        ("{0} - {1}はいくつですか。", "{0}から{1}を引くといくつになりますか。", "{0}引く{1}は？"),
    )
    return _numeric(argument, language, question.format(one + other, other), one)


def multiplication(random: Random, language: str) -> Exercise:
    """The table up to 12 times 12."""
    argument, one, other = _product(random)
    question = _one(
        random,
        language,
        ("What is {} × {}?", "Multiply {} by {}.", "How much is {} times {}?"),
        ("{} × {}はいくつですか。", "{}に{}をかけるといくつになりますか。", "{}かける{}は？"),
    )
    return _numeric(argument, language, question.format(one, other), one * other)


def division(random: Random, language: str) -> Exercise:
    """The inverse of `multiplication`."""
    argument, one, other = _product(random)
    question = _one(
        random,
        language,
        ("What is {} ÷ {}?", "Divide {} by {}.", "How much is {} divided by {}?"),
        ("{} ÷ {}はいくつですか。", "{}を{}で割るといくつになりますか。", "{}割る{}は？"),
    )
    return _numeric(argument, language, question.format(one * other, other), one)


def gift(random: Random, language: str) -> Exercise:
    """A sum or a difference told as things received or given away."""
    argument, one, other = _sum(random)
    many, thing, counter = random.choice(THINGS)
    total = one + other
    if random.random() < 0.5:
        if language == ENGLISH:
            question = f"I have {one} {many} and get {other} more. How many {many} do I have now?"
            return Exercise(argument, question, f"You have {total} {many}.", str(total))
        question = f"{thing}が{one}{counter}あります。{other}{counter}もらいました。全部で何{counter}ですか。"
        return Exercise(argument, question, f"全部で{total}{counter}です。", str(total))
    if language == ENGLISH:
        question = f"I had {total} {many} and gave {other} away. How many {many} are left?"
        return Exercise(argument, question, f"You have {one} {many} left.", str(one))
    question = f"{thing}が{total}{counter}ありました。{other}{counter}あげました。残りは何{counter}ですか。"
    return Exercise(argument, question, f"残りは{one}{counter}です。", str(one))


KINDS: tuple[Kind, ...] = (
    copied_words, copied_digits, reversed_words, end_of_list, sorted_numbers, extreme_number, sorted_letters,
    counted_words, counted_repeats, counting, neighbour, addition, subtraction, multiplication, division, gift,
)  # fmt: skip


def _one(random: Random, language: str, english: tuple[str, ...], japanese: tuple[str, ...]) -> str:
    return random.choice(english if language == ENGLISH else japanese)


def _word(place: int, language: str) -> str:
    return WORDS[place][0 if language == ENGLISH else 1]


def _numeric(argument: Argument, language: str, question: str, result: int) -> Exercise:
    answer = f"It is {result}." if language == ENGLISH else f"{result}です。"
    return Exercise(argument, question, answer, str(result))


def _some_words(random: Random, language: str, most: int) -> tuple[Argument, list[str]]:
    places = random.sample(range(len(WORDS)), random.randint(2, most))
    return ("words", *sorted(places)), [_word(place, language) for place in places]


def _some_numbers(random: Random) -> tuple[Argument, list[int]]:
    numbers = random.sample(range(1, 60), random.randint(3, 4))
    return ("numbers", *sorted(numbers)), numbers


def _sum(random: Random) -> tuple[Argument, int, int]:
    """From 2 on, so that the plural is right in every story."""
    one, other = random.randint(2, 20), random.randint(2, 20)
    return ("sum", *sorted((one, other))), one, other


def _product(random: Random) -> tuple[Argument, int, int]:
    one, other = random.randint(2, 12), random.randint(2, 12)
    return ("product", *sorted((one, other))), one, other
