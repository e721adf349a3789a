"""What an experiment measured, as judge and attribution take it: points, items and seeds of each trial.

Collected from the artefacts of runs by others; nothing here reads a file.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tsugiki.errors import DataError
from tsugiki.statistics import Sample

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Items:
    """The items of one task or text: what difference is paired on."""

    ids: Sequence[str]
    sample: Sample
    """Its rows in the order of `ids`; what makes the score of them (a mean, bits per byte, BLEU) goes with it."""

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.sample.rows) or len(set(self.ids)) != len(self.ids):
            raise ValueError(f"{len(set(self.ids))} different ids for {len(self.sample.rows)} items")


@dataclass(frozen=True, eq=False)
class Measurement:
    """One metric of one model: the plain mean of the scores of its tasks."""

    value: float
    items: Mapping[str, Items] = field(default_factory=dict)
    """By task; empty where only the value is known."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"a metric is {self.value}: a run without finite scores has diverged")

    @classmethod
    def of(cls, items: Mapping[str, Items]) -> "Measurement":
        """Of one task or several that count alike."""
        return cls(math.fsum(task.sample.score for task in items.values()) / len(items), items)


@dataclass(frozen=True)
class Ending:
    """How a run ended that did not finish."""

    diverged: bool
    """Its loss or scores were not finite: that is the recipe's doing. Otherwise it died (memory, machine, signal)."""
    reason: str
    """For people: "diverged at step 812", "killed by signal 9"."""


def metric_of(found: Mapping[str, T], metric: str, of: str) -> T:
    """What was found of a metric. Raises DataError, naming whose it is (`of`), where it was not measured."""
    if metric not in found:
        have = ", ".join(found) or "nothing"
        raise DataError(f"{of} has no value of the metric {metric} (it has {have}). Evaluate it with that metric.")
    return found[metric]


@dataclass(frozen=True, eq=False)
class Trial:
    """One variant of the recipe, run at one seed or several."""

    name: str
    seeds: Mapping[int, Mapping[str, Measurement] | Ending]
    """By seed: its measurements by metric, or how it ended without any."""

    def measured(self) -> dict[int, Mapping[str, Measurement]]:
        """The seeds at which it finished."""
        return {seed: found for seed, found in self.seeds.items() if not isinstance(found, Ending)}

    def endings(self) -> dict[int, Ending]:
        """The seeds at which it did not."""
        return {seed: found for seed, found in self.seeds.items() if isinstance(found, Ending)}
