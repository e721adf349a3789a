"""What a metric's differences are made of: tasks, items and seeds, each with its share, computed here by hand."""

import math

import numpy as np
import pytest

from tsugiki.estimates import student_quantile
from tsugiki.experiment_results import Metric
from tsugiki.experiments.comparison import ComparedMetric
from tsugiki.experiments.measured import Ending, Items, Measurement, Trial
from tsugiki.score_combinations import bits_per_byte
from tsugiki.statistics import Sample

SUITE = Metric("suite:ja")
GENERATOR = np.random.default_rng(31)
BASE = {"long": GENERATOR.normal(0.4, 0.1, 50), "short": GENERATOR.normal(0.6, 0.1, 12)}


def measured(values):
    return Measurement.of({
        task: Items([str(i) for i in range(len(of))], Sample(np.asarray(of)[:, None])) for task, of in values.items()
    })  # fmt: skip


def moved(by):
    return {task: values + by + GENERATOR.normal(0, 0.05, len(values)) for task, values in BASE.items()}


RUNS = {(name, seed): moved(by + 0.01 * seed) for name, by in (("a", 0.1), ("b", 0.12), ("c", 0.0)) for seed in (0, 1)}


def score(values):
    return np.mean([of.mean() for of in values.values()])


def compared(runs=RUNS):
    names = dict.fromkeys(name for name, _ in runs)
    trials = [Trial(name, {s: {SUITE.name: measured(v)} for (n, s), v in runs.items() if n == name}) for name in names]
    return ComparedMetric(SUITE, {SUITE.name: measured(BASE)}, trials)


def hand(parts):
    """Variance and degrees of freedom of a sum of (variance, freedom)."""
    variance = sum(part for part, _ in parts)
    return math.sqrt(variance), variance**2 / sum(part**2 / freedom for part, freedom in parts)


def test_a_difference_from_the_base_adds_the_variance_of_items_of_each_task_and_of_seeds():
    found = compared().against_base("a")
    items = []
    for task, base in BASE.items():
        differences = (RUNS["a", 0][task] + RUNS["a", 1][task]) / 2 - base
        items.append((differences.var(ddof=1) / len(base) / 4, len(base) - 1))  # two tasks: a half each, squared
    scores = np.array([[score(RUNS[name, seed]) for seed in (0, 1)] for name in "abc"])
    between = ((scores - scores.mean(axis=1, keepdims=True)) ** 2).sum() / 3  # three trials with one degree each
    error, freedom = hand([*items, (between / 2, 3)])
    assert (found.error, found.freedom) == pytest.approx((error, freedom))
    assert found.value == pytest.approx(scores[0].mean() - score(BASE))
    assert found.high - found.value == pytest.approx(student_quantile(freedom) * error)
    assert found.basis == "items and seeds"


def test_a_difference_between_trials_counts_only_what_a_seed_does_to_one_of_them():
    found = compared().between("a", "b")
    items = []
    for task in BASE:
        differences = (RUNS["a", 0][task] + RUNS["a", 1][task] - RUNS["b", 0][task] - RUNS["b", 1][task]) / 2
        items.append((differences.var(ddof=1) / len(differences) / 4, len(differences) - 1))
    scores = np.array([[score(RUNS[name, seed]) for seed in (0, 1)] for name in "abc"])
    rest = scores - scores.mean(axis=0) - scores.mean(axis=1, keepdims=True) + scores.mean()
    error, freedom = hand([*items, ((rest**2).sum() / 2 * 2 / 2, 2)])  # of two trials, over two seeds
    assert (found.error, found.freedom) == pytest.approx((error, freedom))
    assert found.value == pytest.approx(scores[0].mean() - scores[1].mean())


def test_a_wreck_widens_no_other_trials_interval_and_is_known_by_its_own_seeds():
    sound = {"a": (0.50, 0.51), "b": (0.52, 0.53), "c": (0.49, 0.50)}
    trials = [
        Trial(name, {seed: {"sums": Measurement(value)} for seed, value in enumerate(values)})
        for name, values in {**sound, "wreck": (0.1, 0.5)}.items()
    ]
    base = {"sums": Measurement(0.4)}
    beside, without = (ComparedMetric(Metric("sums"), base, of) for of in (trials, trials[:3]))
    assert beside.against_base("a") == without.against_base("a")
    assert beside.between("a", "b") == without.between("a", "b")
    wreck = beside.against_base("wreck")
    assert (wreck.freedom, wreck.error) == (1, pytest.approx(0.2))  # the standard error of .1 and .5
    apart = beside.between("wreck", "a")
    assert (apart.freedom, apart.error) == (1, pytest.approx(0.195))  # of -.4 and -.01


def test_trials_are_compared_at_the_seeds_that_both_have():
    fewer = {key: values for key, values in RUNS.items() if key != ("b", 1)}
    found = compared(fewer).between("a", "b")
    assert found.value == pytest.approx(score(RUNS["a", 0]) - score(RUNS["b", 0]))
    apart = {key: values for key, values in RUNS.items() if key not in [("a", 0), ("b", 1)]}
    assert compared(apart).between("a", "b").low is None
    assert compared(apart).between("a", "b").value == pytest.approx(score(RUNS["a", 1]) - score(RUNS["b", 0]))


def test_what_varies_is_named_where_not_all_of_it_is_known():
    assert compared({key: values for key, values in RUNS.items() if key[1] == 0}).against_base("a").basis == "items"
    points = [
        Trial(name, {seed: {SUITE.name: Measurement(float(score(RUNS[name, seed])))} for seed in (0, 1)})
        for name in "ab"
    ]
    without = ComparedMetric(SUITE, {SUITE.name: Measurement(0.5)}, points)
    assert without.against_base("a").basis == "seeds"
    one = ComparedMetric(SUITE, {SUITE.name: Measurement(0.5)}, [Trial("a", {0: {SUITE.name: Measurement(0.4)}})])
    assert one.against_base("a").low is None


def test_runs_that_ended_early_leave_no_value():
    trial = Trial("a", {0: {SUITE.name: measured(BASE)}, 1: Ending(True, "diverged at step 9")})
    found = ComparedMetric(SUITE, {SUITE.name: measured(BASE)}, [trial])
    assert found.by_seed("a") == {"0": pytest.approx(score(BASE))}
    assert found.against_base("a").value == 0


def test_documents_count_by_their_bytes():
    metric = Metric("bits_per_byte:en", higher_is_better=False)
    size = np.array([10.0, 1000.0, 10.0])

    def text(bits):
        return {
            metric.name: Measurement.of(
                {"books": Items("xyz", Sample(np.stack([bits * size * math.log(2), size], 1), bits_per_byte))}
            )
        }

    found = ComparedMetric(metric, text(np.array([2.0, 2.0, 2.0])), [Trial("t", {0: text(np.array([9.0, 1.9, 9.0]))})])
    assert found.against_base("t").value == pytest.approx((20 * 7 - 1000 * 0.1) / 1020)
    assert found.worse_by(found.value("t"), found.base) > 0
