"""Megatron-LM's indexed format: `<name>.bin` (tokens) and `<name>.idx` (documents).

`.idx`, little endian: magic `MMIDIDX` and two NUL bytes; u64 version 1; u8 type code (8: uint16, 4: int32); u64
number of sequences; u64 length of the document array (documents + 1); i32 length of each sequence in tokens; i64
byte offset of each sequence in `.bin`; i64 sequence index of each document boundary. One sequence is one document
here. Source of the format: NVIDIA/Megatron-LM, megatron/core/datasets/indexed_dataset.py.
"""

import shutil
import struct
from bisect import bisect_left
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from tsugiki.errors import DataError
from tsugiki.files import fsync_file

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")  # magic, version, type code, sequences, document array
TYPE_CODES: dict[int, np.dtype] = {8: np.dtype("<u2"), 4: np.dtype("<i4")}
UINT16_LIMIT = 65_500
"""Vocabularies below this are stored as uint16, as Megatron's `optimal_dtype` does."""
MAX_DOCUMENT_TOKENS = 2**31 - 1
"""Lengths are stored as int32."""

BLOCK = 1 << 20
"""Bytes, or rows, of an index handled at a time."""
NEAR = 512
"""Entries of an index that are searched as an array, once as few are left."""


def token_dtype(vocabulary_size: int) -> np.dtype:
    """The type of ids below `vocabulary_size`."""
    return TYPE_CODES[8] if vocabulary_size < UINT16_LIMIT else TYPE_CODES[4]


def pair(prefix: Path) -> tuple[Path, Path]:
    """Both files of a name."""
    return prefix.with_name(prefix.name + ".bin"), prefix.with_name(prefix.name + ".idx")


def index_size(documents: int) -> int:
    """Bytes of an `.idx` that we wrote."""
    return HEADER.size + 12 * documents + 8 * (documents + 1)


class Header(NamedTuple):
    """What an `.idx` says of itself."""

    dtype: np.dtype
    sequences: int
    boundaries: int
    """Documents + 1."""

    @classmethod
    def read(cls, path: Path) -> "Header":
        """Raises DataError where the file is missing or no such index, or its size is not what its header promises."""
        try:
            with path.open("rb") as file:
                header = file.read(HEADER.size)
            size = path.stat().st_size
        except OSError as error:
            raise DataError(f"{error.filename}: {error.strerror}; run tsugiki prepare") from None
        if len(header) < HEADER.size or header[:9] != MAGIC:
            raise DataError(f"{path}: not a Megatron index (its magic is missing)")
        _, version, code, sequences, boundaries = HEADER.unpack(header)
        if version != 1 or code not in TYPE_CODES:
            raise DataError(f"{path}: version {version} with type code {code} is not one that can be read")
        # Python integers, so that no promised count can overflow. Megatron adds one mode byte a sequence for images.
        expected = HEADER.size + 12 * sequences + 8 * boundaries
        if boundaries < 1 or size not in (expected, expected + sequences):
            raise DataError(f"{path}: {size:,} bytes do not fit the {sequences:,} sequences that its header promises")
        return cls(TYPE_CODES[code], sequences, boundaries)


class MegatronIndex:
    """Where the documents of one `.bin` of `tokens` tokens begin, looked up in the mapped `.idx` when asked.

    What is read is checked as it is read: lengths, offsets and boundaries must agree around every entry that is given.
    Raises DataError, naming the file.
    """

    def __init__(self, path: Path, tokens: int):
        self._path, self._tokens = path, tokens
        header = Header.read(path)
        self._itemsize, self._sequences = header.dtype.itemsize, header.sequences
        self.documents: int = header.boundaries - 1
        whole = np.memmap(path, "u1", "r")
        at = HEADER.size + 4 * header.sequences
        self._lengths = np.frombuffer(whole, "<i4", header.sequences, HEADER.size)
        self._offsets = np.frombuffer(whole, "<i8", header.sequences, at)
        self._bounds = np.frombuffer(whole, "<i8", header.boundaries, at + 8 * header.sequences)
        self.starts(0, 1)
        self.starts(self.documents, self.documents + 1)

    def starts(self, first: int, last: int) -> NDArray[np.int64]:
        """Where documents `first` … `last` - 1 begin, in tokens; entry `documents` is the end of the last one."""
        # One entry more on both sides, so that each one is compared with its neighbours.
        before, behind = max(first - 1, 0), min(last + 1, len(self._bounds))
        bounds = self._bounds[before:behind].astype(np.int64)
        low, high = int(bounds[0]), int(bounds[-1])
        in_order = low >= 0 and high <= self._sequences and not np.any(bounds[1:] < bounds[:-1])
        ends_right = (before > 0 or low == 0) and (behind <= self.documents or high == self._sequences)
        if not in_order or not ends_right:
            raise DataError(f"{self._path}: damaged: its document boundaries are not in order")
        begins = self._sequence_starts(low, high + 1)
        return begins[bounds[first - before : last - before] - low]

    def first_from(self, token: int) -> int:
        """The first document that begins at token `token` or behind; `documents` where none does."""
        offset, low, high = token * self._itemsize, 0, self._sequences
        while high - low > NEAR:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._offsets.item(middle) < offset else (low, middle)
        sequence = low + int(np.searchsorted(self._offsets[low:high].copy(), offset))
        # The search trusted single numbers: both neighbours of the place must confirm it.
        around = self._sequence_starts(max(sequence - 1, 0), sequence + 1)
        if around[-1] < token <= self._tokens or (sequence > 0 and around[0] >= token):
            raise self._wrong_lengths()
        guess = min(sequence, self.documents)  # of one sequence a document, as most stores have
        if self._bounds.item(guess) >= sequence and (guess == 0 or self._bounds.item(guess - 1) < sequence):
            return guess
        return min(bisect_left(range(self.documents), sequence, key=self._bounds.item), self.documents)

    def _sequence_starts(self, first: int, last: int) -> NDArray[np.int64]:
        """Where sequences `first` … `last` - 1 begin, in tokens, where the last may be one behind all of them."""
        before, behind = max(first - 1, 0), min(last, self._sequences)
        lengths = self._lengths[before:behind].astype(np.int64)
        offsets = self._offsets[before:behind].astype(np.int64)
        if last > self._sequences:
            offsets = np.append(offsets, self._tokens * self._itemsize)
        ends = offsets[: len(lengths)] + lengths * self._itemsize
        agrees = np.array_equal(ends[: len(offsets) - 1], offsets[1:]) and (before > 0 or offsets[0] == 0)
        if not agrees or np.any(lengths < 0):
            raise self._wrong_lengths()
        return offsets[first - before :] // self._itemsize

    def _wrong_lengths(self) -> DataError:
        return DataError(
            f"{self._path}: damaged: its lengths and offsets do not describe one sequence after another, up to the "
            f"{self._tokens:,} tokens of its .bin"
        )


class PairWriter:
    """Writes one pair; the `.idx` has its name when all of both is on disk.

    Lengths wait in a file beside it until their number is known, so that memory does not grow with the corpus.
    """

    def __init__(self, prefix: Path, vocabulary_size: int):
        self.bin_path, self.idx_path = pair(prefix)
        self.dtype, self._vocabulary_size = token_dtype(vocabulary_size), vocabulary_size
        self.tokens = self.documents = 0
        self.digest = xxhash.xxh3_128()
        """Of `.bin`, as written."""
        self._file = self.bin_path.open("wb")
        self._waiting = self.idx_path.with_name(self.idx_path.name + ".part")
        self._lengths = self._waiting.open("w+b")

    def add(self, tokens: np.ndarray, lengths: np.ndarray) -> None:
        """Append documents: their tokens end to end, and their lengths.

        Raises DataError for an id outside the vocabulary: uint16 would otherwise wrap it silently.
        """
        if tokens.size:
            low, high = int(tokens.min()), int(tokens.max())
            if low < 0 or high >= self._vocabulary_size:
                wrong = low if low < 0 else high
                raise DataError(
                    f"{self.bin_path}: token id {wrong:,} does not fit a vocabulary of {self._vocabulary_size:,}"
                )
        if len(lengths) and int(lengths.max()) > MAX_DOCUMENT_TOKENS:
            raise DataError(
                f"{self.bin_path}: a document of {int(lengths.max()):,} tokens is longer than the format allows"
            )
        content = np.ascontiguousarray(tokens, dtype=self.dtype).data
        self._file.write(content)
        self.digest.update(content)
        self._lengths.write(lengths.astype("<i4").tobytes())
        self.tokens, self.documents = self.tokens + len(tokens), self.documents + len(lengths)

    def close(self) -> None:
        """Write the index, and bring both to disk. (The name of a file is not on disk before that of its folder.)"""
        self._file.close()
        fsync_file(self.bin_path)
        unnamed = self.idx_path.with_name(self.idx_path.name + ".new")
        with self._lengths as lengths, unnamed.open("wb") as index:
            self._write_index(lengths, index)
        fsync_file(unnamed)
        unnamed.replace(self.idx_path)
        self._waiting.unlink()

    def _write_index(self, lengths: BinaryIO, index: BinaryIO) -> None:
        code = next(code for code, dtype in TYPE_CODES.items() if dtype == self.dtype)
        index.write(HEADER.pack(MAGIC, 1, code, self.documents, self.documents + 1))
        lengths.seek(0)
        shutil.copyfileobj(lengths, index, BLOCK)
        lengths.seek(0)
        offset = 0
        while block := lengths.read(BLOCK):
            sizes = np.frombuffer(block, "<i4").astype("<i8") * self.dtype.itemsize
            ends = np.cumsum(sizes) + offset
            index.write((ends - sizes).tobytes())
            offset = int(ends[-1])
        for start in range(0, self.documents + 1, BLOCK):
            index.write(np.arange(start, min(start + BLOCK, self.documents + 1), dtype="<i8").tobytes())
