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

from collections.abc import Iterator, Sequence
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

    def batches(self, followers: Sequence[int], prefix: int, sizes: Sizes) -> Iterator[list[Row]]:
        """Rows for `followers` (in the plan's order) of a prefix of `prefix` tokens, longest first, as many at a time
        as `sizes` allows; one at least. Made when asked for: their masks would fill the memory of a large task."""
        drafts = sorted(self._drafts(followers, prefix), key=lambda draft: -draft.length)
        begin = 0
        while begin < len(drafts):
            width = drafts[begin].length
            end = begin + max(1, min(sizes.batch // (prefix + width), sizes.computed // width))
            yield [self._row(draft, prefix) for draft in drafts[begin:end]]
            begin = end

    def _drafts(self, followers: Sequence[int], prefix: int) -> list["_Draft"]:
        drafts: list[_Draft] = []
        for number, sequence in enumerate(followers):
            length = len(self.sequences[sequence])
            shared = prefix
            if number:
                before, here = self._place[followers[number - 1]], self._place[sequence]
                shared = max(prefix, int(self._shared[before + 1 : here + 1].min()))
            if drafts and drafts[-1].length + length - shared <= self.row_tokens:
                drafts[-1].members.append((sequence, shared))
                drafts[-1].length += length - shared
            else:
                drafts.append(_Draft([(sequence, prefix)], length - prefix))
        return drafts

    def _row(self, draft: "_Draft", prefix: int) -> Row:
        pieces = [np.arange(shared, len(self.sequences[sequence])) for sequence, shared in draft.members]
        columns: dict[int, Tokens] = {}
        path, begin = np.zeros(0, dtype=np.int64), 0
        chain = True
        for (sequence, shared), piece in zip(draft.members, pieces, strict=True):
            chain &= len(path) == shared - prefix  # it goes on where the one before ends
            path = np.concatenate([path[: shared - prefix], np.arange(begin, begin + len(piece))])
            columns[sequence] = path
            begin += len(piece)
        tokens = [self.sequences[sequence][piece] for (sequence, _), piece in zip(draft.members, pieces, strict=True)]
        visible = None if chain else self._visible(draft, columns)
        return Row(np.concatenate(tokens), np.concatenate(pieces), visible, columns)

    def _visible(self, draft: "_Draft", columns: dict[int, Tokens]) -> NDArray[np.bool_]:
        visible = np.zeros((draft.length, draft.length), dtype=np.bool_)
        for path in columns.values():
            # What it shares with others is written again, the same.
            visible[path[:, None], path] = np.tri(len(path), dtype=np.bool_)
        return visible


@dataclass
class _Draft:
    """A row to be: sequences with the number of tokens that each shares with the one before it in the row."""

    members: list[tuple[int, int]]
    length: int
