"""Shares are kept to within one window at every point, by whole numbers that are rounded once."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsugiki.corpus.apportionment import WEIGHT_DENOMINATOR, period, round_weights
from tsugiki.errors import RecipeError

SWALLOW = {"ja": 78.67, "wiki": 1.49, "algebraic": 10.93, "refinedweb": 4.45, "arxiv": 4.45}
names = st.text("abcxyz", min_size=1, max_size=4)
whole_weights = st.lists(st.integers(0, 400), min_size=1, max_size=12).filter(any)


def quota_method(weights: list[int]) -> list[int]:
    """Balinski & Young's rule word for word, in exact fractions: eligible are those below their upper quota."""
    total, counts, chosen = sum(weights), [0] * len(weights), []
    for seats in range(1, total + 1):
        eligible = [i for i, w in enumerate(weights) if counts[i] < -(-seats * w // total)]
        best = max(eligible, key=lambda i: (Fraction(weights[i], counts[i] + 1), -i))
        chosen.append(best)
        counts[best] += 1
    return chosen


def largest_error(table, weights) -> float:
    total = sum(weights)
    seats = np.arange(1, table.length + 1)
    return max(
        np.abs(np.cumsum(table.source == source) - seats * weight / total).max()
        for source, weight in enumerate(weights)
    )


@settings(deadline=None, max_examples=100)
@given(whole_weights)
def test_the_table_is_the_quota_method(weights):
    reduced = np.array(weights) // np.gcd.reduce(weights)
    assert period(weights).source.tolist() == quota_method(reduced.tolist())


@settings(deadline=None, max_examples=200)
@given(whole_weights)
def test_each_source_is_less_than_a_window_from_its_share_at_every_prefix(weights):
    table = period(weights)
    assert largest_error(table, weights) < 1
    assert np.bincount(table.source, minlength=len(weights)).tolist() == table.weights.tolist()
    assert table.weights.tolist() == [weight * table.length // sum(weights) for weight in weights]


@pytest.mark.parametrize("weights", [SWALLOW, {"a": 1, "b": 99_999}, {f"s{i:02}": 1 + i / 7 for i in range(64)}])
def test_long_periods_keep_their_shares_too(weights):
    rounded = list(round_weights(weights).values())
    table = period(rounded)
    assert table.length == WEIGHT_DENOMINATOR
    assert largest_error(table, rounded) < 1


@settings(deadline=None, max_examples=100)
@given(whole_weights)
def test_count_before_is_the_number_of_earlier_draws(weights):
    table = period(weights)
    counts = [0] * len(weights)
    for source, before in zip(table.source.tolist(), table.count_before.tolist(), strict=True):
        assert before == counts[source]
        counts[source] += 1


def test_a_source_without_weight_is_never_drawn_and_the_period_is_reduced():
    table = period([70_000, 0, 30_000])
    assert table.length == 10
    assert table.source.tolist() == [0, 0, 2, 0, 0, 2, 0, 0, 0, 2]


def test_equal_claims_go_to_the_source_listed_first():
    assert period([1, 1, 1]).source.tolist() == [0, 1, 2]


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(names, st.floats(0.5, 1000), min_size=1, max_size=10))
def test_rounded_weights_add_up_and_are_within_one_part(weights):
    rounded = round_weights(weights)
    total = sum(weights.values())
    assert sum(rounded.values()) == WEIGHT_DENOMINATOR
    assert list(rounded) == list(weights)
    for name, weight in weights.items():
        assert abs(rounded[name] - weight / total * WEIGHT_DENOMINATOR) < 1 + 1e-6


@settings(deadline=None)
@given(st.dictionaries(names, st.integers(1, 1000), min_size=1, max_size=10), st.integers(1, 50))
def test_neither_unit_nor_order_of_weights_matters(weights, unit):
    reordered = dict(sorted((name, weight * unit) for name, weight in weights.items()))
    assert round_weights(weights) == round_weights(reordered)


def test_weights_are_taken_as_written():
    assert round_weights({"a": 0.7, "b": 0.2, "c": 0.1}) == {"a": 70_000, "b": 20_000, "c": 10_000}
    assert round_weights({"b": 1, "a": 1, "c": 1}) == {"b": 33_333, "a": 33_334, "c": 33_333}
    assert round_weights({"a": 3, "off": 0}) == {"a": 100_000, "off": 0}
    # 78.67 of 99.99 and so on, by hand: 78677.868, 1490.149, 10931.093, 4450.445, 4450.445
    assert round_weights(SWALLOW) == {
        "ja": 78_678, "wiki": 1_490, "algebraic": 10_931, "refinedweb": 4_450, "arxiv": 4_451,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"a": 0, "b": 0.0}, "all zero"),
        ({}, "all zero"),
        ({"a": -1, "b": 2}, "source a is -1"),
        ({"a": float("nan")}, "source a is nan"),
        ({"a": float("inf"), "b": 1}, "source a is inf"),
        ({"a": 1e-7, "b": 1}, "source a is 1e-07 .* below 1/100,000"),
    ],
)
def test_weights_that_cannot_be_drawn_are_refused_by_name(weights, said):
    with pytest.raises(RecipeError, match=said):
        round_weights(weights)
