"""Every equation in the generated mathematics is true, judged by a parser that shares nothing with the generator."""

import re
from fractions import Fraction

import pytest

from tsugiki.quickstart.mathematics import ALGEBRA, ARITHMETIC, documents
from tsugiki.quickstart.word_problems import WORD_PROBLEMS

TOKEN = re.compile(r"\d+(?:\.\d+)?|[-+×÷/^()=]|\b[xy]\b|(?<=\d)[xy]\b|[xy](?=\^)")
GAP = re.compile(r"[ ]*")


def equations(paragraph):
    """Longest runs of formula tokens that hold an equals sign, each as a list of tokens."""
    position, run = 0, []
    while position < len(paragraph):
        match = TOKEN.match(paragraph, position)
        if match:
            run.append(match.group())
            position = GAP.match(paragraph, match.end()).end()
            continue
        if "=" in run:
            yield run
        run, position = [], position + 1
        # A word is skipped whole, so that a letter inside it is never read as an unknown.
        position = re.compile(r"(?:(?<=\w)\w+)?").match(paragraph, position).end()
    if "=" in run:
        yield run


class Parser:
    """Recursive descent over tokens with exact fractions: sums, products (also by juxtaposition), powers, signs."""

    def __init__(self, tokens, values):
        self.tokens, self.values, self.at = tokens, values, 0

    def peek(self):
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self):
        self.at += 1
        return self.tokens[self.at - 1]

    def total(self):
        value = self.product()
        while self.peek() in ("+", "-"):
            value = value + self.product() if self.take() == "+" else value - self.product()
        return value

    def product(self):
        value = self.power()
        while self.peek() is not None and self.peek() not in ("+", "-", ")"):
            sign = self.peek()
            if sign in ("×", "÷", "/"):
                self.take()
            factor = self.power()
            value = value / factor if sign in ("÷", "/") else value * factor
        return value

    def power(self):
        base = self.atom()
        if self.peek() == "^":
            self.take()
            return base ** int(self.atom())
        return base

    def atom(self):
        token = self.take()
        if token == "-":
            return -self.atom()
        if token == "(":
            value = self.total()
            assert self.take() == ")"
            return value
        if token in ("x", "y"):
            return self.values[token]
        return Fraction(token)


def split_at_equals(tokens):
    sides = [[]]
    for token in tokens:
        if token == "=":
            sides.append([])
        else:
            sides[-1].append(token)
    return sides


def found_values(paragraph):
    """The values that the paragraph arrives at for x and y: one assignment, or one a root."""
    roots = re.search(r"when x = (-?\d+) or x = (-?\d+)", paragraph)
    if roots:
        return [{"x": Fraction(root)} for root in roots.groups()]
    values = {}
    for tokens in equations(paragraph):
        sides = split_at_equals(tokens)
        if sides[0] in (["x"], ["y"]) and re.fullmatch(r"-?[0-9]+", "".join(sides[-1])):
            values[sides[0][0]] = Fraction("".join(sides[-1]))
    return [values]


def check(paragraph):
    """Number of equations in a paragraph, all of them found true."""
    count = 0
    for values in found_values(paragraph):
        for tokens in equations(paragraph):
            if tokens.count("x") and "or" in paragraph and re.fullmatch(r"x=\d+", "".join(tokens)):
                continue  # one root stated while the other is being tried
            sides = []
            for side in split_at_equals(tokens):
                parser = Parser(side, values)
                sides.append(parser.total())
                assert parser.at == len(side), (paragraph, tokens)
            assert len(set(sides)) == 1, (paragraph, tokens, sides)
            count += 1
    return count


@pytest.mark.parametrize("seed", [0, 7])
def test_every_stated_equation_is_true(seed):
    counts = [check(paragraph) for text in documents(seed, 400) for paragraph in text.strip().split("\n\n")]
    assert min(counts) >= 1
    assert sum(counts) > 5_000


@pytest.mark.parametrize("kind", [*ARITHMETIC, *ALGEBRA, *WORD_PROBLEMS], ids=lambda kind: kind.__name__)
def test_every_kind_is_true_and_varies(kind):
    from random import Random

    paragraphs = [kind(Random(seed)) for seed in range(200)]
    assert all(check(paragraph) for paragraph in paragraphs)
    assert len(set(paragraphs)) > 12
    assert all("\n\n" not in paragraph for paragraph in paragraphs)


def test_answer_is_the_value_of_the_calculation():
    from random import Random

    for kind in WORD_PROBLEMS:
        for seed in range(50):
            paragraph = kind(Random(seed))
            answer = re.search(r"Answer: .*", paragraph)
            if answer:
                calculation = paragraph[: answer.start()]
                for number in re.findall(r"\d+", answer.group()):
                    assert re.search(rf"(?:= |× |on |and ){number}\b|\b{number} hours|\b{number} × ", calculation), (
                        paragraph
                    )


def test_articles_are_those_of_the_words_that_follow():
    for text in documents(1, 400):
        assert not re.search(r"\b(?:a [aeiou]|an [^aeiou8h])", text, re.IGNORECASE), text


def test_checker_finds_a_false_equation():
    with pytest.raises(AssertionError):
        check("Add 2 and 2: 2 + 2 = 5.")
    with pytest.raises(AssertionError):
        check("Solve 3x + 1 = 7. x = 6 ÷ 3 = 2. Check: 3 × 2 + 1 = 8.")


def test_longer_set_begins_with_the_shorter_one_and_seeds_differ():
    assert list(documents(3, 5)) == list(documents(3, 9))[:5]
    assert list(documents(3, 5)) != list(documents(4, 5))
    assert len(set(documents(3, 500))) == 500
