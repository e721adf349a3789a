"""Which source gives the next window, so that after every window each source is at its share.

Weights are rounded once to whole parts of D = `WEIGHT_DENOMINATOR`, and one period of the choice is tabulated by
the quota method (Balinski & Young 1975, "The quota method of apportionment"): seat number h goes, among the sources
whose count is still below their fair share h·w/D, to the one with the greatest w / (count + 1). After h seats every
source then holds its fair share rounded down or up, so it is less than one window away from it. (Rounding each
cumulative share by itself is no choice at all: with three sources or more the counts need not add up to h and may
step back.)

After one period every source is exactly at its share, and the period starts again.

The result is part of the data order: it changes only together with `mixture.RULE_VERSION`.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsugiki.errors import RecipeError

WEIGHT_DENOMINATOR = 100_000


class Period(NamedTuple):
    """One period of choices, `length` long (at most WEIGHT_DENOMINATOR, 600 kB)."""

    source: NDArray[np.uint16]  # [length] which source is drawn, as a place in the list of weights
    count_before: NDArray[np.uint32]  # [length] how often it was drawn earlier in this period
    weights: NDArray[np.int64]  # [sources] how often each source is drawn in a period

    @property
    def length(self) -> int:
        return len(self.source)


def round_weights(weights: Mapping[str, float]) -> dict[str, int]:
    """Weights in any unit as whole numbers that add up to WEIGHT_DENOMINATOR (largest remainder).

    They are taken as written in decimal (0.1 is a tenth) and computed as fractions, so the result is the same on
    every machine; equal remainders go to the earlier name. Zero stays zero.

    Raises RecipeError if a weight is negative or not finite, if all are zero, or if a positive one is too small
    to be represented.
    """
    exact: dict[str, Fraction] = {}
    for name, weight in weights.items():
        if not math.isfinite(weight) or weight < 0:
            raise RecipeError(f"The weight of source {name} is {weight}; a weight is 0 or a positive number.")
        exact[name] = Fraction(repr(weight))
    total = sum(exact.values(), Fraction(0))
    if total == 0:
        raise RecipeError(
            f"The weights of the sources ({', '.join(sorted(weights)) or 'none given'}) are all zero, so there is "
            "nothing to draw. Give at least one source a positive weight."
        )
    shares = {name: weight * WEIGHT_DENOMINATOR / total for name, weight in exact.items()}
    rounded = {name: math.floor(share) for name, share in shares.items()}
    missing = WEIGHT_DENOMINATOR - sum(rounded.values())
    by_remainder = sorted(shares, key=lambda name: (rounded[name] - shares[name], name))
    for name in by_remainder[:missing]:
        rounded[name] += 1
    for name in exact:
        if exact[name] > 0 and rounded[name] == 0:
            raise RecipeError(
                f"The weight of source {name} is {weights[name]} of a sum of {float(total):g}: a share below "
                f"1/{WEIGHT_DENOMINATOR:,} cannot be drawn. Raise it, or set it to 0 to leave the source out."
            )
    return {name: rounded[name] for name in weights}


def period(weights: Sequence[int]) -> Period:
    """The order in which sources with these whole weights are drawn until each is exactly at its share.

    Equal claims go to the source listed first; weights are divided by their greatest common divisor before, so that
    7 and 3 have a period of 10. A source of weight 0 is never drawn.

    A claim w / (count + 1) is compared as float64. That is exact: two different fractions of whole numbers up
    to 1e5 differ by at least 1e-10 of their size, a million times the rounding error, and equal ones are
    rounded alike.

    Time grows with the period, hardly with the number of sources: a source waits, without being looked at, for the
    seat at which its share has grown past its count, and is then the heap's to order.
    """
    divisor = math.gcd(*weights)
    if divisor == 0 or min(weights) < 0 or len(weights) > 32_767:
        raise ValueError("weights must be whole numbers from 0, one at least positive, at most 32,767 of them")
    return _tabulated(tuple(weight // divisor for weight in weights))


@lru_cache(maxsize=16)  # a run lays out its mixture several times, at up to a tenth of a second
def _tabulated(parts: tuple[int, ...]) -> Period:
    weights = np.array(parts, np.int64)
    source = np.repeat(np.arange(len(parts)), parts)
    before = np.concatenate([np.arange(part) for part in parts])
    drawn = np.lexsort((source, -weights[source] / (before + 1)))
    source, before = source[drawn], before[drawn]
    # By the claims alone, if no source is drawn before its share has grown past its count: of two sources none ever is.
    if (before * len(source) // weights[source] > np.arange(len(source))).any():
        source, before = _seat_by_seat(parts)
    return Period(source.astype(np.uint16), before.astype(np.uint32), weights)


def _seat_by_seat(parts: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sources, and their counts before, as they are drawn."""
    length = sum(parts)
    counts = [0] * len(parts)
    # (the first seat at which its fair share exceeds its count, place in the list) of each source that is not below it.
    waiting = [(1, source) for source, part in enumerate(parts) if part > 0]
    claims: list[tuple[float, int]] = []  # (minus the claim, place in the list), so that the first is the greatest
    chosen: list[int] = []
    before: list[int] = []
    for seat in range(1, length + 1):
        while waiting and waiting[0][0] <= seat:
            _, source = heapq.heappop(waiting)
            heapq.heappush(claims, (-parts[source] / (counts[source] + 1), source))
        # Never empty: counts sum to seat - 1 and fair shares to seat, so some source is below its share.
        _, source = heapq.heappop(claims)
        chosen.append(source)
        before.append(counts[source])
        counts[source] += 1
        heapq.heappush(waiting, (counts[source] * length // parts[source] + 1, source))
    return np.array(chosen), np.array(before)
