"""Differences between models on the same items, where trainings differ by their seeds, too.

The variance of a difference is that of the items' differences, averaged over seeds, over the number of items, plus the
variance between seeds, pooled over the trials that spread alike, over the number of seeds. With 2 or 3 seeds such
intervals cover 93 to 96 % in simulations; from items alone 73 to 94 %, with items and seeds resampled 84 to 94 %. A
trial's own two seeds give an interval several times as wide, which items do not enter (tests/test_differences.py holds
all of this).
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tsugiki.estimates import Variance, ratio_tail
from tsugiki.statistics import Array, Sample, is_binary, mean

APART = 0.01
"""How often a sound trial may be taken for a wreck. At 5 %, intervals of sound ones cover 93.5 % instead of 94.5 %."""


def influences(sample: Sample) -> Array:
    """What each item adds to the score [items]: the jackknife's pseudo-values, whose mean is the score but for its bias
    and whose variance over the number of items is the score's variance.

    Of a mean they are the items' values. Of a ratio of sums (bits per byte) they weigh a long document as much as it
    counts, which the mean of the documents' own ratios does not. Needs two items at least.
    """
    rows, count = sample.rows, len(sample.rows)
    if sample.combine is mean:
        return rows[:, 0]
    without = sample.combine(rows.sum(axis=0) - rows, count - 1)
    return count * sample.score - (count - 1) * without


def item_variance(first: Sequence[Sample], second: Sequence[Sample]) -> Variance | None:
    """Of the difference of two scores on the same items, each the mean over trainings (one or more samples a side).

    Where every value is right or wrong, one item more counts as gained and one as lost: without, a few items that
    nothing has changed on would make a difference of exactly 0 certain (Bonett and Price 2012). Where seeds flip items
    independently that is on the wide side: with 40 items, 99 % and more. None for a single item, which says nothing of
    the spread. Raises ValueError if the samples have not the same items and the same score.
    """
    samples = [*first, *second]
    if len({sample.rows.shape for sample in samples}) > 1 or len({sample.combine for sample in samples}) > 1:
        raise ValueError("no pairs: not the same number of items, or not the same kind of score")
    items = len(samples[0].rows)
    if items < 2:
        return None
    differences = np.mean([influences(one) for one in first], axis=0) - np.mean(
        [influences(one) for one in second], axis=0
    )
    if samples[0].combine is mean and all(is_binary(sample.rows) for sample in samples):
        differences = np.append(differences, [1.0, -1.0])
    return Variance(float(differences.var(ddof=1)) / len(differences), items - 1)


def alike_spreads(values: Mapping[str, Mapping[int, float]]) -> set[str]:
    """The trials whose values [trial][seed] may spread alike between seeds: those to pool over. The others are wrecks,
    such as one that all but diverged, whose spread says nothing of the sound ones'.

    The largest spreads are compared with that of all smaller ones (F), each at 1 % over the number that are compared,
    half of the trials at most; every one from the last that stands out upwards is a wreck, so that two do not hide each
    other (as Rosner 1983 looks for several outliers). A trial at one seed spreads not at all, and is none.
    """
    spreads = {name: _spread(list(of.values())) for name, of in values.items() if len(of) > 1}
    order = sorted(spreads, key=lambda name: -spreads[name].value)
    wrecks = 0
    for place in range(len(order) // 2):
        rest = [spreads[name] for name in order[place + 1 :]]
        pooled, largest = _pooled(rest), spreads[order[place]]
        # Scores of a few items are often equal at all seeds: such a 0 says nothing of how far they spread.
        chance = 1.0
        if pooled is not None and pooled.value > 0:
            chance = ratio_tail(largest.value / pooled.value, largest.freedom, pooled.freedom)
        if chance * (len(rest) + 1) < APART:
            wrecks = place + 1
    return set(values) - set(order[:wrecks])


def _spread(values: Sequence[float]) -> Variance:
    """Of equal values exactly 0."""
    offsets = [float(value - values[0]) for value in values]
    mean = math.fsum(offsets) / len(values)
    squares = math.fsum((one - mean) * (one - mean) for one in offsets)
    return Variance(squares / (len(values) - 1), len(values) - 1)


def _pooled(spreads: Sequence[Variance]) -> Variance | None:
    freedom = sum(one.freedom for one in spreads)
    return Variance(math.fsum(one.value * one.freedom for one in spreads) / freedom, freedom) if freedom else None


def seed_variance(values: Mapping[str, Mapping[int, float]], *, same_seeds: bool = False) -> Variance | None:
    """Between the values [trial][seed] of one trial, pooled over trials; None where no trial has two.

    same_seeds: what a seed does to all trials alike is no part of it. It drops out of the difference of two trials at
    the same seeds, but not of a difference from the base.
    """
    if not same_seeds:
        return _pooled([_spread(list(of.values())) for of in values.values() if len(of) > 1])
    trials = {name: place for place, name in enumerate(values)}
    seeds = {seed: place for place, seed in enumerate(sorted({seed for of in values.values() for seed in of}))}
    cells = [(trials[name], seeds[seed], value) for name, of in values.items() for seed, value in of.items()]
    if not cells:
        return None
    trial, seed, value = (np.array(column) for column in zip(*cells, strict=True))
    design = np.hstack([np.eye(len(trials))[trial], np.eye(len(seeds))[seed]])
    fitted, _, rank, _ = np.linalg.lstsq(design, value, rcond=None)
    freedom = len(value) - int(rank)
    if freedom == 0:
        return None
    return Variance(float(((value - design @ fitted) ** 2).sum()) / freedom, freedom)
