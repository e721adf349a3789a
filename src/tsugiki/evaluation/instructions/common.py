"""Verifiers that mean the same in any language. The keyword-only parameters of each are an instruction's arguments.

`at_least` and `at_most` are both inclusive, and either may be left out.
"""

import json

import regex

from tsugiki.evaluation.instructions import text as parts
from tsugiki.evaluation.instructions.languages import language_of
from tsugiki.evaluation.instructions.text import occurrences, within
from tsugiki.evaluation.instructions.verifier import Character, Text, Texts

ALPHABETIC = r"[\p{Latin}\p{Cyrillic}\p{Greek}\p{N}]"
"""Of scripts that put spaces between words."""
MARKUP = regex.compile(r"\*\*|__|`|^[ \t]*(?:#+ |[*\-+] |\d+[.)] |> |\|)", regex.MULTILINE)
HEADING = regex.compile(r"^#{1,6}[ \t]+\S", regex.MULTILINE)
BLOCK = regex.compile(r"^```[^\n`]*\n.*?\n```[ \t]*$", regex.MULTILINE | regex.DOTALL)
TABLE_RULE = regex.compile(r"\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-+:?[ \t]*)*\|?")
QUESTION = regex.compile(r"[?？]+")
COLONS = (":", "：")
BEFORE = "\"'“‘「『*_ "
"""What may stand before the phrase that an answer is to begin with."""


def keywords(text: str, *, words: Texts) -> bool:
    """Every word or phrase occurs, whatever the case, also inside other words."""
    return all(occurrences(text, word) for word in words)


def keyword_count(text: str, *, word: Text, at_least: int | None = None, at_most: int | None = None) -> bool:
    """How often a word or phrase occurs, counted as `keywords` finds it."""
    return within(occurrences(text, word), at_least, at_most)


def forbidden(text: str, *, words: Texts) -> bool:
    """None of the words occurs. In scripts with spaces whole words count ("art" forbids no "part")."""
    return not any(_whole(word).search(text) for word in words)


def _whole(word: str) -> regex.Pattern[str]:
    before = rf"(?<!{ALPHABETIC})" if regex.match(ALPHABETIC, word) else ""
    after = rf"(?!{ALPHABETIC})" if regex.match(ALPHABETIC, word[-1:]) else ""
    return regex.compile(before + regex.escape(word) + after, regex.IGNORECASE)


def letter_count(text: str, *, letter: Character, at_least: int | None = None, at_most: int | None = None) -> bool:
    """How often one character occurs, whatever the case."""
    return within(occurrences(text, letter), at_least, at_most)


def without_characters(text: str, *, characters: Text) -> bool:
    """None of the characters occurs: no comma, no full stop, no exclamation mark."""
    return not set(characters) & set(text)


def no_digits(text: str) -> bool:
    """No digit, of any script: numbers are written in words."""
    return not regex.search(r"\p{Nd}", text)


def bullets(text: str, *, at_least: int | None = None, at_most: int | None = None) -> bool:
    """The number of items of lists without numbers."""
    return within(parts.bullets(text), at_least, at_most)


def numbered_list(text: str, *, at_least: int | None = None, at_most: int | None = None) -> bool:
    """The number of items of numbered lists."""
    return within(parts.numbered(text), at_least, at_most)


def lines(text: str, *, at_least: int | None = None, at_most: int | None = None) -> bool:
    """The number of lines that hold something."""
    return within(len(parts.lines(text)), at_least, at_most)


def paragraphs(text: str, *, at_least: int | None = None, at_most: int | None = None) -> bool:
    """The number of paragraphs, with an empty line between them."""
    return within(len(parts.paragraphs(text)), at_least, at_most)


def divided(text: str, *, mark: Text, parts: int) -> bool:
    """As many parts as asked for, with a mark (such as ***) between them; one before the first or after the last is let
    pass, an empty part is not."""
    found = [part.strip() for part in text.split(mark)]
    found = found[not found[0] :]
    found = found[: len(found) - 1] if found and not found[-1] else found
    return len(found) == parts and all(found)


def two_answers(text: str, *, mark: Text = "******") -> bool:
    """Two different answers with a mark between them."""
    return divided(text, mark=mark, parts=2) and len({part.strip() for part in text.split(mark)} - {""}) == 2


def paragraph_starts(text: str, *, paragraphs: int, number: int, word: Text) -> bool:
    """So many paragraphs, of which one, counted from 1, begins with a word."""
    found = parts.paragraphs(text)
    return len(found) == paragraphs and number <= paragraphs and _begins(found[number - 1], word)


def starts_with(text: str, *, phrase: Text) -> bool:
    """The answer begins with a phrase; quotation marks and emphasis before it are let pass."""
    return _begins(text, phrase)


def _begins(text: str, phrase: str) -> bool:
    start = text.lstrip().lstrip(BEFORE.replace(phrase[0], "")).casefold()
    after = start[len(phrase) : len(phrase) + 1]
    joined = bool(regex.match(ALPHABETIC, phrase[-1:]) and regex.match(ALPHABETIC, after))
    return start.startswith(phrase.casefold()) and not joined


def ends_with(text: str, *, phrase: Text) -> bool:
    """The answer ends with a phrase, and nothing but a quotation mark follows."""
    return text.strip().strip('"”」』').casefold().endswith(phrase.strip().strip('"”」』').casefold())


def wrapped(text: str, *, opening: Text, closing: Text) -> bool:
    """All of the answer stands between two marks."""
    stripped = text.strip()
    return len(stripped) > len(opening + closing) and stripped.startswith(opening) and stripped.endswith(closing)


def repeats(text: str, *, request: Text) -> bool:
    """The answer begins with the request, word for word (but for the case)."""
    return text.strip().casefold().startswith(request.strip().casefold())


def one_of(text: str, *, options: Texts, alone: bool = True) -> bool:
    """The answer is one of the options; where not `alone`, it holds one."""
    return text.strip() in options if alone else any(option in text for option in options)


def json_value(text: str, *, keys: Texts | None = None) -> bool:
    """JSON and nothing else, a Markdown fence around it aside; an object with all the keys, where they are given."""
    try:
        value = json.loads(parts.without_fence(text))
    except (ValueError, RecursionError):
        return False
    return keys is None or (isinstance(value, dict) and all(key in value for key in keys))


def table(text: str, *, columns: int | None = None, rows: int | None = None) -> bool:
    """A Markdown table, with so many columns, and rows below its heading, where they are given."""
    found = parts.lines(text)
    for number, line in enumerate(found[1:], start=1):
        if "|" in line and TABLE_RULE.fullmatch(line) and "|" in found[number - 1]:
            below = [one for one in found[number + 1 :] if "|" in one]
            wide = len(found[number - 1].strip("|").split("|"))
            return columns in (None, wide) and rows in (None, len(below))
    return False


def code_block(text: str) -> bool:
    """A Markdown code block, fenced by ```."""
    return BLOCK.search(text) is not None


def headings(text: str, *, at_least: int | None = None, at_most: int | None = None) -> bool:
    """The number of Markdown headings (#)."""
    return within(len(HEADING.findall(text)), at_least, at_most)


def no_markup(text: str) -> bool:
    """Plain text: no heading, list, table, bold text or code in Markdown."""
    return MARKUP.search(text) is None


def labels(text: str, *, labels: Texts) -> bool:
    """For each label, in this order, a line that begins with it and a colon, and holds something after that."""
    found = parts.lines(text)
    for label in labels:
        place = next((number for number, line in enumerate(found) if _labelled(line, label)), None)
        if place is None:
            return False
        found = found[place + 1 :]
    return True


def _labelled(line: str, label: str) -> bool:
    rest = line.replace("**", "").lstrip("*-・• ")
    return rest.startswith(tuple(label + colon for colon in COLONS)) and len(rest.rstrip()) > len(label) + 1


def listed(text: str, *, separator: Text, items: int) -> bool:
    """One line of so many different items with a separator between them, such as a comma."""
    found = [item.strip() for item in text.strip().rstrip(".。").split(separator)]
    return "\n" not in text.strip() and all(found) and len(found) == len(set(found)) == items


def placeholders(text: str, *, at_least: int | None = None, at_most: int | None = None) -> bool:
    """The number of gaps to fill in, written in square brackets such as [name]."""
    return within(len(regex.findall(r"\[[^\[\]\n]+\]", text)), at_least, at_most)


def questions(text: str, *, at_least: int | None = None, at_most: int | None = None) -> bool:
    """The number of question marks, several in a row being one."""
    return within(len(QUESTION.findall(text)), at_least, at_most)


def sections(text: str, *, marker: Text, at_least: int | None = None, at_most: int | None = None) -> bool:
    """The number of sections, each introduced by a marker in which # stands for its number: "Section #", "第#章"."""
    pattern = r"[0-9０-９]+".join(regex.escape(part) for part in marker.split("#"))
    return within(len(regex.findall(pattern, text)), at_least, at_most)


def postscript(text: str, *, marker: Text) -> bool:
    """A line that begins with the marker (P.S., 追伸), not the first of the answer; spaces inside it and its last stop
    are nobody's business."""
    wanted = _bare(marker)
    return any(_bare(line.lstrip("*_ ")).startswith(wanted) for line in parts.lines(text)[1:])


def _bare(marker: str) -> str:
    return marker.replace(" ", "").casefold().rstrip(".")


def language(text: str, *, code: Text) -> bool:
    """The language of the answer (ISO 639-1), as far as it can be told (`languages.py`)."""
    return language_of(text) == code
