"""What people should know of a chat source before it is trained on: lengths, padding, and how much of it is trained."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tsugiki.corpus.conversation_store import ConversationStore

SHORTEST_BOUND = 16
"""Tokens up to which conversations share the first bar of a histogram."""


@dataclass(frozen=True)
class LengthFigures:
    """Of conversations as they are, some of them perhaps too long; lengths in tokens."""

    conversations: int
    tokens: int
    median: int
    longest: int
    over_long: int
    """Conversations that are longer than a window."""
    histogram: list[tuple[int, int]]
    """(tokens at most, conversations that are longer than the bar before): powers of two, and the window's length."""


@dataclass(frozen=True)
class PackFigures:
    """Of conversations in packs of `sequence_length` positions; shares are of 1."""

    sequence_length: int
    packs: int
    lengths: LengthFigures
    trained_tokens: int
    trained_share: float
    """Of the tokens of conversations, those that have a loss weight."""
    padding_share: float
    """Of the positions of all packs, those behind the last conversation."""
    padding_share_unpacked: float
    """The same, had each conversation a window of its own."""

    def __str__(self) -> str:
        return (
            f"{self.lengths.conversations:,} conversations of {self.lengths.tokens:,} tokens ({self.trained_share:.1%} "
            f"trained) in {self.packs:,} packs of {self.sequence_length:,}: {self.padding_share:.2%} padding "
            f"({self.padding_share_unpacked:.1%} with a conversation a window)"
        )


def length_figures(lengths: NDArray[np.integer], sequence_length: int) -> LengthFigures:
    """Of conversations of `lengths` [n] tokens, before anything is done about those longer than a window."""
    lengths = np.asarray(lengths, np.int64)
    longest = int(lengths.max(initial=0))
    bounds = {sequence_length}
    bound = SHORTEST_BOUND
    while bound < max(longest, sequence_length):
        bounds.add(bound)
        bound *= 2
    if longest > sequence_length:
        bounds.add(bound)
    edges = np.array(sorted(bounds))
    counts = np.bincount(np.searchsorted(edges, lengths, side="left"), minlength=len(edges))
    return LengthFigures(
        conversations=len(lengths),
        tokens=int(lengths.sum()),
        median=int(np.median(lengths)) if len(lengths) else 0,
        longest=longest,
        over_long=int(np.count_nonzero(lengths > sequence_length)),
        histogram=list(zip(edges.tolist(), counts.tolist(), strict=True)),
    )


def pack_figures(store: "ConversationStore", sequence_length: int) -> PackFigures:
    """Of a store that has a table of packs for this length. Raises DataError where it has none."""
    lengths, packs = length_figures(store.lengths, sequence_length), len(store.packs(sequence_length))
    trained, tokens = store.trained_tokens, lengths.tokens
    return PackFigures(
        sequence_length=sequence_length,
        packs=packs,
        lengths=lengths,
        trained_tokens=trained,
        trained_share=trained / max(tokens, 1),
        padding_share=_empty_share(tokens, packs, sequence_length),
        padding_share_unpacked=_empty_share(tokens, lengths.conversations, sequence_length),
    )


def _empty_share(tokens: int, windows: int, sequence_length: int) -> float:
    return 1 - tokens / (windows * sequence_length) if windows else 0.0
