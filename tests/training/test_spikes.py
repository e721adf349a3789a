"""What is called a spike: limits against NumPy, planted outliers among real ones, and a checkpoint's copy of it."""

import json
import math
import sys
from typing import Any

import numpy as np
import pytest
import torch

from tsugiki.training.metrics import StepRecord
from tsugiki.training.spikes import LATEST, WINDOW, Limits, Recent


def record(loss: float, norm: float = 1.0, **changes: Any) -> StepRecord:
    fields: dict[str, Any] = {"limits": Limits(changes.pop("stage", 0))}
    return StepRecord(
        step=1, loss=loss, grad_norm=norm, source_nats=[], source_targets=[], learning_rate=1e-3, targets=9, stop=False,
        saved=False, **fields | changes,
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
    found = after(losses, norms).limits(0, 5.0)
    for limit, values in ((found.loss, losses[-128:]), (math.log(found.norm), np.log(norms[-128:]))):
        spread = 1.4826 * np.median(np.abs(np.diff(values))) / np.sqrt(2)
        assert limit == pytest.approx(np.median(values[-32:]) + 5 * spread, rel=1e-12)
    fallen = found.loss - np.median(losses[-32:])
    assert fallen == pytest.approx(5 * 0.08, rel=0.5)  # whatever the loss has fallen by in the window


def test_steps_that_hardly_differ_make_no_spike_of_a_trifle():
    found = after([2.0] * 40, [0.5] * 40).limits(0, 6.0)
    assert found.loss == pytest.approx(2.12)
    assert found.norm == pytest.approx(2.0)


def test_the_first_steps_and_those_of_another_stage_are_not_judged():
    losses, norms = noisy(LATEST)
    early = after(losses[:-1], norms[:-1])
    assert early.limits(0, 6.0) == Limits(0, sys.float_info.max, sys.float_info.max)
    recent = after(losses, norms)
    assert recent.limits(0, 6.0).loss < 5
    assert recent.limits(1, 6.0) == Limits(1)
    anew = recent.after(record(7.0, stage=1))
    assert (anew.stage, anew.losses, anew.norms) == (1, (7.0,), (1.0,))


@pytest.mark.parametrize("planted", [0.5, 1.0, 30.0])
def test_outliers_hide_no_other_and_neither_do_many_of_them(planted):
    """A sixth of the window is far out, behind which a mean plus six deviations would hide any, and the next is seen."""
    losses, norms = noisy(WINDOW)
    limit = after(losses, norms).limits(0, 6.0).loss
    losses[::6] += planted
    found = after(losses, norms).limits(0, 6.0).loss
    assert limit <= found < min(limit + 0.15, losses[-32:].min() + planted)
    assert losses.mean() + 6 * losses.std() > losses.max()


def test_noise_is_no_spike_and_what_is_planted_is():
    """Four thousand steps of a falling loss, with heavier tails than a normal distribution's."""
    chance, recent, found, planted = np.random.default_rng(3), Recent(), [], set(range(500, 4000, 217))
    for step in range(4000):
        loss = 2 + 2 * math.exp(-step / 800) + 0.02 * chance.standard_t(9) + 0.5 * (step in planted)
        one = record(loss, float(chance.lognormal(-1, 0.15)))
        limits = recent.limits(0, 6.0)
        if limits.exceeded(
            torch.tensor(one.loss, dtype=torch.float64), torch.tensor(one.grad_norm, dtype=torch.float64)
        ):
            found.append(step)
        recent = recent.after(one)
    assert planted <= set(found)
    assert len(found) - len(planted) <= 2


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
    without_targets = skipped.after(record(0.0, 0.0, refused=True))
    assert (without_targets.losses, without_targets.spikes_in_a_row) == (recent.losses, 0)
    applied = skipped.after(record(9.0, spike=True))
    assert (applied.losses[-1], applied.spikes_in_a_row) == (9.0, 3)


def test_a_checkpoint_keeps_the_very_same_limits():
    recent = after(*noisy(WINDOW)).after(record(9.0, spike=True))
    kept = json.loads(json.dumps(recent.as_json(), allow_nan=False))
    assert Recent.from_json(kept) == recent
    assert Recent.from_json({}) == Recent()
