"""Scales and ticks: every value has its place, ticks are round and differ as they are written."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tsugiki.pages.axes import Axis, Scale, write_ticks
from tsugiki.pages.buckets import thin
from tsugiki.pages.canvas import spread

numbers = some.floats(-1e12, 1e12).filter(lambda x: x == 0 or abs(x) > 1e-9)


@given(some.lists(numbers, min_size=1, max_size=6), some.sampled_from([True, False, None]))
def test_values_and_ticks_lie_inside(values, log):
    scale = Scale.of(Axis("x", log=log), values)
    assert all(-1e-6 <= scale.place(value) <= 1 + 1e-6 for value in values)
    ticks = scale.ticks(8)
    assert all(-2e-3 <= scale.place(value) <= 1 + 2e-3 for value, _ in ticks)
    assert len(ticks) <= 12


@given(some.floats(1e-8, 1e8), some.floats(1.001, 1e4))
def test_ticks_are_told_apart_and_say_their_value(low, ratio):
    texts = Scale.of(Axis("x"), [low, low * ratio]).ticks(6)
    assert len({text for _, text in texts}) == len(texts)
    for value, text in texts:
        assert float(text.replace(",", "")) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    ("values", "texts"),
    [([0, 0.5, 1.0], ["0.0", "0.5", "1.0"]), ([0, 5000, 10000], ["0", "5,000", "10,000"]), ([0, 1e-5, 2e-5], ["0", "1e-5", "2e-5"]),
     ([0.01, 1, 100], ["0.01", "1", "100"]), ([-0.2, 0, 0.2], ["-0.2", "0.0", "0.2"])],
)  # fmt: skip
def test_ticks_as_they_are_written(values, texts):
    assert write_ticks(values) == texts


def test_an_axis_is_logarithmic_where_values_span_much_and_none_is_zero():
    assert Scale.of(Axis("", log=None), [1, 100]).log
    assert not Scale.of(Axis("", log=None), [1, 10]).log
    assert not Scale.of(Axis("", log=None), [0, 100]).log
    assert Scale.of(Axis("", log=True), [1, 100], margin=0.0).place(10) == pytest.approx(0.5)


def test_what_is_not_finite_does_not_move_an_axis():
    assert Scale.of(Axis(""), [1, 2, None, math.nan, math.inf]) == Scale.of(Axis(""), [1, 2])
    assert Axis("", digits=".2f").write(math.nan) == "–"


@given(some.lists(some.floats(0, 300), min_size=1, max_size=12))
def test_names_are_moved_apart_in_their_order_and_stay_inside(places):
    moved = spread(places, 15, 0, 300)
    order = sorted(range(len(places)), key=lambda index: places[index])
    gaps = [moved[b] - moved[a] for a, b in pairwise(order)]
    assert all(gap >= 15 - 1e-6 for gap in gaps)
    assert min(moved) >= -1e-6
    assert max(moved) <= 300 + 1e-6


def test_names_that_do_not_meet_stay_where_they_are():
    assert spread([10.0, 100.0, 50.0], 15, 0, 300) == [10.0, 100.0, 50.0]


@given(some.lists(some.one_of(some.none(), some.floats(-1e6, 1e6)), min_size=1, max_size=3000))
def test_buckets_keep_the_smallest_and_the_largest(values):
    (curve,) = thin([(range(len(values)), values)])
    known = [value for value in values if value is not None]
    assert len(curve) <= 600
    assert min((b.low for b in curve if b and b.low is not None), default=None) == min(known, default=None)
    assert max((b.high for b in curve if b and b.high is not None), default=None) == max(known, default=None)
    assert any(bucket.gap for bucket in curve) == (None in values)


def test_a_spike_of_one_step_in_25_000_stays_and_neighbours_keep_their_order():
    values = [2.0 + 1e-5 * step for step in range(25_000)]
    values[17_123] = 40.0
    (curve,) = thin([(range(25_000), values)])
    assert len(curve) == 600
    (spike,) = [bucket for bucket in curve if bucket.high == 40.0]
    assert spike.first_x <= 17_123 <= spike.last_x
    assert all(bucket.low_first for bucket in curve if bucket is not spike)


def test_short_curves_are_kept_point_by_point_and_cut_at_the_same_places():
    one, other = thin([([1, 2, 4], [1.0, 2.0, 3.0]), ([2, 3], [5.0, math.inf])])
    assert [bucket and bucket.high for bucket in one] == [1.0, 2.0, None, 3.0]
    assert [bucket and (bucket.high, bucket.gap) for bucket in other] == [None, (5.0, False), (None, True), None]
