"""Printing plain text: whatever it comes from, it is no markup and steers no terminal."""

import os
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style

from tsugiki.printable import printable

KEPT = {letter: letter for letter in "\n\t\u200c\u200d"}
"""What a terminal shows as it is, besides letters, marks and spaces: the joiners are part of Persian and Hindi words,
and of emoji."""


class Terminal(Console):
    """Prints what it is given, and goes on where nobody reads any more."""

    def on_broken_pipe(self) -> None:
        """The reader has gone (`| head`, a pager that was left): a training of days must not end for that."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


console = Terminal(highlight=False, soft_wrap=True, emoji=False)


def say(text: str) -> None:
    """Print plain text: what comes from recipes, corpora and models is never read as markup, steers no terminal, and
    keeps its tabs."""
    console.print(plain(text))


def say_styled(parts: Iterable[tuple[str, str]]) -> None:
    """Print a line whose parts have styles, as rich names them; the text is plain, as that of `say`."""
    segments = [Segment(printable(text, KEPT), Style.parse(style)) for text, style in parts]
    console.print(Segments([*segments, Segment.line()]))


def plain(text: str, *, end_line: bool = True) -> Segments:
    """A line of text for a console, or (`end_line=False`) a part of one, without markup, its control codes written as
    escapes. Half a surrogate pair, as in names of files that are not UTF-8, is one of them."""
    return Segments([Segment(printable(text, KEPT)), *([Segment.line()] if end_line else [])])
