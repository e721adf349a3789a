"""Which documents share a window: best-fit decreasing, exactly, in seconds for a million.

Documents are taken from the longest to the shortest, each one put where it leaves the least room: into the pack with
the least room that suffices, of several such packs into the one begun first, and where none has room into a new one.
(A document here is also a conversation, or what is left of a text that fills windows of its own.) Documents of one
length are taken in the order of the store, which is that of a keyed hash of their places, so packs depend neither on
the order in which files were read nor on how many processes read them.

All documents of one length are placed together. The pack that a document went to is again the one with the
least room that suffices for the next one of the same length, until it is full: so with room for q of them it takes q,
and k packs of the same room take k · q at once. Packs are kept by their room, and the next room that is taken is the
lowest bit set in one long integer.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsugiki.errors import DataError


class Packing(NamedTuple):
    """Documents by pack: pack w holds `documents[starts[w] : starts[w + 1]]`, the longest first."""

    starts: NDArray[np.int64]  # [packs + 1]
    documents: NDArray[np.int64]  # [documents], each number once


def best_fit_decreasing(lengths: NDArray[np.integer], sequence_length: int) -> Packing:
    """Packs of at most `sequence_length` tokens of documents of `lengths` [n] tokens, none of them cut.

    Raises DataError where one is longer (only conversations may come so), or has no token.
    """
    lengths = np.asarray(lengths, np.int64)
    if len(lengths) and int(lengths.max()) > sequence_length:
        over = int(np.count_nonzero(lengths > sequence_length))
        raise DataError(
            f"{over:,} of {len(lengths):,} conversations are longer than a window of {sequence_length:,} tokens (the "
            f"longest has {int(lengths.max()):,}): split or drop them before, or raise data.sequence_length"
        )
    if len(lengths) and int(lengths.min()) < 1:
        raise DataError("a document without a token cannot be packed")
    order = np.argsort(-lengths, kind="stable")  # the longest first, equal ones as in the store
    pack_of = np.empty(len(lengths), np.int64)  # of each conversation in that order
    packs = _Packs(sequence_length)
    sizes, counts = np.unique(lengths, return_counts=True)
    ends = np.cumsum(counts[::-1])
    for size, first, end in zip(sizes[::-1].tolist(), ends - counts[::-1], ends, strict=True):
        packs.place(size, pack_of[first:end])
    documents = order[np.argsort(pack_of, kind="stable")]
    starts = np.concatenate([[0], np.cumsum(np.bincount(pack_of, minlength=packs.count), dtype=np.int64)])
    return Packing(starts, documents)


class _Packs:
    """Packs that were begun, by the room that is left in them."""

    def __init__(self, sequence_length: int):
        self.sequence_length = sequence_length
        self.count = 0
        self._by_room: dict[int, list[NDArray[np.int64]]] = {}  # numbers of packs, in sorted pieces
        self._rooms = 0  # bit r: some pack has room for r tokens

    def place(self, size: int, pack_of: NDArray[np.int64]) -> None:
        """Fill in the packs [m] of m documents of `size` tokens, no longer than those placed before."""
        placed = 0
        while placed < len(pack_of):
            left = len(pack_of) - placed
            room = self._least_room(size)
            each = (room or self.sequence_length) // size  # documents that such a pack takes
            wanted = -(-left // each)
            packs = self._begin(wanted) if room is None else self._take(room, wanted)
            rooms = np.full(len(packs), (room or self.sequence_length) - each * size)
            taken = np.repeat(packs, each)[:left]
            rooms[-1] += (len(packs) * each - len(taken)) * size  # the last one may have taken fewer
            pack_of[placed : placed + len(taken)] = taken
            placed += len(taken)
            self._keep(int(rooms[0]), packs[:-1])
            self._keep(int(rooms[-1]), packs[-1:])

    def _least_room(self, size: int) -> int | None:
        enough = self._rooms >> size
        return size + (enough & -enough).bit_length() - 1 if enough else None

    def _begin(self, count: int) -> NDArray[np.int64]:
        self.count += count
        return np.arange(self.count - count, self.count)

    def _take(self, room: int, most: int) -> NDArray[np.int64]:
        """Up to `most` packs of exactly this room, those begun first."""
        pieces = self._by_room.pop(room)
        packs = pieces[0] if len(pieces) == 1 else np.sort(np.concatenate(pieces))
        self._rooms ^= 1 << room
        self._keep(room, packs[most:])
        return packs[:most]

    def _keep(self, room: int, packs: NDArray[np.int64]) -> None:
        if len(packs):
            self._by_room.setdefault(room, []).append(packs)
            self._rooms |= 1 << room
