"""What is called a spike: limits against NumPy, planted outliers among real ones, and a checkpoint's copy of it."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tsugiki.training.metrics import StepRecord
from tsugiki.training.spikes import FEW, LATEST, WINDOW, Limits, Recent

ALL = [8]
"""Targets of a step by source: here one source has them all. By a power of two, no bit of a loss is lost in its nats."""


def record(loss: float, norm: float = 1.0, *, targets: Sequence[int] = ALL, **changes: Any) -> StepRecord:
    """A step; of several sources each has the same loss."""
    return made_of([loss * count for count in targets], norm, targets, **changes)


def made_of(nats: Sequence[float], norm: float, targets: Sequence[int], stage: int = 0, **changes: Any) -> StepRecord:
    """A step whose sources have these nats."""
    return StepRecord(
        step=1, loss=sum(nats) / max(sum(targets), 1), grad_norm=norm, source_nats=list(nats),
        source_weights=list(targets), learning_rate=1e-3, targets=sum(targets), stop=False, saved=False,
        limits=Limits(stage), **changes,
    )  # fmt: skip


def after(losses, norms) -> Recent:
    recent = Recent()
    for loss, norm in zip(losses, norms, strict=True):
        recent = recent.after(record(float(loss), float(norm)))
    return recent


def noisy(count: int, noise: float = 0.03) -> tuple[np.ndarray, np.ndarray]:
    """Losses that fall, and norms that vary by factors."""
    chance = np.random.default_rng(0)
    losses = 2 + 2 * np.exp(-np.arange(count) / 200) + noise * chance.standard_normal(count)
    return losses, chance.lognormal(-1, 0.4, count)


@pytest.mark.parametrize("count", [LATEST, 57, WINDOW, 300])
def test_limits_are_the_median_and_the_median_change_of_the_last_steps(count):
    losses, norms = noisy(count, noise=0.08)
    found = after(losses, norms).limits(0, ALL, 5.0)
    for limit, values in ((found.loss, losses[-128:]), (math.log(found.norm), np.log(norms[-128:]))):
        spread = 1.4826 * np.median(np.abs(np.diff(values))) / np.sqrt(2)
        assert limit == pytest.approx(np.median(values[-32:]) + 5 * spread, rel=1e-12)
    fallen = found.loss - np.median(losses[-32:])
    assert fallen == pytest.approx(5 * 0.08, rel=0.5)  # whatever the loss has fallen by in the window


def test_steps_that_hardly_differ_make_no_spike_of_a_trifle():
    found = after([2.0] * 40, [0.5] * 40).limits(0, ALL, 6.0)
    assert found.loss == pytest.approx(2.12)
    assert found.norm == pytest.approx(2.0)


def test_the_first_steps_and_those_of_another_stage_are_not_judged():
    losses, norms = noisy(LATEST)
    early = after(losses[:-1], norms[:-1])
    assert early.limits(0, ALL, 6.0) == Limits(0, sys.float_info.max, sys.float_info.max)
    recent = after(losses, norms)
    assert recent.limits(0, ALL, 6.0).loss < 5
    assert recent.limits(1, ALL, 6.0) == Limits(1)
    anew = recent.after(record(7.0, stage=1))
    assert (anew.stage, anew.losses, anew.norms) == (1, [7.0], (1.0,))


@pytest.mark.parametrize("planted", [0.5, 1.0, 30.0])
def test_outliers_hide_no_other_and_neither_do_many_of_them(planted):
    """A sixth of the window is far out, behind which a mean plus six deviations would hide any, and the next is seen."""
    losses, norms = noisy(WINDOW)
    limit = after(losses, norms).limits(0, ALL, 6.0).loss
    losses[::6] += planted
    found = after(losses, norms).limits(0, ALL, 6.0).loss
    assert limit <= found < min(limit + 0.15, losses[-32:].min() + planted)
    assert losses.mean() + 6 * losses.std() > losses.max()


def test_noise_is_no_spike_and_what_is_planted_is():
    """Four thousand steps of a falling loss, with heavier tails than a normal distribution's."""
    chance, recent, found, planted = np.random.default_rng(3), Recent(), [], set(range(500, 4000, 217))
    for step in range(4000):
        loss = 2 + 2 * math.exp(-step / 800) + 0.02 * chance.standard_t(9) + 0.5 * (step in planted)
        one = record(loss, float(chance.lognormal(-1, 0.15)))
        limits = recent.limits(0, ALL, 6.0)
        if limits.exceeded(
            torch.tensor(one.loss, dtype=torch.float64), torch.tensor(one.grad_norm, dtype=torch.float64)
        ):
            found.append(step)
        recent = recent.after(one)
    assert planted <= set(found)
    assert len(found) - len(planted) <= 2


def mixed(chance: np.random.Generator, centres: Sequence[float], shares: Sequence[float], windows: int) -> StepRecord:
    """A step of a few windows, each of a source by its share, whose losses lie around that of the source."""
    of = chance.choice(len(shares), windows, p=shares)
    losses = np.array(centres)[of] + 0.25 * chance.standard_normal(windows)
    targets = 64 * np.bincount(of, minlength=len(shares))
    nats = 64 * np.bincount(of, losses, minlength=len(shares))
    return made_of(nats.tolist(), float(chance.lognormal(-1, 0.15)), targets.tolist())


def test_batches_of_few_windows_are_judged_by_what_their_sources_are_known_to_have():
    """Nearly all of a batch comes from the first source. One without it is three nats lower or higher than most, and no
    spike; one nat in a batch like the others is."""
    chance, recent, found, planted = np.random.default_rng(5), Recent(), [], set(range(200, 2000, 123))
    for step in range(2000):
        one = mixed(chance, [5.0, 2.0, 8.0], [0.9, 0.07, 0.03], windows=4)
        if step in planted:
            one = made_of([nats + count for nats, count in zip(one.source_nats, one.source_weights, strict=True)],
                          one.grad_norm, one.source_weights)  # fmt: skip
        limits = recent.limits(0, one.source_weights, 6.0)
        if one.loss > limits.loss or one.grad_norm > limits.norm:
            found.append(step)
        recent = recent.after(one)
    assert len(planted - set(found)) <= 1  # where a source has hardly been seen, nobody knows what to expect
    assert len(set(found) - planted) <= 2


def test_what_is_expected_follows_from_the_targets_of_each_source():
    """By the least spreads: 6 × 1 % of the loss, four times the norm. The second source brings larger norms."""
    recent = Recent()
    for step in range(64):
        targets = [96, 32] if step % 8 == 7 else [128, 0]
        recent = recent.after(made_of([3.0 * targets[0], 7.0 * targets[1]], 1.5 if targets[1] else 0.5, targets))
    for targets, loss, norm in (([128, 0], 3.0, 0.5), ([0, 128], 7.0, 1.5), ([96, 32], 4.0, 1.5)):
        assert recent.limits(0, targets, 6.0) == pytest.approx((0, 1.06 * loss, 4 * norm))
    assert recent.limits(0, [0, 0], 6.0) == Limits(0)


def test_a_source_is_not_judged_before_some_steps_have_held_it():
    recent = after(*noisy(WINDOW))
    recent = replace(recent, weights=tuple((*held, 0) for held in recent.weights),
                     nats=tuple((*nats, 0.0) for nats in recent.nats))  # fmt: skip
    for seen in range(FEW + 1):
        judged = recent.limits(0, [4, 4], 6.0) != Limits(0)
        assert judged is (seen >= FEW)
        assert recent.limits(0, [8, 0], 6.0) != Limits(0)
        recent = recent.after(record(2.5, targets=[4, 4]))


@pytest.mark.parametrize(
    ("loss", "norm", "spike"),
    [
        (2.0, 1.0, False), (2.0000001, 0.5, True), (1.0, 1.0000001, True), (math.nan, 0.5, True), (1.0, math.nan, True),
        (math.inf, 0.5, True), (1.0, math.inf, True), (-math.inf, 0.5, False),
    ],
)  # fmt: skip
def test_a_spike_is_what_exceeds_a_limit_or_is_not_finite(loss, norm, spike):
    figures = [torch.tensor(value, dtype=torch.float64) for value in (loss, norm)]
    assert bool(Limits(0, 2.0, 1.0).exceeded(*figures)) is spike
    assert bool(Limits().exceeded(*figures)) is (spike and not math.isfinite(loss + norm))


def test_what_was_not_applied_leaves_no_trace_but_is_counted_in_a_row():
    recent = after(*noisy(40))
    skipped = recent.after(record(math.nan, spike=True, refused=True)).after(record(9.0, spike=True, refused=True))
    assert (skipped.losses, skipped.norms, skipped.spikes_in_a_row) == (recent.losses, recent.norms, 2)
    without_targets = skipped.after(record(0.0, 0.0, targets=[0]))
    assert (without_targets.losses, without_targets.spikes_in_a_row) == (recent.losses, 0)
    applied = skipped.after(record(9.0, spike=True))
    assert (applied.losses[-1], applied.spikes_in_a_row) == (9.0, 3)


def test_a_checkpoint_keeps_the_very_same_limits():
    recent = after(*noisy(WINDOW)).after(record(9.0, spike=True))
    kept = json.loads(json.dumps(recent.as_json(["ja"]), allow_nan=False))
    assert Recent.from_json(kept, ["ja"]) == recent
    assert Recent.from_json({}, ["ja"]) == Recent()


def test_a_source_that_a_run_goes_on_with_finds_its_own_columns():
    recent = Recent()
    for step in range(40):
        recent = recent.after(made_of([300.0, 700.0 + step], 1.0, [100, 100]))
    kept = json.loads(json.dumps(recent.as_json(["ja", "en"])))
    grown = Recent.from_json(kept, ["code", "en", "ja"])
    assert grown.losses == recent.losses
    assert grown.limits(0, [0, 50, 20], 6.0) == recent.limits(0, [20, 50], 6.0)
    assert grown.limits(0, [1, 50, 20], 6.0) == Limits(0)
