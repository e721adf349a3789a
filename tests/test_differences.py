"""Differences of models trained at few seeds: intervals cover a planted truth, and simpler ones do not."""

import math

import numpy as np
import pytest

from tsugiki.differences import alike_spreads, influences, item_variance, seed_variance
from tsugiki.estimates import Variance, estimate
from tsugiki.score_combinations import bits_per_byte, bleu
from tsugiki.statistics import Sample

REPEATS = 1000
LEAST, MOST = 0.925, 0.98
"""Around 95 %: the share that covers has a standard deviation of .7 % in so many repeats. Noise of single items at single
seeds counts in both parts of the variance: where it is most of both, the intervals are a little wide."""


def intervals(trials, base):
    """Of the first trial against the base: by the rule, from items alone, from its own seeds alone.

    trials: [trial][seed] -> Sample; base: a Sample."""
    scores = {str(j): {s: sample.score for s, sample in enumerate(of)} for j, of in enumerate(trials)}
    own = np.array(list(scores["0"].values()))
    value, seeds = own.mean() - base.score, len(own)
    items, between = item_variance(trials[0], [base]), seed_variance(scores)
    over_seeds = Variance(between.value / seeds, between.freedom)
    return {
        "rule": estimate(value, [items, over_seeds], "items and seeds"),
        "items": estimate(value, [items], "items"),
        "seeds": estimate(value, [Variance(own.var(ddof=1) / seeds, seeds - 1)], "seeds"),
        "pooled": estimate(value, [over_seeds], "seeds"),
    }


def coverage(draw, truth, repeats=REPEATS):
    generator = np.random.default_rng(23)
    covered = dict.fromkeys(("rule", "items", "seeds", "pooled"), 0)
    width = dict.fromkeys(covered, 0.0)
    for _ in range(repeats):
        for kind, found in intervals(*draw(generator)).items():
            covered[kind] += found.contains(truth)
            width[kind] += (found.high - found.low) / 2
    return {kind: count / repeats for kind, count in covered.items()}, width


def graded(items, seeds, *, of_seeds, of_items=0.3, trials=4):
    """Scores of items: each trial moves each item by .1 on average, each seed all items of its run."""

    def draw(generator):
        difficulty = generator.normal(0.5, 1.0, items)
        runs = []
        for _ in range(trials):
            moved = difficulty + 0.1 + generator.normal(0, of_items, items)
            runs.append([
                Sample((moved + generator.normal(0, of_seeds) + generator.normal(0, 0.2, items))[:, None])
                for _ in range(seeds)
            ])  # fmt: skip
        return runs, Sample(difficulty[:, None])

    return draw


@pytest.mark.parametrize(
    ("items", "seeds", "of_seeds"), [(20, 2, 0.05), (200, 2, 0.05), (200, 3, 0.05), (60, 2, 0.2), (200, 2, 0.01)]
)
def test_intervals_of_a_difference_from_the_base_cover_it(items, seeds, of_seeds):
    covered, _ = coverage(graded(items, seeds, of_seeds=of_seeds), 0.1)
    assert LEAST <= covered["rule"] <= MOST


def test_items_alone_and_seeds_alone_are_too_narrow_and_own_seeds_too_wide():
    covered, width = coverage(graded(60, 2, of_seeds=0.08), 0.1)
    assert covered["items"] < 0.85
    assert covered["pooled"] < 0.925
    assert width["seeds"] > 3 * width["rule"]  # one degree of freedom
    assert LEAST <= covered["rule"] <= MOST


def resampled(runs, base, generator, resamples=300):
    """The two-way bootstrap: items and seeds drawn anew, plain percentiles of the mean difference."""
    differences = np.stack([run.rows[:, 0] - base.rows[:, 0] for run in runs])  # [seeds, items]
    seeds, items = (generator.multinomial(n, [1 / n] * n, resamples) / n for n in differences.shape)
    return np.quantile(((seeds @ differences) * items).sum(axis=1), [0.025, 0.975])


def test_items_and_seeds_resampled_are_too_narrow():
    generator, covered = np.random.default_rng(12), 0
    for _ in range(REPEATS):
        trials, base = graded(60, 2, of_seeds=0.08, trials=1)(generator)
        low, high = resampled(trials[0], base, generator)
        covered += low <= 0.1 <= high
    assert covered / REPEATS < 0.91


def documents(items, seeds=2, *, of_seeds=0.01, trials=4):
    """Nats and bytes of documents of very unequal length, of which the long ones gain more: 0.1 + 0.1 of a byte's bits
    in the longer half."""

    def draw(generator):
        size = np.round(generator.lognormal(6.5, 0.7, items))
        rate = generator.normal(2.0, 0.3, items)
        gain = 0.1 + 0.1 * (size > LONG)

        def run(bits):
            return Sample(np.stack([bits * size * math.log(2), size], axis=1), bits_per_byte)

        runs = [
            [run(rate - gain - generator.normal(0, 0.05, items) - generator.normal(0, of_seeds)) for _ in range(seeds)]
            for _ in range(trials)
        ]
        return runs, run(rate)

    return draw


LONG = math.exp(6.5)
LONG_SHARE = 0.5 * (1 + math.erf(0.7 / math.sqrt(2)))
"""Of all bytes, those in the longer half of documents whose lengths are log-normal with a spread of .7."""


@pytest.mark.parametrize("items", [20, 60])
def test_bits_per_byte_of_documents_of_unequal_length_are_weighed_by_bytes(items):
    truth = -(0.1 + 0.1 * LONG_SHARE)
    covered, _ = coverage(documents(items), truth)
    assert LEAST <= covered["rule"] <= MOST
    runs, base = documents(100_000, 1, of_seeds=0.0, trials=1)(np.random.default_rng(1))
    each = [one.rows[:, 0] / one.rows[:, 1] / math.log(2) for one in (runs[0][0], base)]
    assert runs[0][0].score - base.score == pytest.approx(truth, abs=0.001)
    assert (each[0] - each[1]).mean() == pytest.approx(-0.15, abs=0.001)  # documents counted alike: another answer


def test_a_ratio_has_the_variance_of_its_linear_form():
    """Var(Σx / Σy) ≈ n / (n - 1) Σ(x - r y)² / (Σy)²."""
    generator = np.random.default_rng(4)
    size = 50 + generator.poisson(400, 300).astype(float)
    nats = size * generator.normal(1.4, 0.2, 300)
    sample = Sample(np.stack([nats, size], axis=1), bits_per_byte)
    ratio = nats.sum() / size.sum()
    linear = 300 / 299 * ((nats - ratio * size) ** 2).sum() / size.sum() ** 2 / math.log(2) ** 2
    assert influences(sample).mean() == pytest.approx(sample.score, rel=1e-4)
    assert influences(sample).var(ddof=1) / 300 == pytest.approx(linear, rel=0.02)


def test_corpus_scores_have_item_variances_too():
    generator = np.random.default_rng(6)
    rows = np.hstack([generator.integers(1, 9, (40, 4)), np.full((40, 4), 9), np.full((40, 2), 10)]).astype(float)
    better = rows.copy()
    better[:, :4] += 0.5
    found = item_variance([Sample(better, bleu)], [Sample(rows, bleu)])
    assert 0 < found.value < 0.01


def right_or_wrong(share, change, items=40, seeds=2):
    def draw(generator):
        base = generator.random((items, 1)) < share

        def run():
            chance = generator.random((items, 1))
            return np.where(base, chance > change, chance < change).astype(float)

        return [[Sample(run()) for _ in range(seeds)] for _ in range(4)], Sample(base.astype(float))

    return draw


@pytest.mark.parametrize(("share", "change"), [(0.5, 0.2), (0.5, 0.02), (0.9, 0.1)])
def test_intervals_of_differences_of_shares_cover_also_where_hardly_an_item_changes(share, change):
    covered, _ = coverage(right_or_wrong(share, change), change * (1 - 2 * share), 600)
    assert covered["rule"] >= LEAST


def test_items_that_all_stay_right_make_nothing_certain():
    same = Sample(np.ones((20, 1)))
    found = estimate(0.0, [item_variance([same, same], [same])], "items")
    assert found.high == pytest.approx(2.093 * math.sqrt(2 / 21 / 22), rel=1e-3)


def test_seed_variances_are_pooled_over_trials():
    values = {"a": {0: 1.0, 1: 3.0}, "b": {0: 5.0, 1: 5.0, 2: 8.0}, "c": {1: 4.0}}
    assert seed_variance(values) == Variance(pytest.approx((2 + 6) / 3), 3)  # sums of squares over degrees of freedom
    assert seed_variance({"a": {0: 1.0}, "b": {0: 2.0}}) is None
    assert seed_variance({}) is None


def spreading(generator, *deviations, seeds=2):
    """Values [trial][seed] around 0, which spread by these."""
    return {f"{n}": dict(enumerate(generator.normal(0, of, seeds))) for n, of in enumerate(deviations)}


@pytest.mark.parametrize(
    ("deviations", "seeds"),
    [
        ((1, 1, 1, 1), 2),
        ((1, 1, 1), 3),
        ((1, 1, 1, 100), 2),
        ((1, 1, 1, 10), 3),
        ((1, 1, 100, 100), 2),
        ((1, 1, 100), 2),
    ],
)
def test_intervals_of_sound_trials_cover_beside_wrecks_and_are_not_as_wide_as_these(deviations, seeds):
    generator, covered, wide, before = np.random.default_rng(31), 0, [], 0
    for _ in range(2 * REPEATS):
        values = spreading(generator, *deviations, seeds=seeds)
        alike, mean = alike_spreads(values), np.mean(list(values["0"].values()))
        pooled = seed_variance({name: of for name, of in values.items() if name in (alike if "0" in alike else {"0"})})
        found = estimate(mean, [Variance(pooled.value / seeds, pooled.freedom)], "seeds")
        everything = seed_variance(values)
        covered += found.contains(0)
        before += estimate(mean, [Variance(everything.value / seeds, everything.freedom)], "seeds").contains(0)
        wide.append((found.high - found.low) / 2)
    assert LEAST <= covered / (2 * REPEATS) <= MOST
    assert np.median(wide) < 5  # times the deviation; with one wreck of 100 pooled over all, 90
    if max(deviations) > 1:
        assert before / (2 * REPEATS) > 0.98


def test_trials_that_spread_alike_are_told_from_wrecks():
    generator, spared, found = np.random.default_rng(32), 0, 0
    for _ in range(300):
        spared += len(alike_spreads(spreading(generator, 1, 1, 1, 1))) == 4
        found += alike_spreads(spreading(generator, 1, 1, 1, 1, 300, 300)) == {"0", "1", "2", "3"}
    assert spared / 300 > 0.96
    assert found / 300 > 0.95
    small, large = {0: 1.0, 1: 1.001}, {0: 1.0, 1: 9.0}
    assert alike_spreads({"a": small, "b": {0: 2.0, 1: 2.001}, "c": small, "d": large}) == {"a", "b", "c"}
    equal = {0: 0.5, 1: 0.5}  # scores of a few items: no measure of how far others may spread
    assert alike_spreads({"a": equal, "b": equal, "c": equal, "d": {0: 0.5, 1: 0.55}}) == {"a", "b", "c", "d"}
    assert alike_spreads({"a": small, "b": small, "c": large, "one seed": {0: 5.0}}) == {"a", "b", "one seed"}
    assert alike_spreads({"a": {0: 1.0}, "b": {0: 2.0}}) == {"a", "b"}
    assert alike_spreads({}) == set()


def test_what_a_seed_does_to_all_trials_drops_out_of_their_differences():
    values = {"a": {0: 1.0, 1: 3.0}, "b": {0: 2.0, 1: 4.1}, "c": {0: 0.5, 1: 2.4}}
    plain, same = seed_variance(values), seed_variance(values, same_seeds=True)
    table = np.array([[1.0, 3.0], [2.0, 4.1], [0.5, 2.4]])
    rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    assert same == Variance(pytest.approx((rest**2).sum() / 2), 2)
    assert plain.value > 100 * same.value
    assert seed_variance({"a": {0: 1.0, 1: 2.0}}, same_seeds=True) is None  # one trial has nothing to compare with


def test_intervals_of_a_difference_between_trials_at_the_same_seeds_cover_it():
    generator = np.random.default_rng(9)
    covered, narrower = 0, 0
    for _ in range(REPEATS):
        difficulty, shared = generator.normal(0, 1, 80), generator.normal(0, 0.1, 2)
        runs = [
            [Sample((moved + shared[s] + generator.normal(0, 0.04) + generator.normal(0, 0.2, 80))[:, None]) for s in (0, 1)]
            for moved in (difficulty + 0.1 * j + generator.normal(0, 0.3, 80) for j in range(4))
        ]  # fmt: skip
        scores = {str(j): {s: one.score for s, one in enumerate(of)} for j, of in enumerate(runs)}
        value = np.mean(list(scores["2"].values())) - np.mean(list(scores["1"].values()))
        items, between = item_variance(runs[2], runs[1]), seed_variance(scores, same_seeds=True)
        # Two trials at two seeds: twice the variance between seeds, over two.
        covered += estimate(value, [items, between], "items and seeds").contains(0.1)
        narrower += between.value < seed_variance(scores).value
    assert LEAST <= covered / REPEATS <= MOST
    assert narrower > 0.75 * REPEATS


def test_one_item_and_no_pairs():
    assert item_variance([Sample(np.ones((1, 1)))], [Sample(np.ones((1, 1)))]) is None
    with pytest.raises(ValueError, match="no pairs"):
        item_variance([Sample(np.ones((3, 1)))], [Sample(np.ones((4, 1)))])
    with pytest.raises(ValueError, match="no pairs"):
        item_variance([Sample(np.ones((3, 2)), bits_per_byte)], [Sample(np.ones((3, 2)), bleu)])
