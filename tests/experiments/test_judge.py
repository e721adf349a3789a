"""The judge's rule on published rows and planted results: what it chooses, why, and how certain it says it is."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from tsugiki.errors import DataError
from tsugiki.experiment_results import Judgement, Metric
from tsugiki.experiments.judge import judge
from tsugiki.experiments.measured import Ending, Items, Measurement, Trial
from tsugiki.score_combinations import bits_per_byte
from tsugiki.shapes import parse_json
from tsugiki.statistics import Sample

JA, EN, MGSM = Metric("suite:ja"), Metric("suite:en"), Metric("mgsm")
BITS = Metric("bits_per_byte:ja", higher_is_better=False)
BITS_EN = Metric("bits_per_byte:en", higher_is_better=False)


def points(*values, metrics=(JA, EN, MGSM)):
    return {metric.name: Measurement(value) for metric, value in zip(metrics, values, strict=True)}


def one_seed(name, *values, metrics=(JA, EN, MGSM)):
    return Trial(name, {0: points(*values, metrics=metrics)})


SWALLOW_BASE = points(0.3725, 0.5599, 0.1800)
SWALLOW = [
    one_seed("lr-1e-4", 0.3375, 0.3600, 0.0880),
    one_seed("lr-6e-5", 0.3804, 0.4268, 0.1160),
    one_seed("lr-2e-5", 0.4044, 0.5208, 0.1600),
    one_seed("lr-1e-6", 0.2182, 0.5499, 0.0480),
]
"""Swallow-MS 7B after 2,000 steps: averages of Japanese and English tasks, and mgsm, as published."""


def by_name(judgement):
    return {trial.name: trial for trial in judgement.trials}


def test_with_falls_of_five_points_allowed_the_published_rows_recommend_what_their_makers_took():
    found = judge(SWALLOW_BASE, SWALLOW, [JA], {EN: 0.05, MGSM: 0.05})
    assert (found.recommended, found.nearest) == ("lr-2e-5", None)
    assert found.beats == ("lr-1e-4", "lr-6e-5")
    assert found.choice == (
        "lr-2e-5 is recommended: suite:ja 0.3725 -> 0.4044; suite:en falls by 0.0391 of 0.05 allowed; mgsm falls by 0.02 "
        "of 0.05 allowed. It beats lr-1e-4 and lr-6e-5 in all 3 metrics. No interval is known: there are no scores of "
        "single items or no second seeds."
    )
    assert all(verdict.certain is None for trial in found.trials for verdict in (*trial.gain, *trial.keep))
    assert found.fronts == {"suite:en": ("lr-2e-5", "lr-1e-6"), "mgsm": ("lr-2e-5",)}


def test_with_one_point_allowed_none_of_the_published_rows_gains_and_keeps():
    found = judge(SWALLOW_BASE, SWALLOW, [JA], {EN: 0.01, MGSM: 0.01})
    assert (found.recommended, found.nearest) == (None, "lr-2e-5")
    assert by_name(found)["lr-2e-5"].worst_excess == 0.0291
    assert found.choice.startswith(
        "No trial both gains and keeps. lr-2e-5 comes nearest: suite:ja 0.3725 -> 0.4044; suite:en falls by 0.0391, 0.0291 "
        "too far; mgsm falls by 0.02, 0.01 too far. It beats lr-1e-4 and lr-6e-5"
    )
    kept = {trial.name: trial.keep[0].holds for trial in found.trials}
    assert kept == {"lr-1e-4": False, "lr-6e-5": False, "lr-2e-5": False, "lr-1e-6": True}


def test_the_rule_stands_in_one_sentence():
    assert judge(SWALLOW_BASE, SWALLOW, [JA], {EN: 0.05, MGSM: 0.05}).rule == (
        "Among the trials that improve suite:ja and let suite:en fall by at most 0.05 and mgsm fall by at most 0.05, those "
        "whose suite:ja cannot be told from the best one's (the 95 % interval of the paired difference contains 0) are "
        "tied, and of these the one with the smallest worst fall, in units of what is allowed, is recommended; where there "
        "is none, the one among those that gain with the smallest worst excess is nearest."
    )


@pytest.mark.parametrize(
    ("base", "value", "tolerance", "kept"),
    [
        (0.5599, 0.5499, 0.01, True),
        (0.56, 0.55, 0.01, True),  # .010000000000000009 in binary
        (0.18, 0.13, 0.05, True),
        (0.56, 0.5499, 0.01, False),
        (2 / 3, 37 / 60, 0.05, True),  # .05 exactly: the division's own rounding counts for nothing
        (7 / 30, 1 / 30, 0.2, True),  # a little more with 16 digits
        (1234567.1, 1234567.0, 0.1, True),  # as floats 1e-10 too far
        (0.5, 0.5, 0.0, True),
        (0.5, 0.4999999, 0.0, False),
    ],
)
def test_falls_are_compared_as_decimals(base, value, tolerance, kept):
    found = judge(
        points(0.1, base, metrics=(JA, EN)), [one_seed("t", 0.2, value, metrics=(JA, EN))], [JA], {EN: tolerance}
    )
    assert found.trials[0].keep[0].holds is kept


def test_metrics_that_fall_when_they_get_better():
    base = points(2.5, 2.2, metrics=(BITS, BITS_EN))
    trials = [
        one_seed("low", 2.45, 2.19, metrics=(BITS, BITS_EN)),
        one_seed("high", 2.3, 2.28, metrics=(BITS, BITS_EN)),
    ]
    found = judge(base, trials, [BITS], {BITS_EN: 0.05})
    assert (found.recommended, by_name(found)["high"].keep[0].fall) == ("low", 0.08)
    assert by_name(found)["high"].worst_fall == 1.6
    assert "bits_per_byte:en is no worse" in found.choice
    assert found.fronts == {"bits_per_byte:en": ("low", "high")}
    allowed = judge(base, trials, [BITS], {BITS_EN: 0.1})
    assert allowed.recommended == "high"
    assert "bits_per_byte:en rises by 0.08 of 0.1 allowed" in allowed.choice


def test_another_gain_metric_must_not_fall_below_the_base():
    base = points(0.3, 2.0, metrics=(JA, BITS))
    trials = [one_seed("a", 0.5, 2.1, metrics=(JA, BITS)), one_seed("b", 0.4, 2.0, metrics=(JA, BITS))]
    assert judge(base, trials, [JA, BITS], {}).recommended == "b"
    assert judge(base, trials[:1], [JA, BITS], {}).choice.startswith(
        "No trial gains: none improves suite:ja and leaves the other gain metrics no worse than the base's."
    )


def test_a_first_gain_metric_that_stands_still_is_no_gain():
    found = judge(points(0.3, metrics=(JA,)), [one_seed("a", 0.3, metrics=(JA,))], [JA], {})
    assert (found.recommended, found.nearest, found.beats) == (None, None, ())


def test_worst_falls_are_compared_in_units_of_what_is_allowed():
    base = points(0.3, 0.5, 0.5)
    trials = [one_seed("a", 0.4, 0.46, 0.5), one_seed("b", 0.4, 0.5, 0.492)]  # .4 of .1, and .8 of .01
    assert judge(base, trials, [JA], {EN: 0.1, MGSM: 0.01}).recommended == "a"
    assert judge(base, trials, [JA], {EN: 0.01, MGSM: 0.001}).nearest == "a"  # 4 times and 8 times what is allowed


def test_what_may_not_fall_at_all_comes_last_when_it_falls():
    base = points(0.3, 0.5, 0.5)
    trials = [one_seed("a", 0.4, 0.5, 0.499), one_seed("b", 0.4, 0.2, 0.5), one_seed("c", 0.4, 0.5, 0.498)]
    found = judge(base, trials, [JA], {EN: 0.1, MGSM: 0.0})
    assert (found.nearest, by_name(found)["a"].worst_fall) == ("b", None)
    assert judge(base, [trials[2], trials[0]], [JA], {EN: 0.1, MGSM: 0.0}).nearest == "a"


# --- intervals ---------------------------------------------------------------------------------------------------


def texts(generator, rate, size, ids):
    nats = rate * size * math.log(2)
    return Measurement.of({"books": Items(ids, Sample(np.stack([nats, size], axis=1), bits_per_byte))})


def planted(changes, *, items=60, seeds=(0, 1), of_seeds=0.004, of_items=0.01):
    """A base, and trials whose bits per byte differ from it by planted changes {trial: {metric: change}}."""
    generator = np.random.default_rng(17)
    ids = [f"d{i}" for i in range(items)]
    size = np.round(generator.lognormal(6, 0.5, items))
    rates = {metric: generator.normal(2.2, 0.3, items) for metric in (BITS, BITS_EN)}
    base = {metric.name: texts(generator, rate, size, ids) for metric, rate in rates.items()}
    trials = []
    for name, moved in changes.items():
        fixed = {metric: rate + moved[metric] + generator.normal(0, of_items, items) for metric, rate in rates.items()}
        trials.append(Trial(name, {
            seed: {
                metric.name: texts(generator, rate + generator.normal(0, of_seeds), size, ids)
                for metric, rate in fixed.items()
            }
            for seed in seeds
        }))  # fmt: skip
    return base, trials


CHANGES = {
    "low": {BITS: -0.05, BITS_EN: 0.0},
    "middle": {BITS: -0.200, BITS_EN: 0.02},
    "high": {BITS: -0.201, BITS_EN: 0.045},
    "wild": {BITS: -0.15, BITS_EN: 0.3},
}


def test_of_trials_that_the_gain_cannot_tell_apart_the_one_that_loses_least_is_recommended():
    found = judge(*planted(CHANGES), [BITS], {BITS_EN: 0.06})
    assert {trial.name for trial in found.trials if trial.tied} == {"middle", "high"}
    assert found.recommended == "middle"
    assert "In bits_per_byte:ja it cannot be told from high, and it loses least." in found.choice
    assert found.choice.endswith("Every verdict on it is certain.")
    assert [by_name(found)[name].keep[0].holds for name in CHANGES] == [True, True, True, False]
    assert by_name(found)["wild"].keep[0].certain
    from_best = by_name(found)["low"].from_best
    assert from_best.low < 0.15 < from_best.high
    assert from_best.basis == "items and seeds"


def test_a_verdict_near_its_tolerance_is_not_certain():
    found = judge(
        *planted({"t": {BITS: -0.2, BITS_EN: 0.0595}, "u": {BITS: -0.1, BITS_EN: 0.0}}), [BITS], {BITS_EN: 0.06}
    )
    near = by_name(found)["t"].keep[0]
    assert near.certain is False
    assert near.difference.contains(0.06)
    assert by_name(found)["t"].gain[0].certain


def test_with_one_seed_intervals_are_of_items_only_and_nothing_is_called_certain():
    found = judge(*planted(CHANGES, seeds=(0,)), [BITS], {BITS_EN: 0.06})
    verdict = found.trials[0].gain[0]
    assert (verdict.difference.basis, verdict.certain) == ("items", None)
    assert verdict.difference.low is not None
    assert "No interval is known: each trial has one seed only." in found.choice


def test_marks_of_a_table_without_any_effect_err_in_few_tables():
    """Gain and keep at their boundaries: whatever is certain here is wrong."""
    generator = np.random.default_rng(3)
    wrong, plain, tables = 0, 0, 60
    ids = [str(i) for i in range(30)]

    def measured(values):
        return Measurement.of({"task": Items(ids, Sample(values[:, None]))})

    for _ in range(tables):
        metrics = [Metric(name) for name in "abc"]
        difficulty = {metric: generator.normal(0, 1, 30) for metric in metrics}
        base = {metric.name: measured(values) for metric, values in difficulty.items()}
        trials = []
        for name in ("t", "u", "v", "w"):
            fixed = {metric: values + generator.normal(0, 0.3, 30) for metric, values in difficulty.items()}
            trials.append(Trial(name, {
                seed: {metric.name: measured(values + generator.normal(0, 0.05)) for metric, values in fixed.items()}
                for seed in (0, 1)
            }))  # fmt: skip
        verdicts = [v for t in judge(base, trials, metrics[:2], {metrics[2]: 0.0}).trials for v in (*t.gain, *t.keep)]
        wrong += any(verdict.certain for verdict in verdicts)
        plain += any(not verdict.difference.contains(0) for verdict in verdicts)
    assert wrong / tables <= 0.135  # .05, and three standard deviations
    assert plain / tables > 0.25


# --- what went wrong in a trial -----------------------------------------------------------------------------------


def test_a_trial_that_diverged_at_one_seed_is_a_result_and_not_chosen():
    base, trials = planted(CHANGES)
    broken = Trial("middle", {**trials[1].seeds, 1: Ending(True, "diverged at step 812")})
    gone = Trial("gone", {0: Ending(False, "killed by signal 9"), 1: Ending(False, "killed by signal 9")})
    found = judge(base, [trials[0], broken, trials[2], trials[3], gone], [BITS], {BITS_EN: 0.06})
    assert found.recommended == "high"
    assert by_name(found)["middle"].excluded == "seed 1: diverged at step 812"
    assert by_name(found)["middle"].gain[0].by_seed.keys() == {"0"}
    assert by_name(found)["gone"].gain == ()
    assert "Not considered: middle (seed 1: diverged at step 812), gone (seed 0: killed" in found.choice
    assert not any("middle" in front for front in found.fronts.values())


def test_a_trial_that_died_at_one_seed_is_judged_by_the_other():
    base, trials = planted(CHANGES)
    dead = Trial("middle", {**trials[1].seeds, 1: Ending(False, "out of memory")})
    found = judge(base, [trials[0], dead, *trials[2:]], [BITS], {BITS_EN: 0.06})
    assert found.recommended == "middle"
    assert by_name(found)["middle"].endings == {"1": "out of memory"}
    whole = judge(base, trials, [BITS], {BITS_EN: 0.06})
    errors = [by_name(of)["middle"].gain[0].difference.error for of in (found, whole)]
    assert errors[0] > errors[1]  # the spread between seeds is known from the others


def test_when_every_trial_is_gone_the_words_say_so():
    found = judge(SWALLOW_BASE, [Trial("t", {0: Ending(True, "diverged at step 3")})], [JA], {EN: 0.05})
    assert found.choice == ("No trial gains: none improves suite:ja. Not considered: t (seed 0: diverged at step 3).")


def test_what_was_not_measured_alike_is_refused():
    with pytest.raises(DataError, match=r"trial a at seed 0 has no value of the metric mgsm \(it has suite:ja"):
        judge(SWALLOW_BASE, [one_seed("a", 0.1, metrics=(JA,))], [JA], {MGSM: 0.1})
    base, trials = planted(CHANGES)
    fewer, _ = planted(CHANGES, items=59)
    with pytest.raises(DataError, match="the base has 59 items, trial low at seed 0 has 60, not the same ones"):
        judge(fewer, trials, [BITS], {})
    with pytest.raises(ValueError, match="same name"):
        judge(base, [*trials, *trials], [BITS], {})
    with pytest.raises(ValueError, match="diverged"):
        Measurement(math.nan)


def test_a_judgement_is_plain_json():
    for found in (judge(*planted(CHANGES), [BITS], {BITS_EN: 0.06}), judge(SWALLOW_BASE, SWALLOW, [JA], {EN: 0.01})):
        text = json.dumps(asdict(found), allow_nan=False)
        assert parse_json(text, Judgement, "judgement.json") == found
