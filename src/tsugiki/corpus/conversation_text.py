"""A conversation of a store as people read it: what is trained, and what the template has added, marked in the text."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsugiki.chat.segments import Segment
from tsugiki.chat.tokenizer import ChatTokenizer
from tsugiki.printable import printable

TRAINED, ADDED = ("⟦", "⟧"), ("‹", "›")
"""Around what is trained, and what the template adds, where there are no colours."""
NEWLINE = "⏎"


class Span(NamedTuple):
    """A stretch of text that is one thing."""

    text: str
    trained: bool
    added: bool
    """By the template; False where that is not known."""


@dataclass(frozen=True)
class MarkedLine:
    """A line of a conversation. `str` of it has brackets."""

    spans: tuple[Span, ...]
    before: str = ""

    def __str__(self) -> str:
        text, trained, added = self.before, False, False
        for span in (*self.spans, Span("", False, False)):
            if added and (not span.added or span.trained != trained):
                text, added = text + ADDED[1], False
            if span.trained != trained:
                text, trained = text + TRAINED[span.trained ^ 1], span.trained
            if span.added and not added:
                text, added = text + ADDED[0], True
            text += span.text
        return text

    def styled(self) -> list[tuple[str, str]]:
        """Text and its style, as rich names styles."""
        styles = [(span.text, " ".join(["bold green"] * span.trained + ["dim"] * span.added)) for span in self.spans]
        return [(self.before, ""), *styles]


def marked_spans(
    tokenizer: ChatTokenizer,
    ids: NDArray[np.integer],
    weights: NDArray[np.floating],
    segments: Sequence[Segment] | None,
) -> list[Span]:
    """The text of a conversation's ids, divided where a loss weight begins or ends, and where `segments` change from
    the template's text to a message's (as far as their text is that of the ids)."""
    text = tokenizer.decode(ids.tolist())
    trained = np.zeros(len(text), bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], weights > 0, [0]]))).tolist()
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        trained[_characters(tokenizer, ids, start) : _characters(tokenizer, ids, end)] = True
    added = _added(text, segments)
    marks = list(zip(trained.tolist(), added.tolist(), strict=True))
    spans, place = [], 0
    for mark, group in groupby(marks):
        length = len(list(group))
        spans.append(Span(text[place : place + length], *mark))
        place += length
    return spans


def _characters(tokenizer: ChatTokenizer, ids: NDArray[np.integer], count: int) -> int:
    return len(tokenizer.decode(ids[:count].tolist()))


def _added(text: str, segments: Sequence[Segment] | None) -> NDArray[np.bool_]:
    """Of each character, whether the template added it; nothing where the texts differ by more than spaces, which
    SentencePiece puts behind control tokens, and normal form."""
    for form in (None, "NFC"):
        written = [
            (letter, segment.role is None)
            for segment in segments or ()
            for letter in (unicodedata.normalize(form, segment.text) if form else segment.text)
        ]
        if (found := _aligned(text, written)) is not None:
            return np.array(found, bool)
    return np.zeros(len(text), bool)


def _aligned(text: str, written: Sequence[tuple[str, bool]]) -> list[bool] | None:
    """The marks of what was written, letter by letter of a text that may have other spaces; None where it has other
    letters. A text may end before (a sample ends with its last end token) or behind (with one that the next turn
    has)."""
    if not written:
        return None
    marks: list[bool] = []
    place = 0
    for letter in text:
        while place < len(written) and written[place][0] == " " != letter:
            place += 1
        if place == len(written):
            marks.append(True)
        elif written[place][0] == letter:
            marks.append(written[place][1])
            place += 1
        elif letter == " ":
            marks.append(True)
        else:
            return None
    return marks


LEGEND = MarkedLine(
    (Span("trained", True, False), Span(", ", False, False), Span("added by the template", False, True)), "  "
)


def conversation_lines(
    headings: Sequence[str], conversations: Sequence[Sequence[Span]], most: int
) -> list[str | MarkedLine]:
    """Conversations below their headings, in all about `most` characters."""
    lines: list[str | MarkedLine] = []
    shown = 0
    for heading, spans in zip(headings, conversations, strict=True):
        if most <= 0:
            break
        size = sum(len(span.text) for span in spans)
        lines += ["", heading, *_lines(spans, "  | ", most)]
        if size > most:
            lines.append(f"  | … ({size - most:,} more characters)")
        shown, most = shown + 1, most - size
    hidden = len(conversations) - shown
    return [*lines, f"  … and {hidden:,} more"] if hidden else lines


def _lines(spans: Sequence[Span], before: str, most: int) -> list[MarkedLine]:
    """At most `most` characters of spans as lines, each behind `before`; the ends of lines are shown."""
    lines: list[list[Span]] = [[]]
    for span in spans:
        text, most = span.text[:most], max(most - len(span.text), 0)
        for number, piece in enumerate(text.split("\n")):
            if number:
                lines[-1].append(Span(NEWLINE, span.trained, span.added))
                lines.append([])
            if piece:
                lines[-1].append(Span(printable(piece, {}), span.trained, span.added))
    return [MarkedLine(tuple(line), before) for line in lines if line]
