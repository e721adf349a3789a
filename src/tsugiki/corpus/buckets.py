"""Tokenised documents put into the order of their hashes, on disk, in memory that does not grow with the corpus.

Documents are appended to the bucket of the top bits of their order hash; then one bucket after another is read, sorted
and handed out. A bucket that came out too large is divided once more by the next bits, so the order never depends on
how many buckets there were.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tsugiki.corpus.store import DOCUMENT

RECORD = np.dtype([("order", "<u8"), ("order2", "<u8"), ("draw", "<u8"), ("length", "<u4"), *DOCUMENT.descr])
"""Of a document: its order (128 bits), its held-out draw, its length in tokens, and its DOCUMENT row."""

TEXT_BYTES = 64 << 20
"""Text that one bucket is meant for."""
LARGEST = 256 << 20
"""Bytes of a bucket file that is still sorted in memory."""
MOST_BITS = 7  # 128 open files: the usual limit is 1,024, on some systems 256


class Buckets:
    """2^bits files in `directory`, by the `bits` highest of the lowest `shift` bits of the order hash.

    `record`: RECORD, or a type that begins with its fields.
    """

    def __init__(self, directory: Path, bits: int, shift: int = 64, prefix: str = "bucket", record: np.dtype = RECORD):
        self.directory, self.bits, self.shift = directory, bits, shift - bits  # from here on: bits not used yet
        self.record = record
        self.paths = [directory / f"{prefix}-{index:03d}" for index in range(1 << bits)]
        self._streams = [path.open("wb", buffering=1 << 16) for path in self.paths]

    @classmethod
    def for_text(cls, directory: Path, expected_bytes: int, record: np.dtype = RECORD) -> "Buckets":
        """As many buckets as so much text needs; a wrong guess costs time, nothing else."""
        return cls(directory, min(MOST_BITS, max(0, (expected_bytes // TEXT_BYTES).bit_length())), record=record)

    def add(self, records: np.ndarray, tokens: np.ndarray) -> None:
        """Append documents: their records and their tokens (int32, end to end)."""
        if self.bits == 0:
            self._write(0, records, tokens)
            return
        mask = np.uint64((1 << self.bits) - 1)
        which = (records["order"] >> np.uint64(self.shift) & mask).astype(np.int64)
        ends = np.cumsum(records["length"], dtype=np.int64)
        for bucket in np.unique(which):
            rows = np.flatnonzero(which == bucket)
            self._write(int(bucket), records[rows], gather(tokens, ends[rows] - records["length"][rows], ends[rows]))

    def close(self) -> None:
        """Finish writing. Raises OSError."""
        for stream in self._streams:
            stream.close()

    def sorted_documents(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(records in order, start of each one's tokens, tokens) of bucket after bucket; their files are removed."""
        self.close()
        for path in self.paths:
            if path.stat().st_size > LARGEST and self.shift >= MOST_BITS:
                finer = Buckets(self.directory, MOST_BITS, self.shift, path.name, self.record)
                for records, tokens in self._read_blocks(path):
                    finer.add(records, tokens)
                path.unlink()
                yield from finer.sorted_documents()
                continue
            blocks = list(self._read_blocks(path))
            path.unlink()
            if blocks:
                records = np.concatenate([block for block, _ in blocks])
                tokens = np.concatenate([block for _, block in blocks])
                del blocks
                starts = np.cumsum(records["length"], dtype=np.int64) - records["length"]
                order = np.lexsort((records["order2"], records["order"]))
                yield records[order], starts[order], tokens

    def _write(self, bucket: int, records: np.ndarray, tokens: np.ndarray) -> None:
        stream = self._streams[bucket]
        stream.write(np.array([len(records), len(tokens)], "<u8").data)
        stream.write(np.ascontiguousarray(records).view("u1").data)
        stream.write(np.ascontiguousarray(tokens, "<i4").data)

    def _read_blocks(self, path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        with path.open("rb") as file:
            while header := file.read(16):
                documents, count = np.frombuffer(header, "<u8").tolist()
                records = np.frombuffer(file.read(documents * self.record.itemsize), self.record)
                yield records, np.frombuffer(file.read(4 * count), "<i4")


def gather(tokens: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The pieces tokens[start:end], end to end."""
    return np.concatenate([tokens[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)])
