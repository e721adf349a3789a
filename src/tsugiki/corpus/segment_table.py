"""A table of segments of text: a value for each that has been met, found for thousands at once.

Open addressing in numpy. A segment is its own key, whole, so two that differ are never taken for one.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

PROBES = 8
"""Slots that a key may lie in; one that finds none free is simply not kept."""
MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)
"""Odd numbers without pattern (of xxHash and others): the high bits of a product depend on all bits of a word."""
CLAIMED = 1

Words = NDArray[np.uint64]
Numbers = NDArray[np.int64]


class SegmentTable:
    """Values, which are not 0, of keys of so many words."""

    def __init__(self, words: int, bits: int):
        self.words = words
        self._shift = np.uint64(64 - bits)
        self._rows = np.zeros((1 << bits, words + 1), np.uint64)
        """Key and value side by side, since nearly each look misses the cache; 0 as value: free."""
        self._owner = np.zeros(1 << bits, np.int32)
        self._used = 0

    @property
    def is_full(self) -> bool:
        """Whether it is time to `clear` it: keys find no slot in fuller tables."""
        return 2 * self._used > len(self._rows)

    def clear(self) -> None:
        """Forget all."""
        self._rows[:] = 0
        self._used = 0

    def find(self, keys: list[Words]) -> Words:
        """The value of each key, given word by word; 0 where there is none."""
        slots = self._slots(keys)
        rows = self._rows.take(slots, axis=0)
        values = rows[:, -1].copy()
        other = _other(rows, keys)
        # A free slot ends the search; one that another key has does not.
        left = np.flatnonzero(other & (values != 0))
        values[other] = 0
        for probe in range(1, PROBES):
            if not len(left):
                break
            rows = self._rows[(slots[left] + probe) & (len(self._rows) - 1)]
            other = _other(rows, [word[left] for word in keys])
            values[left] = np.where(other, 0, rows[:, -1])
            left = left[other & (rows[:, -1] != 0)]
        return values

    def values(self, keys: list[Words], make: Callable[[Numbers], Words]) -> Words:
        """As `find`, where what is missing is put in, if there is room for it.

        make: gives the values of those that were missing, by their numbers, each once. What it raises leaves an empty
        table.
        """
        values = self.find(keys)
        if len(missing := np.flatnonzero(values == 0)):
            new = [word[missing] for word in keys]
            try:
                values[missing] = self._put_in(new, self._slots(new), lambda those: make(missing[those]))
            except BaseException:
                self.clear()  # of what was claimed
                raise
        return values

    def _put_in(self, keys: list[Words], slots: Numbers, make: Callable[[Numbers], Words]) -> Words:
        """As `values`, of keys that were all missing before."""
        left = np.arange(len(slots))
        new = [left[:0]]
        for _ in range(PROBES):
            free = left[self._rows[slots[left], -1] == 0]
            # Of several that want a slot the last that is written has it; equal keys are told from others below.
            self._owner[slots[free]] = free
            owners = free[self._owner[slots[free]] == free]
            for column, word in enumerate(keys):
                self._rows[slots[owners], column] = word[owners]
            self._rows[slots[owners], -1] = CLAIMED
            new.append(owners)
            left = left[_other(self._rows[slots[left]], [word[left] for word in keys])]
            if not len(left):
                break
            slots[left] = (slots[left] + 1) & (len(self._rows) - 1)
        owners = np.concatenate(new)
        if len(owners):
            self._rows[slots[owners], -1] = make(owners)
            self._used += len(owners)
        values = self._rows[slots, -1]
        values[left] = 0
        return values

    def _slots(self, keys: list[Words]) -> Numbers:
        """The first slot of each key: multiplicative hashing (Knuth), the high bits."""
        product = keys[0] * np.uint64(MULTIPLIERS[0])
        for word, multiplier in zip(keys[1:], MULTIPLIERS[1:], strict=False):
            product += word * np.uint64(multiplier)
        product >>= self._shift
        return product.view(np.int64)


def _other(rows: NDArray[np.uint64], keys: list[Words]) -> NDArray[np.bool_]:
    """Whether rows have other keys than these."""
    other = rows[:, 0] != keys[0]
    for column, word in enumerate(keys[1:], 1):
        other |= rows[:, column] != word
    return other


def stretches(starts: Numbers, sizes: Numbers) -> Numbers:
    """The numbers of several stretches one after another."""
    ends = np.cumsum(sizes)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - sizes), sizes)
