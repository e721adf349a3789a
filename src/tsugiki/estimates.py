"""An estimate with its standard error and degrees of freedom: Student's intervals and p-values, sums of variances,
marks of one table corrected for each other.

Where several things vary (items, seeds), their variances add, and Welch and Satterthwaite's formula says how well their
sum is known.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Literal

CONFIDENCE = 0.95
NORMAL_QUANTILE = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
"""The 1.96 standard deviations that `CONFIDENCE` of a normal distribution lies within."""

Basis = Literal["items and seeds", "items", "seeds", "nothing"]
"""What was seen to vary. An interval from items alone holds for the very seeds that were run, and one from seeds alone
for the very items that were asked: both are too narrow for models trained anew and asked anew."""


@dataclass(frozen=True)
class Estimate:
    """A number, and the limits between which the truth lies with 95 % confidence where they are known."""

    value: float
    error: float | None = None
    """Standard error."""
    freedom: float | None = None
    """Degrees of freedom of its square; None where it is known exactly."""
    low: float | None = None
    high: float | None = None
    basis: Basis = "nothing"

    def limits(self) -> tuple[float, float] | None:
        """Both, where they are known."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def text(self) -> str:
        """`+0.0420 ±0.0210`: with half the interval, where it is known."""
        value = f"{round(self.value, 4) + 0.0:+.4f}"  # which has no -0.0000
        return value if (reach := self.limits()) is None else f"{value} ±{(reach[1] - reach[0]) / 2:.4f}"

    def contains(self, truth: float) -> bool:
        """Whether the limits are known and `truth` lies between them."""
        return (reach := self.limits()) is not None and reach[0] <= truth <= reach[1]

    def p_value(self, truth: float = 0.0) -> float | None:
        """How often a value would lie as far from `truth` by chance, to either side; None where no error is known."""
        if self.error is None or self.freedom is None:
            return None
        away = abs(self.value - truth)
        if self.error == 0:
            return 1.0 if away == 0 else 0.0
        return student_tails(away / self.error, self.freedom)


@dataclass(frozen=True)
class Variance:
    """An estimated variance, and on how many degrees of freedom: a chi-square's."""

    value: float
    freedom: float


def estimate(value: float, parts: Sequence[Variance], basis: Basis) -> Estimate:
    """`value`, whose variance is the sum of independent parts: Welch (1947) and Satterthwaite (1946) for its degrees of
    freedom. Parts that are 0 count for nothing; without any part no interval is known."""
    if not parts:
        return Estimate(value)
    variance = math.fsum(part.value for part in parts)
    if variance == 0:
        freedom = math.fsum(part.freedom for part in parts)
    else:
        freedom = variance**2 / math.fsum(part.value**2 / part.freedom for part in parts)
    error = math.sqrt(variance)
    reach = student_quantile(freedom) * error
    return Estimate(value, error, freedom, value - reach, value + reach, basis)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values (Holm 1979): those below .05 err together, in one table or more, in 5 % of tables at most.

    None (no interval is known) stays None and is not counted.
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min((len(known) - rank) * p, 1.0))
        adjusted[place] = highest
    return adjusted


def is_certain(adjusted: float | None) -> bool | None:
    """Whether a corrected p-value is below 5 %; None where there is none."""
    return None if adjusted is None else adjusted < 1 - CONFIDENCE


@cache
def student_quantile(freedom: float) -> float:
    """The t that `CONFIDENCE` of Student's distribution lies within, of either sign; `freedom` above 0."""
    front = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi * freedom)
    t = 0.0
    while True:  # Newton's method: the tails fall ever more slowly, so it comes nearer from below
        density = front * (1 + t * t / freedom) ** (-(freedom + 1) / 2)
        nearer = t + (student_tails(t, freedom) - (1 - CONFIDENCE)) / (2 * density)
        if not nearer > t:
            return t
        t = nearer


def student_tails(t: float, freedom: float) -> float:
    """The share of Student's distribution that lies further from 0 than t >= 0, to both sides together."""
    return ratio_tail(t * t, 1, freedom)


def ratio_tail(ratio: float, above: float, below: float) -> float:
    """The share of the F distribution that lies above `ratio` >= 0: how often one estimated variance would be so many
    times another by chance, where both are of one. `above`, `below`: their degrees of freedom.

    It is the regularised incomplete beta function I_x(below / 2, above / 2) at x = below / (below + above * ratio)
    (Abramowitz and Stegun 26.5.27, 26.6.2).
    """
    if math.isinf(ratio):
        return 0.0
    a, b, x = below / 2, above / 2, below / (below + above * ratio)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    # 1 - x is computed from the ratio: the subtraction would lose all digits of a small one.
    y = above * ratio / (below + above * ratio)
    if x == 0 or y == 0:
        return float(y == 0)
    front = math.exp(log_front + a * math.log(x) + b * math.log(y))
    if x < (a + 1) / (a + b + 2):  # where the fraction converges fast; the other side by symmetry
        return front * _beta_fraction(a, b, x) / a
    return 1 - front * _beta_fraction(b, a, y) / b


def _beta_fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function (DLMF 8.17.22), from the front by Lentz's method."""
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 500):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / (1 + term * d)
            c = 1 + term / c
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value
