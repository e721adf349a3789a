"""What instructions count: words, sentences, paragraphs, lines and items of an answer."""

import regex

WORD = regex.compile(r"[\p{L}\p{N}]+(?:['’\-][\p{L}\p{N}]+)*")
ABBREVIATION = regex.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|etc|e\.g|i\.e|a\.m|p\.m|No|Inc|Ltd|Co|approx|P\.S|P\.P\.S|P\.P|[A-Z])\.$"
)
"""A full stop that ends no sentence; "P.S." and initials among them."""
END = regex.compile(r"[.!?]+[\"”’')\]*]*(?=\s|$)")
JAPANESE_END = regex.compile(r"[。．！？!?]+[」』）)\"”]*")
QUOTED = regex.compile(r"「[^」]*」|『[^』]*』")
ITEM = regex.compile(r"^[ \t]*(?:\*(?!\*)|-(?!-)|[•・])[ \t]*\S", regex.MULTILINE)
NUMBERED = regex.compile(r"^[ \t]*[0-9０-９]+(?:[.)](?=\s)|[．）、])[ \t]*\S", regex.MULTILINE)
MARKER = regex.compile(r"^[ \t]*(?:\*(?!\*)|-(?!-)|[•・]|#+|[0-9０-９]+(?:[.)](?=\s)|[．）、]))[ \t]*")
"""What makes a line an item of a list or a heading."""


def lines(text: str) -> list[str]:
    """The lines that hold something, without the white space around them."""
    return [line.strip() for line in text.split("\n") if line.strip()]


def paragraphs(text: str) -> list[str]:
    """Blocks with at least one empty line between them."""
    return [block.strip() for block in regex.split(r"\n[ \t]*\n", text) if block.strip()]


def words(text: str) -> list[str]:
    """Words of a text with spaces; what is joined by an apostrophe or hyphen is one."""
    return WORD.findall(text)


def sentences(text: str) -> list[str]:
    """English sentences: up to a stop with a space or an end after it. A line is never part of two of them."""
    found = []
    for line in lines(text):
        start = 0
        line = MARKER.sub("", line)
        for match in END.finditer(line):
            if not ABBREVIATION.search(line[: match.start() + 1]):
                found.append(line[start : match.end()].strip())
                start = match.end()
        found.append(line[start:].strip())
    return [sentence for sentence in found if WORD.search(sentence)]


def japanese_sentences(text: str) -> list[str]:
    """Japanese sentences, with what ends them: up to 。, ！ or ？ outside quotation, or to the end of a line."""
    found = []
    for line in lines(text):
        line = MARKER.sub("", line)
        quoted = [match.span() for match in QUOTED.finditer(line)]
        start = 0
        for match in JAPANESE_END.finditer(line):
            if not any(low < match.start() < high for low, high in quoted):
                found.append(line[start : match.end()].strip())
                start = match.end()
        found.append(line[start:].strip())
    return [sentence for sentence in found if WORD.search(sentence)]


def bullets(text: str) -> int:
    """Lines that begin with *, -, • or ・; neither a rule (---) nor bold text is one."""
    return len(ITEM.findall(text))


def numbered(text: str) -> int:
    """Lines that begin with a number and a stop or bracket."""
    return len(NUMBERED.findall(text))


def without_fence(text: str) -> str:
    """What stands inside a Markdown code block that is all of the text; else the text itself."""
    match = regex.fullmatch(r"```(?:\w+(?=\s))?(.*?)```", text.strip(), regex.DOTALL)
    return match[1] if match else text


def occurrences(text: str, part: str) -> int:
    """How often a text holds a part, whatever the case."""
    return text.casefold().count(part.casefold())


def within(number: int, at_least: int | None, at_most: int | None) -> bool:
    """Whether a number is in a range of which either limit may be left open."""
    return (at_least is None or number >= at_least) and (at_most is None or number <= at_most)
