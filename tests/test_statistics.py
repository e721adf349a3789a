"""Intervals cover a known truth in about 95 % of samples, and are what independent computations say."""

import math

import numpy as np
import pytest

from tsugiki.statistics import (
    Interval,
    Sample,
    average_interval,
    difference_interval,
    resample,
    score_interval,
)

TRIALS = 1000
"""Of a simulation. The share of trials that cover has a standard deviation of 0.7 % at 95 %, 0.95 % at 90 %."""
LEAST, MOST = 0.93, 0.97
"""An interval that covers 90 % passes in fewer than one of a thousand simulations."""


def share_covered(draw, truth, interval, trials=TRIALS):
    """Of samples drawn by draw(generator), how many have an interval with the truth in it."""
    generator = np.random.default_rng(11)
    covered = 0
    for _ in range(trials):
        found = interval(*draw(generator))
        covered += found.low - 1e-12 <= truth <= found.high + 1e-12
    return covered / trials


def flips(share, items):
    return lambda generator: (Sample((generator.random((items, 1)) < share).astype(float)),)


@pytest.mark.parametrize(("share", "items"), [(0.05, 120), (0.5, 120), (0.9, 120), (0.9, 20), (0.62, 10_042)])
def test_intervals_of_a_share_cover_it(share, items):
    assert LEAST <= share_covered(flips(share, items), share, score_interval) <= MOST


def test_a_share_that_never_fails_is_not_called_certain():
    found = score_interval(Sample(np.ones((20, 1))))
    assert (found.estimate, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(20 / (20 + 1.959964**2))  # Wilson's limit in closed form


def test_wilson_limits_solve_their_equation():
    """They are the shares p at which the score lies 1.96 standard errors of p away."""
    found = score_interval(Sample(np.array([[1.0]] * 7 + [[0.0]] * 23)))
    for p in (found.low, found.high):
        assert abs(found.estimate - p) == pytest.approx(1.959964 * math.sqrt(p * (1 - p) / 30))


def skewed(a, b, items):
    return lambda generator: (Sample(generator.beta(a, b, (items, 1))),)


@pytest.mark.parametrize(
    ("a", "b", "items", "least"),
    [(0.3, 1.5, 120, LEAST), (0.5, 9.5, 120, LEAST), (3, 0.6, 120, LEAST), (3, 2, 20, LEAST)],
)
def test_intervals_of_skewed_scores_cover_their_mean(a, b, items, least):
    assert least <= share_covered(skewed(a, b, items), a / (a + b), score_interval) <= MOST


def test_scores_of_which_many_are_exactly_one():
    def draw(generator):
        scores = generator.beta(2, 3, (120, 1)).round(2)  # few distinct values, as an edit ratio has
        scores[generator.random((120, 1)) < 0.5] = 1.0
        return (Sample(scores),)

    assert LEAST <= share_covered(draw, 0.5 + 0.5 * 0.4, score_interval) <= MOST


def ratio(sums, items):
    return sums[..., 0] / sums[..., 1]


def ratio_sample(generator, quality, lengths):
    matches = np.round(lengths * generator.beta(10 * quality, 10 * (1 - quality), lengths.shape))
    return Sample(np.concatenate([matches, lengths], axis=1), ratio)


def lengths_of(generator, items=120):
    return 1.0 + generator.poisson(20, (items, 1))


def test_intervals_of_a_corpus_statistic_cover_it():
    def draw(generator):
        return (ratio_sample(generator, 0.25, lengths_of(generator)),)

    assert LEAST <= share_covered(draw, 0.25, score_interval) <= MOST


def test_intervals_of_a_paired_difference_of_corpus_statistics_cover_it():
    def draw(generator):
        lengths = lengths_of(generator)
        return ratio_sample(generator, 0.3, lengths), ratio_sample(generator, 0.25, lengths)

    assert LEAST <= share_covered(draw, 0.05, difference_interval) <= MOST


def pairs(gained, lost, items=120):
    """Two systems of which one is right alone on a share `gained` of the items, the other on a share `lost`."""

    def draw(generator):
        chance = generator.random((items, 1))
        both = generator.random((items, 1)) < 0.5
        first = np.where(chance < gained, 1.0, np.where(chance < gained + lost, 0.0, both))
        second = np.where(chance < gained, 0.0, np.where(chance < gained + lost, 1.0, both))
        return Sample(first), Sample(second)

    return draw


@pytest.mark.parametrize(
    ("gained", "lost", "most"), [(0.1, 0.1, MOST), (0.15, 0.05, MOST), (0.3, 0.1, MOST), (0.02, 0.02, 1), (0.02, 0, 1)]
)
def test_intervals_of_a_paired_difference_of_shares_cover_it(gained, lost, most):
    assert LEAST <= share_covered(pairs(gained, lost), gained - lost, difference_interval) <= most


def test_intervals_of_a_paired_difference_of_scores_cover_it():
    def draw(generator):
        difficulty = generator.beta(1, 1, (120, 1))
        systems = (difficulty * generator.beta(8 * q, 8 * (1 - q), (120, 1)) for q in (0.6, 0.5))
        return tuple(map(Sample, systems))

    assert LEAST <= share_covered(draw, 0.5 * 0.1, difference_interval) <= MOST


@pytest.mark.parametrize(("gained", "marked"), [(0, False), (5, False), (6, True)])
def test_a_difference_counts_where_the_exact_test_finds_it(gained, marked):
    """McNemar's exact test of 5 items gained and none lost has p = .0625, of 6 and none p = .031."""
    base = np.zeros((120, 1))
    better = base.copy()
    better[:gained] = 1.0
    found = difference_interval(Sample(better), Sample(base))
    assert found.estimate == pytest.approx(gained / 120)
    assert found.outside_zero is marked
    assert found.low < found.estimate < found.high or gained == 0
    assert difference_interval(Sample(base), Sample(better)).high == pytest.approx(-found.low)


def test_pairing_finds_what_two_intervals_hide():
    generator = np.random.default_rng(0)
    base = generator.beta(1, 1, (200, 1)) * 0.9
    better = base + generator.normal(0.03, 0.05, base.shape)
    assert difference_interval(Sample(better), Sample(base)).outside_zero
    assert score_interval(Sample(better)).low < score_interval(Sample(base)).high


MOST_OF_AVERAGES = 0.985
"""Where tasks are small, each interval errs on the wide side, and their average more so."""


def several_tasks(generator):
    """Scores of six tasks, right or wrong and graded, whose true average is 0.5."""
    shares = [flips(share, items)(generator)[0] for share, items in ((0.8, 300), (0.2, 150), (0.9, 40))]
    graded = [Sample(generator.beta(a, b, (items, 1))) for a, b, items in ((1, 3, 100), (3, 3, 60), (7, 13, 30))]
    return [score_interval(sample) for sample in (*shares, *graded)]


def test_intervals_of_an_average_over_tasks_cover_it():
    truth = (0.8 + 0.2 + 0.9 + 0.25 + 0.5 + 0.35) / 6
    covered = share_covered(lambda generator: (several_tasks(generator),), truth, average_interval, 600)
    assert LEAST <= covered <= MOST_OF_AVERAGES


def test_intervals_of_a_difference_of_averages_cover_it():
    def draw(generator):
        answers = [pairs(0.12, 0.08, 200)(generator), pairs(0.3, 0.2, 80)(generator)]
        graded = []
        for items in (60, 150):
            difficulty = generator.beta(1, 1, (items, 1))
            graded.append([Sample(difficulty * generator.beta(8 * q, 8 * (1 - q), (items, 1))) for q in (0.6, 0.5)])
        return ([difference_interval(*pair) for pair in (*answers, *graded)],)

    assert LEAST <= share_covered(draw, (0.04 + 0.1 + 0.05 + 0.05) / 4, average_interval, 600) <= MOST_OF_AVERAGES


def test_an_average_is_as_wide_as_resampling_every_task_makes_it():
    generator = np.random.default_rng(5)
    samples = [Sample(generator.beta(a, 2, (400, 1))) for a in (0.5, 1, 2, 6)]
    found = average_interval([score_interval(sample) for sample in samples])
    totals = np.zeros(4000)
    for sample in samples:
        totals += sample.rows[generator.integers(0, 400, (4000, 400)), 0].mean(axis=1)
    low, high = np.quantile(totals / 4, [0.025, 0.975])
    assert found.estimate == pytest.approx(np.mean([sample.score for sample in samples]))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_an_average_of_one_task_is_that_task():
    assert average_interval([Interval(0.4, 0.3, 0.45)]) == Interval(0.4, pytest.approx(0.3), pytest.approx(0.45))


def test_resamples_have_the_mean_and_spread_that_theory_gives():
    """Drawing with replacement: the standard deviation of the mean is the sample's (over n) by the root of n."""
    generator = np.random.default_rng(2)
    many, few = generator.beta(1, 3, (500, 1)), generator.integers(0, 4, (500, 1)) / 3
    for rows in (many, few):
        scores = resample(Sample(rows), 8000)
        assert scores.mean() == pytest.approx(rows.mean(), abs=4 * rows.std() / math.sqrt(500 * 8000))
        assert scores.std() == pytest.approx(rows.std() / math.sqrt(500), rel=0.04)
        assert len(np.unique(scores.round(12))) > 100


@pytest.mark.parametrize("distinct", [3, 900])
def test_the_order_of_items_and_what_was_asked_before_make_no_difference(distinct):
    generator = np.random.default_rng(1)
    rows = generator.integers(0, distinct, (1000, 1)) / distinct
    first = score_interval(Sample(rows))
    score_interval(Sample(rows[:77]))
    again = score_interval(Sample(generator.permutation(rows)))
    assert (again.low, again.high) == (first.low, first.high)


def test_ten_thousand_items_fit_into_little_memory():
    """A table of how often each of 10,000 items is drawn in 2,000 resamples would take 160 MB."""
    import tracemalloc

    rows = np.random.default_rng(0).random((10_000, 10))
    tracemalloc.start()
    resample(Sample(rows))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6


def test_one_item_says_nothing_about_the_spread():
    found = score_interval(Sample(np.array([[0.3]])))
    assert found.estimate == 0.3
    assert found.limits() is None
    assert not found.outside_zero
    assert average_interval([found, Interval(0.5, 0.4, 0.6)]).limits() is None


def test_what_is_no_pair_is_refused():
    with pytest.raises(ValueError, match="no pairs"):
        difference_interval(Sample(np.ones((3, 1))), Sample(np.ones((4, 1))))
    with pytest.raises(ValueError, match="no pairs"):
        difference_interval(Sample(np.ones((3, 2)), ratio), Sample(np.ones((3, 2))))
