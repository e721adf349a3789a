"""Windows of tokens become inputs and targets here, and nowhere else.

Window w of a store holds `sequence_length` + 1 tokens from token w · `sequence_length` on: neighbouring windows share
one token, the last target of one and the first input of the next, so that each token but the store's first is a
target exactly once an epoch (the tail that fills no window aside).

Whether a token is to be learnt, and how much it counts, is a property of that token as a target, so weights are shifted
together with the tokens, by `shift`. `labels=` is never given to a Hugging Face model: it would shift a second time,
and the loss would still fall.

With `isolate_documents`, positions restart at each document and at the window's start, from which attention
implementations derive that documents do not see each other, and the first token of a document is not a target: what
precedes it belongs to another document.

Of a chat source, and of text under `data.packing: best_fit`, a window is a pack: whole conversations or documents and
then padding (`packed_store`). They are isolated always, in the same way, the padding as one text more; a mixture that
holds one gives positions for every window, which leave a window of text what it was.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tsugiki.corpus.conversation_store import ConversationStore
from tsugiki.corpus.mixture import Drawn, Mixture
from tsugiki.corpus.packed_store import PackedStore
from tsugiki.errors import DataError

if TYPE_CHECKING:
    from tsugiki.corpus.prepared import PreparedSource
    from tsugiki.corpus.store import TokenStore

IGNORE = -100
"""Target value of positions that have no loss (PyTorch's own default, and that of every Hugging Face loss)."""


READERS = 8
"""Windows that are read at a time, where there is a pool of threads."""

Shifted = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]


def shift(tokens: NDArray[np.int64], weights: NDArray[Any]) -> Shifted:
    """Inputs, targets and weights [..., L] of tokens [..., L + 1]: at each position the target is the next token.

    `weights` [..., L + 1] says of each token how much it counts as a target (or, as truth values, whether it is one);
    where it does not, the target is IGNORE. The first token is never one.
    """
    counts = weights[..., 1:]
    return tokens[..., :-1], np.where(counts > 0, tokens[..., 1:], IGNORE), counts


@dataclass(frozen=True)
class WindowBatch:
    """n windows of L tokens, ready for the model."""

    inputs: NDArray[np.int64]  # [n, L]
    targets: NDArray[np.int64]  # [n, L], IGNORE where nothing is to be learnt
    weights: NDArray[np.float32] | None  # [n, L] of each target in the loss, 0 where there is none; None: all 1
    positions: NDArray[np.int64] | None  # [n, L] when documents are isolated
    source: NDArray[np.int16]  # [n] index into the mixture's names
    samples: NDArray[np.int64]  # [n] global sample numbers
    drawn: Drawn  # epoch and window of each sample

    @cached_property
    def target_count(self) -> int:
        """Positions that have a loss."""
        return int(np.count_nonzero(self.targets != IGNORE))


class WindowReader:
    """Reads global samples; keeps no state, so threads may share it and any process may read any sample.

    loss_weights: of all targets of a source, by name; 1 where not named.
    by_conversation: divide the weights of a conversation by the number of its trained tokens, and those of a window of
        text by that of its targets: text beside short conversations would count a hundred times as much.
    """

    def __init__(
        self,
        sources: Mapping[str, "PreparedSource"],
        mixture: Mixture,
        sequence_length: int,
        isolate_documents: bool,
        loss_weights: Mapping[str, float] | None = None,
        by_conversation: bool = False,
    ):
        self.sources = sources
        self.mixture = mixture
        self.sequence_length = sequence_length
        self.isolate_documents = isolate_documents
        self.by_conversation = by_conversation
        self._stores: list[TokenStore] = [sources[name].train for name in mixture.names]
        self._loss_weights = np.array([(loss_weights or {}).get(name, 1.0) for name in mixture.names], np.float32)
        drawn = [any(weights[name] for weights in mixture.weights) for name in mixture.names]
        read = [store for store, is_drawn in zip(self._stores, drawn, strict=True) if is_drawn]
        self.reads_conversations = any(isinstance(store, ConversationStore) for store in read)
        """Whether windows come with weights. Conversations that are only watched change no bit."""
        self.isolates = isolate_documents or any(isinstance(store, PackedStore) for store in read)
        """Whether windows come with positions, which keep apart what has to be."""
        own_weights = bool(np.any(self._loss_weights[drawn] != 1))
        self._has_weights = self.reads_conversations or by_conversation or own_weights

    def read(self, samples: ArrayLike, pool: ThreadPoolExecutor | None = None) -> WindowBatch:
        """Inputs, targets, weights and positions of global samples [n], in their order.

        With a pool, several are read at a time: from storage that answers late, all wait together.
        """
        samples = np.atleast_1d(np.asarray(samples, dtype=np.int64))
        drawn = self.mixture.locate(samples)
        length = self.sequence_length
        tokens = np.empty((len(samples), length + 1), dtype=np.int64)
        weights = np.ones(tokens.shape, dtype=np.float32)
        begins = np.zeros(tokens.shape, dtype=np.int64)  # index in the window at which a document begins, else 0

        def fill(rows: Sequence[int]) -> None:
            for row in rows:
                self._fill(row, int(drawn.source[row]), int(drawn.window[row]), tokens, weights, begins)

        every = range(len(samples))
        if pool is None:
            fill(every)
        else:
            list(pool.map(fill, [every[first::READERS] for first in range(min(READERS, len(every)))]))
        weights *= self._loss_weights[drawn.source, None]
        inputs, targets, shifted = shift(tokens, weights)
        positions = None
        if self.isolates:
            latest = np.maximum.accumulate(begins[:, :-1], axis=1)
            positions = np.arange(length, dtype=np.int64) - latest
        return WindowBatch(
            inputs, targets, shifted if self._has_weights else None, positions, drawn.source, samples, drawn
        )

    def _fill(
        self, row: int, source: int, window: int, tokens: NDArray[Any], weights: NDArray[Any], begins: NDArray[Any]
    ) -> None:
        """Read a window of a source into one row of the arrays. Raises DataError, naming the source."""
        store, length = self._stores[source], self.sequence_length
        try:
            if isinstance(store, PackedStore):
                tokens[row], weights[row], starts = store.pack(window, length, self.by_conversation)
                begins[row, starts] = starts
                return
            first = window * length
            tokens[row] = store.read(first, first + length + 1)
            if self.isolate_documents:
                starts = document_starts_inside(store, first, length)
                weights[row, starts] = 0
                begins[row, starts] = starts
        except DataError as error:
            raise DataError(f"source {self.mixture.names[source]}: {error}") from None
        if self.by_conversation:
            weights[row] /= max(np.count_nonzero(weights[row, 1:]), 1)


def document_starts_inside(store: "TokenStore", first: int, length: int) -> NDArray[np.int64]:
    """Where documents begin in the window of tokens first … first + length, counted from its second token on.

    The document that the window's first token belongs to is not listed, whether it begins there or before.
    """
    _, starts = store.document_starts.between(first + 1, first + length + 1)
    return starts - first
