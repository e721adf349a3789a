"""Planted effects are found again, intervals cover, and designs that cannot say what is asked are refused."""

import json
import math
from dataclasses import asdict
from itertools import combinations, product

import numpy as np
import pytest

from tsugiki.errors import DataError, RecipeError
from tsugiki.experiment_results import Attribution, Metric
from tsugiki.experiments.attribution import Comparison, Run, attribute
from tsugiki.experiments.attribution_design import (
    Factor,
    all_terms,
    columns,
    full_design,
    half_design,
    require_identifiable,
    two_way_terms,
)
from tsugiki.experiments.measured import Ending
from tsugiki.shapes import parse_json

MATHEMATICS, CODE = Factor("mathematics", ("no", "yes")), Factor("code", ("no", "yes"))
RATE, PRECISION = Factor("learning rate", ("3e-4", "3e-3")), Factor("precision", ("fp32", "bf16"))
FACTORS = [MATHEMATICS, CODE, RATE, PRECISION]
EXACT, BITS = Metric("exact"), Metric("bits_per_byte:en", higher_is_better=False)
SEEDS = (0, 1, 2)


def planted(cell):
    """Exact match: 0/1-coded from nothing added at the low rate."""
    yes, code, high = cell["mathematics"] == "yes", cell["code"] == "yes", cell["learning rate"] == "3e-3"
    return 0.2 + 0.3 * yes + 0.02 * code - 0.1 * high + 0.08 * (yes and high) - 0.05 * (cell["precision"] == "bf16")


def simulated(generator, factors=FACTORS, truth=planted, *, noise=0.02, of_seeds=0.05, cells=None):
    moved = generator.normal(0, of_seeds, len(SEEDS))
    return [
        Run(cell, seed, {"exact": truth(cell) + moved[seed] + generator.normal(0, noise), "bits_per_byte:en": 2.2})
        for cell, seed in product(cells or full_design(factors), SEEDS)
    ]


NOTHING = {"mathematics": "no", "code": "no", "learning rate": "3e-4", "precision": "fp32"}
ALL = {"mathematics": "yes", "code": "yes", "learning rate": "3e-3", "precision": "fp32"}
DATA = Comparison(NOTHING, ALL, {"data": ["mathematics", "code"]})


def effect(found, term, metric="exact"):
    return next(one for one in found.effects if one.term == term and one.metric == metric)


def test_without_noise_planted_effects_are_found_to_the_digit():
    found = attribute(FACTORS, simulated(np.random.default_rng(0), noise=0.0), [EXACT], [DATA])
    # Averaged over the others: the interaction counts half in each main effect.
    assert effect(found, "mathematics").estimate.value == pytest.approx(0.3 + 0.04)
    assert effect(found, "learning rate").estimate.value == pytest.approx(-0.1 + 0.04)
    assert effect(found, "precision").estimate.value == pytest.approx(-0.05)
    both = effect(found, "mathematics × learning rate")
    assert (both.levels, both.estimate.value) == ("(yes - no) at 3e-3 minus at 3e-4", pytest.approx(0.08))
    assert effect(found, "mathematics × code").estimate.value == pytest.approx(0, abs=1e-12)
    change = found.decompositions[0]
    assert change.total.value == pytest.approx(0.3 + 0.02 - 0.1 + 0.08)
    assert {part: one.value for part, one in change.alone.items()} == pytest.approx(
        {"data": 0.32, "learning rate": -0.1}
    )
    assert change.rest.value == pytest.approx(0.08)


def test_level_means_count_every_combination_of_the_others_alike_also_where_some_runs_are_gone():
    runs = simulated(np.random.default_rng(1), noise=0.0, of_seeds=0.0)
    runs[0] = Run(runs[0].cell, runs[0].seed, Ending(True, "diverged at step 40"))
    runs[50 % len(runs)] = Run(runs[2].cell, runs[2].seed, Ending(False, "killed by signal 9"))
    found = attribute(FACTORS, runs, [EXACT])
    assert (found.runs, len(found.left_out)) == (46, 2)
    assert found.left_out[
        "mathematics no, code no, learning rate 3e-4, precision fp32, seed 0"
    ] == "diverged at step 40"  # fmt: skip
    truth = {
        level: np.mean([planted(c) for c in full_design(FACTORS) if c["mathematics"] == level])
        for level in ("no", "yes")
    }
    means = {one.level: one.estimate.value for one in found.means if one.factor == "mathematics"}
    assert means == pytest.approx(truth)
    assert found.grand_mean["exact"].value == pytest.approx(np.mean(list(truth.values())))


def test_intervals_of_effects_and_of_parts_of_a_change_cover_what_was_planted():
    generator = np.random.default_rng(5)
    truths = {"mathematics": 0.34, "code": 0.02, "mathematics × learning rate": 0.08, "code × precision": 0.0}
    repeats, covered, rest, alone = 300, 0, 0, 0
    for _ in range(repeats):
        found = attribute(FACTORS, simulated(generator), [EXACT], [DATA])
        covered += sum(effect(found, term).estimate.contains(truth) for term, truth in truths.items())
        change = found.decompositions[0]
        rest += change.rest.contains(0.08)
        alone += change.alone["learning rate"].contains(-0.1)
    assert 0.925 <= covered / (repeats * len(truths)) <= 0.975
    assert 0.915 <= rest / repeats <= 0.985
    assert 0.915 <= alone / repeats <= 0.985


def test_seeds_as_blocks_narrow_the_intervals():
    runs = simulated(np.random.default_rng(6), noise=0.01, of_seeds=0.05)
    blocked = effect(attribute(FACTORS, runs, [EXACT]), "code").estimate
    # The same runs as if each were at a seed of its own place, so that no block takes the seeds' part away.
    values = np.array([run.found["exact"] for run in runs])
    design, _ = columns(FACTORS, two_way_terms(FACTORS), [run.cell for run in runs])
    rest = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    plain = 2 * math.sqrt((rest**2).sum() / (48 - 11) / 48)
    assert blocked.error < 0.5 * plain


def test_marks_are_corrected_over_the_table():
    generator = np.random.default_rng(8)
    wrong = plain = 0
    for _ in range(150):
        found = attribute(FACTORS, simulated(generator, truth=lambda cell: 0.2), [EXACT])
        wrong += any(one.certain for one in found.effects)
        plain += any(not one.estimate.contains(0) for one in found.effects)
    assert wrong / 150 <= 0.105  # .05, and three standard deviations
    assert plain / 150 > 0.25
    assert effect(attribute(FACTORS, simulated(generator), [EXACT]), "mathematics").certain


def test_factors_of_several_levels():
    rate = Factor("learning rate", ("1e-4", "3e-4", "1e-3"))
    truth = {"1e-4": 0.5, "3e-4": 0.4, "1e-3": 0.1}
    extra = {"1e-4": 0.0, "3e-4": 0.05, "1e-3": -0.07}

    def value(cell):
        return truth[cell["learning rate"]] + (extra[cell["learning rate"]] + 0.2) * (cell["precision"] == "bf16")

    factors = [rate, PRECISION]
    found = attribute(factors, simulated(np.random.default_rng(2), factors, value, noise=0.0), [EXACT])
    mains = {one.levels: one.estimate.value for one in found.effects if one.term == "learning rate"}
    assert mains == pytest.approx({"3e-4 - 1e-4": -0.1 + 0.025, "1e-3 - 1e-4": -0.4 - 0.035})
    both = {one.levels: one.estimate.value for one in found.effects if "×" in one.term}
    assert both == pytest.approx({
        "(3e-4 - 1e-4) at bf16 minus at fp32": 0.05, "(1e-3 - 1e-4) at bf16 minus at fp32": -0.07,
    })  # fmt: skip


def test_a_change_of_three_factors_keeps_what_only_all_three_make():
    def value(cell):
        return planted(cell) + 0.3 * (cell["mathematics"] == "yes") * (cell["code"] == "yes") * (
            cell["learning rate"] == "3e-3"
        )

    found = attribute(
        FACTORS, simulated(np.random.default_rng(3), truth=value, noise=0.0), [EXACT], [Comparison(NOTHING, ALL)]
    )
    change = found.decompositions[0]
    assert list(change.alone) == ["mathematics", "code", "learning rate"]
    assert change.rest.value == pytest.approx(0.08 + 0.3)
    assert "the rest of all together" in change.words


def test_a_change_is_of_the_cells_themselves_where_a_share_is_near_its_bounds():
    """All is forgotten without mathematics at the high rate and nothing elsewhere: no sum of pairs says that."""

    def value(cell):
        return 0.0 if (cell["mathematics"], cell["learning rate"]) == ("no", "3e-3") and cell["code"] == "no" else 0.9

    high = {**NOTHING, "learning rate": "3e-3"}
    change = Comparison(high, {**NOTHING, "mathematics": "yes"})
    runs = simulated(np.random.default_rng(3), truth=value, noise=0.0, of_seeds=0.0)
    told = attribute(FACTORS, runs, [EXACT], [change]).decompositions[0]
    assert [*(part.value for part in told.alone.values()), told.rest.value] == pytest.approx([0.9, 0.9, -0.9])
    once = attribute(FACTORS, [run for run in runs if run.seed == 0], [EXACT], [change]).decompositions[0]
    assert once.alone["mathematics"].value == pytest.approx(0.675)  # by pairs: cells run once give no interval


def test_the_answer_in_words():
    runs = simulated(np.random.default_rng(4), noise=0.002)
    found = attribute(FACTORS, runs, [EXACT, BITS], [DATA])
    words = found.decompositions[0].words
    assert words.startswith(
        "exact (more is better): of the change from mathematics no, code no, learning rate 3e-4 to mathematics yes, code "
        "yes, learning rate 3e-3 (at precision fp32), +0."
    )
    assert " data alone gave +0.3" in words
    assert ", learning rate alone gave -0.1" in words or ", learning rate alone gave -0.09" in words
    assert " and the rest of both together +0.0" in words
    assert found.method.startswith(
        "Ordinary least squares over 48 runs: main effects and two-way interactions of 4 factors"
    )
    assert "Student's t on 35 residual degrees of freedom" in found.method
    alone = attribute(FACTORS[:2], [run for run in runs if run.seed == 0 and run.cell["learning rate"] == "3e-4"
                                    and run.cell["precision"] == "fp32"], [EXACT])  # fmt: skip
    assert alone.method.endswith(
        "; no interval is known, since nothing was run more often than effects need: ask for more seeds."
    )
    alike = effect(found, "code", "bits_per_byte:en")
    assert (alike.estimate.value, alike.certain) == (pytest.approx(0, abs=1e-12), False)
    one = attribute(FACTORS, runs, [EXACT], [Comparison(NOTHING, {**NOTHING, "code": "yes"})]).decompositions[0]
    assert one.rest is None
    assert one.alone["code"] == one.total


@pytest.mark.parametrize(("count", "rank", "of"), [(3, 4, 7), (4, 8, 11)])
def test_half_of_three_or_four_factors_is_refused_with_the_names_of_what_it_mixes_up(count, rank, of):
    factors = FACTORS[:count]
    cells, terms = half_design(factors), two_way_terms(factors)
    assert len(cells) == 2 ** (count - 1)
    assert np.linalg.matrix_rank(columns(factors, terms, cells)[0]) == rank
    assert columns(factors, terms, cells)[0].shape[1] == of
    with pytest.raises(RecipeError) as refused:
        require_identifiable(factors, cells, terms)
    mixed = (
        "code with mathematics × learning rate" if count == 3 else "mathematics × code with learning rate × precision"
    )  # fmt: skip
    assert mixed in str(refused.value)
    require_identifiable(factors, cells, [(factor.name,) for factor in factors])
    require_identifiable(factors, full_design(factors), list(all_terms([factor.name for factor in factors])))
    with pytest.raises(RecipeError, match="cannot tell apart"):
        attribute(factors, simulated(np.random.default_rng(0), truth=lambda cell: 0.0, cells=cells), [EXACT])


def test_half_of_five_factors_gives_two_way_interactions():
    factors = [*FACTORS, Factor("replay", ("no", "yes"))]
    cells, terms = half_design(factors), two_way_terms(factors)
    require_identifiable(factors, cells, terms)
    coded = columns(
        factors, [factor_set for factor_set in all_terms([f.name for f in factors]) if len(factor_set) == 5], cells
    )[0]
    assert np.ptp(coded[:, 1]) == 0  # what is given up is the interaction of all five


def test_a_change_between_cells_that_the_runs_cannot_predict_is_refused():
    cells = [cell for cell in full_design(FACTORS) if not (cell["mathematics"] == cell["code"] == "yes")]
    runs = simulated(np.random.default_rng(0), cells=cells)
    with pytest.raises(RecipeError, match=r"cannot tell apart: .*mathematics × code"):
        attribute(FACTORS, runs, [EXACT], [DATA])


def test_what_only_dead_runs_would_tell_is_left_out_and_the_rest_is_what_the_others_tell():
    """Without one cell of mathematics × code at any rate, their interaction is not told, nor what it averages over."""
    factors = [MATHEMATICS, CODE, RATE]
    runs = simulated(np.random.default_rng(2), factors, lambda cell: planted({**cell, "precision": "fp32"}), noise=0.0)
    dead = [run.cell["mathematics"] == run.cell["code"] == "yes" for run in runs]
    runs = [Run(run.cell, run.seed, Ending(True, "nan")) if gone else run for run, gone in zip(runs, dead, strict=True)]
    start = {"mathematics": "no", "code": "no", "learning rate": "3e-4"}
    changes = [
        Comparison(start, {**start, "mathematics": "yes", "learning rate": "3e-3"}),
        Comparison(start, {**start, "mathematics": "yes", "code": "yes"}),
    ]
    found = attribute(factors, runs, [EXACT], changes)
    assert found.missing == tuple(f"mathematics yes, code yes, learning rate {rate}" for rate in ("3e-4", "3e-3"))
    assert {"mathematics, yes - no", "mathematics × code, (yes - no) at yes minus at no"} <= set(found.untold)
    # What holds within the cells that were run is told to the digit.
    assert effect(found, "mathematics × learning rate").estimate.value == pytest.approx(0.08)
    told, other = found.decompositions
    assert told.total.value == pytest.approx(0.3 - 0.1 + 0.08)
    assert told.rest.value == pytest.approx(0.08)
    assert (other.total, other.rest) == (None, None)
    assert {part: one.value for part, one in other.alone.items()} == pytest.approx({"mathematics": 0.3, "code": 0.02})
    assert "the rest of both together what no run that finished tells" in other.words


def test_some_effects_may_be_asked_alone():
    factors = [*FACTORS[:3]]
    cells, terms = half_design(factors), [("mathematics",), ("learning rate",)]
    truth = {("yes", "3e-4"): 0.5, ("yes", "3e-3"): 0.3, ("no", "3e-4"): 0.2, ("no", "3e-3"): 0.0}
    runs = simulated(
        np.random.default_rng(0), factors, lambda cell: truth[cell["mathematics"], cell["learning rate"]], noise=0.0,
        cells=cells,
    )  # fmt: skip
    found = attribute(factors, runs, [EXACT], terms=terms)
    assert {one.term: round(one.estimate.value, 9) for one in found.effects} == {
        "mathematics": 0.3, "learning rate": -0.2
    }  # fmt: skip
    assert "2 main effects and 0 two-way interactions of 3 factors" in found.method


def test_wrong_experiments_are_named():
    runs = simulated(np.random.default_rng(0))
    with pytest.raises(RecipeError, match="factor learning rate has the levels 3e-4, 3e-3, not '1e-2'"):
        attribute(FACTORS, runs, [EXACT], [Comparison(NOTHING, {**ALL, "learning rate": "1e-2"})])
    with pytest.raises(RecipeError, match="there is no factor rate among"):
        attribute(FACTORS, runs, [EXACT], [Comparison(NOTHING, ALL, {"speed": ["rate"]})])
    with pytest.raises(RecipeError, match="belongs to two parts"):
        attribute(FACTORS, runs, [EXACT], [Comparison(NOTHING, ALL, {"a": ["code"], "b": ["code"]})])
    with pytest.raises(RecipeError, match="name two different ones"):
        attribute(FACTORS, runs, [EXACT], [Comparison(ALL, ALL)])
    with pytest.raises(RecipeError, match="two different levels"):
        Factor("data", ("yes",))
    with pytest.raises(RecipeError, match="factors of two levels; rate has 3"):
        half_design([Factor("rate", ("a", "b", "c"))])
    with pytest.raises(
        DataError, match=r"seed 0 has no value of the metric suite:ja \(it has exact, bits_per_byte:en\)"
    ):
        attribute(FACTORS, runs, [Metric("suite:ja")])
    with pytest.raises(DataError, match="No run of the experiment finished"):
        attribute(FACTORS, [Run(NOTHING, 0, Ending(True, "diverged"))], [EXACT])
    with pytest.raises(ValueError, match="twice at one seed"):
        attribute(FACTORS, [*runs, runs[0]], [EXACT])


def test_an_attribution_is_plain_json():
    found = attribute(FACTORS, simulated(np.random.default_rng(0)), [EXACT, BITS], [DATA])
    assert parse_json(json.dumps(asdict(found), allow_nan=False), Attribution, "attribution.json") == found


def test_effects_are_those_of_another_implementation():
    """statsmodels, on -1 and +1 written out here: an effect is twice its coefficient, an interaction four times."""
    linear = pytest.importorskip(
        "statsmodels.regression.linear_model", reason="statsmodels is not installed: it comes with the dev extra"
    )
    runs = simulated(np.random.default_rng(11))
    sign = {f.name: np.array([1.0 if run.cell[f.name] == f.levels[1] else -1.0 for run in runs]) for f in FACTORS}
    terms = [(name,) for name in sign] + list(combinations(sign, 2))
    seeds = [[run.seed == seed for run in runs] for seed in SEEDS]  # one column each: together they hold the mean
    design = np.stack([*(np.prod([sign[name] for name in term], axis=0) for term in terms), *seeds], axis=1)
    fitted = linear.OLS([run.found["exact"] for run in runs], design.astype(float)).fit()
    assert fitted.df_resid == 35
    found = attribute(FACTORS, runs, [EXACT])
    assert len(found.effects) == len(terms)
    for place, term in enumerate(terms):
        one, times = effect(found, " × ".join(term)).estimate, 2 ** len(term)
        assert one.value == pytest.approx(times * fitted.params[place], abs=1e-12)
        assert one.error == pytest.approx(times * fitted.bse[place])
        assert (one.low, one.high) == pytest.approx(tuple(times * fitted.conf_int()[place]))
        assert one.p_value() == pytest.approx(fitted.pvalues[place], rel=1e-6, abs=1e-12)
