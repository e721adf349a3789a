"""The text that a vocabulary is learned from, measured and proved on: documents of each corpus, by a hash of them.

Reading is one pass in bounded memory. Which documents are taken depends on their text alone and on no order of files, a
text that comes many times is taken once, and a document that is held out from training is none to learn from.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import xxhash

from tsugiki.corpus.compression import compression_of
from tsugiki.corpus.held_out import is_held_out
from tsugiki.corpus.inputs import COMPRESSION_GUESS, input_files
from tsugiki.corpus.named_texts import Text
from tsugiki.corpus.readers import FORMATS, read_documents
from tsugiki.corpus.records import BadRecord, Document, Reading
from tsugiki.errors import DataError
from tsugiki.recipe_corpus import CorpusSection

READ_AHEAD = 20
"""Characters read of a corpus for each that is wanted of it: a sample of a corpus of terabytes takes minutes."""
HELD_OUT_SHARE = 0.05
"""Of the sample's size, for the held-out documents that the report measures."""
UNKNOWN = 1 << 62
"""Size of a file that is not here."""

Key = TypeVar("Key")


@dataclass(frozen=True)
class Sample:
    """Texts of one corpus: documents that are trained on, and documents that are held out."""

    training: list[Text]
    held_out: list[Text]


class _Reservoir:
    """The documents with the smallest hashes, as many as make a number of characters."""

    def __init__(self, characters: int):
        self._limit, self._size = characters, 0
        self._heap: list[tuple[int, str, str]] = []
        self._held: set[int] = set()

    def add(self, place: str, text: str) -> None:
        draw = xxhash.xxh3_64_intdigest(b"vocabulary\0" + text.encode())
        if draw in self._held:
            return
        heapq.heappush(self._heap, (-draw, place, text))
        self._held.add(draw)
        self._size += len(text)
        # Those that stay make the number, so that one with a larger hash than a dropped one is dropped as well.
        while self._size - len(self._heap[0][2]) >= self._limit:
            largest, _, dropped = heapq.heappop(self._heap)
            self._size -= len(dropped)
            self._held.remove(-largest)

    def texts(self) -> list[Text]:
        """By rising hash; what the last one has too much is cut off."""
        ordered = sorted(self._heap, reverse=True)
        return first_characters((Text(place, text) for _, place, text in ordered), self._limit)


def read_sample(
    where: str, name: str, corpus: CorpusSection, *, characters: int, held_out: float, max_bytes: int
) -> Sample:
    """`characters` of a corpus (all, where it has fewer), and of its held-out documents a twentieth as many.

    `where` is the section that names it, for messages; `held_out` the share of its documents that is held out. Raises
    DataError when it holds no document.
    """
    training, kept = _Reservoir(characters), _Reservoir(max(1, int(HELD_OUT_SHARE * characters)))
    skipped = 0
    files = _files(where, name, corpus, max_bytes)
    allowances = even_share({file.path: file.size for file in files}, READ_AHEAD * characters)
    for file in files:
        left = allowances[file.path]
        whole = left == file.size
        for item in file.documents:
            if isinstance(item, BadRecord):
                skipped += 1  # preparing lists them
                continue
            side = kept if is_held_out(item.text.encode(), held_out) else training
            side.add(f"{file.path}:{item.line}", item.text)
            left -= len(item.text)
            if left <= 0 and not whole:
                break
    sample = Sample(training.texts(), kept.texts())
    if not sample.training:
        reasons = [f"{skipped:,} records hold none"] * (skipped > 0)
        reasons += ["all that were read are held out; give it more, or lower held_out"] * bool(sample.held_out)
        raise DataError(f"{where}.{name}: no document to learn from ({'; '.join(reasons)})")
    return sample


@dataclass(frozen=True)
class _File:
    path: str
    size: int
    """Characters in it by a rough guess, on the high side."""
    documents: Iterator[Document | BadRecord]


def _files(where: str, name: str, corpus: CorpusSection, max_bytes: int) -> list[_File]:
    how = Reading(corpus.text_key, corpus.encoding, max_bytes)
    if corpus.hub is not None:
        from tsugiki.corpus.hub import hub_files

        return [_File(str(file), UNKNOWN, file.read(how)) for file in hub_files(f"{where}.{name}", corpus)]
    found = []
    for file in input_files(f"{where}.{name}", corpus):
        size = file.path.stat().st_size
        if compression_of(file.path) or FORMATS[file.format].packed:
            size *= COMPRESSION_GUESS
        found.append(_File(str(file.path), size, read_documents(file.path, file.format, how)))
    return found


def even_share(sizes: Mapping[Key, int], total: int) -> dict[Key, int]:
    """`total` cut evenly over things of some sizes; what a small one cannot give goes to the others."""
    shares: dict[Key, int] = {}
    left = total
    for number, (name, size) in enumerate(sorted(sizes.items(), key=lambda entry: entry[1])):
        shares[name] = min(size, left // (len(sizes) - number))
        left -= shares[name]
    return shares


def first_characters(texts: Iterable[Text], characters: int) -> list[Text]:
    """Texts from the beginning, until they have so many characters; the last one is cut there."""
    taken = []
    for text in texts:
        if characters <= 0:
            break
        taken.append(Text(text.place, text.text[:characters]))
        characters -= len(text.text)
    return taken


def keep_back(texts: Iterable[Text], characters: int) -> tuple[list[str], list[str]]:
    """(texts to learn from, texts with about so many characters to choose on): whole documents, or the end of one that
    is more than twice what is wanted, so that a corpus of one document has both."""
    learned, kept = [], []
    for text in texts:
        if characters <= 0:
            learned.append(text.text)
        elif len(text.text) <= 2 * characters:
            kept.append(text.text)
            characters -= len(text.text)
        else:
            learned.append(text.text[:-characters])
            kept.append(text.text[-characters:])
            characters = 0
    return learned, kept
