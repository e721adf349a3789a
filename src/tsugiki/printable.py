"""Text of other people's in a terminal or a page: it steers nothing and is read as text, not as markup."""

import re
from collections.abc import Iterable, Sequence


def printable(text: str, marks: dict[str, str]) -> str:
    """Text whose control characters cannot steer a terminal: in `marks`, or written as escapes.

    The ideographic space, with which Japanese paragraphs begin, is a space and stays one.
    """
    return "".join(
        marks[letter]
        if letter in marks
        else letter
        if letter.isprintable() or letter == "\u3000"
        else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def one_line(said: object, limit: int | None = None) -> str:
    """Text, or that of an error or value, on one line of at most `limit` characters: white space as single spaces,
    what cannot be seen as escapes."""
    flat = printable(" ".join(str(said).split()), {})
    return flat if limit is None or len(flat) <= limit else flat[: limit - 1] + "…"


def escape_markdown(text: str) -> str:
    """A line of text that Markdown shows as it is, also in a table: marks that mean something to it get a backslash."""
    return re.sub(r"([\\`*_\[\]<>|~$&])", r"\\\1", text)


def markdown(text: str) -> str:
    """Text on one line that Markdown shows as it is."""
    return escape_markdown(one_line(text))


def markdown_table(headings: Sequence[str], rows: Iterable[Iterable[str]], *, texts: int) -> str:
    """A table as GitHub reads it, of cells that are Markdown already: the first `texts` columns hold words, the others
    figures, which stand to the right."""
    rules = ["---" if place < texts else "---:" for place in range(len(headings))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [headings, rules, *rows])
