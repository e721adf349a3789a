"""The text that a vocabulary is learned from, measured and proved on: documents of each corpus, by a hash of them.

Reading is one pass in bounded memory. Which documents are taken depends on no order of files, and a document that is
held out from training is none to learn from.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import xxhash

from tsugiki.corpus.compression import FileDigest
from tsugiki.corpus.held_out import is_held_out
from tsugiki.corpus.inputs import input_files
from tsugiki.corpus.readers import BadRecord, Document, format_of, read_documents
from tsugiki.errors import DataError
from tsugiki.recipe import CorpusSection
from tsugiki.vocabulary.proofs import Text

READ_AHEAD = 20
"""Characters read of a corpus for each that is wanted of it: a sample of a corpus of terabytes takes minutes."""
HELD_OUT_SHARE = 0.05
"""Of the sample's size, for the held-out documents that the report measures."""


@dataclass(frozen=True)
class Sample:
    """Texts of one corpus: documents that are trained on, and documents that are held out."""

    training: list[Text]
    held_out: list[Text]
    skipped: int
    """Records that hold no document; preparing lists them."""


class _Reservoir:
    """The documents with the smallest hashes that fit into a number of characters."""

    def __init__(self, characters: int):
        self.limit, self.size = characters, 0
        self._heap: list[tuple[int, str, str]] = []

    def add(self, place: str, text: str) -> None:
        draw = xxhash.xxh3_64_intdigest(b"vocabulary\0" + text.encode())
        heapq.heappush(self._heap, (-draw, place, text))
        self.size += len(text)
        while self.size > self.limit and len(self._heap) > 1:
            self.size -= len(heapq.heappop(self._heap)[2])

    def texts(self) -> list[Text]:
        return [Text(place, text) for _, place, text in sorted(self._heap, reverse=True)]


def read_sample(
    where: str, name: str, corpus: CorpusSection, *, characters: int, held_out: float, max_bytes: int
) -> Sample:
    """About `characters` of a corpus, and of its held-out documents a twentieth as many.

    `where` is the section that names it, for messages; `held_out` the share of its documents that is held out. Raises
    DataError when it holds no document.
    """
    training, kept = _Reservoir(characters), _Reservoir(max(1, int(HELD_OUT_SHARE * characters)))
    skipped = read = 0
    files = _files(where, name, corpus, max_bytes)
    allowance = READ_AHEAD * characters
    for number, documents in enumerate(files, 1):
        for place, item in documents:
            if isinstance(item, BadRecord):
                skipped += 1
                continue
            read += len(item.text)
            side = kept if is_held_out(item.text.encode(), held_out) else training
            side.add(place, item.text)
            if read > allowance * number / len(files):
                break
    if not training.size:
        raise DataError(f"{where}.{name}: no document to learn from")
    return Sample(training.texts(), kept.texts(), skipped)


def _files(
    where: str, name: str, corpus: CorpusSection, max_bytes: int
) -> list[Iterator[tuple[str, Document | BadRecord]]]:
    """The documents of each file, with their places."""
    if corpus.hub is not None:
        from tsugiki.corpus.hub import hub_files

        return [_placed(str(file), file.read(FileDigest())) for file in hub_files(f"{where}.{name}", corpus, max_bytes)]
    return [
        _placed(str(file.path), read_documents(
            file.path, format=file.format, text_key=corpus.text_key, encoding=corpus.encoding, max_bytes=max_bytes,
            digest=FileDigest(),
        ))
        for file in input_files(f"{where}.{name}", corpus)
    ]  # fmt: skip


def _placed(path: str, items: Iterable[Document | BadRecord]) -> Iterator[tuple[str, Document | BadRecord]]:
    for item in items:
        yield f"{path}:{item.line}", item


def even_share(sizes: dict[str, int], total: int) -> dict[str, int]:
    """`total` cut evenly over corpora of some sizes; what a small one cannot give goes to the others."""
    shares: dict[str, int] = {}
    left = total
    for number, (name, size) in enumerate(sorted(sizes.items(), key=lambda entry: entry[1])):
        shares[name] = min(size, left // (len(sizes) - number))
        left -= shares[name]
    return shares


def first_characters(texts: Iterable[Text], characters: int) -> list[Text]:
    """Whole texts from the beginning, until they have so many characters."""
    taken = []
    for text in texts:
        if characters <= 0:
            break
        taken.append(text)
        characters -= len(text.text)
    return taken


def read_texts(paths: Iterable[Path], text_key: str = "text") -> Iterator[Text]:
    """The documents of files given on the command line. Raises DataError for whatever cannot be read, by file and line:
    a lone surrogate (half of a character, which no UTF-8 text can hold) too."""
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        items = read_documents(
            path, format=format_of(path, "auto"), text_key=text_key, encoding="utf-8", max_bytes=2**30,
            digest=FileDigest(),
        )  # fmt: skip
        for item in items:
            if isinstance(item, BadRecord):
                raise DataError(f"{path}:{item.line}: {item.kind}: {item.detail}")
            if item.replaced:
                raise DataError(f"{path}:{item.line}: a lone surrogate, which is no character; mend the file")
            yield Text(f"{path}:{item.line}", item.text)
