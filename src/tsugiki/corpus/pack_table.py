"""Which documents of a store share a window of so many tokens: a file that checks itself and is soon made anew (of a
million documents in less than a second, 5 MB), for conversations and for text that is packed (`data.packing`).

`<prefix>.packs-<L>`, little endian: magic `TSUPACKS`; u64 version 2; u64 window length L; u64 documents; u64 blocks;
xxh3 (128 bits) of the rows that follow; one BLOCK_ROW for each block of 2^20 documents; and for each block, all u32,
  where each of its shared packs begins in the list that follows, and where the last one ends
  documents, pack after pack, counted from the block's first
  (document, part) of each window that a long document fills alone

A document of at most L tokens is whole in one pack. What is longer fills windows of its own, L + 1 tokens from token
part · L on, as those of a row of text do: the last token of a window is its last target and the next one's first
input. What then is left, L tokens at most, is packed as a short document is; a single token that is left has been a
target already. So as few documents are cut as can be: those of more than L + 1 tokens.

Blocks are packed by themselves, so that making a table takes the same memory for any store; which pack is in which
place is known from the header alone, and the rest is read where it is asked for. Packs depend on the lengths and their
order in the store alone; they stay the same from epoch to epoch, and their order is the mixture's.
"""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from tsugiki.corpus.open_files import FILES, RawFile
from tsugiki.corpus.packing import best_fit_decreasing
from tsugiki.corpus.store import DocumentStarts
from tsugiki.errors import DataError
from tsugiki.files import written_atomically

MAGIC = b"TSUPACKS"
VERSION = 2
HEADER = struct.Struct("<8sQQQQ16s")  # magic, version, L, documents, blocks, digest of the rows
BLOCK_ROW = np.dtype([
    ("packs", "<u8"), ("entries", "<u8"),  # shared packs, and documents in them
    ("alone", "<u8"),  # windows that a long document fills alone
    ("cut", "<u8"),  # documents that no window holds whole
    ("inputs", "<u8"),  # positions that hold a token of a document: the others are padding
    ("lengths", "u1", 16), ("body", "u1", 16),  # xxh3 (128 bits) of the documents' lengths (int32), and of the block
])  # fmt: skip
BLOCK_DOCUMENTS = 1 << 20
REMEDY = "run tsugiki prepare, which makes it anew"


class Documents(Protocol):
    """What a table is made from: `PackedStore`, of which it knows no more."""

    prefix: Path

    @property
    def document_starts(self) -> DocumentStarts: ...


class Members(NamedTuple):
    """What a window holds, by the table."""

    documents: list[int]
    part: int | None
    """None: each document whole, or what is left of a long one. Else which of the windows that the one document fills
    alone."""


class PackFacts(NamedTuple):
    """What became of the documents of a store."""

    documents: int
    cut: int
    windows: int
    inputs: int


def table_path(prefix: Path, sequence_length: int) -> Path:
    """The file of the table for a length."""
    return prefix.with_name(f"{prefix.name}.packs-{sequence_length}")


def table_lengths(prefix: Path) -> list[int]:
    """The lengths for which there are tables beside a store, by their names."""
    suffixes = [
        path.name.removeprefix(f"{prefix.name}.packs-") for path in prefix.parent.glob(f"{prefix.name}.packs-*")
    ]
    return sorted(int(suffix) for suffix in suffixes if suffix.isdecimal())


def windows_alone(lengths: NDArray[np.int64], sequence_length: int) -> NDArray[np.int64]:
    """How many windows each document of so many tokens fills alone."""
    return np.where(lengths > sequence_length, (lengths - 1) // sequence_length, 0)


def make_packs(store: Documents, sequence_length: int, *, divide: bool) -> "PackTable":
    """The table of a store for a length, made where there is none that is whole and of these documents. `divide`: what
    is longer fills windows alone.

    Raises DataError for documents that are longer and must not be divided, and StorageError where the disk refuses.
    """
    path, starts = table_path(store.prefix, sequence_length), store.document_starts
    try:
        table = PackTable(path, sequence_length, starts)
        table.check(starts, range(table.blocks))
        return table
    except DataError:  # none, damaged, or of other documents
        pass
    rows = np.zeros(-(-(len(starts) - 1) // BLOCK_DOCUMENTS), BLOCK_ROW)
    with written_atomically(path) as file:
        file.seek(HEADER.size + rows.nbytes)
        for number in range(len(rows)):
            rows[number], body = _block(_lengths(starts, number), sequence_length, divide)
            file.write(body)
        file.seek(0)
        digest = xxhash.xxh3_128_digest(rows.tobytes())
        file.write(HEADER.pack(MAGIC, VERSION, sequence_length, len(starts) - 1, len(rows), digest) + rows.tobytes())
    return PackTable(path, sequence_length, starts)


def _lengths(starts: DocumentStarts, block: int) -> NDArray[np.int64]:
    """Of the documents of a block, in tokens."""
    first = block * BLOCK_DOCUMENTS
    return np.diff(starts[first : first + BLOCK_DOCUMENTS + 1])


def _block(lengths: NDArray[np.int64], sequence_length: int, divide: bool) -> tuple[NDArray[np.void], bytes]:
    """The row and the content of a block."""
    alone = windows_alone(lengths, sequence_length) if divide else np.zeros_like(lengths)
    left = lengths - alone * sequence_length
    packed = np.flatnonzero((left > 1) | (alone == 0) & ((left > 0) | (not divide)))
    packing = best_fit_decreasing(left[packed], sequence_length)
    firsts = np.cumsum(alone) - alone
    part = np.arange(int(alone.sum())) - np.repeat(firsts, alone)
    windows = np.stack([np.repeat(np.arange(len(lengths)), alone), part], axis=1)
    body = np.concatenate([packing.starts, packed[packing.documents], windows.ravel()]).astype("<u4").tobytes()
    row = np.zeros(1, BLOCK_ROW)
    row["packs"], row["entries"], row["alone"] = len(packing.starts) - 1, len(packed), len(part)
    row["cut"] = np.count_nonzero(lengths > sequence_length + 1)
    row["inputs"] = len(part) * sequence_length + int(left[packed].sum())
    row["lengths"], row["body"] = _digest(lengths.astype("<i4").tobytes()), _digest(body)
    return row[0], body


def _digest(content: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(xxhash.xxh3_128_digest(content), np.uint8)


class PackTable:
    """A table opened for reading: `table[w]` is what window w holds. Its header is read at once, the rest when asked
    for, by threads together if need be.

    `starts`: of the store's documents. Raises DataError, naming the file and the remedy, where it is missing,
    damaged, or was made for another length or other documents.
    """

    def __init__(self, path: Path, sequence_length: int, starts: DocumentStarts):
        self.path, self.sequence_length, self._documents = path, sequence_length, len(starts) - 1
        try:
            with path.open("rb") as file:
                header = file.read(HEADER.size)
                blocks = HEADER.unpack(header)[4] if len(header) == HEADER.size else 0
                self._size = path.stat().st_size
                content = file.read(min(blocks * BLOCK_ROW.itemsize, self._size))
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; {REMEDY}") from None
        if len(header) < HEADER.size or header[: len(MAGIC)] != MAGIC:
            raise DataError(f"{path}: not a table of packs; {REMEDY}")
        _, version, length, documents, _, digest = HEADER.unpack(header)
        whole = version == VERSION and xxhash.xxh3_128_digest(content) == digest
        if not whole or len(content) != blocks * BLOCK_ROW.itemsize:
            raise DataError(f"{path}: damaged, or of another version than {VERSION}; {REMEDY}")
        self._rows = np.frombuffer(content, BLOCK_ROW)
        sizes = [4 * (int(row["packs"]) + 1 + int(row["entries"]) + 2 * int(row["alone"])) for row in self._rows]
        self._offsets = np.cumsum([HEADER.size + len(content), *sizes])
        self._windows = np.cumsum([0, *(self._rows["packs"] + self._rows["alone"]).tolist()])
        if self._size != self._offsets[-1] or blocks != -(-documents // BLOCK_DOCUMENTS):
            raise DataError(f"{path}: damaged: not as long as its header says; {REMEDY}")
        if (length, documents) != (sequence_length, self._documents):
            raise DataError(f"{path}: made for another length or other documents; {REMEDY}")
        self._owner = FILES.owner(self)

    def __len__(self) -> int:
        """Windows."""
        return int(self._windows[-1])

    @property
    def facts(self) -> PackFacts:
        """What became of the documents."""
        cut, inputs = int(self._rows["cut"].sum()), int(self._rows["inputs"].sum())
        return PackFacts(self._documents, cut, len(self), inputs)

    def __getitem__(self, index: int) -> Members:
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        block = int(np.searchsorted(self._windows, index, side="right")) - 1
        row, place = self._rows[block], index - int(self._windows[block])
        packs, entries, first = int(row["packs"]), int(row["entries"]), block * BLOCK_DOCUMENTS
        if place >= packs:
            document, part = self._numbers(block, packs + 1 + entries + 2 * (place - packs), 2)
            return Members(self._known([document + first]), part)
        begin, end = self._numbers(block, place, 2)
        if not begin < end <= entries:
            raise self._damaged()
        return Members(self._known([first + one for one in self._numbers(block, packs + 1 + begin, end - begin)]), None)

    def _numbers(self, block: int, first: int, count: int) -> list[int]:
        file = FILES.get(self._owner, "", lambda: RawFile(str(self.path), self._size))
        return np.frombuffer(file.read(int(self._offsets[block]) + 4 * first, 4 * count), "<u4").tolist()

    def _known(self, documents: list[int]) -> list[int]:
        if max(documents) >= self._documents:
            raise self._damaged()
        return documents

    def _damaged(self) -> DataError:
        return DataError(f"{self.path}: damaged: its packs do not follow one another; {REMEDY}")

    def check(self, starts: DocumentStarts, blocks: Iterable[int]) -> None:
        """Raise DataError where a block is not what was written, or not of the documents that begin at
        `starts`."""
        for block in blocks:
            start, end = self._offsets[block : block + 2].tolist()
            file = FILES.get(self._owner, "", lambda: RawFile(str(self.path), self._size))
            if not np.array_equal(_digest(file.read(start, end - start)), self._rows[block]["body"]):
                raise DataError(f"{self.path}: damaged: its digest is not the recorded one; {REMEDY}")
            of_store = _digest(_lengths(starts, block).astype("<i4").tobytes())
            if not np.array_equal(of_store, self._rows[block]["lengths"]):
                raise DataError(f"{self.path}: made for another length or other documents; {REMEDY}")

    @property
    def blocks(self) -> int:
        """Blocks of documents that are packed by themselves."""
        return len(self._rows)
