"""Small functions to complete, written for this project, from one line to ten.

Each stands here whole, and what it is tried on is made from a seed by its decorator's function: `problems.own_problems`
makes tasks of them. They are one list, longer than other files: no part of it is a subject by itself.
"""

from collections.abc import Callable
from random import Random
from typing import Any

Inputs = Callable[[Random], tuple[Any, ...]]
MADE_BY: dict[Callable[..., Any], Inputs] = {}
"""Every function, in order, and what makes its arguments."""


def tried_on(inputs: Inputs) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Mark a function as one to complete."""

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        MADE_BY[function] = inputs
        return function

    return mark


# --- inputs -----------------------------------------------------------------------------------------------------------

NAMES = "river stone apple level window noon cloud radar paper letter green civic mountain otto tea bee"
WORDS = NAMES.split()


def number(random: Random) -> int:
    return random.randint(-20, 60)


def numbers(random: Random, least: int = 0) -> list[int]:
    return [random.randint(-9, 20) for _ in range(random.randint(least, 8))]


def words(random: Random, least: int = 0) -> list[str]:
    return [random.choice(WORDS) for _ in range(random.randint(least, 6))]


def sentence(random: Random) -> str:
    return " ".join(words(random, 1))


# --- functions --------------------------------------------------------------------------------------------------------


@tried_on(lambda random: (number(random), number(random)))
def difference(a: int, b: int) -> int:
    """Return how far apart a and b are, never negative.

    >>> difference(3, 10)
    7
    """
    return abs(a - b)


@tried_on(lambda random: (number(random),))
def is_even(n: int) -> bool:
    """Return True if n is even and False if it is odd.

    >>> is_even(4)
    True
    """
    return n % 2 == 0


@tried_on(lambda random: (numbers(random),))
def doubled(values: list[int]) -> list[int]:
    """Return a list with every value multiplied by two.

    >>> doubled([1, 2, 3])
    [2, 4, 6]
    """
    return [2 * value for value in values]


@tried_on(lambda random: (sentence(random),))
def shout(text: str) -> str:
    """Return the text in capital letters with an exclamation mark at its end.

    >>> shout("good morning")
    'GOOD MORNING!'
    """
    return text.upper() + "!"


@tried_on(lambda random: (sentence(random),))
def backwards(text: str) -> str:
    """Return the text from its last character to its first.

    >>> backwards("abc")
    'cba'
    """
    return text[::-1]


@tried_on(lambda random: (numbers(random),))
def total_of_positive(values: list[int]) -> int:
    """Return the sum of those values that are greater than zero.

    >>> total_of_positive([3, -5, 4])
    7
    """
    return sum(value for value in values if value > 0)


@tried_on(lambda random: (sentence(random),))
def count_vowels(text: str) -> int:
    """Return how many of the letters a, e, i, o and u the text has.

    >>> count_vowels("banana")
    3
    """
    return sum(character in "aeiou" for character in text)


@tried_on(lambda random: (sentence(random),))
def first_letters(text: str) -> str:
    """Return the first letters of the words of the text, joined together.

    >>> first_letters("all good things")
    'agt'
    """
    return "".join(word[0] for word in text.split())


@tried_on(lambda random: (random.randint(0, 8),))
def factorial(n: int) -> int:
    """Return the product of the numbers from 1 to n. The factorial of 0 is 1.

    >>> factorial(4)
    24
    """
    product = 1
    for factor in range(2, n + 1):
        product *= factor
    return product


@tried_on(lambda random: (numbers(random, 1),))
def spread(values: list[int]) -> int:
    """Return the largest value minus the smallest one.

    >>> spread([4, 9, 1])
    8
    """
    return max(values) - min(values)


@tried_on(lambda random: (numbers(random, 1),))
def average(values: list[int]) -> float:
    """Return the arithmetic mean of the values.

    >>> average([1, 2, 6])
    3.0
    """
    return sum(values) / len(values)


@tried_on(lambda random: (random.choice(WORDS),))
def is_palindrome(word: str) -> bool:
    """Return True if the word reads the same from both ends.

    >>> is_palindrome("level")
    True
    """
    return word == word[::-1]


@tried_on(lambda random: (words(random, 1),))
def longest_word(words: list[str]) -> str:
    """Return the longest word; if several are as long, the first of them.

    >>> longest_word(["an", "apple", "a", "grape"])
    'apple'
    """
    return max(words, key=len)


@tried_on(lambda random: (numbers(random), random.randint(-5, 10)))
def above(values: list[int], limit: int) -> list[int]:
    """Return the values that are greater than the limit, in the same order.

    >>> above([5, 1, 8], 4)
    [5, 8]
    """
    return [value for value in values if value > limit]


@tried_on(lambda random: (random.randint(0, 5000),))
def digit_sum(n: int) -> int:
    """Return the sum of the decimal digits of n, which is not negative.

    >>> digit_sum(402)
    6
    """
    return sum(int(digit) for digit in str(n))


@tried_on(lambda random: (random.randint(-20, 110),))
def grade(points: int) -> str:
    """Return "high" for 70 points or more, "middle" for 40 or more, and "low" for fewer.

    >>> grade(55)
    'middle'
    """
    if points >= 70:
        return "high"
    if points >= 40:
        return "middle"
    return "low"


@tried_on(lambda random: (words(random),))
def word_counts(words: list[str]) -> dict[str, int]:
    """Return a dictionary that says how often each word occurs in the list.

    >>> word_counts(["a", "b", "a"])
    {'a': 2, 'b': 1}
    """
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return counts


@tried_on(lambda random: (numbers(random),))
def without_repeats(values: list[int]) -> list[int]:
    """Return the values in the order of their first occurrence, each one once.

    >>> without_repeats([3, 1, 3, 2, 1])
    [3, 1, 2]
    """
    return list(dict.fromkeys(values))


@tried_on(lambda random: (numbers(random), numbers(random)))
def in_both(left: list[int], right: list[int]) -> list[int]:
    """Return the numbers that both lists have, in ascending order, each one once.

    >>> in_both([4, 2, 2, 9], [2, 4, 7])
    [2, 4]
    """
    return sorted(set(left) & set(right))


@tried_on(lambda random: (random.randint(1, 60),))
def divisors(n: int) -> list[int]:
    """Return all numbers from 1 to n that divide n without a remainder.

    >>> divisors(10)
    [1, 2, 5, 10]
    """
    return [candidate for candidate in range(1, n + 1) if n % candidate == 0]


@tried_on(lambda random: (random.randint(0, 60),))
def is_prime(n: int) -> bool:
    """Return True if n is a prime number. 0 and 1 are not.

    >>> is_prime(7)
    True
    """
    return n > 1 and all(n % divisor for divisor in range(2, n))


@tried_on(lambda random: (random.randint(1, 90), random.randint(1, 90)))
def greatest_common_divisor(a: int, b: int) -> int:
    """Return the largest number that divides both a and b. Both are greater than zero.

    >>> greatest_common_divisor(12, 18)
    6
    """
    while b:
        a, b = b, a % b
    return a


@tried_on(lambda random: (numbers(random),))
def running_totals(values: list[int]) -> list[int]:
    """Return for each place the sum of all values up to and including it.

    >>> running_totals([2, 5, -1])
    [2, 7, 6]
    """
    totals = []
    total = 0
    for value in values:
        total += value
        totals.append(total)
    return totals


@tried_on(lambda random: (numbers(random), random.randint(1, 4)))
def in_groups(values: list[int], size: int) -> list[list[int]]:
    """Return the values cut into lists of the given size; the last one may be shorter.

    >>> in_groups([1, 2, 3, 4, 5], 2)
    [[1, 2], [3, 4], [5]]
    """
    return [values[start : start + size] for start in range(0, len(values), size)]


@tried_on(lambda random: ("".join(random.choice("()") for _ in range(2 * random.randint(0, 2))),))
def is_balanced(text: str) -> bool:
    """Return True if every opening parenthesis in the text is closed later, and none is closed before it is opened.

    >>> is_balanced("(())()")
    True
    """
    depth = 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0


@tried_on(lambda random: ("".join(random.choice("aab") for _ in range(random.randint(0, 9))),))
def run_lengths(text: str) -> list[tuple[str, int]]:
    """Return each run of equal characters as a pair of the character and how often it is repeated.

    >>> run_lengths("aab")
    [('a', 2), ('b', 1)]
    """
    runs: list[tuple[str, int]] = []
    for character in text:
        if runs and runs[-1][0] == character:
            runs[-1] = (character, runs[-1][1] + 1)
        else:
            runs.append((character, 1))
    return runs


@tried_on(lambda random: (random.choice(WORDS), random.choice(WORDS)))
def are_anagrams(left: str, right: str) -> bool:
    """Return True if both words have the same letters, each as often.

    >>> are_anagrams("listen", "silent")
    True
    """
    return sorted(left) == sorted(right)


@tried_on(lambda random: (random.randint(0, 86_399),))
def clock_time(seconds: int) -> str:
    """Return the time of day after so many seconds since midnight, as hours:minutes with two digits each.

    >>> clock_time(3_900)
    '01:05'
    """
    hours, rest = divmod(seconds, 3600)
    return f"{hours:02}:{rest // 60:02}"


@tried_on(lambda random: (random.randint(1, 12),))
def fibonacci(n: int) -> list[int]:
    """Return the first n Fibonacci numbers, beginning with 1 and 1.

    >>> fibonacci(5)
    [1, 1, 2, 3, 5]
    """
    sequence = [1, 1]
    while len(sequence) < n:
        sequence.append(sequence[-1] + sequence[-2])
    return sequence[:n]


@tried_on(lambda random: ([numbers(random, 3)[:3] for _ in range(random.randint(1, 3))],))
def transposed(table: list[list[int]]) -> list[list[int]]:
    """Return the table with rows and columns exchanged. All rows have the same length.

    >>> transposed([[1, 2], [3, 4]])
    [[1, 3], [2, 4]]
    """
    return [list(column) for column in zip(*table, strict=True)]


@tried_on(lambda random: (random.randint(1, 200),))
def in_binary(n: int) -> str:
    """Return n, which is greater than zero, in binary digits.

    >>> in_binary(5)
    '101'
    """
    return f"{n:b}"


@tried_on(lambda random: (sentence(random), random.randint(1, 25)))
def caesar(text: str, shift: int) -> str:
    """Return the text with each lower-case letter moved forward in the alphabet, z being followed by a.

    >>> caesar("xyz", 2)
    'zab'
    """
    return "".join(
        chr((ord(character) - ord("a") + shift) % 26 + ord("a")) if "a" <= character <= "z" else character
        for character in text
    )


@tried_on(lambda random: (sorted(numbers(random)), sorted(numbers(random))))
def merged(left: list[int], right: list[int]) -> list[int]:
    """Return one ascending list with the values of two ascending lists.

    >>> merged([1, 4], [2, 4, 6])
    [1, 2, 4, 4, 6]
    """
    return sorted(left + right)


@tried_on(lambda random: (numbers(random), number(random)))
def pair_with_sum(values: list[int], total: int) -> bool:
    """Return True if two values at different places add up to the total.

    >>> pair_with_sum([1, 5, 9], 14)
    True
    """
    return any(a + b == total for place, a in enumerate(values) for b in values[place + 1 :])


@tried_on(lambda random: (random.randint(1, 60),))
def roman(n: int) -> str:
    """Return n, a number from 1 to 60, as a Roman numeral.

    >>> roman(14)
    'XIV'
    """
    numeral = ""
    for value, letters in ((50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")):
        while n >= value:
            numeral += letters
            n -= value
    return numeral


@tried_on(lambda random: ({random.choice(WORDS): random.randint(1, 9) for _ in range(random.randint(1, 5))},))
def by_value(scores: dict[str, int]) -> list[str]:
    """Return the names with the highest score first; names with the same score in alphabetical order.

    >>> by_value({"ann": 3, "bob": 7, "cal": 3})
    ['bob', 'ann', 'cal']
    """
    return sorted(scores, key=lambda name: (-scores[name], name))
