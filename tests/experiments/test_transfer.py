"""The source x domain matrix finds planted transfer; correlations that forgetting alone makes go away."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from tsugiki.errors import DataError, RecipeError
from tsugiki.experiment_results import Correlation, Metric, Transfer
from tsugiki.experiments.attribution import Run
from tsugiki.experiments.correlation import correlate
from tsugiki.experiments.measured import Ending
from tsugiki.experiments.transfer import MixtureRun, transfer
from tsugiki.shapes import parse_json

SOURCES = ["code", "arithmetic", "latex"]
BITS_CODE, EXACT = Metric("bits_per_byte:code", higher_is_better=False), Metric("exact")
DOMAINS = {"code": ["bits_per_byte:code"], "arithmetic": ["exact"]}
NONE = frozenset()
ALL = frozenset(SOURCES)
MIXTURES = [NONE, *(frozenset({one}) for one in SOURCES), *(ALL - {one} for one in SOURCES), ALL]


def planted(mixture):
    code, arithmetic = "code" in mixture, "arithmetic" in mixture
    return {
        "bits_per_byte:code": 2.8 - 0.9 * code - 0.1 * arithmetic + 0.08 * (code and arithmetic),
        "exact": 0.2 + 0.4 * arithmetic + 0.05 * code * (not arithmetic),
    }


def runs(generator, noise=0.01, of_seeds=0.05, mixtures=MIXTURES):
    moved = generator.normal(0, of_seeds, 3)
    return [
        MixtureRun(mixture, seed, {
            name: value + moved[seed] + generator.normal(0, noise) for name, value in planted(mixture).items()
        })
        for mixture in mixtures for seed in range(3)
    ]  # fmt: skip


def cell(found, source, metric):
    return next(one for one in found.cells if (one.source, one.metric) == (source, metric.name))


def test_planted_transfer_is_found_added_alone_and_beside_all_others():
    found = transfer(SOURCES, runs(np.random.default_rng(0), noise=0.0), [BITS_CODE, EXACT], DOMAINS)
    assert len(found.cells) == 6
    on_code = cell(found, "arithmetic", BITS_CODE)
    assert (on_code.added.value, on_code.left_out.value) == pytest.approx((-0.1, -0.02))
    on_arithmetic = cell(found, "code", EXACT)
    assert (on_arithmetic.added.value, on_arithmetic.left_out.value) == pytest.approx((0.05, 0.0))
    assert cell(found, "latex", EXACT).added.value == pytest.approx(0, abs=1e-12)


def test_intervals_of_the_matrix_cover_and_its_marks_are_corrected():
    generator = np.random.default_rng(2)
    covered = wrong = 0
    for _ in range(300):
        found = transfer(SOURCES, runs(generator), [BITS_CODE, EXACT], DOMAINS)
        covered += cell(found, "arithmetic", BITS_CODE).added.contains(-0.1)
        covered += cell(found, "code", EXACT).left_out.contains(0.0)
        wrong += any(any(one.certain) for one in found.cells if one.source == "latex")
    assert 0.925 <= covered / 600 <= 0.975
    assert wrong / 300 <= 0.05
    assert cell(found, "code", BITS_CODE).certain == (True, True)
    assert cell(found, "arithmetic", BITS_CODE).certain[0]


def test_words_say_what_a_source_does_to_the_domain_of_another():
    found = transfer(SOURCES, runs(np.random.default_rng(3), noise=0.001), [BITS_CODE, EXACT], DOMAINS)
    assert found.words[0].startswith("arithmetic on code (bits_per_byte:code, less is better): added alone -0.")
    assert found.words[1].startswith("code on arithmetic (exact, more is better): added alone +0.0")
    assert found.words[2:] == (
        "No more than noise, neither alone nor beside the others: latex on code (bits_per_byte:code); "
        "latex on arithmetic (exact).",
    )


def test_add_one_runs_alone_fill_half_of_the_matrix():
    found = transfer(SOURCES, runs(np.random.default_rng(4), mixtures=MIXTURES[:3]), [EXACT], DOMAINS)
    assert cell(found, "code", EXACT).left_out is None
    assert cell(found, "latex", EXACT).added is None
    assert found.words[1] == "latex on arithmetic (exact, more is better): not known, no pair of runs shows it."


def test_runs_that_did_not_finish_are_in_no_difference():
    broken = [
        MixtureRun(run.sources, run.seed, Ending(True, "diverged")) if run.sources == ALL else run
        for run in runs(np.random.default_rng(5))
    ]
    found = transfer(SOURCES, broken, [EXACT], DOMAINS)
    assert all(one.left_out is None and one.added is not None for one in found.cells)
    assert parse_json(json.dumps(asdict(found), allow_nan=False), Transfer, "transfer.json") == found


def test_what_shows_no_transfer_is_refused():
    some = runs(np.random.default_rng(6))
    with pytest.raises(RecipeError, match="mixes in latex, which is none of the sources code and arithmetic"):
        transfer(SOURCES[:2], some, [EXACT], DOMAINS)
    with pytest.raises(RecipeError, match="No two mixtures that finished differ by one source"):
        transfer(SOURCES, [run for run in some if len(run.sources) == 1], [EXACT], DOMAINS)
    with pytest.raises(DataError, match=r"seed 0 has no value of the metric mgsm \(it has bits_per_byte:code, exact\)"):
        transfer(SOURCES, some, [Metric("mgsm")], DOMAINS)
    apart = [run for run in some if (run.seed == 0) == (run.sources == NONE)]
    with pytest.raises(RecipeError, match=r"cannot tell apart: .*the seeds"):
        transfer(SOURCES, apart, [EXACT], DOMAINS)


# --- correlations -------------------------------------------------------------------------------------------------


def forgetting(generator, shared=0.0):
    """Two metrics that a rate and a mixture both move; beyond that they share nothing, or a part of their noise."""
    made = []
    for rate, (_, lost) in enumerate([("1e-4", 0.0), ("1e-3", 0.2), ("1e-2", 1.0)]):
        for mixture in ("plain", "replay"):
            for seed in range(4):
                both = generator.normal(0, shared)
                start = lost - 0.3 * (mixture == "replay")
                found = {
                    "code": start + both + generator.normal(0, 0.02),
                    "exact": -start - both + generator.normal(0, 0.02),
                }
                made.append(Run({"rate": str(rate), "mixture": mixture}, seed, found))
    return made


def test_a_correlation_that_rates_and_mixtures_make_goes_away_with_their_means():
    generator = np.random.default_rng(1)
    found = correlate(forgetting(generator), ("code", "exact"), ["rate", "mixture"])
    assert found.raw < -0.99
    assert found.after_low < 0 < found.after_high
    assert found.words.startswith("Over 24 runs code and exact correlate at -0.99")
    assert "after the means of rate and mixture are removed, at " in found.words
    assert correlate(forgetting(generator, shared=0.1), ("code", "exact"), ["rate", "mixture"]).after < -0.8


def test_raw_correlation_is_pearson():
    made = forgetting(np.random.default_rng(2))
    code, exact = (np.array([run.found[name] for run in made]) for name in ("code", "exact"))
    found = correlate(made, ("code", "exact"), [])
    assert found.raw == pytest.approx(np.corrcoef(code, exact)[0, 1])
    assert found.after == pytest.approx(found.raw)


def test_fishers_interval_on_what_is_left_covers():
    generator = np.random.default_rng(3)
    inside = 0
    for _ in range(600):
        found = correlate(forgetting(generator), ("code", "exact"), ["rate", "mixture"])
        inside += found.after_low <= 0 <= found.after_high
    assert 0.92 <= inside / 600 <= 0.975


def test_where_nothing_is_left_to_vary_there_is_no_correlation():
    exact_fit = [Run({"rate": str(i)}, seed, {"a": float(i), "b": 2.0 * i}) for i in range(3) for seed in range(3)]
    found = correlate(exact_fit, ("a", "b"), ["rate"])
    assert (found.raw, found.after, found.after_low) == (pytest.approx(1.0), None, None)
    assert found.words.endswith("nothing is left to correlate.")
    assert parse_json(json.dumps(asdict(found), allow_nan=False), Correlation, "correlation.json") == found
    assert correlate([], ("a", "b"), []).raw is None
    still = [Run({}, seed, {"a": 1.0, "b": float(seed)}) for seed in range(4)]
    assert correlate(still, ("a", "b"), []).words == "Over 4 runs a and b have no correlation that could be computed."
    with pytest.raises(RecipeError, match="no factor speed"):
        correlate(exact_fit, ("a", "b"), ["speed"])
