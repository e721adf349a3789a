"""Windows of tokens become inputs and targets here, and nowhere else.

Window w of a store holds `sequence_length` + 1 tokens from token w · `sequence_length` on: neighbouring windows share
one token, the last target of one and the first input of the next, so that each token but the store's first is a
target exactly once an epoch (the tail that fills no window aside).

Whether a token is to be learnt is a property of that token as a target, so the mask is shifted together with
the tokens, by `shift`. `labels=` is never given to a Hugging Face model: it would shift a second time, and the loss
would still fall.

With `isolate_documents`, positions restart at each document and at the window's start, from which attention
implementations derive that documents do not see each other, and the first token of a document is not a target: what
precedes it belongs to another document.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tsugiki.corpus.mixture import Drawn, Mixture

if TYPE_CHECKING:
    from tsugiki.corpus.prepared import PreparedSource
    from tsugiki.corpus.store import TokenStore

IGNORE = -100
"""Target value of positions that have no loss (PyTorch's own default, and that of every Hugging Face loss)."""


def shift(tokens: NDArray[np.int64], is_target: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Inputs and targets [..., L] of tokens [..., L + 1]: at each position the target is the next token.

    `is_target` [..., L + 1] says of each token whether it is to be predicted; where not, the target is IGNORE. The
    first token is never one.
    """
    return tokens[..., :-1], np.where(is_target[..., 1:], tokens[..., 1:], IGNORE)


@dataclass(frozen=True)
class WindowBatch:
    """n windows of L tokens, ready for the model."""

    inputs: NDArray[np.int64]  # [n, L]
    targets: NDArray[np.int64]  # [n, L], IGNORE where nothing is to be learnt
    positions: NDArray[np.int64] | None  # [n, L] when documents are isolated
    source: NDArray[np.int16]  # [n] index into the mixture's names
    samples: NDArray[np.int64]  # [n] global sample numbers
    drawn: Drawn  # epoch and window of each sample

    @cached_property
    def target_count(self) -> int:
        """Positions that have a loss."""
        return int(np.count_nonzero(self.targets != IGNORE))


class WindowReader:
    """Reads global samples; keeps no state, so threads may share it and any process may read any sample."""

    def __init__(
        self, sources: Mapping[str, "PreparedSource"], mixture: Mixture, sequence_length: int, isolate_documents: bool
    ):
        self.sources = sources
        self.mixture = mixture
        self.sequence_length = sequence_length
        self.isolate_documents = isolate_documents
        self._stores: list[TokenStore] = [sources[name].train for name in mixture.names]

    def read(self, samples: ArrayLike) -> WindowBatch:
        """Inputs, targets and positions of global samples [n], in their order."""
        samples = np.atleast_1d(np.asarray(samples, dtype=np.int64))
        drawn = self.mixture.locate(samples)
        length = self.sequence_length
        tokens = np.empty((len(samples), length + 1), dtype=np.int64)
        is_target = np.ones(tokens.shape, dtype=bool)
        begins = np.zeros(tokens.shape, dtype=np.int64)  # index in the window at which a document begins, else 0
        for row, (source, window) in enumerate(zip(drawn.source.tolist(), drawn.window.tolist(), strict=True)):
            store, first = self._stores[source], window * length
            tokens[row] = store.tokens[first : first + length + 1]
            if self.isolate_documents:
                starts = document_starts_inside(store, first, length)
                is_target[row, starts] = False
                begins[row, starts] = starts
        inputs, targets = shift(tokens, is_target)
        positions = None
        if self.isolate_documents:
            latest = np.maximum.accumulate(begins[:, :-1], axis=1)
            positions = np.arange(length, dtype=np.int64) - latest
        return WindowBatch(inputs, targets, positions, drawn.source, samples, drawn)


def document_starts_inside(store: "TokenStore", first: int, length: int) -> NDArray[np.int64]:
    """Where documents begin in the window of tokens first … first + length, counted from its second token on.

    The document that the window's first token belongs to is not listed, whether it begins there or before.
    """
    starts = store.document_starts  # its last entry is the end of the store, which lies behind every window
    low, high = np.searchsorted(starts, [first + 1, first + length + 1], side="left")
    return np.asarray(starts[low:high], dtype=np.int64) - first
