"""One metric over a whole sweep: every trial's mean, its difference from the base and from another trial.

Point values are compared as decimals, never as binary fractions: .56 - .55 is .01 for whoever reads the table, and
.010000000000000009 for a float: too far. Exact fractions of floats would not help, since the float .56 is
not 56 / 100; the shortest decimal that stands for it is (`repr`), and that is what was printed, or written in JSON. It
is rounded to 12 places, so that a share such as 7 / 30 carries no rounding of its division into a comparison.
"""

import statistics
from collections.abc import Mapping, Sequence
from decimal import Context, Decimal

from tsugiki.differences import alike_spreads, item_variance, seed_variance
from tsugiki.errors import DataError
from tsugiki.estimates import Basis, Estimate, Variance, estimate
from tsugiki.experiment_results import Metric
from tsugiki.experiments.measured import Measurement, Trial, metric_of

PLACES = Decimal("1e-12")
_EXACT = Context(prec=400)
"""Digits for any float, also for one of 1e300 with 12 places."""


def decimal(value: float) -> Decimal:
    """The decimal that is printed for a float, to 12 places."""
    return Decimal(repr(value)).quantize(PLACES, context=_EXACT)


def mean_of(values: Sequence[float]) -> Decimal:
    """Of printed values, to 12 places."""
    return statistics.mean(decimal(value) for value in values).quantize(PLACES, context=_EXACT)


class ComparedMetric:
    """A metric's measurements over the base and all trials that have any."""

    def __init__(self, metric: Metric, base: Mapping[str, Measurement], trials: Sequence[Trial]) -> None:
        """Raises DataError where a model that was evaluated lacks the metric, or was asked other items."""
        self.metric = metric
        self._base = metric_of(base, metric.name, "the base")
        self._found = {
            trial.name: {
                seed: metric_of(found, metric.name, f"trial {trial.name} at seed {seed}")
                for seed, found in trial.measured().items()
            }
            for trial in trials
        }
        for name, by_seed in self._found.items():
            for seed, found in by_seed.items():
                _require_same_items(metric, self._base, found, f"trial {name} at seed {seed}")
        self._values = {
            name: {seed: found.value for seed, found in by_seed.items()} for name, by_seed in self._found.items()
        }
        self._alike = alike_spreads(self._values)

    @property
    def base(self) -> Decimal:
        """The base's value."""
        return decimal(self._base.value)

    def by_seed(self, trial: str) -> dict[str, float]:
        """A trial's values."""
        return {str(seed): value for seed, value in self._values[trial].items()}

    def value(self, trial: str) -> Decimal:
        """A trial's mean over its seeds."""
        return mean_of(list(self._values[trial].values()))

    def worse_by(self, value: Decimal, reference: Decimal) -> Decimal:
        """How much worse `value` is than `reference`, whatever the direction; negative where it is better."""
        return reference - value if self.metric.higher_is_better else value - reference

    def against_base(self, trial: str) -> Estimate:
        """The trial minus the base, which is one draw: all that seeds do counts as noise."""
        runs = list(self._found[trial].values())
        difference = float(self.value(trial) - self.base)
        spread = seed_variance(self._spreading_like(trial))
        return _estimate(difference, _items(runs, [self._base]), spread, 1 / len(runs))

    def between(self, first: str, second: str) -> Estimate:
        """A trial minus another, at the seeds that both have: what a seed does to both is no noise."""
        seeds = [seed for seed in self._found[first] if seed in self._found[second]]
        if not seeds:
            return Estimate(float(self.value(first) - self.value(second)))
        one, other = ([self._found[name][seed] for seed in seeds] for name in (first, second))
        difference = float(mean_of([run.value for run in one]) - mean_of([run.value for run in other]))
        spread = seed_variance(self._spreading_like(first, second), same_seeds=True)
        return _estimate(difference, _items(one, other), spread, 2 / len(seeds))

    def _spreading_like(self, *trials: str) -> dict[str, dict[int, float]]:
        """The values that tell how far these trials spread between seeds: all trials', but for a wreck, which is known
        by its own, and is no measure of the others."""
        pooled = self._alike if self._alike.issuperset(trials) else set(trials)
        return {name: of for name, of in self._values.items() if name in pooled}


def _estimate(value: float, items: list[Variance], seeds: Variance | None, share: float) -> Estimate:
    parts = [*items, *([Variance(seeds.value * share, seeds.freedom)] if seeds else [])]
    basis: Basis = "nothing"
    if items:
        basis = "items and seeds" if seeds else "items"
    elif seeds:
        basis = "seeds"
    return estimate(value, parts, basis)


def _items(first: Sequence[Measurement], second: Sequence[Measurement]) -> list[Variance]:
    """The parts of the difference's variance that its tasks' items make; none where they are not all known."""
    tasks = list(first[0].items)
    parts = [
        item_variance([run.items[task].sample for run in first], [run.items[task].sample for run in second])
        for task in tasks
    ]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return []
    return [Variance(part.value / len(tasks) ** 2, part.freedom) for part in known]


def _require_same_items(metric: Metric, base: Measurement, found: Measurement, of: str) -> None:
    """Pairs are pairs by place: order is part of being the same."""
    for task in {**base.items, **found.items}:
        one, other = base.items.get(task), found.items.get(task)
        if one is None or other is None or list(one.ids) != list(other.ids):
            where = "" if task == metric.name else f", task {task}"
            counts = [0 if items is None else len(items.ids) for items in (one, other)]
            raise DataError(
                f"metric {metric.name}{where}: the base has {counts[0]:,} items, {of} has {counts[1]:,}, not the same "
                "ones. Evaluate all with the same suite, texts and limit."
            )
