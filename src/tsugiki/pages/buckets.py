"""A curve of any length as the smallest and the largest value of at most 600 buckets: a spike of one step stays in
sight, and a curve of 25,000 steps takes 14 kB."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST = 600
Values = Sequence[float | None]


@dataclass
class Bucket:
    """Neighbouring points of one curve; with a single point, low and high are its value."""

    first_x: float
    last_x: float
    low: float | None = None
    high: float | None = None
    """None where no value is a finite number."""
    low_first: bool = True
    """Whether the smallest value came before the largest."""
    gap: bool = False
    """Whether some value is no finite number: the curve is broken here."""

    def add(self, x: float, y: float | None) -> None:
        self.first_x, self.last_x = min(self.first_x, x), max(self.last_x, x)
        if y is None or not math.isfinite(y):
            self.gap = True
        elif self.low is None or self.high is None:
            self.low = self.high = y
        elif y < self.low:
            self.low, self.low_first = y, False
        elif y > self.high:
            self.high, self.low_first = y, True

    @property
    def middle(self) -> float:
        return (self.first_x + self.last_x) / 2


def thin(curves: Sequence[tuple[Sequence[float], Values]], most: int = MOST) -> list[list[Bucket | None]]:
    """Curves (x, y) cut at the same places: [curves][buckets], None where a curve has no point in a bucket.

    Where all curves together have no more than `most` different x, each x is a bucket of its own.
    """
    distinct = sorted({x for xs, _ in curves for x in xs})
    if not distinct:
        return [[] for _ in curves]
    if len(distinct) <= most:
        place = {x: number for number, x in enumerate(distinct)}
        count = len(distinct)
    else:
        low, width = distinct[0], (distinct[-1] - distinct[0]) / most
        place = {x: min(int((x - low) / width), most - 1) for x in distinct}
        used = {number: index for index, number in enumerate(sorted(set(place.values())))}
        place = {x: used[number] for x, number in place.items()}
        count = len(used)
    found: list[list[Bucket | None]] = []
    for xs, ys in curves:
        buckets: list[Bucket | None] = [None] * count
        for x, y in zip(xs, ys, strict=True):
            bucket = buckets[place[x]]
            if bucket is None:
                bucket = buckets[place[x]] = Bucket(x, x)
            bucket.add(x, y)
        found.append(buckets)
    return found
