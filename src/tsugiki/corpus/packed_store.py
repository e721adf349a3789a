"""A token store whose windows are packs: whole documents, as far as they fit, and then padding (`data.packing:
best_fit`; conversations always, `corpus.conversation_store`).

Pack w stands where window w of a row of text does: the same number w, drawn by the same mixture, gives
`sequence_length` positions. Documents of a pack never see each other, and the first token of each is no target: what
precedes it belongs to another one. Of a document that is longer than a window (`corpus.pack_table`) every token but the
first is a target exactly once all the same.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.pack_table import PackTable, table_path, windows_alone
from tsugiki.corpus.store import StoreIndex, TokenStore
from tsugiki.errors import DataError

PADDING = 0
"""The id behind the last document of a pack. Any would do: nothing is learnt there, and nobody sees it."""


class Piece(NamedTuple):
    """What of a document lies in a window, at as many positions as it has tokens."""

    document: int
    first: int  # the first of its tokens
    tokens: int
    ends: bool  # whether the document ends with it; else the token behind it is its last target


class Pack(NamedTuple):
    """One pack, laid out as the tokens of a window are: a position more than the model is given."""

    tokens: NDArray[np.int64]  # [sequence_length + 1]; behind the documents PADDING
    weights: NDArray[np.float32]  # [sequence_length + 1] of each token as a target; 0 where it is none
    starts: NDArray[np.int64]  # of each document, and of the padding


class PackedStore(TokenStore):
    """A store opened for reading; tokens and tables stay on disk. Raises as `TokenStore` does."""

    def __init__(self, prefix: Path, index: StoreIndex | None = None):
        super().__init__(prefix, index)
        self._tables: dict[int, PackTable] = {}

    def packs(self, sequence_length: int) -> PackTable:
        """The table of packs for a length. Raises DataError when there is none, or it is damaged or of other
        documents."""
        if sequence_length not in self._tables:
            self._tables[sequence_length] = self._opened(sequence_length)
        return self._tables[sequence_length]

    def _opened(self, sequence_length: int) -> PackTable:
        return PackTable(table_path(self.prefix, sequence_length), sequence_length, self.document_starts)

    def check_packs(self, sequence_length: int, most_blocks: int | None = None) -> None:
        """Raise DataError where the table for a length is not what was written; of a large one `most_blocks`, spread
        evenly over it, are looked at."""
        table = self._opened(sequence_length)
        blocks = np.unique(np.linspace(0, table.blocks - 1, min(most_blocks or table.blocks, table.blocks)).astype(int))
        table.check(self.document_starts, blocks.tolist())

    def window_count(self, sequence_length: int) -> int:
        """Packs, each of which takes a window's place."""
        return len(self.packs(sequence_length))

    def window(self, index: int, sequence_length: int) -> NDArray[np.int64]:
        """Tokens [sequence_length + 1] of pack `index`."""
        return self.pack(index, sequence_length).tokens

    def pieces(self, index: int, sequence_length: int) -> list[Piece]:
        """What pack `index` (from 0) holds, in its order. Raises DataError where table and store do not agree."""
        members = self.packs(sequence_length)[index]
        found = []
        for document in members.documents:
            begin, end = self.document_starts[document : document + 2].tolist()
            alone = int(windows_alone(np.array(end - begin), sequence_length))
            if members.part is None:
                first = alone * sequence_length
                found.append(Piece(document, first, end - begin - first, True))
            elif members.part < alone:
                found.append(Piece(document, members.part * sequence_length, sequence_length, False))
        if not found or sum(piece.tokens for piece in found) > sequence_length:
            raise DataError(
                f"{table_path(self.prefix, sequence_length)}: window {index:,} is not one of this store's documents; "
                "run tsugiki prepare"
            )
        return found

    def pack(self, index: int, sequence_length: int, by_conversation: bool = False) -> Pack:
        """Pack `index` (from 0); with `by_conversation` weights are divided by the number of its targets, as those of a
        window of text are."""
        pack = self._filled(index, sequence_length, lambda piece, ids: np.ones(len(ids), np.float32))
        if by_conversation:
            pack.weights[:] /= np.float32(max(int(np.count_nonzero(pack.weights)), 1))
        return pack

    def _filled(
        self, index: int, sequence_length: int, weigh: Callable[[Piece, NDArray[Any]], NDArray[np.float32]]
    ) -> Pack:
        """Pack `index`. `weigh`: of each token of a piece as a target, its first one aside."""
        tokens = np.full(sequence_length + 1, PADDING, np.int64)
        weights = np.zeros(sequence_length + 1, np.float32)
        starts, at = [], 0
        for piece in self.pieces(index, sequence_length):
            begin = self.document_starts[piece.document] + piece.first
            ids = self.read(begin, begin + piece.tokens + (not piece.ends))
            tokens[at : at + len(ids)], weights[at : at + len(ids)] = ids, weigh(piece, ids)
            weights[at] = 0
            starts.append(at)
            at += piece.tokens
        return Pack(tokens, weights, np.array([*starts, at], np.int64))
