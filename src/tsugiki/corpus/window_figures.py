"""What windows cost a source of text: how many of its documents are cut, and how much of the windows is padding."""

from dataclasses import dataclass

import numpy as np

from tsugiki.corpus.packed_store import PackedStore
from tsugiki.corpus.store import TokenStore

DOCUMENTS_AT_A_TIME, MOST_BLOCKS = 4096, 4


@dataclass(frozen=True)
class TextWindows:
    """Of the documents of a source in windows of `sequence_length` positions."""

    sequence_length: int
    windows: int
    cut: float
    """The share of its documents that no window holds whole."""
    padding: float
    """The share of the positions of all windows behind the last document of a pack."""
    packed: bool

    def __str__(self) -> str:
        if not self.packed:
            return f"{self.cut:.0%} of its documents cut by a window's end"
        return f"{self.cut:.2%} of its documents cut, {self.padding:.2%} padding"


def text_windows(store: TokenStore, sequence_length: int) -> TextWindows:
    """The figures of a store; raises DataError where a file that tells them is missing or damaged."""
    windows = store.window_count(sequence_length)
    if not isinstance(store, PackedStore):
        return TextWindows(sequence_length, windows, cut_documents(store, sequence_length), 0.0, False)
    facts = store.packs(sequence_length).facts
    padding = 1 - facts.inputs / max(windows * sequence_length, 1) if windows else 0.0
    return TextWindows(sequence_length, windows, facts.cut / max(facts.documents, 1), padding, True)


def cut_documents(store: TokenStore, sequence_length: int) -> float:
    """The share of documents that no window of a row of text holds whole: of all, or of as many as are looked up in a
    moment.

    A window has a token more than inputs, the last target, which may be a document's last token.
    """
    blocks = -(-store.document_count // DOCUMENTS_AT_A_TIME)
    cut = looked = 0
    for block in np.unique(np.linspace(0, blocks - 1, min(blocks, MOST_BLOCKS)).astype(np.int64)).tolist():
        first = block * DOCUMENTS_AT_A_TIME
        bounds = store.document_starts[first : first + DOCUMENTS_AT_A_TIME + 1]
        starts, lasts = bounds[:-1], bounds[1:] - 1
        cut += int(np.count_nonzero(lasts > (starts // sequence_length + 1) * sequence_length))
        looked += len(starts)
    return cut / max(looked, 1)
