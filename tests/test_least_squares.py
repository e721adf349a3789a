"""Least squares against closed forms and another solver; dependent columns named; intervals that cover."""

import numpy as np
import pytest

from tsugiki.estimates import student_quantile
from tsugiki.least_squares import dependent_columns, effect_columns, fit


def test_a_straight_line_is_what_the_textbook_says():
    """Slope Sxy / Sxx, its variance s² / Sxx, that of the intercept s² (1 / n + mean² / Sxx)."""
    generator = np.random.default_rng(0)
    x = generator.random(12) * 5
    y = 2 - 0.5 * x + generator.normal(0, 0.1, 12)
    found = fit(np.stack([np.ones(12), x], axis=1), y)
    sxx = ((x - x.mean()) ** 2).sum()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / sxx
    residual = ((y - y.mean() - slope * (x - x.mean())) ** 2).sum() / 10
    of_slope, of_intercept = found.combination(np.array([0.0, 1.0])), found.combination(np.array([1.0, 0.0]))
    assert (of_slope.value, of_slope.error) == pytest.approx((slope, np.sqrt(residual / sxx)))
    assert of_intercept.error == pytest.approx(np.sqrt(residual * (1 / 12 + x.mean() ** 2 / sxx)))
    assert of_slope.high - of_slope.value == pytest.approx(student_quantile(10) * of_slope.error)


def test_coefficients_are_those_of_the_pseudo_inverse():
    generator = np.random.default_rng(1)
    design, values = generator.normal(size=(30, 6)), generator.normal(size=30)
    found = fit(design, values)
    np.testing.assert_allclose(found.coefficients, np.linalg.pinv(design) @ values, atol=1e-12)
    np.testing.assert_allclose(found.inverse, np.linalg.inv(design.T @ design), atol=1e-12)


def test_effect_coded_coefficients_are_distances_of_level_means_from_their_mean():
    level = np.array([0, 0, 1, 1, 1, 2])  # unequal numbers: the levels count alike all the same
    values = np.array([1.0, 3.0, 4.0, 5.0, 6.0, 9.0])
    found = fit(np.hstack([np.ones((6, 1)), effect_columns(level, 3)]), values)
    means = np.array([2.0, 5.0, 9.0])
    np.testing.assert_allclose(found.coefficients, [means.mean(), *(means - means.mean())[:2]])


def test_columns_that_cannot_be_told_apart_are_named_in_groups():
    a, b = np.array([1.0, 1, -1, -1] * 2), np.array([1.0, -1, 1, -1] * 2)
    c = np.repeat([1.0, -1], 4)
    design = np.stack([np.ones(8), a, b, a.copy(), c, b * 2, c * b], axis=1)
    assert dependent_columns(design) == [[1, 3], [2, 5]]
    assert dependent_columns(design[:, [0, 1, 2, 4, 6]]) == []
    assert dependent_columns(np.stack([a, b, np.zeros(8)], axis=1)) == [[2]]  # a column that says nothing
    with pytest.raises(ValueError, match="depend on each other"):
        fit(design, np.arange(8.0))


def test_as_many_columns_as_runs_leave_no_interval():
    found = fit(np.eye(3), np.array([1.0, 2.0, 3.0])).combination(np.array([0.0, 1.0, 1.0]))
    assert (found.value, found.error, found.low) == (5.0, None, None)


def test_intervals_cover_the_truth():
    """Two factors and 3 seeds as blocks; noise twice as large in one half."""
    generator = np.random.default_rng(7)
    a, b = np.repeat([1.0, -1], 12), np.tile([1.0, -1], 12)
    blocks = effect_columns(np.tile(np.repeat([0, 1, 2], 4), 2), 3)
    design = np.hstack([np.stack([np.ones(24), a, b, a * b], axis=1), blocks])
    truth = np.array([0.5, 0.2, 0.0, -0.1, 0.4, -0.2])
    weights = np.array([0.0, 2.0, 0.0, 2.0, 0.0, 0.0])
    covered = sum(
        fit(design, design @ truth + generator.normal(0, np.where(a > 0, 0.2, 0.1)))
        .combination(weights)
        .contains(weights @ truth)
        for _ in range(1500)
    )
    assert 0.93 <= covered / 1500 <= 0.965
