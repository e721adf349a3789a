"""Verifiers of instructions for English text."""

import regex

from tsugiki.evaluation.instructions.languages import language_of
from tsugiki.evaluation.instructions.text import lines, within
from tsugiki.evaluation.instructions.text import sentences as sentences_of
from tsugiki.evaluation.instructions.text import words as words_of
from tsugiki.evaluation.instructions.verifier import Character, Text

CONTRACTION = regex.compile(r"\p{L}['’](?:t|re|ve|ll|d|m)\b|\b(?:it|that|he|she|what|there|let|here)['’]s\b", regex.I)
HIGHLIGHT = regex.compile(r"\*\*[^\n*]*[^\s*][^\n*]*\*\*|\*[^\s*][^\n*]*\*")
TITLE = regex.compile(r"<<[^\n<>]*[^\s<>][^\n<>]*>>")


def words(text: str, *, at_least: int | None = None, at_most: int | None = None) -> bool:
    """The number of words."""
    return within(len(words_of(text)), at_least, at_most)


def sentences(text: str, *, at_least: int | None = None, at_most: int | None = None) -> bool:
    """The number of sentences."""
    return within(len(sentences_of(text)), at_least, at_most)


def sentence_words(text: str, *, at_least: int | None = None, at_most: int | None = None) -> bool:
    """The number of words of every sentence."""
    return all(within(len(words_of(sentence)), at_least, at_most) for sentence in sentences_of(text))


def capitals(text: str) -> bool:
    """English in capital letters alone."""
    return text.isupper() and language_of(text) in ("en", None)


def lowercase(text: str) -> bool:
    """English without any capital letter."""
    return text.islower() and language_of(text) in ("en", None)


def capital_words(text: str, *, at_least: int | None = None, at_most: int | None = None) -> bool:
    """The number of words that are all capital letters ("I" and "A" among them)."""
    return within(sum(word.isupper() for word in words_of(text)), at_least, at_most)


def no_contractions(text: str) -> bool:
    """No contraction such as "don't" or "it's"."""
    return CONTRACTION.search(text) is None


def sentence_starts(text: str, *, word: Text) -> bool:
    """Every sentence begins with a word."""
    found = sentences_of(text)
    return bool(found) and all([w.casefold() for w in words_of(one)[:1]] == [word.casefold()] for one in found)


def acrostic(text: str, *, word: Text) -> bool:
    """The first letters of the lines spell a word."""
    return "".join(line.lstrip("*_ ")[:1] for line in lines(text)).casefold() == word.casefold()


def same_letter(text: str, *, letter: Character) -> bool:
    """Every word begins with a letter."""
    return all(word.casefold().startswith(letter.casefold()) for word in words_of(text))


def no_word_twice(text: str) -> bool:
    """No word occurs twice, whatever the case."""
    found = [word.casefold() for word in words_of(text)]
    return len(found) == len(set(found))


def highlights(text: str, *, at_least: int | None = None, at_most: int | None = None) -> bool:
    """The number of passages between asterisks, one or two on either side."""
    return within(len(HIGHLIGHT.findall(text)), at_least, at_most)


def title(text: str) -> bool:
    """A title in double angular brackets: <<title>>."""
    return TITLE.search(text) is not None
