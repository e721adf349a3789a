"""Samples that a run steps over: ranges [a, b) of global sample numbers.

The order of data is a function of the sample number (`mixture`), and stepping over samples leaves it so. What changes
is which number comes next: the run reads the numbers that stand in no range, in their order, so that its *places* 0, 1,
2 … (step s of B windows takes places (s - 1) · B to s · B - 1) map to numbers by a rule in constant memory. A range
changes nothing that was read before its first number.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Range = tuple[int, int]
"""[a, b): from sample a on, up to but without sample b."""


def merged(ranges: Iterable[Sequence[int]]) -> tuple[Range, ...]:
    """The same numbers as ranges in order that neither overlap nor touch; empty ranges are left out."""
    whole: list[Range] = []
    for first, end in sorted((first, end) for first, end in ranges if first < end):
        if whole and first <= whole[-1][1]:
            whole[-1] = (whole[-1][0], max(whole[-1][1], end))
        else:
            whole.append((first, end))
    return tuple(whole)


def sample_numbers(places: ArrayLike, ranges: Sequence[Range]) -> NDArray[np.int64]:
    """Global sample numbers of places [n] in the order of reading. `ranges` as `merged` gives them."""
    numbers = np.atleast_1d(np.asarray(places, dtype=np.int64))
    for first, end in ranges:
        numbers = numbers + (numbers >= first) * (end - first)
    return numbers


def reached(count: int, ranges: Sequence[Range]) -> int:
    """The number after the last one that a run of `count` places has read; 0 before its first."""
    return int(sample_numbers(count - 1, ranges)[0]) + 1 if count else 0


def below(ranges: Sequence[Range], number: int) -> tuple[Range, ...]:
    """What the ranges hold of the numbers below `number`."""
    return tuple((first, min(end, number)) for first, end in ranges if first < number)
