"""What a model answers to the held-out conversations of the sample, and how that is judged without a judge.

Three things are looked at: whether an answer ends, whether it is in the language of the question, and, for exercises
with one right answer, whether it is that one. Answers are the likeliest tokens, so that asking again gives the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsugiki.chat.conversations import read_conversation
from tsugiki.chat.form import open_form
from tsugiki.chat.given import given_in
from tsugiki.quickstart.instruct.examples import Example
from tsugiki.statistics import Interval, Sample, difference_interval, mean, score_interval

BUDGET, EXPECTED = 64, 16
"""Tokens that an answer may have (the longest of the held-out ones has 22), and that it seldom passes."""


@dataclass(frozen=True)
class Answer:
    """What a model said to one conversation."""

    example: Example
    text: str
    stopped: bool
    """Whether it ended the answer itself, within the budget."""

    @property
    def language(self) -> str | None:
        """The language of most letters; None without any."""
        return language_of(self.text)

    @property
    def exact(self) -> bool:
        """Whether it is the expected answer, and ends there."""
        return self.stopped and self.text.strip() == self.example.answer().strip()


def ask(folder: Path, template: str, examples: Sequence[Example]) -> list[Answer]:
    """The answers of the model in `folder` to `examples`, through a chat template by name."""
    from tsugiki.model.answers import likeliest_answers

    form = open_form(folder, given_in(folder), template)
    prompts = [form.renderer.prompt_ids(read_conversation(one.record()).messages[:-1]) for one in examples]
    said = likeliest_answers(folder, form, prompts, BUDGET, EXPECTED)
    return [Answer(example, one.text, one.ended) for example, one in zip(examples, said, strict=True)]


def language_of(text: str) -> str | None:
    """`ja` or `en`, by what most letters are (a kana or kanji says as much as three letters); None without letters."""
    japanese = sum("\u3040" <= letter <= "\u30ff" or "\u4e00" <= letter <= "\u9fff" for letter in text)
    latin = sum(letter.isascii() and letter.isalpha() for letter in text)
    if not japanese and not latin:
        return None
    return "ja" if 3 * japanese > latin else "en"


@dataclass(frozen=True)
class Score:
    """A share of answers before and after, with intervals, and the difference over the same questions."""

    name: str
    answers: int
    before: Interval
    after: Interval
    gain: Interval


def scores(before: Sequence[Answer], after: Sequence[Answer]) -> list[Score]:
    """The three shares. The language is judged where the expected answer has letters; exact answers are those of the
    generated exercises."""
    every = list(range(len(after)))
    worded = [n for n in every if language_of(after[n].example.answer()) is not None]
    exercises = [n for n in every if after[n].example.arguments]
    return [
        _score("end themselves", every, [a.stopped for a in before], [a.stopped for a in after]),
        _score("right language", worded, _in_language(before), _in_language(after)),
        _score("exactly right", exercises, [a.exact for a in before], [a.exact for a in after]),
    ]


def _in_language(answers: Sequence[Answer]) -> list[bool]:
    return [answer.language == language_of(answer.example.answer()) for answer in answers]


def _score(name: str, chosen: Sequence[int], before: Sequence[bool], after: Sequence[bool]) -> Score:
    first, last = (
        Sample(np.array([[float(one[n])] for n in chosen]), mean) for one in (before, after)
    )  # fmt: skip
    return Score(name, len(chosen), score_interval(first), score_interval(last), difference_interval(last, first))
