"""Token stores: the documents of a source as shards, each a pair of files that Megatron-LM reads by itself.

  <prefix>-00000.bin, <prefix>-00000.idx       tokens and where documents begin (`corpus.megatron`)
  <prefix>-00000.documents.npy                 of each document, where it came from and how long its text was
  <prefix>-00001.bin …

Shards are cut between documents when they reach a number of tokens. Readers see none of that: a store is one row of
tokens and one of documents, and window w is tokens w · L … (w + 1) · L of it, across the border of two shards where it
comes to that.

What a store consists of is known from its `StoreIndex`, which preparing writes into the manifest. Opening a store
opens no file: those that are read are opened then, by `open_files`, and must be what the index says.
"""

import glob
import itertools
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tsugiki.corpus.datatrove_index import DatatroveIndex
from tsugiki.corpus.megatron import BLOCK, Header, MegatronIndex, index_size, pair
from tsugiki.corpus.open_files import FILES, RawFile
from tsugiki.corpus.row_files import map_rows, rows_size
from tsugiki.errors import DataError

DOCUMENT = np.dtype([("file", "<u4"), ("line", "<u8"), ("bytes", "<u8"), ("characters", "<u8")])
"""A document's file (index into the manifest's list), line or row (from 1), and the size of its text."""
ENDINGS = (".bin", ".idx", ".documents.npy")
"""Of the files of a shard."""
MEGATRON, DATATROVE = "megatron", "datatrove"
FORMATS = {MEGATRON: (".bin", ".idx"), DATATROVE: (".ds", ".ds.index")}
"""Of stores: endings of the file of tokens and of its index. What we write is Megatron's."""


@dataclass(frozen=True)
class Shard:
    """One part of a store, complete in itself."""

    name: str
    """Of its files, without their endings; a whole path where another program wrote them."""
    tokens: int
    documents: int
    digests: list[str] = field(default_factory=list)
    """xxh3 (128 bits) of its files, in the order of ENDINGS; empty where nobody has read them."""


@dataclass(frozen=True)
class StoreIndex:
    """All that is needed to open a store."""

    dtype: Annotated[str, Field(pattern="^<(u2|i4|u4)$")]
    """Of the ids, as numpy writes it."""
    shards: list[Shard]
    format: Annotated[str, Field(pattern=f"^({'|'.join(FORMATS)})$")] = MEGATRON
    """One of FORMATS."""

    @property
    def is_foreign(self) -> bool:
        """Whether it lies elsewhere, made by another program: what may lie beside it is not ours to read."""
        return any(os.path.isabs(shard.name) for shard in self.shards)  # noqa: PTH117

    @staticmethod
    def opened(kind: str, path: Path, tokens: int) -> "DocumentIndex":
        """The index of one file of tokens. Raises DataError."""
        return DatatroveIndex(path, tokens) if kind == DATATROVE else MegatronIndex(path, tokens)

    @classmethod
    def of_files(cls, prefix: Path) -> "StoreIndex":
        """Of what lies at `prefix`, by the headers: the numbered shards of a store, or a single pair of that name.

        Raises DataError where there is none, one is missing, or their types differ.
        """
        bin_path, idx_path = pair(prefix)
        names = [prefix.name] if idx_path.exists() else _numbered(prefix)
        if not names:
            raise DataError(f"{prefix}-00000.idx: there is no such store; run tsugiki prepare")
        headers = [Header.read(pair(prefix.with_name(name))[1]) for name in names]
        kinds = sorted({header.dtype.str for header in headers})
        if len(kinds) > 1:
            raise DataError(f"{prefix}: its shards hold ids of different types ({', '.join(kinds)})")
        shards = []
        for name, header in zip(names, headers, strict=True):
            bin_path, idx_path = pair(prefix.with_name(name))
            try:
                tokens, rest = divmod(bin_path.stat().st_size, header.dtype.itemsize)
            except OSError as error:
                raise DataError(f"{bin_path}: {error.strerror}; run tsugiki prepare") from None
            if rest:
                raise DataError(f"{bin_path}: ends inside a token of {header.dtype.itemsize} bytes")
            shards.append(Shard(name, tokens, MegatronIndex(idx_path, tokens).documents))
        return cls(kinds[0], shards)


def shard_name(part: str, number: int) -> str:
    """Of shard `number` of a part of a source."""
    return f"{part}-{number:05d}"


def _numbered(prefix: Path) -> list[str]:
    """The shards of a store that lie beside each other, in order. Raises DataError where one is missing."""
    pattern = f"{glob.escape(prefix.name)}-{'[0-9]' * 5}.idx"
    found = sorted(path.stem for path in prefix.parent.glob(pattern))
    expected = [shard_name(prefix.name, number) for number in range(len(found))]
    if found != expected:
        missing = next(name for name in expected if name not in found)
        raise DataError(f"{prefix.with_name(missing)}.idx: this shard is missing; run tsugiki prepare")
    return found


def shard_files(prefix: Path) -> list[Path]:
    """The files of one shard."""
    return [prefix.with_name(prefix.name + ending) for ending in ENDINGS]


class DocumentIndex(Protocol):
    """Where the documents of one file of tokens begin."""

    @property
    def documents(self) -> int: ...

    def starts(self, first: int, last: int) -> NDArray[np.int64]: ...

    def first_from(self, token: int) -> int: ...


class DocumentStarts:
    """Where each document begins, in tokens, and at last where the store ends; looked up in the indices when asked.

    Read like a list, by number or slice, also by Python's `bisect`; arrays of numpy come out of slices.
    """

    def __init__(self, store: "TokenStore"):
        self._store = store

    def __len__(self) -> int:
        return self._store.document_count + 1

    @overload
    def __getitem__(self, index: int | np.integer) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> NDArray[np.int64]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            first, last, step = index.indices(len(self))
            if step != 1:
                return self[:][index]
            return self._read(first, max(first, last))
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"document {index} of {len(self) - 1}")
        return int(self._read(int(at), int(at) + 1)[0])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or np.int64, copy=False)

    def between(self, low: int, high: int) -> tuple[int, NDArray[np.int64]]:
        """The first document that begins at token `low` or behind, and where it and those behind it begin, as far as
        that is before token `high`."""
        store = self._store
        first, found = self._first_from(low), [np.zeros(0, np.int64)]
        shards = min(bisect_left(store.token_starts, high), len(store.index.shards))
        at, end, count = first, store.shard_starts[shards], 64  # no shard behind is opened
        while at < end:
            block = self._read(at, min(at + count, end))
            found.append(block[: int(np.searchsorted(block, high))])
            if len(found[-1]) < len(block):
                break
            at, count = at + len(block), 4 * count
        return first, np.concatenate(found)

    def _first_from(self, token: int) -> int:
        """The first document that begins at `token` or behind."""
        store = self._store
        shard = bisect_left(store.token_starts, token) - 1  # the last one that begins before
        if shard < 0:
            return 0
        if shard == len(store.index.shards):
            return store.document_count
        return store.shard_starts[shard] + store.shard_index(shard).first_from(token - store.token_starts[shard])

    def _read(self, first: int, last: int) -> NDArray[np.int64]:
        store = self._store
        if first >= store.document_count:
            return np.full(last - first, store.token_count, np.int64)
        parts = []
        for shard, begin, end in store.parts(store.shard_starts, first, min(last, store.document_count)):
            parts.append(store.shard_index(shard).starts(begin, end) + store.token_starts[shard])
        if last > store.document_count:
            parts.append(np.array([store.token_count], np.int64))
        return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.int64), *parts])


class TokenStore:
    """A store opened for reading, by threads together if need be; its tokens and indices stay on disk.

    `index`: what the manifest says of it; without, the headers of its files are read. Methods that read raise
    DataError, naming the file, where one is missing, damaged or not what the index says.
    """

    def __init__(self, prefix: Path, index: StoreIndex | None = None):
        self.prefix = prefix
        self.index = StoreIndex.of_files(prefix) if index is None else index
        self.dtype = np.dtype(self.index.dtype)
        self.token_starts = [0, *itertools.accumulate(shard.tokens for shard in self.index.shards)]
        """The first token of each shard, and at last the number of tokens."""
        self.shard_starts = [0, *itertools.accumulate(shard.documents for shard in self.index.shards)]
        """The first document of each shard, and at last the number of documents."""
        self.token_count, self.document_count = self.token_starts[-1], self.shard_starts[-1]
        self._folder = str(prefix.parent)  # of 20,000 files, paths as objects would take a second
        self._number = FILES.owner(self)

    @property
    def document_starts(self) -> DocumentStarts:
        """Where each document begins."""
        return DocumentStarts(self)

    def read(self, start: int, end: int) -> NDArray[Any]:
        """Tokens `start` … `end` - 1, fewer where the store ends before."""
        itemsize, parts = self.dtype.itemsize, []
        for shard, first, last in self.parts(self.token_starts, start, min(end, self.token_count)):
            content = self._tokens_of(shard).read(first * itemsize, (last - first) * itemsize)
            parts.append(np.frombuffer(content, self.dtype))
        return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, self.dtype), *parts])

    def document(self, index: int) -> NDArray[Any]:
        """Tokens of one document, BOS and EOS included."""
        start, end = self.document_starts[index : index + 2].tolist()
        return self.read(start, end)

    def documents(self, first: int = 0, last: int | None = None) -> NDArray[np.void]:
        """DOCUMENT rows of documents `first` … `last` - 1 (default: all); empty for a store of another program."""
        rows = [np.zeros(0, DOCUMENT)]
        end = self.document_count if last is None else min(last, self.document_count)
        for shard, begin, stop in self.parts(self.shard_starts, first, end):
            path = Path(self._file(shard, ENDINGS[2]))
            if self.index.is_foreign or not path.exists():
                return np.zeros(0, DOCUMENT)
            rows.append(map_rows(path, DOCUMENT, self.index.shards[shard].documents)[begin:stop])
        return np.concatenate(rows)

    def window_count(self, sequence_length: int) -> int:
        """Windows of `sequence_length` targets; the tail that fills none is left out."""
        return max(0, (self.token_count - 1) // sequence_length)

    def window(self, index: int, sequence_length: int) -> NDArray[Any]:
        """Window `index`: [sequence_length + 1] tokens from token index · sequence_length."""
        start = index * sequence_length
        return self.read(start, start + sequence_length + 1)

    def files(self, shard: int) -> list[Path]:
        """The files of a shard, by its number."""
        return [Path(self._file(shard, ending)) for ending in ENDINGS]

    def check_sizes(self) -> None:
        """Raise DataError for a file that is missing, or not as long as the index says."""
        for number, shard in enumerate(self.index.shards):
            sizes = {FORMATS[self.index.format][0]: shard.tokens * self.dtype.itemsize}
            if shard.digests:  # ours
                sizes |= {".idx": index_size(shard.documents), ENDINGS[2]: rows_size(DOCUMENT, shard.documents)}
            for ending, size in sizes.items():
                path = self._file(number, ending)
                try:
                    found = os.stat(path).st_size  # noqa: PTH116
                except OSError as error:
                    raise DataError(f"{path}: {error.strerror}; run tsugiki prepare") from None
                if found != size:
                    raise DataError(f"{path}: {found:,} bytes, not {size:,}; run tsugiki prepare")

    def check_indices(self) -> None:
        """Raise DataError where an index contradicts itself; reads all of them, a block at a time."""
        for number, shard in enumerate(self.index.shards):
            for first in range(0, shard.documents + 1, BLOCK):
                self.shard_index(number).starts(first, min(first + BLOCK, shard.documents + 1))

    def shard_index(self, shard: int) -> DocumentIndex:
        """Where the documents of a shard begin, counted from its first token."""
        known = self.index.shards[shard]

        def opened() -> DocumentIndex:
            path = Path(self._file(shard, FORMATS[self.index.format][1]))
            index = StoreIndex.opened(self.index.format, path, known.tokens)
            if index.documents != known.documents:
                raise DataError(f"{path}: {index.documents:,} documents, not {known.documents:,}; run tsugiki prepare")
            return index

        return FILES.get(self._number, f"{known.name}.idx", opened)

    def parts(self, starts: Sequence[int], first: int, last: int) -> Iterator[tuple[int, int, int]]:
        """(shard, first, last) of each shard that holds some of `first` … `last` - 1, counted from its own beginning.

        `starts`: `token_starts` or `shard_starts`.
        """
        shard = bisect_right(starts, first) - 1
        while first < last:
            end = min(last, starts[shard + 1])
            if first < end:
                yield shard, first - starts[shard], end - starts[shard]
            first, shard = end, shard + 1

    def _tokens_of(self, shard: int) -> RawFile:
        known = self.index.shards[shard]
        size = known.tokens * self.dtype.itemsize
        ending = FORMATS[self.index.format][0]
        return FILES.get(self._number, f"{known.name}.bin", lambda: RawFile(self._file(shard, ending), size))

    def _file(self, shard: int, ending: str) -> str:
        name = self.index.shards[shard].name
        return os.path.join(self._folder, f"{name}{ending}")  # noqa: PTH118
