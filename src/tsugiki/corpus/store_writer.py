"""A token store is written shard by shard: each is on disk, whole, before the next one is begun.

So whoever was interrupted can go on: give the shards that are finished (`StoreWriter.shards` as it was then) to a new
writer, and add the documents that come behind theirs. Where shards are cut depends on the documents and their order
alone, not on how many were added at a time, or how often the work was interrupted.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tsugiki.corpus.megatron import PairWriter, token_dtype
from tsugiki.corpus.row_files import RowWriter
from tsugiki.corpus.store import DOCUMENT, Shard, StoreIndex, shard_files, shard_name
from tsugiki.files import fsync_directory, xxh3_file

SHARD_TOKENS = 1 << 29
"""A shard ends with the document in which it reaches so many tokens: 1 GiB of uint16 ids."""


class StoreWriter:
    """Writes a store document by document.

    finished: the shards that are written already, of which the first document to be added is the continuation.
    """

    def __init__(
        self,
        prefix: Path,
        vocabulary_size: int,
        *,
        shard_tokens: int | None = None,
        finished: Sequence[Shard] = (),
    ):
        self.prefix = prefix
        self.vocabulary_size = vocabulary_size
        self.shard_tokens = SHARD_TOKENS if shard_tokens is None else shard_tokens
        self.shards: list[Shard] = list(finished)
        """Those that are finished: their files, and the names of these, are on disk."""
        self._open: _ShardWriter | None = None

    def add_documents(self, tokens: np.ndarray, lengths: np.ndarray, documents: np.ndarray) -> None:
        """Append documents: their tokens end to end, their lengths in tokens, their DOCUMENT rows.

        Raises DataError for an id outside the vocabulary.
        """
        ends = np.cumsum(lengths, dtype=np.int64)
        first = start = 0
        while first < len(lengths):
            if self._open is None:
                path = self.prefix.with_name(shard_name(self.prefix.name, len(self.shards)))
                self._open = _ShardWriter(path, self.vocabulary_size)
            room = self.shard_tokens - self._open.tokens
            last = min(int(np.searchsorted(ends, start + room)) + 1, len(lengths))  # behind the one that reaches it
            end = int(ends[last - 1])
            self._open.add(tokens[start:end], lengths[first:last], documents[first:last])
            if self._open.tokens >= self.shard_tokens:
                self._finish(self._open)
            first, start = last, end

    def add_document(
        self, tokens: Sequence[int], file: int = 0, line: int = 0, size: int = 0, characters: int = 0
    ) -> None:
        """Append one document."""
        row = np.array([(file, line, size, characters)], dtype=DOCUMENT)
        self.add_documents(np.asarray(tokens, dtype=np.int64), np.array([len(tokens)]), row)

    def close(self) -> StoreIndex:
        """Finish the last shard; a store of no documents has one that is empty."""
        if self._open is None and not self.shards:
            self._open = _ShardWriter(self.prefix.with_name(shard_name(self.prefix.name, 0)), self.vocabulary_size)
        if self._open is not None:
            self._finish(self._open)
        return StoreIndex(token_dtype(self.vocabulary_size).str, self.shards)

    def _finish(self, shard: "_ShardWriter") -> None:
        self.shards.append(shard.close())
        self._open = None


class _ShardWriter:
    """One shard; its `.idx` appears last."""

    def __init__(self, prefix: Path, vocabulary_size: int):
        self._prefix = prefix
        self._pair = PairWriter(prefix, vocabulary_size)
        self._documents = RowWriter(shard_files(prefix)[2], DOCUMENT)

    @property
    def tokens(self) -> int:
        return self._pair.tokens

    def add(self, tokens: np.ndarray, lengths: np.ndarray, documents: np.ndarray) -> None:
        self._pair.add(tokens, lengths)
        self._documents.add(documents)

    def close(self) -> Shard:
        """Bring the shard to disk, with the names of its files."""
        self._documents.close()
        self._pair.close()
        fsync_directory(self._prefix.parent)
        _, index, rows = shard_files(self._prefix)
        digests = [self._pair.digest.hexdigest(), xxh3_file(index), xxh3_file(rows)]
        return Shard(self._prefix.name, self._pair.tokens, self._pair.documents, digests)
