"""Answers read from free output: where a model says its answer, and what it means by it.

The readings of the default profile. They cannot tell an output that was cut in the middle of a number, and of several
answers they take the last one before the model goes on to ask itself the next question.
"""

import re
import unicodedata

from tsugiki.evaluation.metrics.numerals import kanji_number_at_start, numbers_in, readable

_ANNOUNCEMENT = re.compile(r"####|答え?\s*(?:は|:|=)|正解\s*(?:は|:)|\\boxed\{|\banswer\s*(?:is|:|=)", re.IGNORECASE)
_NEXT_QUESTION = re.compile(r"(?m)^\s*(?:問題|質問|問|Question|Problem|Q)\s*[0-9]*\s*:")
_SENTENCE_END = re.compile(r"[。\n]")
_DIGIT = re.compile(r"(?<![0-9A-Za-z.,-])[0-9](?![0-9]|[.,][0-9]+(?![0-9A-Za-z]))")  # "2.3D" is option 2, "2.3" is none
_YES_OR_NO = re.compile(r"[\W_]*(?:(?P<yes>yes|はい)|no|いいえ)(?![a-z])")
_NO_ANSWER = {"unanswerable", "no answer", "not answerable", "cannot be answered"}


def number_answer(output: str) -> str | None:
    """The number that an output gives as its answer, in the one spelling of its value; None where there is none.

    What follows the last "答えは", "####", "answer is" or the like counts: the result of an equation, else the first
    number. Without such words it is the last number of the output. Kanji numerals are read where an answer begins and
    no other digits stand. A worked solution that ends in "#### 1,000" or "答えは1000です。" is read the same way, so a
    prediction is right when `number_answer` of it and of its reference are the same (and not None).
    """
    text = _own_part(readable(output))
    for announcement in reversed(list(_ANNOUNCEMENT.finditer(text))):
        if number := _announced_number(text[announcement.end() :]):
            return number
    numbers = numbers_in(text)
    return numbers[-1] if numbers else kanji_number_at_start(text)


def option_answer(output: str) -> int | None:
    """The first lone digit from 0 to 4, after "答えは" or the like where that is said; None where there is none.

    A digit within a longer number or a decimal is not lone. ③ and ３ are 3.
    """
    text = _own_part(unicodedata.normalize("NFKC", output))
    starts = [announcement.end() for announcement in _ANNOUNCEMENT.finditer(text)]
    for start in [*reversed(starts), 0]:
        for digit in _DIGIT.findall(text[start:]):
            if int(digit) < 5:
                return int(digit)
    return None


def yes_or_no(output: str) -> str | None:
    """ "YES" or "NO" if the output begins with yes or はい, no or いいえ, in any case and width; None otherwise."""
    found = _YES_OR_NO.match(unicodedata.normalize("NFKC", output).lower())
    if not found:
        return None
    return "YES" if found["yes"] else "NO"


def short_answer(output: str) -> str:
    """The first line with something on it, in NFKC and stripped; the empty string where there is none."""
    lines = (line.strip() for line in unicodedata.normalize("NFKC", output).splitlines())
    return next((line for line in lines if line), "")


def answer_or_nothing(output: str) -> str:
    """`short_answer`, but the empty string where the model says that there is no answer ("unanswerable")."""
    answer = short_answer(output)
    return "" if answer.lower().strip(" .\"'") in _NO_ANSWER else answer


def _own_part(text: str) -> str:
    """The output up to where the model begins a question of its own."""
    found = _NEXT_QUESTION.search(text)
    return text[: found.start()] if found else text


def _announced_number(rest: str) -> str | None:
    """The number that was announced: in the same sentence if it is there, else the next one at all."""
    sentence = _SENTENCE_END.split(rest, maxsplit=1)[0]
    result = numbers_in(sentence.rpartition("=")[2])
    if result:
        return result[0]
    if number := kanji_number_at_start(sentence):
        return number
    numbers = numbers_in(rest)
    return numbers[0] if numbers else None
