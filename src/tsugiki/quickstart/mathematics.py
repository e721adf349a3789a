"""Worked arithmetic and algebra in English, made from a seed.

A document is a handful of exercises, each solved step by step in a blank-line-separated paragraph. Every equation
that a paragraph states is true (a test evaluates each one by a parser of its own): `x` and `y` stand for the values
that the same paragraph finds. Numbers carry no thousands separators, so that a digit is always followed by the next
one, and decimals are written with a point.

The documents are a pure function of (seed, number), so a longer set begins with the shorter one.
"""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from random import Random

from tsugiki.quickstart.word_problems import WORD_PROBLEMS

Exercise = Callable[[Random], str]

PLACES = ("ones", "tens", "hundreds", "thousands", "ten thousands")


def documents(seed: int, count: int) -> Iterator[str]:
    """`count` documents of about 1.2 kB each. Plain ASCII but for the signs of multiplication and division."""
    for number in range(count):
        yield document(Random(f"mathematics/{seed}/{number}"))


def document(random: Random) -> str:
    """Exercises of two or three kinds mixed, as on a page of a workbook."""
    kinds = random.sample([*ARITHMETIC, *ALGEBRA, *WORD_PROBLEMS], random.randint(3, 4))
    paragraphs = [random.choice(kinds)(random) for _ in range(random.randint(5, 8))]
    return "\n\n".join(paragraphs) + "\n"


def addition(random: Random) -> str:
    """Two or three numbers added column by column, each carry said aloud."""
    digits = random.randint(2, 4)
    terms = [random.randint(10 ** (digits - 1), 10**digits - 1) for _ in range(random.choice((2, 2, 3)))]
    total = sum(terms)
    problem = " + ".join(map(str, terms))
    lines, carry = [], 0
    for place in range(digits):
        column = [term // 10**place % 10 for term in terms]
        value = sum(column) + carry
        shown = " + ".join(map(str, column + [carry] * (carry > 0)))
        carry_before, carry = carry, value // 10
        line = f"{PLACES[place].capitalize()}: {shown} = {value}"
        if carry:
            line += f", write {value % 10} and carry {carry}"
        elif carry_before:
            line += f", the carried {carry_before} included"
        lines.append(line + ".")
    if carry:
        lines.append(f"The last carry of {carry} goes in front.")
    opening = random.choice((f"Add {problem}.", f"What is {problem}?", f"Find the sum {problem} by columns."))
    return f"{opening}\n" + "\n".join(lines) + f"\nSo {problem} = {total}."


def subtraction(random: Random) -> str:
    """A difference column by column, with each borrowing said aloud, and checked by adding."""
    digits = random.randint(2, 4)
    large = random.randint(2 * 10 ** (digits - 1), 10**digits - 1)
    small = random.randint(10 ** (digits - 1), large - 1)
    lines, borrowed = [], 0
    for place in range(digits):
        top, bottom = large // 10**place % 10 - borrowed, small // 10**place % 10
        before, borrowed = borrowed, int(top < bottom)
        note = " after lending 1" if before else ""
        line = f"{PLACES[place].capitalize()}{note}: "
        if borrowed:
            line += f"{top} is less than {bottom}, so borrow 10: {top + 10} - {bottom} = {top + 10 - bottom}."
        else:
            line += f"{top} - {bottom} = {top - bottom}."
        lines.append(line)
    opening = random.choice((f"Subtract {small} from {large}.", f"How much is {large} - {small}?"))
    check = random.choice(
        (f"Check: {large - small} + {small} = {large}.", f"Indeed {small} + {large - small} = {large}.")
    )
    return f"{opening}\n" + "\n".join(lines) + f"\nSo {large} - {small} = {large - small}. {check}"


def product(random: Random) -> str:
    """A product by parts, or by a round number nearby."""
    if random.random() < 0.35:
        near = random.choice((20, 30, 40, 50, 100, 200))
        off, other = random.choice((1, 2, 3)), random.randint(6, 89)
        first = near - off
        return (
            f"A quick way to {other} × {first}: {first} is {off} less than {near}.\n"
            f"{other} × {near} = {other * near}, and {other} × {off} = {other * off}.\n"
            f"{other} × {first} = {other * near} - {other * off} = {other * first}."
        )
    left, right = random.randint(12, 999), random.randint(12, 99)
    tens, ones = right // 10 * 10, right % 10
    if not ones:
        return f"To multiply by {right}, multiply by {right // 10} and add a zero: {left} × {right // 10} = " \
               f"{left * right // 10}, so {left} × {right} = {left * right}."  # fmt: skip
    opening = random.choice(
        (f"Multiply {left} by {right}.", f"What is {left} × {right}?", f"Work out {left} × {right}.")
    )
    return (
        f"{opening}\nSplit {right} into {tens} and {ones}.\n"
        f"{left} × {tens} = {left * tens}\n{left} × {ones} = {left * ones}\n"
        f"{left * tens} + {left * ones} = {left * right}, so {left} × {right} = {left * right}."
    )


def division(random: Random) -> str:
    """Division with a remainder, digit by digit, and the check that belongs to it."""
    divisor, dividend = random.randint(3, 12), random.randint(100, 9999)
    quotient, remainder = divmod(dividend, divisor)
    lines, rest = [], 0
    for digit in str(dividend):
        rest = rest * 10 + int(digit)
        times = rest // divisor
        if times:
            lines.append(
                f"{divisor} goes into {rest} {count_of(times)}: {rest} - {divisor * times} = {rest - divisor * times}."
            )
            rest -= divisor * times
    opening = random.choice((f"Divide {dividend} by {divisor}.", f"How often does {divisor} go into {dividend}?"))
    ending = f"remainder {remainder}" if remainder else "and nothing is left over"
    return (
        f"{opening}\n" + "\n".join(lines)
        + f"\nThe quotient is {quotient}, {ending}.\nCheck: {divisor} × {quotient} + {remainder} = {dividend}."
    )  # fmt: skip


def count_of(times: int) -> str:
    """`once`, `twice`, `7 times`."""
    return {1: "once", 2: "twice"}.get(times, f"{times} times")


def fraction_sum(random: Random) -> str:
    """Two fractions over their least common denominator."""
    first, second = _proper_fraction(random), _proper_fraction(random)
    if first < second:
        first, second = second, first
    common = math.lcm(first.denominator, second.denominator)
    a, b = (f.numerator * (common // f.denominator) for f in (first, second))
    sign, top = ("-", a - b) if first != second and random.random() < 0.4 else ("+", a + b)
    problem = f"{first} {sign} {second}"
    lines = [random.choice((f"Work out {problem}.", f"What is {problem}?"))]
    if first.denominator == second.denominator:
        lines.append(f"The denominators agree, so only the numerators count: {a} {sign} {b} = {top}.")
    else:
        lines.append(f"The least common multiple of {first.denominator} and {second.denominator} is {common}.")
        lines.append(f"{first} = {a}/{common} and {second} = {b}/{common}.")
    lines.append(f"{problem} = {a}/{common} {sign} {b}/{common} = {top}/{common}" + _reduced(top, common) + ".")
    return "\n".join(lines)


def fraction_product(random: Random) -> str:
    """A product or a quotient of two fractions, reduced at the end."""
    first, second = _proper_fraction(random), _proper_fraction(random)
    if random.random() < 0.5:
        top, bottom = first.numerator * second.numerator, first.denominator * second.denominator
        return (
            f"Multiply {first} by {second}.\nNumerators: {first.numerator} × {second.numerator} = {top}. "
            f"Denominators: {first.denominator} × {second.denominator} = {bottom}.\n"
            f"{first} × {second} = {top}/{bottom}" + _reduced(top, bottom) + "."
        )
    top, bottom = first.numerator * second.denominator, first.denominator * second.numerator
    return (
        f"Divide {first} by {second}.\nTo divide by a fraction, multiply by it turned over: "
        f"({first}) ÷ ({second}) = {first} × {second.denominator}/{second.numerator}.\n"
        f"{first} × {second.denominator}/{second.numerator} = {top}/{bottom}" + _reduced(top, bottom) + "."
    )


def _proper_fraction(random: Random) -> Fraction:
    """In lowest terms, never a whole number."""
    denominator = random.randint(2, 12)
    numerators = [n for n in range(1, denominator) if math.gcd(n, denominator) == 1]
    return Fraction(random.choice(numerators), denominator)


def _reduced(top: int, bottom: int) -> str:
    """` = 2/3` when the fraction is not in lowest terms."""
    lowest = Fraction(top, bottom)
    return "" if lowest.denominator == bottom else f" = {lowest}"


def common_divisor(random: Random) -> str:
    """Euclid's algorithm."""
    factor = random.randint(2, 18)
    a, b = factor * random.randint(12, 60), factor * random.randint(5, 40)
    first, second = max(a, b), min(a, b)
    lines = [f"Find the greatest common divisor of {first} and {second} by Euclid's method."]
    while second:
        quotient, rest = divmod(first, second)
        lines.append(f"{first} = {quotient} × {second} + {rest}")
        first, second = second, rest
    return "\n".join(lines) + f"\nThe last divisor that was not zero is {first}, so the answer is {first}."


def prime_factors(random: Random) -> str:
    """A number taken apart, smallest prime first."""
    number = math.prod(random.choice((2, 2, 2, 3, 3, 5, 7, 11, 13)) for _ in range(random.randint(3, 5)))
    rest, divisor, factors, lines = number, 2, [], [f"Write {number} as a product of primes."]
    while rest > 1:
        if rest % divisor:
            divisor += 1
            continue
        lines.append(f"{rest} ÷ {divisor} = {rest // divisor}")
        factors.append(divisor)
        rest //= divisor
    return "\n".join(lines) + f"\nSo {number} = {' × '.join(map(str, factors))}."


def powers(random: Random) -> str:
    """Powers built up by repeated multiplication."""
    base, exponent = random.choice(((2, 10), (3, 6), (5, 4), (7, 4), (11, 3), (6, 4), (4, 5), (12, 3)))
    exponent = random.randint(3, exponent)
    lines = [f"Compute {base}^{exponent} one factor at a time."]
    lines += [f"{base}^{k} = {base ** (k - 1)} × {base} = {base**k}" for k in range(2, exponent + 1)]
    return "\n".join(lines)


def series(random: Random) -> str:
    """The sum of an arithmetic sequence by pairing first and last."""
    first, step, count = random.randint(1, 20), random.randint(1, 9), random.randint(3, 15) * 2
    last = first + step * (count - 1)
    return (
        f"Add the {count} numbers {first}, {first + step}, {first + 2 * step} and so on up to {last}.\n"
        f"The last of them is {first} + {step} × {count - 1} = {last}. "
        "Pair the first with the last, the second with the "
        f"last but one: each pair makes {first} + {last} = {first + last}, "
        f"and there are {count} ÷ 2 = {count // 2} pairs.\n"
        f"The sum is {count // 2} × {first + last} = {count // 2 * (first + last)}."
    )


def linear_equation(random: Random) -> str:
    """a x + b = c, solved and checked."""
    a, x, b = random.randint(2, 12), random.randint(-9, 15), random.choice((-1, 1)) * random.randint(1, 30)
    sign, undo = ("+", "-") if b > 0 else ("-", "+")
    c = a * x + b
    opening = random.choice(
        (f"Solve {a}x {sign} {abs(b)} = {c}.", f"For which x does {a}x {sign} {abs(b)} = {c} hold?")
    )
    verb = "Subtract" if b > 0 else "Add"
    return (
        f"{opening}\n{verb} {abs(b)} on both sides: {a}x = {c} {undo} {abs(b)} = {c - b}.\n"
        f"Divide by {a}: x = {_signed(c - b)} ÷ {a} = {x}.\n"
        f"Check: {a} × {_signed(x)} {sign} {abs(b)} = {c}."
    )


def linear_both_sides(random: Random) -> str:
    """a x + b = c x + d with the unknown gathered on the left."""
    x, c = random.randint(2, 15), random.randint(2, 7)
    a, b = c + random.randint(1, 6), random.randint(1, 40)
    d = (a - c) * x + b
    gathered = "x" if a - c == 1 else f"{a - c}x"
    lines = [
        f"Solve {a}x + {b} = {c}x + {d}.",
        f"Take {c}x from both sides: {gathered} + {b} = {d}.",
        f"Take {b} from both sides: {gathered} = {d} - {b} = {d - b}.",
    ]
    if a - c > 1:
        lines.append(f"Divide by {a - c}: x = {d - b} ÷ {a - c} = {x}.")
    value = a * x + b
    return "\n".join(lines) + f"\nBoth sides are then {value}: {a} × {x} + {b} = {value} and {c} × {x} + {d} = {value}."


def quadratic(random: Random) -> str:
    """A quadratic equation by factors."""
    small = random.randint(1, 9)
    large = small + random.randint(1, 7)
    total, times = small + large, small * large
    return (
        f"Solve x^2 - {total}x + {times} = 0.\n"
        f"Two numbers with product {times} and sum {total} are {small} and {large}, since {small} × {large} = {times} "
        f"and {small} + {large} = {total}.\n"
        f"Hence x^2 - {total}x + {times} = (x - {small})(x - {large}), which is zero when x = {small} or x = {large}."
    )


def simultaneous(random: Random) -> str:
    """Two equations in two unknowns, by adding or by putting one into the other."""
    x, y = random.randint(2, 14), random.randint(1, 13)
    if x <= y:
        x, y = y + random.randint(1, 4), y
    if random.random() < 0.5:
        return (
            f"Solve x + y = {x + y} together with x - y = {x - y}.\n"
            f"Adding the two gives 2x = {x + y} + {x - y} = {2 * x}, so x = {2 * x} ÷ 2 = {x}.\n"
            f"Then y = {x + y} - {x} = {y}."
        )
    a, b = random.randint(2, 5), random.randint(2, 6)
    total = a * x + b * y
    difference = x - y
    return (
        f"Solve {a}x + {b}y = {total} together with x = y + {difference}.\n"
        f"Put the second into the first: {a} × (y + {difference}) + {b}y = {total}.\n"
        f"That is {a + b}y + {a * difference} = {total}, so {a + b}y = {total - a * difference} and "
        f"y = {total - a * difference} ÷ {a + b} = {y}. Then x = {y} + {difference} = {x}."
    )


def expansion(random: Random) -> str:
    """A bracket multiplied out, tried with a number."""
    a, b, c, x = random.randint(2, 9), random.randint(1, 9), random.randint(1, 9), random.randint(2, 9)
    if random.random() < 0.5:
        return (
            f"Multiply out {a}(x + {b}) + {c}x and try it with x = {x}.\n"
            f"{a}(x + {b}) + {c}x = {a}x + {a * b} + {c}x = {a + c}x + {a * b}.\n"
            f"With the number put in: {a} × {x + b} + {c} × {x} = {a * (x + b) + c * x}, and {a + c} × {x} + {a * b} = "
            f"{(a + c) * x + a * b}. They agree."
        )
    return (
        f"Multiply out (x + {b})(x + {c}) and try it with x = {x}.\n"
        f"(x + {b})(x + {c}) = x^2 + {b}x + {c}x + {b * c} = x^2 + {b + c}x + {b * c}.\n"
        f"With the number put in: {x + b} × {x + c} = {(x + b) * (x + c)}, and {x * x} + {(b + c) * x} + {b * c} = "
        f"{x * x + (b + c) * x + b * c}. They agree."
    )


def percentage(random: Random) -> str:
    """A share of a whole, or a change of price."""
    percent, whole = random.choice((5, 10, 12, 15, 20, 25, 30, 35, 40, 60, 75)), 20 * random.randint(2, 60)
    part = Fraction(whole * percent, 100)
    start = f"1 percent of {whole} is {decimal(Fraction(whole, 100))}"
    kind = random.randint(0, 2)
    if kind == 0:
        return (
            f"What is {percent} percent of {whole}?\n{start}.\n"
            f"{percent} percent is {percent} × {decimal(Fraction(whole, 100))} = {decimal(part)}."
        )
    word, sign, new = ("rises", "+", whole + part) if kind == 1 else ("falls", "-", whole - part)
    return (
        f"A price of {whole} {word} by {percent} percent. What is it now?\n"
        f"{start}, so the change is {percent} × {decimal(Fraction(whole, 100))} = {decimal(part)}.\n"
        f"The new price is {whole} {sign} {decimal(part)} = {decimal(new)}."
    )


def decimals(random: Random) -> str:
    """Sums and products with a decimal point."""
    a, b = Fraction(random.randint(101, 999), 100), Fraction(random.randint(11, 99), 10)
    if random.random() < 0.5:
        return f"Add {decimal(a)} and {decimal(b)}, point under point: {decimal(a)} + {decimal(b)} = {decimal(a + b)}."
    left, right = int(b * 10), random.randint(3, 9)
    return (
        f"Multiply {decimal(b)} by {right}. Leave the point out for a moment: {left} × {right} = {left * right}. "
        "There was "
        f"one digit after the point, so put it back: {decimal(b)} × {right} = {decimal(b * right)}."
    )


def decimal(value: Fraction) -> str:
    """An exact decimal, without trailing zeros. Raises ValueError where there is none of at most four digits."""
    scaled = value * 10_000
    if scaled.denominator != 1:
        raise ValueError(f"{value} has no short decimal")
    whole, rest = divmod(abs(scaled.numerator), 10_000)
    sign = "-" if value < 0 else ""
    return sign + (f"{whole}.{rest:04d}".rstrip("0") if rest else str(whole))


def _signed(value: int) -> str:
    """Negative numbers in brackets after an operator."""
    return f"({value})" if value < 0 else str(value)


ARITHMETIC: tuple[Exercise, ...] = (
    addition, subtraction, product, division, fraction_sum, fraction_product, common_divisor, prime_factors, powers,
    series, percentage, decimals,
)  # fmt: skip
ALGEBRA: tuple[Exercise, ...] = (linear_equation, linear_both_sides, quadratic, simultaneous, expansion)
