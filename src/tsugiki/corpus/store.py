"""Token stores in Megatron-LM's indexed format: `<prefix>.bin` (tokens) and `<prefix>.idx` (documents).

`.idx`, little endian: magic `MMIDIDX` and two NUL bytes; u64 version 1; u8 type code (8: uint16, 4: int32); u64
number of sequences; u64 length of the document array (documents + 1); i32 length of each sequence in tokens; i64
byte offset of each sequence in `.bin`; i64 sequence index of each document boundary. One sequence is one document
here. Source of the format: NVIDIA/Megatron-LM, megatron/core/datasets/indexed_dataset.py.

A side file `<prefix>.documents.npy` says of each document where it came from and how long its text was.
"""

import shutil
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.row_files import RowWriter, map_rows
from tsugiki.errors import DataError
from tsugiki.files import fsync_directory, fsync_file

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")  # magic, version, type code, sequences, document array
TYPE_CODES: dict[int, np.dtype] = {8: np.dtype("<u2"), 4: np.dtype("<i4")}
UINT16_LIMIT = 65_500
"""Vocabularies below this are stored as uint16, as Megatron's `optimal_dtype` does."""
MAX_DOCUMENT_TOKENS = 2**31 - 1
"""Lengths are stored as int32."""

BLOCK = 1 << 20
"""Bytes, or rows, of an index handled at a time."""
DOCUMENT = np.dtype([("file", "<u4"), ("line", "<u8"), ("bytes", "<u8"), ("characters", "<u8")])
"""A document's file (index into the manifest's list), line or row (from 1), and the size of its text."""


def token_dtype(vocabulary_size: int) -> np.dtype:
    return TYPE_CODES[8] if vocabulary_size < UINT16_LIMIT else TYPE_CODES[4]


def store_files(prefix: Path) -> list[Path]:
    """The three files of a store."""
    return [prefix.with_name(prefix.name + ending) for ending in (".bin", ".idx", ".documents.npy")]


class StoreWriter:
    """Writes a store document by document; nothing is a store before `close`.

    Lengths and origins wait in files beside it until their number is known, so that memory does not grow with the
    corpus (32 bytes a document would be gigabytes at a hundred million).
    """

    def __init__(self, prefix: Path, vocabulary_size: int):
        self.bin_path, self.idx_path, self.side_path = store_files(prefix)
        self.dtype = token_dtype(vocabulary_size)
        self.vocabulary_size = vocabulary_size
        self._count = 0
        self._file = self.bin_path.open("wb")
        self._lengths = _part(self.idx_path).open("w+b")
        self._documents = RowWriter(self.side_path, DOCUMENT)

    def add_documents(self, tokens: np.ndarray, lengths: np.ndarray, documents: np.ndarray) -> None:
        """Append documents: their tokens end to end, their lengths in tokens, their DOCUMENT rows.

        Raises DataError for an id outside the vocabulary: uint16 would otherwise wrap it silently.
        """
        if tokens.size:
            low, high = int(tokens.min()), int(tokens.max())
            if low < 0 or high >= self.vocabulary_size:
                wrong = low if low < 0 else high
                raise DataError(
                    f"{self.bin_path}: token id {wrong:,} does not fit a vocabulary of {self.vocabulary_size:,}"
                )
        if len(lengths) and int(lengths.max()) > MAX_DOCUMENT_TOKENS:
            raise DataError(
                f"{self.bin_path}: a document of {int(lengths.max()):,} tokens is longer than the format allows"
            )
        self._file.write(np.ascontiguousarray(tokens, dtype=self.dtype).data)
        self._lengths.write(lengths.astype("<i4").tobytes())
        self._documents.add(documents)
        self._count += len(lengths)

    def add_document(
        self, tokens: Sequence[int], file: int = 0, line: int = 0, size: int = 0, characters: int = 0
    ) -> None:
        """Append one document."""
        row = np.array([(file, line, size, characters)], dtype=DOCUMENT)
        self.add_documents(np.asarray(tokens, dtype=np.int64), np.array([len(tokens)]), row)

    def close(self) -> None:
        """Write the index and the side file, and bring everything to disk."""
        self._file.close()
        fsync_file(self.bin_path)
        self._documents.close()
        unnamed = self.idx_path.with_name(self.idx_path.name + ".new")
        with self._lengths as lengths, unnamed.open("wb") as index:
            self._write_index(lengths, index)
        fsync_file(unnamed)
        unnamed.replace(self.idx_path)
        _part(self.idx_path).unlink()
        fsync_directory(self.idx_path.parent)

    def _write_index(self, lengths: BinaryIO, index: BinaryIO) -> None:
        code = next(code for code, dtype in TYPE_CODES.items() if dtype == self.dtype)
        index.write(HEADER.pack(MAGIC, 1, code, self._count, self._count + 1))
        lengths.seek(0)
        shutil.copyfileobj(lengths, index, BLOCK)
        lengths.seek(0)
        offset = 0
        while block := lengths.read(BLOCK):
            sizes = np.frombuffer(block, "<i4").astype("<i8") * self.dtype.itemsize
            ends = np.cumsum(sizes) + offset
            index.write((ends - sizes).tobytes())
            offset = int(ends[-1])
        for start in range(0, self._count + 1, BLOCK):
            index.write(np.arange(start, min(start + BLOCK, self._count + 1), dtype="<i8").tobytes())


def _part(path: Path) -> Path:
    """Where the content of a file is gathered."""
    return path.with_name(path.name + ".part")


class DocumentStarts:
    """Where each document begins, in tokens, and at last where the store ends; looked up in the index when asked.

    Read like an array: one entry, a slice or an array of indices. `np.searchsorted` finds its own method here: numpy's
    would copy the index, whose numbers are not aligned in the file.
    """

    def __init__(self, offsets: np.ndarray, bounds: np.ndarray, itemsize: int, end: int):
        self._offsets = offsets  # of each sequence, in bytes
        self._bounds = bounds  # first sequence of each document, and the number of sequences
        self._itemsize, self._end = itemsize, end

    def __len__(self) -> int:
        return len(self._bounds)

    @overload
    def __getitem__(self, index: int | np.integer) -> int: ...
    @overload
    def __getitem__(self, index: slice | NDArray[Any]) -> NDArray[np.int64]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int | np.integer):
            return self._start(int(index))
        sequence = self._bounds[index]
        starts = np.full(sequence.shape, self._end, np.int64)
        begun = sequence < len(self._offsets)
        starts[begun] = self._offsets[sequence[begun]] // self._itemsize
        return starts

    def _start(self, index: int) -> int:
        sequence = self._bounds.item(index)
        return self._offsets.item(sequence) // self._itemsize if sequence < len(self._offsets) else self._end

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or np.int64, copy=False)

    def searchsorted(self, values: Any, side: str = "left", sorter: None = None) -> Any:
        """As numpy's: for each value the number of entries below it (`right`: not above it)."""
        search = bisect_left if side == "left" else bisect_right
        wanted = np.asarray(values)
        every = range(len(self))
        found = np.array([search(every, value, key=self._start) for value in wanted.ravel().tolist()], np.int64)
        return found.reshape(wanted.shape)[()]


class TokenStore:
    """A store opened for reading; tokens and index stay on disk (memory-mapped).

    Raises DataError, naming the file, when the files are missing, damaged or do not fit each other.
    """

    def __init__(self, prefix: Path):
        self.prefix = prefix
        bin_path, idx_path, self._side_path = store_files(prefix)
        self.dtype, sequences, boundaries, tokens_size = _read_header(bin_path, idx_path)
        at = HEADER.size + 4 * sequences
        lengths = _map(idx_path, "<i4", HEADER.size, sequences)
        offsets = _map(idx_path, "<i8", at, sequences)
        bounds = _map(idx_path, "<i8", at + 8 * sequences, boundaries)
        self.token_count = _check_index(idx_path, lengths, offsets, bounds, self.dtype.itemsize)
        if self.token_count * self.dtype.itemsize != tokens_size:
            raise DataError(
                f"{bin_path}: {tokens_size:,} bytes, but {idx_path.name} describes {self.token_count:,} tokens of "
                f"{self.dtype.itemsize} bytes"
            )
        self.tokens = np.memmap(bin_path, self.dtype, "r") if tokens_size else np.zeros(0, self.dtype)
        self.document_starts = DocumentStarts(offsets, bounds, self.dtype.itemsize, self.token_count)
        self.document_count = boundaries - 1

    @property
    def documents(self) -> np.ndarray:
        """DOCUMENT rows, one a document; empty for a store that another tool wrote."""
        if not self._side_path.exists():
            return np.zeros(0, DOCUMENT)
        return map_rows(self._side_path, DOCUMENT, self.document_count)

    def document(self, index: int) -> np.ndarray:
        """Tokens of one document, BOS and EOS included."""
        return self.tokens[self.document_starts[index] : self.document_starts[index + 1]]

    def window_count(self, sequence_length: int) -> int:
        """Windows of `sequence_length` targets; the tail that fills none is left out."""
        return max(0, (self.token_count - 1) // sequence_length)

    def window(self, index: int, sequence_length: int) -> np.ndarray:
        """Window `index`: [sequence_length + 1] tokens from token index · sequence_length."""
        start = index * sequence_length
        return self.tokens[start : start + sequence_length + 1]


def _read_header(bin_path: Path, idx_path: Path) -> tuple[np.dtype, int, int, int]:
    """Type of the tokens, sequences, entries of the document array, and bytes of `.bin`."""
    try:
        with idx_path.open("rb") as file:
            header = file.read(HEADER.size)
        size, tokens_size = idx_path.stat().st_size, bin_path.stat().st_size
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}; run tsugiki prepare") from None
    if len(header) < HEADER.size or header[:9] != MAGIC:
        raise DataError(f"{idx_path}: not a Megatron index (its magic is missing)")
    _, version, code, sequences, boundaries = HEADER.unpack(header)
    if version != 1 or code not in TYPE_CODES:
        raise DataError(f"{idx_path}: version {version} with type code {code} is not one that can be read")
    # Python integers, so that no promised count can overflow. Megatron adds one mode byte a sequence for images.
    expected = HEADER.size + 12 * sequences + 8 * boundaries
    if boundaries < 1 or size not in (expected, expected + sequences):
        raise DataError(f"{idx_path}: {size:,} bytes do not fit the {sequences:,} sequences that its header promises")
    return TYPE_CODES[code], sequences, boundaries, tokens_size


def _map(path: Path, dtype: str, offset: int, count: int) -> np.ndarray:
    return np.asarray(np.memmap(path, dtype, "r", offset, (count,))) if count else np.zeros(0, dtype)


def _check_index(path: Path, lengths: np.ndarray, offsets: np.ndarray, bounds: np.ndarray, itemsize: int) -> int:
    """The number of tokens; raises DataError where the index contradicts itself. A block at a time."""
    end = 0
    for start in range(0, len(lengths), BLOCK):
        sizes = lengths[start : start + BLOCK].astype(np.int64)
        ends = np.cumsum(sizes) + end
        if int(sizes.min()) < 0 or not np.array_equal((ends - sizes) * itemsize, offsets[start : start + BLOCK]):
            raise DataError(f"{path}: damaged: its lengths and offsets do not describe one sequence after another")
        end = int(ends[-1])
    blocks = (bounds[start : start + BLOCK + 1] for start in range(0, len(bounds), BLOCK))
    if bounds[0] != 0 or bounds[-1] != len(lengths) or any(np.any(block[1:] < block[:-1]) for block in blocks):
        raise DataError(f"{path}: damaged: its document boundaries are not in order")
    return end
