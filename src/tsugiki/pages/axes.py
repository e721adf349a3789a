"""From values to places on a chart, and the ticks that say which value is where."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDE_RANGE = 50.0
"""Ratio of the largest to the smallest value from which on an axis is logarithmic unless it is asked otherwise."""


@dataclass(frozen=True)
class Axis:
    """What an axis shows."""

    label: str
    log: bool | None = False
    """None: logarithmic where all values are above 0 and the largest is more than WIDE_RANGE times the smallest."""
    digits: str = ".3g"
    """How a value is written where it is read off (a format specification)."""
    low: float | None = None
    high: float | None = None
    """Limits; None: as the values ask."""

    def write(self, value: float | None) -> str:
        """A value for a table or a hover, with a dash for one that there is not."""
        return "–" if value is None or not math.isfinite(value) else with_minus(format(value, self.digits))


@dataclass(frozen=True)
class Scale:
    """A range of values, from 0 (low) to 1 (high) on the page."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, axis: Axis, values: Iterable[float | None], *, margin: float = 0.04, zero: bool = False) -> "Scale":
        """A scale that holds all values that are finite, with some air; `zero` holds 0 as well."""
        known = [value for value in values if value is not None and math.isfinite(value)]
        known += [limit for limit in (axis.low, axis.high) if limit is not None] + ([0.0] if zero else [])
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        positive = low > 0
        log = positive and (high / low > WIDE_RANGE if axis.log is None else axis.log)
        if low == high:
            low, high = (low / 2, high * 2) if log else (low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5))
        elif log:
            air = (high / low) ** margin
            low, high = low / air, high * air
        else:
            air = (high - low) * margin
            low, high = low - air, high + air
        if not log and positive and low < 0:
            low = 0.0  # air alone does not make a quantity negative
        return cls(low if axis.low is None else axis.low, high if axis.high is None else axis.high, log)

    def place(self, value: float) -> float:
        """Where a value stands; outside 0 to 1 for one outside the range."""
        if self.log:
            if value <= 0:
                return 0.0
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """At most about `most` round values inside the range, written with as many digits as tell them apart."""
        values = self._log_ticks(most) if self.log else self._linear_ticks(most)
        return list(zip(values, write_ticks(values), strict=True))

    def _linear_ticks(self, most: int) -> list[float]:
        rough = (self.high - self.low) / max(most, 1)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.75)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]

    def _log_ticks(self, most: int) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for factors in ((1, 2, 3, 5), (1, 3), (1,)):
            values = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
            values = [value for value in values if self.low * 0.999 <= value <= self.high * 1.001]
            if len(values) <= most:
                break
        else:
            values = values[:: math.ceil(len(values) / most)]
        return values if len(values) > 1 else self._linear_ticks(most)


def write_ticks(values: Sequence[float]) -> list[str]:
    """Ticks alike and exact: `0.5`, `1.0`, `1.5`; `10,000`; `2e-5` where there would be many zeros."""
    largest = max((abs(value) for value in values), default=0.0)
    smallest = min((abs(value) for value in values if value), default=0.0)
    if largest and (largest < 2e-3 or largest >= 1e7):
        return [_power(value) for value in values]
    if smallest and largest / smallest > 100 and smallest < 1:  # a logarithmic axis: each with the digits that it needs
        return [f"{value:,.9g}" for value in values]
    decimals = next((d for d in range(9) if all(abs(v - round(v, d)) < 1e-9 * largest for v in values)), 9)
    return [f"{value:,.{decimals}f}" for value in values]


def with_minus(text: str) -> str:
    """A number with the sign that is as wide as its digits."""
    return "−" + text[1:] if text.startswith("-") else text


def _power(value: float) -> str:
    """`1.5e7`, `2e-5`."""
    digits, power = f"{value:.8e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}" if value else "0"
