"""Which tokens of many sequences are computed once: a plan over their common beginnings. No model is involved.

Sequences are sorted, so that those with a common beginning are neighbours. Sharing then happens on two levels:

- A *prefix* (the examples in front of every question of a task) is computed alone and kept in a cache for all that
  follow it. Prefixes nest (a paragraph after the examples, its questions after the paragraph).
- A *row* holds what comes after the prefix of as many neighbours as fit in its width, with what they share written
  once: a tree, in depth-first order, so that every token comes after its ancestors. The four endings of a HellaSwag
  item are four branches of one row, and single-token answers cost no more than their question.

A row of width w costs attention of every token to up to w others that it is not allowed to see, which is little
beside the linear layers as long as w is small beside the model's width times a few; a prefix costs one more call.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]

LEAST_GAIN = 128
"""A prefix is split off when it saves this many tokens or more: a call on few tokens takes about as long as that."""

SHORTEST = 32
"""Nor is a prefix shorter than that."""


@dataclass(frozen=True)
class Sizes:
    """In tokens. batch: rows times columns, those of the cache included, which is what memory has to hold; computed:
    those of them that are new, in one call; row: the width of a row."""

    batch: int
    computed: int
    row: int


@dataclass
class Prefix:
    """Tokens [begin, end) of all sequences in it (the same for all; `example` is one of them), what follows them
    directly, and what follows longer prefixes that begin with this one."""

    example: int
    begin: int
    end: int
    followers: list[int] = field(default_factory=list)
    children: list["Prefix"] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """A tree of tokens, every one after its ancestors.

    tokens and positions (its number in its sequence): [columns]; `visible` [columns, columns]: whether a token may
    look at another one, None where each sees all before it; `columns`: sequence -> where its tokens after the
    prefix stand.
    """

    tokens: Tokens
    positions: Tokens
    visible: NDArray[np.bool_] | None
    columns: dict[int, Tokens]

    def __len__(self) -> int:
        return len(self.tokens)


def common_length(one: Tokens, other: Tokens) -> int:
    """Number of tokens with which both begin."""
    shorter = min(len(one), len(other))
    different = one[:shorter] != other[:shorter]
    return int(different.argmax()) if different.any() else shorter


class PrefixPlan:
    """Plan for `sequences`; at most the first `limits[i]` tokens of sequence i may be part of a prefix.

    `row_tokens` is the width of a row; a sequence longer than that has a row of its own.
    """

    def __init__(self, sequences: Sequence[Tokens], limits: Sequence[int], row_tokens: int):
        self.row_tokens = row_tokens
        # Big-endian bytes are ordered as the numbers are.
        self.order = sorted(range(len(sequences)), key=lambda i: sequences[i].astype(">u4").tobytes())
        self.sequences = sequences
        ordered = [sequences[i] for i in self.order]
        self._lengths = np.array([len(tokens) for tokens in ordered], dtype=np.int64)
        self._shared = np.zeros(len(ordered), dtype=np.int64)  # with the neighbour before
        for i in range(1, len(ordered)):
            self._shared[i] = common_length(ordered[i - 1], ordered[i])
        cut = np.array([limits[i] for i in self.order], dtype=np.int64)
        self._joint = self._shared.copy()  # as much of that as may be a prefix of both
        self._joint[1:] = np.minimum(self._shared[1:], np.minimum(cut[1:], cut[:-1]))
        self.root = self._split(Prefix(-1, 0, 0), 0, len(ordered))
        self._place = {sequence: place for place, sequence in enumerate(self.order)}

    def _split(self, prefix: Prefix, first: int, last: int) -> Prefix:
        """Give `prefix` what follows it among the places [first, last)."""
        begin = first
        while begin < last:
            end = begin + 1
            while end < last and self._joint[end] >= prefix.end + SHORTEST:
                end += 1
            longer = int(self._joint[begin + 1 : end].min()) if end > begin + 1 else prefix.end
            gain = longer - prefix.end
            added = self._lengths[begin + 1 : end] - self._shared[begin + 1 : end]
            rest = int(self._lengths[begin] - longer + added.sum())
            rows = min(end - begin, -(-rest // max(1, self.row_tokens - gain)))  # that would each repeat the prefix
            if gain == 0 or rows < 2:
                prefix.followers += self.order[begin:end]
            else:
                child = self._split(Prefix(self.order[begin], prefix.end, longer), begin, end)
                if gain * (rows - 1) >= LEAST_GAIN:
                    prefix.children.append(child)
                else:  # parts of it may still have more in common
                    prefix.followers += child.followers
                    prefix.children += [replace(longest, begin=prefix.end) for longest in child.children]
            begin = end
        return prefix

    def rows(self, followers: Sequence[int], prefix: int) -> list[Row]:
        """Rows for `followers` (in the plan's order) of a prefix of `prefix` tokens."""
        rows: list[list[tuple[int, int]]] = []  # (sequence, tokens that it shares with the one before in its row)
        filled = 0
        for number, sequence in enumerate(followers):
            length = len(self.sequences[sequence])
            shared = prefix
            if number:
                before, here = self._place[followers[number - 1]], self._place[sequence]
                shared = max(prefix, int(self._shared[before + 1 : here + 1].min()))
            if rows and filled + length - shared <= self.row_tokens:
                rows[-1].append((sequence, shared))
                filled += length - shared
            else:
                rows.append([(sequence, prefix)])
                filled = length - prefix
        return [self._row(members, prefix) for members in rows]

    def batches(self, followers: Sequence[int], prefix: int, sizes: Sizes) -> list[list[Row]]:
        """Their rows, longest first, as many at a time as `sizes` allows; one at least."""
        batches: list[list[Row]] = []
        for row in sorted(self.rows(followers, prefix), key=len, reverse=True):
            count, width = len(batches[-1]) + 1 if batches else 1, len(batches[-1][0]) if batches else 0
            if count > 1 and count * (prefix + width) <= sizes.batch and count * width <= sizes.computed:
                batches[-1].append(row)
            else:
                batches.append([row])
        return batches

    def _row(self, members: list[tuple[int, int]], prefix: int) -> Row:
        pieces = [self.sequences[sequence][shared:] for sequence, shared in members]
        positions = [np.arange(shared, shared + len(piece)) for (_, shared), piece in zip(members, pieces, strict=True)]
        total = sum(map(len, pieces))
        visible = np.zeros((total, total), dtype=np.bool_)
        columns: dict[int, Tokens] = {}
        path = np.zeros(0, dtype=np.int64)
        begin, branches = 0, False
        for (sequence, shared), piece in zip(members, pieces, strict=True):
            branches |= len(path) > shared - prefix
            end = begin + len(piece)
            path = np.concatenate([path[: shared - prefix], np.arange(begin, end)])
            visible[begin:end, path[: shared - prefix]] = True
            visible[begin:end, begin:end] = np.tri(len(piece), dtype=np.bool_)
            columns[sequence] = path
            begin = end
        return Row(np.concatenate(pieces), np.concatenate(positions), visible if branches else None, columns)
