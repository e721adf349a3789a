"""The choice by loss: over the end of the probe, at the same seeds, between losses that mean the same."""

import json
import math
from dataclasses import asdict

import pytest

from tsugiki.experiment_results import LossChoice, Metric
from tsugiki.experiments.judge import judge
from tsugiki.experiments.loss_choice import TrainingLosses, choose_by_loss
from tsugiki.experiments.measured import Ending, Measurement, Trial
from tsugiki.shapes import parse_json

JA, EN = Metric("bits_per_byte:ja", higher_is_better=False), Metric("exact")


def trial(name, ja, en, seeds=(0, 1)):
    return Trial(name, {seed: {JA.name: Measurement(ja), EN.name: Measurement(en)} for seed in seeds})


BASE = {JA.name: Measurement(2.58), EN.name: Measurement(0.5)}
TRIALS = [trial("1e-4", 2.529, 0.49), trial("1e-3", 2.433, 0.45), trial("3e-3", 2.379, 0.2)]
JUDGED = judge(BASE, TRIALS, [JA], {EN: 0.1})
ENDS = {
    ("1e-4", 0): 3.49,
    ("1e-4", 1): 3.46,
    ("1e-3", 0): 3.413,
    ("1e-3", 1): 3.389,
    ("3e-3", 0): 3.395,
    ("3e-3", 1): 3.373,
}
"""Of two seeds: the worse trial at one is below the better one at the other."""


def losses(ends, alike="data", steps=200, **others):
    """Falling to the given value over the last 5 % of the steps, whose values differ but have it as their mean."""
    runs = []
    for (name, seed), end in ends.items():
        values = [9.0] * (steps - steps // 20) + [end + 0.1 * (-1) ** i for i in range(steps // 20)]
        runs.append(TrainingLosses(name, seed, others.get(name, alike), range(1, steps + 1), values))
    return runs


def only(found):
    assert len(found) == 1
    return found[0]


def test_loss_chooses_the_lowest_end_and_the_cost_stands_beside_it():
    found = only(choose_by_loss(losses(ENDS), BASE, TRIALS, JUDGED, last_step=200))
    assert (JUDGED.recommended, found.chosen, found.against) == ("1e-3", "3e-3", "1e-3")
    assert (found.first_step, found.last_step, found.seeds) == (191, 200, ("0", "1"))
    assert [one.mean for one in found.trials] == pytest.approx([3.475, 3.401, 3.384])
    assert [(cost.metric, cost.worse_by) for cost in found.costs] == [(JA.name, -0.054), (EN.name, 0.25)]
    assert [cost.difference.value for cost in found.costs] == pytest.approx([-0.054, -0.25])
    assert found.words == (
        "Training loss alone (mean of steps 191 to 200 at the same seed) would have chosen 3e-3 (3.384; next 1e-3 3.401). "
        "Against 1e-3, the judge's choice, that is bits_per_byte:ja 0.054 better and exact 0.25 worse."
    )


def test_losses_are_compared_at_the_same_seeds():
    """The trial that has only the luckier seed does not win by it."""
    ends = {key: value for key, value in ENDS.items() if key != ("1e-3", 0)}
    trials = [TRIALS[0], trial("1e-3", 2.433, 0.45, seeds=(1,)), TRIALS[2]]
    found = only(choose_by_loss(losses(ends), BASE, trials, JUDGED, last_step=200))
    assert found.seeds == ("1",)
    assert found.chosen == "3e-3"
    swapped = dict(ENDS) | {("1e-3", 0): 3.390}
    both = only(choose_by_loss(losses(swapped), BASE, TRIALS, JUDGED, last_step=200))
    assert both.by_seed == {"0": "1e-3", "1": "3e-3"}
    assert "depends on the seed: 1e-3 at seed 0 and 3e-3 at seed 1." in both.words


def test_trials_with_other_data_or_another_vocabulary_are_not_compared():
    found = only(choose_by_loss(losses(ENDS, **{"3e-3": "no replay"}), BASE, TRIALS, JUDGED, last_step=200))
    assert (found.chosen, found.costs) == ("1e-3", ())
    assert found.words.endswith("So did the judge.")
    assert found.left_out == {"3e-3": "other data or another vocabulary"}
    assert choose_by_loss(losses({("1e-4", 0): 3.0}), BASE, TRIALS, JUDGED, last_step=200) == []


def test_runs_that_ended_early_have_no_loss_to_choose_by():
    broken = Trial("3e-3", {0: TRIALS[2].seeds[0], 1: Ending(True, "diverged at step 120")})
    found = only(choose_by_loss(losses(ENDS), BASE, [*TRIALS[:2], broken], JUDGED, last_step=200))
    assert (found.chosen, found.left_out) == ("1e-3", {"3e-3": "seed 1: diverged at step 120"})
    short = losses({key: value for key, value in ENDS.items() if key[0] != "3e-3"})
    short += [TrainingLosses("3e-3", seed, "data", range(1, 150), [1.0] * 149) for seed in (0, 1)]
    found = only(choose_by_loss(short, BASE, TRIALS, JUDGED, last_step=200))
    assert found.left_out == {"3e-3": "seed 1: no loss of steps 191 to 200"}
    wild = losses(ENDS | {("3e-3", 0): math.nan})
    assert only(choose_by_loss(wild, BASE, TRIALS, JUDGED, last_step=200)).left_out.keys() == {"3e-3"}


def test_without_a_common_seed_there_is_no_choice():
    ends = {("1e-4", 0): 3.4, ("1e-3", 1): 3.3}
    found = only(choose_by_loss(losses(ends), BASE, TRIALS, JUDGED, last_step=200))
    assert (found.chosen, found.words[:16]) == (None, "No seed finished")


def test_steps_may_be_logged_now_and_then():
    runs = [
        TrainingLosses(name, 0, "data", range(10, 2001, 10), [5.0] * 190 + [end] * 10)
        for name, end in (("1e-4", 3.0), ("1e-3", 2.0))
    ]
    found = only(choose_by_loss(runs, BASE, TRIALS, JUDGED, last_step=2000))
    assert (found.first_step, [one.mean for one in found.trials]) == (1901, [3.0, 2.0])


def test_a_choice_by_loss_is_plain_json():
    found = only(choose_by_loss(losses(ENDS), BASE, TRIALS, JUDGED, last_step=200))
    assert parse_json(json.dumps(asdict(found), allow_nan=False), LossChoice, "loss.json") == found
