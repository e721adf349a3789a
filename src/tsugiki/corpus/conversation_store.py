"""The store of a chat source: a token store whose documents are conversations, and the loss weights of their tokens.

Beside the shards of `corpus.store`:
  <prefix>.conversations.npy    ROW, one a conversation
  <prefix>.weights.npy          RUN: tokens in a row that have one loss weight, conversation after conversation
  <prefix>.packs-<L>            which conversations share a window of L tokens (`corpus.pack_table`)

Runs of floats lose no bit and take some 80 bytes a conversation of five turns, where a float16 for each token would
double a store of uint16 ids and make 1/3 0.33325.

Windows are packs of whole conversations (`corpus.packed_store`).
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.conversation_records import CONVERSATION, CONVERSATION_RECORD, RUN, WORDS, digest
from tsugiki.corpus.megatron import BLOCK
from tsugiki.corpus.pack_table import PackTable
from tsugiki.corpus.packed_store import Pack, PackedStore, Piece
from tsugiki.corpus.row_files import RowWriter, map_rows
from tsugiki.corpus.store import StoreIndex
from tsugiki.corpus.store_writer import StoreWriter
from tsugiki.errors import DataError

ROW = np.dtype([*CONVERSATION.descr, ("first_run", "<u8")])


def conversation_files(prefix: Path) -> list[Path]:
    """The files beside the shards, without pack tables: the conversations and their weights."""
    return [prefix.with_name(prefix.name + ending) for ending in (".conversations.npy", ".weights.npy")]


class ConversationWriter:
    """Writes a store in the order given; nothing is a store before `close`. Memory does not grow with it."""

    record, length_key = CONVERSATION_RECORD, "tokens"

    def __init__(self, prefix: Path, vocabulary_size: int):
        rows, runs = conversation_files(prefix)
        self._store = StoreWriter(prefix, vocabulary_size)
        self._rows, self._runs = RowWriter(rows, ROW), RowWriter(runs, RUN)

    def add(self, records: NDArray[np.void], starts: NDArray[np.int64], payload: NDArray[np.int32]) -> None:
        """Append conversations: their records (CONVERSATION_RECORD), where each one's payload starts, and payloads.

        Raises DataError for an id outside the vocabulary.
        """
        if not len(records):
            return
        middles = starts + records["tokens"]
        ids = [payload[start:end] for start, end in zip(starts.tolist(), middles.tolist(), strict=True)]
        ends = starts + records["length"]
        runs = [payload[start:end] for start, end in zip(middles.tolist(), ends.tolist(), strict=True)]
        rows = np.zeros(len(records), ROW)
        for key in CONVERSATION.names or ():
            rows[key] = records[key]
        counts = (ends - middles) // WORDS
        rows["first_run"] = self._runs.count + np.cumsum(counts) - counts
        self._store.add_documents(np.concatenate(ids), records["tokens"].astype(np.int64), records)
        self._rows.add(rows)
        self._runs.add(np.concatenate(runs).view(RUN))

    def close(self) -> StoreIndex:
        """Bring everything to disk."""
        self._rows.close()
        self._runs.close()
        return self._store.close()


class ConversationStore(PackedStore):
    """A store opened for reading; all of it stays on disk.

    Raises DataError, naming the file, when a file is missing, damaged or does not fit the others.
    """

    def __init__(self, prefix: Path, index: StoreIndex | None = None):
        super().__init__(prefix, index)
        rows_path, self._runs_path = conversation_files(prefix)
        self.rows = map_rows(rows_path, ROW, self.document_count)
        """ROW, one a conversation."""
        self._runs = map_rows(self._runs_path, RUN, None if self.document_count else 0)
        self._check_runs()

    def _check_runs(self) -> None:
        """Whether the runs of each conversation describe its tokens; a block at a time."""
        wrong = DataError(f"{self._runs_path}: damaged: its runs do not describe the conversations one after another")
        for start in range(0, self.document_count, BLOCK):
            block = slice(start, start + BLOCK)
            firsts = self.rows["first_run"][block].astype(np.int64)
            follows = start + len(firsts) < self.document_count
            end = int(self.rows["first_run"][start + len(firsts)]) if follows else len(self._runs)
            bounds = np.append(firsts, end)
            if (start == 0 and bounds[0] != 0) or np.any(np.diff(bounds) < 1) or end > len(self._runs):
                raise wrong
            runs = self._runs["length"][bounds[0] : end].astype(np.int64)
            lengths = np.diff(self.document_starts[start : start + len(firsts) + 1])
            if not np.array_equal(np.add.reduceat(runs, firsts - firsts[0]), lengths):
                raise wrong

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each conversation."""
        return np.diff(self.document_starts[:])

    @property
    def trained_tokens(self) -> int:
        """Tokens that have a loss weight."""
        return int(self.rows["trained_tokens"].sum(dtype=np.int64))

    @cached_property
    def trained_together(self) -> NDArray[np.int64]:
        """Of each sample, the trained tokens of all samples that its conversation was divided into."""
        origins = self.documents()
        places = origins["file"].astype(np.uint64) << np.uint64(40) | origins["line"].astype(np.uint64)
        _, conversation = np.unique(places, return_inverse=True)
        return np.bincount(conversation, self.rows["trained_tokens"]).astype(np.int64)[conversation]

    def runs(self, index: int) -> NDArray[np.void]:
        """RUN rows of one conversation."""
        first = int(self.rows["first_run"][index])
        last = index + 1 == self.document_count
        return self._runs[first : len(self._runs) if last else int(self.rows["first_run"][index + 1])]

    def weights(self, index: int) -> NDArray[np.float32]:
        """Loss weight of each token of one conversation as a target; its first token's is 0."""
        runs = self.runs(index)
        return np.repeat(runs["weight"], runs["length"])

    def check(self, index: int) -> None:
        """Raise DataError where ids or weights of one conversation are not those that were written."""
        if digest(self.document(index), self.runs(index)) != int(self.rows["digest"][index]):
            raise DataError(f"{self.prefix}: conversation {index:,} was changed after it was written; prepare it anew")

    def _opened(self, sequence_length: int) -> PackTable:
        table = super()._opened(sequence_length)
        table.check(self.document_starts, range(table.blocks))
        return table

    def pack(self, index: int, sequence_length: int, by_conversation: bool = False) -> Pack:
        """Pack `index` (from 0); with `by_conversation` weights are divided by the trained tokens of a conversation, so
        that long answers count no more than short ones, nor one that was divided more than one that was not."""

        def weigh(piece: Piece, ids: NDArray[Any]) -> NDArray[np.float32]:
            own = self.weights(piece.document)
            if by_conversation:
                own /= np.float32(max(int(self.trained_together[piece.document]), 1))
            return own

        return self._filled(index, sequence_length, weigh)
