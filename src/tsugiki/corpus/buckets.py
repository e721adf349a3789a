"""Tokenised documents put into the order of their hashes, on disk, in memory that does not grow with the corpus.

Documents are appended to the bucket of the top bits of their order hash; then one bucket after another is read, sorted
and handed out. A bucket that came out too large is divided once more by the next bits, so the order never depends on
how many buckets there were. The files stay until all is done, so that work which is interrupted can be gone on with.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tsugiki.corpus.store import DOCUMENT

RECORD = np.dtype([("order", "<u8"), ("order2", "<u8"), ("draw", "<u8"), ("length", "<u4"), *DOCUMENT.descr])
"""Of a document: its order (128 bits), its held-out draw, its length in tokens, and its DOCUMENT row."""

TEXT_BYTES = 64 << 20
"""Text that one bucket is meant for."""
LARGEST = 256 << 20
"""Bytes of a bucket file that is still sorted in memory."""
BUCKET = "bucket"
"""What the names of their files begin with."""
INT32 = np.dtype("<i4")
MOST_BITS = 7  # 128 open files: the usual limit is 1,024, on some systems 256


class Buckets:
    """2^bits files in `directory`, by the `bits` highest of the lowest `shift` bits of the order hash.

    `record`: RECORD, or a type that begins with its fields; `dtype` of tokens, or of what stands for them.
    `sizes`: of files that are there, in bytes, to go on with; what lies behind is cut off. `beside`: folders with files
    that others have filled in the same way; what they hold is read as if it stood in these.
    """

    def __init__(
        self, directory: Path, bits: int, shift: int = 64, prefix: str = BUCKET, record: np.dtype = RECORD,
        dtype: np.dtype = INT32, sizes: Sequence[int] | None = None, beside: Sequence[Path] = (),
    ):  # fmt: skip
        self.directory, self.bits, self.shift = directory, bits, shift - bits  # from here on: bits not used yet
        self.record, self.dtype, self.beside = record, dtype, beside
        self.paths = [directory / f"{prefix}-{index:03d}" for index in range(1 << bits)]
        if sizes is None:
            self._streams = [path.open("wb", buffering=1 << 16) for path in self.paths]
        else:
            self._streams = [path.open("r+b", buffering=1 << 16) for path in self.paths]
            for stream, size in zip(self._streams, sizes, strict=True):
                stream.truncate(size)
                stream.seek(size)

    def add(self, records: np.ndarray, tokens: np.ndarray) -> None:
        """Append documents, which are in order: their records and their tokens, end to end."""
        ends = np.concatenate([[0], np.cumsum(records["length"], dtype=np.int64)])
        mask = np.uint64((1 << self.bits) - 1)
        which = (records["order"] >> np.uint64(self.shift) & mask).astype(np.int64) if self.bits else np.zeros(1)
        for bucket in np.unique(which).astype(np.int64).tolist() if len(records) else ():
            first, last = np.searchsorted(which, [bucket, bucket + 1]) if self.bits else (0, len(records))
            self._write(bucket, records[first:last], tokens[ends[first] : ends[last]])

    def sizes(self) -> list[int]:
        """Of the files, in bytes, all of which have been brought to disk. Raises OSError."""
        for stream in self._streams:
            stream.flush()
            os.fsync(stream.fileno())
        return [stream.tell() for stream in self._streams]

    def close(self) -> None:
        """Finish writing. Raises OSError."""
        for stream in self._streams:
            stream.close()

    def sorted_documents(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(records in order, start of each one's tokens, tokens) of bucket after bucket, of which the files stay."""
        self.close()
        for path in self.paths:
            size = sum(one.stat().st_size for one in self._alike(path))
            if size > LARGEST and self.shift >= MOST_BITS:
                finer = Buckets(self.directory, MOST_BITS, self.shift, path.name, self.record, self.dtype)
                for records, tokens in self._read_blocks(path):
                    finer.add(records, tokens)
                yield from finer.sorted_documents()
                finer.remove()
                continue
            if blocks := list(self._read_blocks(path)):
                records = np.concatenate([block for block, _ in blocks])
                tokens = np.concatenate([block for _, block in blocks])
                del blocks
                starts = np.cumsum(records["length"], dtype=np.int64) - records["length"]
                order = np.lexsort((records["order2"], records["order"]))
                yield records[order], starts[order], tokens

    def sorted_records(self) -> Iterator[np.ndarray]:
        """The records alone, in the same order."""
        self.close()
        for path in self.paths:
            if blocks := list(self._read_records(path)):
                records = np.concatenate(blocks)
                yield records[np.lexsort((records["order2"], records["order"]))]

    def remove(self) -> None:
        """Remove the files."""
        for path in self.paths:
            path.unlink()

    def _alike(self, path: Path) -> list[Path]:
        return [path, *(folder / path.name for folder in self.beside)]

    def _write(self, bucket: int, records: np.ndarray, tokens: np.ndarray) -> None:
        stream = self._streams[bucket]
        stream.write(np.array([len(records), len(tokens)], "<u8").data)
        stream.write(np.ascontiguousarray(records).view("u1").data)
        stream.write(np.ascontiguousarray(tokens, self.dtype).data)

    def _read_records(self, path: Path) -> Iterator[np.ndarray]:
        for file, documents, count in self._blocks(path):
            yield np.frombuffer(file.read(documents * self.record.itemsize), self.record)
            file.seek(self.dtype.itemsize * count, os.SEEK_CUR)

    def _read_blocks(self, path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for file, documents, count in self._blocks(path):
            records = np.frombuffer(file.read(documents * self.record.itemsize), self.record)
            yield records, np.frombuffer(file.read(self.dtype.itemsize * count), self.dtype)

    def _blocks(self, path: Path) -> Iterator[tuple[BinaryIO, int, int]]:
        """Each block of a bucket: a file that stands before it, its documents and tokens."""
        for one in self._alike(path):
            with one.open("rb") as file:
                while header := file.read(16):
                    documents, count = np.frombuffer(header, "<u8").tolist()
                    yield file, documents, count


def bits_for(expected_bytes: int) -> int:
    """Bits for as many buckets as so much text needs; a wrong guess costs time, nothing else."""
    return min(MOST_BITS, max(0, (expected_bytes // TEXT_BYTES).bit_length()))


def in_order(records: np.ndarray, payload: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Documents in the order of their hashes."""
    ends = np.cumsum(records["length"], dtype=np.int64)
    order = np.lexsort((records["order2"], records["order"]))
    return records[order], gather(payload, (ends - records["length"])[order], ends[order])


def gather(tokens: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The pieces tokens[start:end], end to end."""
    if not len(starts):
        return tokens[:0]
    return np.concatenate([tokens[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)])
