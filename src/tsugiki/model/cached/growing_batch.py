"""Rows of different length that grow by a token at a time: the batch of generation."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tsugiki.model.cached.call import CachedCall, Past, joined
from tsugiki.model.cached.prefixes import Tokens


class GrowingBatch:
    """A past with gaps: `lengths[i]` tokens of row i are in it, and `seen` [rows, columns] says in which columns.

    Shorter rows have their gap behind the prompt, since every new token takes the next column in all rows.
    """

    def __init__(self, past: Past, seen: Tensor, lengths: list[int]):
        self.past, self.seen, self.lengths = past, seen, lengths

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def picked(cls, past: Past, prefix: int, places: Sequence[tuple[int, Tokens]]) -> "GrowingBatch":
        """A row for each of `places`: a row of `past` and the columns (after the prefix) that are the row's tokens."""
        lengths = [prefix + len(columns) for _, columns in places]
        index = torch.zeros(len(places), max(lengths), dtype=torch.int64)
        for at, (_, columns) in enumerate(places):
            index[at, :prefix] = torch.arange(prefix)
            index[at, prefix : lengths[at]] = torch.from_numpy(columns) + prefix
        device = past.positions.device
        seen = torch.arange(index.shape[1])[None] < torch.tensor(lengths)[:, None]
        rows = torch.tensor([row for row, _ in places])
        return cls(past.take(rows.to(device), index.to(device)), seen.to(device), lengths)

    def step(self, call: CachedCall, tokens: Sequence[int]) -> Tensor:
        """Logits [rows, vocabulary] after one more token in each row."""
        device = self.seen.device
        self.seen = torch.nn.functional.pad(self.seen, (0, 1), value=True)
        full = self.seen.shape[1] == min(self.lengths) + 1
        logits = call(
            self.past,
            torch.tensor(tokens, device=device)[:, None],
            torch.tensor(self.lengths, device=device)[:, None],
            None if full else self.seen[:, None],
        )
        self.lengths = [length + 1 for length in self.lengths]
        return logits

    def drop(self, row: int) -> None:
        """Remove `row`; the last row takes its place."""
        self.past.drop(row)
        self.seen[row] = self.seen[-1]
        self.seen = self.seen[:-1]
        self.lengths[row] = self.lengths[-1]
        self.lengths.pop()

    def join(self, other: "GrowingBatch") -> "GrowingBatch":
        """This batch with the rows of `other` at its end; columns that no row needs any more go."""
        for batch in (self, other):
            batch._close_gaps()
        columns = max(self.past.columns, other.past.columns)
        self.past = joined([self.past, other.past])
        pad = torch.nn.functional.pad
        self.seen = torch.cat([pad(batch.seen, (0, columns - batch.seen.shape[1])) for batch in (self, other)])
        self.lengths += other.lengths
        return self

    def _close_gaps(self) -> None:
        longest = max(self.lengths)
        if self.seen.shape[1] == longest:
            return
        index = self.seen.logical_not().to(torch.int8).argsort(dim=1, stable=True)[:, :longest]  # seen ones first
        self.past = self.past.take(torch.arange(len(self), device=index.device), index)
        self.seen = self.seen.gather(1, index)
