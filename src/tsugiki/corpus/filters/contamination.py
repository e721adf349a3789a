"""The filter `decontamination`: documents that hold a stretch of an evaluation set.

Texts are compared in a normal form: NFC; letters, marks and digits alone, each in lower case and, where Unicode knows
one character for it, in its plain form (full width, half width). A stretch is 13 words, or 30 characters where the
language has no spaces between words; an item of a set gives every stretch of its texts, by the script that most of its
letters have. A document is looked at in both ways.

The index is three arrays in a folder, which all processes map and so hold once: sorted hashes (64 bits), the number of
the set for each, and a table of bits that turns away nearly every stretch of other text.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.filters.codepoints import CODE_POINTS, codes_of, letters_of, members
from tsugiki.corpus.filters.signatures import FACTOR, Hashes, mixed
from tsugiki.scripts import WITHOUT_SPACES

WORDS, CHARACTERS = 13, 30
"""Of a stretch: Brown et al. (2020) took 13 words."""
PIECE, OVERLAP = 1 << 15, 1 << 10
"""Characters of a document looked at together, and how many of them once more with the next: 13 words hardly have
more."""
TABLE_BITS, TABLE_SHIFTS = 25, (39, 0)
"""4 MB and two bits for a hash: with the 1.3 million stretches of thirteen sets, 0.6 % of other text is not turned away
by it."""
HASHES_FILE, SETS_FILE, TABLE_FILE = "evaluation-hashes.npy", "evaluation-sets.npy", "evaluation-table.npy"
MEMBER = r"[\p{L}\p{M}\p{N}]"
PLAIN_FORMS = (range(0x20000), range(0x2F800, 0x2FA20))
"""Where the code points are that have another case or a plain form."""
LONGEST_WORD = 256
"""Beyond, letters may change places."""
NOTHING = np.zeros(0, np.uint64)


@dataclass(frozen=True)
class Stretch:
    """How long a stretch is: in words, and in characters of scripts without spaces."""

    words: int = WORDS
    characters: int = CHARACTERS


@dataclass(frozen=True)
class Hit:
    """A stretch of an evaluation set in a document."""

    set_number: int
    text: str
    """Where it stands, as the document has it."""


class Normal:
    """Texts in the normal form, and the hashes of their stretches, none of which runs from one text into the next."""

    def __init__(self, *texts: str):
        composed = [unicodedata.normalize("NFC", text) for text in texts]
        self.codes = codes_of("\n".join(composed))
        letters = _letter_hashes()[self.codes]
        self.places = np.flatnonzero(letters)
        """Of letters and digits."""
        self.letters = letters[self.places]
        self._text_ends = np.searchsorted(self.places, np.cumsum([len(text) + 1 for text in composed]))
        """Of each text, up to which of the letters it goes."""

    @cached_property
    def _unspaced(self) -> NDArray[np.bool_]:
        """Of each letter whether its script has no spaces between words."""
        return _without_spaces()[self.codes[self.places]]

    @property
    def is_spaced(self) -> NDArray[np.bool_]:
        """Of each text whether most of its letters belong to scripts that put spaces between words."""
        unspaced = np.concatenate([[0], np.cumsum(self._unspaced)])
        starts = np.concatenate([[0], self._text_ends[:-1]])
        return 2 * (unspaced[self._text_ends] - unspaced[starts]) <= self._text_ends - starts

    def characters(self, length: int) -> Hashes:
        """A hash of the `length` letters from each on; none of a text that has only words with spaces between them."""
        return rolling(self.letters, length) if self._unspaced.any() else NOTHING

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Of each word, its place among the letters."""
        if not len(self.places):
            return self.places
        return np.flatnonzero(np.concatenate([[True], self.places[1:] - self.places[:-1] > 1]))

    def words(self, length: int) -> Hashes:
        """A hash of the `length` words from each on."""
        starts = self._starts
        if len(starts) < length:
            return NOTHING
        within = np.arange(len(self.letters)) - np.repeat(starts, np.diff(np.append(starts, len(self.letters))))
        factors = _place_factors()[np.minimum(within, LONGEST_WORD - 1)]
        return rolling(mixed(np.add.reduceat(self.letters * factors, starts)), length) ^ FACTOR  # a word is no letter

    def texts(self, count: int, length: int, *, of_words: bool) -> NDArray[np.int64]:
        """Of each of `count` stretches the number of its text, -1 where it is of two."""
        letters = self._starts if of_words else np.arange(len(self.letters))
        numbers = np.searchsorted(self._text_ends, letters, side="right")
        first, last = numbers[:count], numbers[length - 1 : length - 1 + count]
        return np.where(first == last, first, -1)

    def stretch(self, first: int, length: int, *, of_words: bool) -> str:
        """The text of a stretch."""
        if of_words:
            end = first + length
            start = self._starts[first]
            last = (self._starts[end] if end < len(self._starts) else len(self.places)) - 1
        else:
            start, last = first, first + length - 1
        return self.codes[self.places[start] : self.places[last] + 1].tobytes().decode("utf-32-le")


@cache
def _letter_hashes() -> Hashes:
    """Of every code point a hash of the one that stands for it in the normal form, 0 where it is left out."""
    forms = np.arange(CODE_POINTS, dtype=np.uint64)
    for code in (code for some in PLAIN_FORMS for code in some):
        plain = unicodedata.normalize("NFKC", chr(code)).casefold()
        if len(plain) == 1:
            forms[code] = ord(plain)
    return np.where(members(MEMBER), mixed(forms + np.uint64(1)), np.uint64(0))


@cache
def _place_factors() -> Hashes:
    """An odd number for each place in a word: letters that change places make another word."""
    return mixed(np.arange(1, LONGEST_WORD + 1, dtype=np.uint64)) | np.uint64(1)


def _without_spaces() -> NDArray[np.bool_]:
    return members(letters_of(sorted(WITHOUT_SPACES)))


def rolling(items: Hashes, length: int) -> Hashes:
    """A hash of the `length` items from each on, put together from stretches of 1, 2, 4 … items."""
    count = len(items) - length + 1
    if count <= 0:
        return NOTHING
    found, done = np.zeros(count, np.uint64), 0
    with np.errstate(over="ignore"):
        power, step, factor = items, 1, FACTOR
        while True:
            if length & step:
                found *= factor
                found += power[done : done + count]
                done += step
            if 2 * step > length:
                return found
            doubled = power[:-step] * factor
            doubled += power[step:]
            power, step, factor = doubled, 2 * step, factor * factor


def build(folder: Path, sets: Mapping[str, Sequence[Sequence[str]]], stretch: Stretch) -> dict[str, tuple[int, int]]:
    """Write the index of some sets, each items of texts, into a folder; returns of each set how many items it has, and
    how many of them hold a stretch. What two sets have in common counts for the first."""
    counts, hashes, numbers = {}, [NOTHING], [np.zeros(0, np.uint16)]
    for number, (name, items) in enumerate(sets.items()):
        texts = list(dict.fromkeys(text for item in items for text in item))  # a passage stands in many items
        normal = Normal(*texts)
        holding: set[str] = set()
        for of_words, length in ((True, stretch.words), (False, stretch.characters)):
            found = normal.words(length) if of_words else normal.characters(length)
            owners = normal.texts(len(found), length, of_words=of_words)
            mine = (owners >= 0) & (normal.is_spaced[owners] == of_words)
            hashes.append(found[mine])
            numbers.append(np.full(len(hashes[-1]), number, np.uint16))
            holding.update(texts[owner] for owner in np.unique(owners[mine]).tolist())
        counts[name] = (len(items), sum(not holding.isdisjoint(item) for item in items))
    different, first = np.unique(np.concatenate(hashes), return_index=True)
    table = np.zeros(1 << TABLE_BITS - 3, np.uint8)
    for shift in TABLE_SHIFTS:
        np.bitwise_or.at(table, *_bits(different, shift))
    np.save(folder / HASHES_FILE, different)
    np.save(folder / SETS_FILE, np.concatenate(numbers)[first])
    np.save(folder / TABLE_FILE, table)
    return counts


def _bits(hashes: Hashes, shift: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The byte of the table for each hash, and the bit in it."""
    place = (hashes >> np.uint64(shift) & np.uint64((1 << TABLE_BITS) - 1)).view(np.int64)
    return place >> 3, np.left_shift(np.uint8(1), (place & 7).astype(np.uint8))


class Index:
    """The stretches of evaluation sets, as a folder holds them."""

    def __init__(self, folder: Path, stretch: Stretch):
        self._stretch = stretch
        self._hashes, self._sets, self._table = (
            np.load(folder / name, mmap_mode="r", allow_pickle=False).view(np.ndarray)
            for name in (HASHES_FILE, SETS_FILE, TABLE_FILE)
        )

    def find(self, text: str) -> Hit | None:
        """The first stretch of a set in a document, words before characters; None where there is none."""
        for start in range(0, max(len(text), 1), PIECE):
            normal = Normal(text[start : start + PIECE + OVERLAP])
            for of_words, length in ((True, self._stretch.words), (False, self._stretch.characters)):
                hashes = normal.words(length) if of_words else normal.characters(length)
                perhaps = np.arange(len(hashes))
                for shift in TABLE_SHIFTS:
                    place, bit = _bits(hashes[perhaps], shift)
                    perhaps = perhaps[self._table[place] & bit != 0]
                found = np.searchsorted(self._hashes, hashes[perhaps])
                same = np.flatnonzero(self._hashes[np.minimum(found, len(self._hashes) - 1)] == hashes[perhaps])
                if len(same):
                    shown = normal.stretch(int(perhaps[same[0]]), length, of_words=of_words)
                    return Hit(int(self._sets[found[same[0]]]), shown)
        return None
