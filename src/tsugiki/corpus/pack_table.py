"""Which conversations of a store share a window of so many tokens: a file that checks itself and is soon made anew
(of a million conversations in 0.2 s, 4.6 MB).

`<prefix>.packs-<L>`, little endian: magic `TSUPACKS`; u64 version 1; u64 sequence length L; u64 packs; u64
conversations; xxh3 (128 bits) of the lengths of the conversations (int32), and another of all that follows; u32
where each pack begins in the list, and where it ends; u32 conversations, pack after pack.

Packs depend on the lengths and their order in the store alone, so a table may be made anew at any time; packs stay the
same from epoch to epoch, and their order is the mixture's.
"""

import struct
from pathlib import Path
from typing import Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from tsugiki.corpus.megatron import BLOCK
from tsugiki.corpus.packing import best_fit_decreasing
from tsugiki.corpus.store import DocumentStarts
from tsugiki.errors import DataError
from tsugiki.files import write_atomically

MAGIC = b"TSUPACKS"
VERSION = 1
HEADER = struct.Struct("<8sQQQQ16s16s")  # magic, version, L, packs, conversations, digests: lengths, what follows
MOST = 2**32 - 1
"""Conversations that a table can number."""


class Conversations(Protocol):
    """What a table is made from: `ConversationStore`, of which it knows no more."""

    prefix: Path

    @property
    def document_starts(self) -> DocumentStarts: ...


def table_path(prefix: Path, sequence_length: int) -> Path:
    """The file of the table for a length."""
    return prefix.with_name(f"{prefix.name}.packs-{sequence_length}")


def table_lengths(prefix: Path) -> list[int]:
    """The lengths for which there are tables beside a store, by their names."""
    suffixes = [
        path.name.removeprefix(f"{prefix.name}.packs-") for path in prefix.parent.glob(f"{prefix.name}.packs-*")
    ]
    return sorted(int(suffix) for suffix in suffixes if suffix.isdecimal())


def make_packs(store: Conversations, sequence_length: int) -> "PackTable":
    """The table of a store for a length, made where there is none that is whole and of these conversations.

    Raises DataError for conversations that are longer, and StorageError where the disk refuses.
    """
    path, starts = table_path(store.prefix, sequence_length), store.document_starts
    try:
        return PackTable(path, sequence_length, starts)
    except DataError:  # none, damaged, or of other conversations
        pass
    if len(starts) - 1 > MOST:
        raise DataError(f"{store.prefix}: {len(starts) - 1:,} conversations; a pack table can number {MOST:,}")
    packing = best_fit_decreasing(np.diff(starts[:]), sequence_length)
    body = np.concatenate([packing.starts, packing.conversations]).astype("<u4")
    header = HEADER.pack(
        MAGIC, VERSION, sequence_length, len(packing.starts) - 1, len(packing.conversations), lengths_digest(starts),
        xxhash.xxh3_128_digest(body.data),
    )  # fmt: skip
    write_atomically(path, header + body.tobytes())
    return PackTable(path, sequence_length, starts)


class PackTable:
    """A table opened for reading (memory-mapped): `table[w]` are the conversations of pack w, the longest first.

    `starts`: of the store's documents. Raises DataError, naming the file and the remedy, where it is missing,
    damaged, or was made for another length or other conversations.
    """

    def __init__(self, path: Path, sequence_length: int, starts: DocumentStarts):
        remedy = "run tsugiki prepare, which makes it anew"
        try:
            with path.open("rb") as file:
                header = file.read(HEADER.size)
            size = path.stat().st_size
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; {remedy}") from None
        if len(header) < HEADER.size or header[: len(MAGIC)] != MAGIC:
            raise DataError(f"{path}: not a table of packs; {remedy}")
        _, version, length, packs, conversations, of_lengths, of_body = HEADER.unpack(header)
        if version != VERSION or size != HEADER.size + 4 * (packs + 1 + conversations):
            raise DataError(f"{path}: damaged, or of another version than {VERSION}; {remedy}")
        if (length, conversations, of_lengths) != (sequence_length, len(starts) - 1, lengths_digest(starts)):
            raise DataError(f"{path}: made for another length or other conversations; {remedy}")
        body = np.memmap(path, "<u4", "r", HEADER.size)
        if xxhash.xxh3_128_digest(body.data) != of_body:
            raise DataError(f"{path}: damaged: its digest is not the recorded one; {remedy}")
        self._starts, self._conversations = body[: packs + 1], body[packs + 1 :]

    def __len__(self) -> int:
        """Packs."""
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> NDArray[np.uint32]:
        return self._conversations[int(self._starts[index]) : int(self._starts[index + 1])]


def lengths_digest(starts: DocumentStarts) -> bytes:
    """xxh3 (128 bits) of the lengths of all documents; a block at a time."""
    content = xxhash.xxh3_128()
    for start in range(0, len(starts) - 1, BLOCK):
        content.update(np.diff(starts[start : start + BLOCK + 1]).astype("<i4").tobytes())
    return content.digest()
