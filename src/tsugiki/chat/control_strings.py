"""Text in which some stretches are plain: strings that spell a control token and stand in what somebody wrote.

A template writes its markers and the messages into one string, and afterwards nobody can tell which `<|im_end|>` is
whose. So the control strings of the messages are put between two private characters before rendering (`mark`), and
read back from what was rendered (`unmark`). transformers does so with two fixed characters, which it deletes from the
text; here they are chosen so that the conversation has neither, and no character is lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

_PRIVATE = range(0x10F000, 0x10FF00)
"""Private-use characters, which no normal form changes and no template trims."""


@dataclass(frozen=True)
class Rendering:
    """Text as a template wrote it, and where it is to be divided."""

    text: str
    plain: tuple[tuple[int, int], ...] = ()
    """Stretches that are encoded without looking for added tokens, in order and disjoint; what stands before, between
    and after them is encoded on its own. An empty stretch only divides."""

    def upto(self, end: int) -> Rendering:
        """The first `end` characters."""
        return Rendering(self.text[:end], tuple((a, b) for a, b in self.plain if b <= end and a < end))

    def begins_with(self, other: Rendering) -> bool:
        """Whether `other` stands at its beginning, with the same stretches plain."""
        return self.text.startswith(other.text) and self.upto(len(other.text)).plain == other.plain

    def with_text(self, more: str) -> Rendering:
        """With `more` behind it."""
        return Rendering(self.text + more, self.plain)

    def find_all(self, pieces: Iterable[str], start: int) -> list[tuple[int, int]]:
        """Where the `pieces` stand at or after `start`, outside plain stretches."""
        found = (match.span() for match in _pattern(tuple(pieces)).finditer(self.text, start))
        return [(first, last) for first, last in found if not any(a < last and first < b for a, b in self.plain)]

    def find(self, pieces: Iterable[str], start: int) -> tuple[int, int] | None:
        """The first of those places."""
        return next(iter(self.find_all(pieces, start)), None)


def mark(values: Any, strings: tuple[str, ...], marks: tuple[str, str]) -> Any:
    """`values` (texts, lists and mappings of them) with each of the `strings` between the two marks."""
    if isinstance(values, str):
        return _pattern(strings).sub(f"{marks[0]}\\g<0>{marks[1]}", values) if strings else values
    if isinstance(values, dict):
        return {key: mark(value, strings, marks) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [mark(value, strings, marks) for value in values]
    return values


def unmark(text: str, strings: tuple[str, ...], marks: tuple[str, str]) -> Rendering:
    """What was rendered from marked values, without the marks.

    A template that takes a text apart may part the two marks of a string; a single one still divides there, so that
    what stands on its two sides cannot join to a control token.
    """
    start, end = map(re.escape, marks)
    pieces = re.split(f"{start}({_pattern(strings).pattern}){end}|[{start}{end}]", text)
    whole, plain = pieces[0], []
    for number, piece in enumerate(pieces[1:], 1):
        if number % 2:  # what the group took; None at a single mark
            plain.append((len(whole), len(whole) + len(piece or "")))
        whole += piece or ""
    return Rendering(whole, tuple(plain))


def unused_characters(values: Any) -> tuple[str, str]:
    """Two private characters that stand nowhere in `values`."""
    text = json.dumps(values, ensure_ascii=False, default=str)
    found = list(islice((chr(code) for code in _PRIVATE if chr(code) not in text), 2))
    if len(found) < 2:
        raise ValueError("the text has all private characters there are")
    return found[0], found[1]


@lru_cache(64)
def _pattern(strings: tuple[str, ...]) -> re.Pattern[str]:
    """Any of the strings; longer ones first, so that one is found before those it contains."""
    return re.compile("|".join(map(re.escape, sorted(strings, key=len, reverse=True))) or "(?!)")
