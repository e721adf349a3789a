"""How certain a score is: 95 % intervals of scores, of paired differences and of averages over tasks.

Items are taken as a sample of the items that might have been asked; nothing is said of the noise between two trainings.
Chosen by the coverage of known truths in simulations (tests/test_statistics.py holds them), each of them deterministic
and independent of the order of items and tasks:

- A share (every value 0 or 1): Wilson's score interval. The bootstrap covers a share of 5 % of 20 items in 65 % of
  cases, since a sample without a single success has no spread to resample.
- A difference of two shares on the same items: the adjusted interval of Bonett and Price (2012), for the same reason.
- Any other score and difference: the bootstrap over items, whose percentiles are moved out for small samples
  (Hesterberg 2015, "expanded percentile"): 91 to 95 % with 20 items, skewed or not, where plain percentiles have 89 to
  92 %; 94 to 95 % from 120 on.
- An average over tasks: the tasks are independent samples, so distances to the limits add as squares do (Zou and Donner
  2008). As wide as resampling every task from 120 items on, and not too narrow below (resampling covers 89 % of
  differences of averages with 8 items a task). It follows from the intervals that stand beside it.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from tsugiki.estimates import NORMAL_QUANTILE, student_quantile

Array = NDArray[np.float64]
Combine = Callable[[Array, int], Array]
"""From sums over items, [..., k], and the number of items summed, to scores [...]."""

RESAMPLES = 2000
SEED = 20240311
"""Of every resampling: what is asked twice is answered the same."""
FEW = 0.1
"""Distinct rows an item up to which drawing how often each row occurs is quicker than drawing items."""
BLOCK = 1 << 20
"""Draws held at a time: 8 MB."""

_normal = NormalDist()


def mean(sums: Array, items: int) -> Array:
    """The mean of one number an item: sums [..., 1]."""
    return sums[..., 0] / items


@dataclass(frozen=True, eq=False)
class Sample:
    """What a system got on some items, and how that makes its score."""

    rows: Array
    """[items, k], at least one item: a score each (k = 1), or the sufficient statistics that `combine` takes."""
    combine: Combine = mean

    @property
    def score(self) -> float:
        """Of all items."""
        return float(self.combine(self.rows.sum(axis=0), len(self.rows)))


@dataclass(frozen=True)
class Interval:
    """An estimate and the limits between which the truth lies with 95 % confidence."""

    estimate: float
    low: float
    high: float
    """The limits are NaN where one item says nothing about the spread."""

    @property
    def half_width(self) -> float:
        """Half the distance between the limits, which need not lie evenly around the estimate."""
        return (self.high - self.low) / 2

    def limits(self) -> list[float] | None:
        """[low, high] for JSON; None where there are none."""
        return None if math.isnan(self.low + self.high) else [self.low, self.high]

    @property
    def outside_zero(self) -> bool:
        """Whether a difference is more than noise: zero is not between the limits."""
        return self.low > 0 or self.high < 0


def score_interval(sample: Sample) -> Interval:
    """The score of a system on its items."""
    if sample.combine is mean and is_binary(sample.rows):
        return _wilson(int(sample.rows.sum()), len(sample.rows))
    return _bootstrap(sample)


def difference_interval(system: Sample, baseline: Sample) -> Interval:
    """The score of `system` minus that of `baseline`, row for row on the same items.

    Raises ValueError if the two have not as many items, or not the same kind of score.
    """
    if system.rows.shape != baseline.rows.shape or system.combine is not baseline.combine:
        raise ValueError(f"no pairs: {system.rows.shape} against {baseline.rows.shape} values")
    if system.combine is mean:
        differences = system.rows - baseline.rows
        if is_binary(system.rows) and is_binary(baseline.rows):
            return _bonett_price(int((differences > 0).sum()), int((differences < 0).sum()), len(differences))
        return _bootstrap(Sample(differences))
    width, combine = system.rows.shape[1], system.combine

    def difference(sums: Array, items: int) -> Array:
        return combine(sums[..., :width], items) - combine(sums[..., width:], items)

    return _bootstrap(Sample(np.concatenate([system.rows, baseline.rows], axis=1), difference))


def average_interval(intervals: Sequence[Interval]) -> Interval:
    """The plain mean of the scores, or of the differences, of several tasks, whose items are independent."""
    count = len(intervals)
    estimate = math.fsum(each.estimate for each in intervals) / count
    below = math.hypot(*(each.estimate - each.low for each in intervals)) / count
    above = math.hypot(*(each.high - each.estimate for each in intervals)) / count
    return Interval(estimate, estimate - below, estimate + above)


def resample(sample: Sample, resamples: int = RESAMPLES) -> Array:
    """Scores [resamples] of as many items drawn with replacement from those of the sample."""
    items = len(sample.rows)
    rows = sample.rows[np.lexsort(sample.rows.T[::-1])]  # sorted: the order of the items makes no difference
    firsts = np.flatnonzero(np.append(True, (rows[1:] != rows[:-1]).any(axis=1)))  # of equal rows
    generator = np.random.default_rng(SEED)
    if len(firsts) <= FEW * items:
        counts = np.diff(np.append(firsts, items))
        draws = generator.multinomial(items, counts / items, size=resamples)
        return sample.combine(draws @ rows[firsts], items)
    block = max(BLOCK // items, 1)
    if resamples <= block:
        return sample.combine(_times_drawn(items, resamples) @ rows, items)
    scores = []
    for start in range(0, resamples, block):
        times = _draw(generator, items, min(block, resamples - start))
        scores.append(sample.combine(times @ rows, items))
    return np.concatenate(scores)


@functools.lru_cache(maxsize=4)
def _times_drawn(items: int, resamples: int) -> Array:
    """How often each item is in each resample, [resamples, items]: the same for all samples of as many items."""
    return _draw(np.random.default_rng(SEED), items, resamples)


def _draw(generator: np.random.Generator, items: int, resamples: int) -> Array:
    drawn = generator.integers(0, items, size=(resamples, items)) + items * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * items).reshape(resamples, items).astype(np.float64)


def _bootstrap(sample: Sample) -> Interval:
    items = len(sample.rows)
    if items == 1:
        return Interval(sample.score, math.nan, math.nan)
    # A sample's spread is that of its population times (items - 1) / items, and is itself uncertain: Student's t.
    tail = _normal.cdf(-math.sqrt(items / (items - 1)) * student_quantile(items - 1))
    low, high = np.quantile(resample(sample), [tail, 1 - tail])
    return Interval(sample.score, float(low), float(high))


def _wilson(successes: int, items: int) -> Interval:
    """Wilson's score interval of a share (Wilson 1927)."""
    share, square = successes / items, NORMAL_QUANTILE**2 / items
    centre = (share + square / 2) / (1 + square)
    reach = NORMAL_QUANTILE * math.sqrt(share * (1 - share) / items + square / (4 * items)) / (1 + square)
    # The limits that are 0, 1 or the share itself only but for rounding.
    return Interval(share, max(min(centre - reach, share), 0.0), min(max(centre + reach, share), 1.0))


def _bonett_price(gained: int, lost: int, items: int) -> Interval:
    """The difference of two shares of the same items, of which some are right in one system only: Wald's interval with
    one item more gained and one more lost (Bonett and Price 2012, Journal of Educational and Behavioral Statistics)."""
    estimate, all_items = (gained - lost) / items, items + 2
    centre = (gained - lost) / all_items
    reach = NORMAL_QUANTILE * math.sqrt(((gained + lost + 2) / all_items - centre**2) / all_items)
    return Interval(estimate, max(min(centre - reach, estimate), -1.0), min(max(centre + reach, estimate), 1.0))


def is_binary(rows: Array) -> bool:
    """Whether every value is right (1) or wrong (0)."""
    return bool(((rows == 0) | (rows == 1)).all())
