"""Amounts as people read them."""

import pytest

from tsugiki.amounts import duration, quantity


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(59, "59s"), (750, "12m 30s"), (14_700, "4h 05m"), (273_600, "3d 4h")],
)
def test_durations_have_two_units(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(87.4, "87.4"), (412_345.0, "412k"), (1.354e6, "1.35M"), (2e9, "2G"), (999_700, "1M"), (999.7, "1k")],
)
def test_quantities_have_three_digits(value, text):
    assert quantity(value) == text
