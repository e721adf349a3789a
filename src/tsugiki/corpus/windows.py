"""Windows of tokens as inputs and targets: the one place where labels are shifted.

Window w of a store is tokens w·L … w·L + L (L + 1 of them): inputs are all but the last, targets all but the first.
Neighbouring windows share one token, so each token but the store's first is a target exactly once an epoch. Models
are never given `labels`, since they would shift them a second time.

With isolated documents, positions restart at each document and at the window's start, and the first token of a
document is no target (nothing before it in its own text predicts it).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tsugiki.corpus.mixture import Mixture

IGNORE = -100
"""Target of a position at which nothing is predicted (the value that torch's cross-entropy ignores)."""


def shift(
    tokens: NDArray[np.int64], is_target: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Inputs and targets [..., L] of tokens [..., L + 1].

    `is_target` [..., L + 1] says of each token whether it may be predicted; it belongs to the token *as a target* and
    is shifted with it.
    """
    targets = tokens[..., 1:]
    if is_target is not None:
        targets = np.where(is_target[..., 1:], targets, IGNORE)
    return tokens[..., :-1], targets


@dataclass(frozen=True)
class WindowBatch:
    """Windows ready for a model. n windows of L tokens."""

    inputs: NDArray[np.int64]  # [n, L]
    targets: NDArray[np.int64]  # [n, L], IGNORE where nothing is predicted
    positions: NDArray[np.int64] | None  # [n, L] when documents are isolated
    source: NDArray[np.int64]  # [n] index into the mixture's names
    samples: NDArray[np.int64]  # [n] global sample numbers

    @property
    def target_count(self) -> int:
        return int((self.targets != IGNORE).sum())


class WindowReader:
    """Reads global samples from prepared sources (anything with `.train`, a TokenStore)."""

    def __init__(self, sources: Mapping[str, Any], mixture: Mixture, sequence_length: int, isolate_documents: bool):
        self.sources = sources
        self.mixture = mixture
        self.sequence_length = sequence_length
        self.isolate_documents = isolate_documents

    def read(self, samples: ArrayLike) -> WindowBatch:
        """The windows of these global samples, in their order."""
        numbers = np.atleast_1d(np.asarray(samples, dtype=np.int64))
        drawn = self.mixture.locate(numbers)
        length = self.sequence_length
        tokens = np.empty((len(numbers), length + 1), dtype=np.int64)
        positions = np.empty((len(numbers), length), dtype=np.int64) if self.isolate_documents else None
        is_target = np.ones((len(numbers), length + 1), dtype=bool) if self.isolate_documents else None
        for row, (source, window) in enumerate(zip(drawn.source, drawn.window, strict=True)):
            store = self.sources[self.mixture.names[source]].train
            tokens[row] = store.window(int(window), length)
            if positions is not None and is_target is not None:
                starts = document_starts_in(store.document_starts, int(window) * length, length + 1)
                is_target[row, starts] = False
                positions[row] = restarting_positions(starts, length)
        inputs, targets = shift(tokens, is_target)
        return WindowBatch(inputs, targets, positions, drawn.source, numbers)


def document_starts_in(document_starts: NDArray[np.int64], first: int, count: int) -> NDArray[np.int64]:
    """Offsets, within tokens first … first + count - 1 of a store, at which a document starts."""
    low, high = np.searchsorted(document_starts, [first, first + count])
    return np.unique(document_starts[low:high] - first)


def restarting_positions(starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Positions [length] that restart at 0 at each of `starts` and at the window's start."""
    inside = starts[starts < length]
    origin = np.zeros(length, dtype=np.int64)
    origin[inside] = inside
    return np.arange(length, dtype=np.int64) - np.maximum.accumulate(origin)
