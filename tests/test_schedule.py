"""The learning rate of each step, against values worked out by hand and against torch's own cosine."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tsugiki.recipe_training import TrainingSection
from tsugiki.schedule import SHAPES, make_schedule, schedule_table


def training(**keys) -> TrainingSection:
    base = {
        "max_steps": 100, "global_batch_size": 8, "micro_batch_size": 2, "learning_rate": 1.0, "min_lr": 0.1, "save_steps": 50,
    }  # fmt: skip
    return TrainingSection.model_validate(base | keys)


def test_warm_up_rises_linearly_to_the_peak():
    schedule = make_schedule(training(warmup_steps=4), 100)
    assert [schedule(step) for step in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("shape", [name for name, shape in SHAPES.items() if shape.fall is not None])
def test_the_last_step_has_exactly_the_minimum(shape):
    schedule = make_schedule(training(lr_scheduler=shape, warmup_steps=10, decay_steps=20), 100)
    assert schedule(100) == pytest.approx(0.1, abs=1e-15)
    assert schedule(99) > schedule(100)
    assert schedule(10_000) == schedule(100)


@pytest.mark.parametrize("warmup", [0, 30])
def test_cosine_equals_torchs_annealing_from_the_end_of_the_warm_up(warmup):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100 - warmup, eta_min=0.1)
    schedule = make_schedule(training(warmup_steps=warmup), 100)
    for step in range(warmup + 1, 101):
        optimizer.step()
        reference.step()
        assert schedule(step) == pytest.approx(reference.get_last_lr()[0], rel=1e-9)


def test_linear_falls_by_the_same_amount_at_every_step_after_the_warm_up():
    schedule = make_schedule(training(lr_scheduler="linear", warmup_steps=10), 100)
    assert [schedule(step) for step in range(10, 101)] == pytest.approx([1.0 - 0.01 * n for n in range(91)])


def test_swallow_ms_rates():
    schedule = make_schedule(training(learning_rate=2e-5, min_lr=6.6e-7, warmup_steps=1000), 25_000)
    assert schedule(1000) == 2e-5
    assert schedule(13_000) == pytest.approx((2e-5 + 6.6e-7) / 2)
    assert schedule(25_000) == pytest.approx(6.6e-7)


def test_wsd_is_flat_until_its_decay():
    schedule = make_schedule(training(lr_scheduler="wsd", warmup_steps=10, decay_steps=20), 100)
    assert {schedule(step) for step in range(10, 81)} == {1.0}
    assert schedule(90) == pytest.approx(0.55)


def test_constant_stays_at_the_peak():
    schedule = make_schedule(training(lr_scheduler="constant", warmup_steps=3), 100)
    assert {schedule(step) for step in range(3, 101)} == {1.0}


@given(st.sampled_from(list(SHAPES)), st.integers(2, 500), st.data())
def test_rates_stay_between_zero_and_the_peak_and_only_fall_after_warm_up(shape, total, data):
    warmup = data.draw(st.integers(0, total - 1))
    decay = data.draw(st.integers(1, total - warmup))
    schedule = make_schedule(training(lr_scheduler=shape, warmup_steps=warmup, decay_steps=decay), total)
    rates = [schedule(step) for step in range(1, total + 1)]
    assert all(0 < rate <= 1 and math.isfinite(rate) for rate in rates)
    after = rates[max(warmup, 1) - 1 :]
    assert all(later <= earlier for earlier, later in pairwise(after))


def test_table_shows_first_peak_and_last_step():
    table = dict(schedule_table(training(warmup_steps=10), 100))
    assert {1, 10, 11, 50, 99, 100} == set(table)
    held = dict(schedule_table(training(lr_scheduler="wsd", decay_steps=20), 100))
    assert (held[80], held[81]) == (1.0, pytest.approx(0.955))
