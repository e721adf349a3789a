"""Student's distribution against printed tables and exact forms; sums of variances; marks of one table."""

import math

import numpy as np
import pytest

from tsugiki.estimates import (
    Estimate,
    Variance,
    estimate,
    holm,
    is_certain,
    ratio_tail,
    student_quantile,
    student_tails,
)


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (5, 2.5706), (7, 2.3646), (19, 2.0930), (1e9, 1.95996)],
)
def test_quantiles_of_student(freedom, quantile):
    """Against the printed tables."""
    assert student_quantile(freedom) == pytest.approx(quantile, abs=5e-5)


@pytest.mark.parametrize("t", [1e-9, 0.3, 1.0, 2.5, 40.0, 1e9])
def test_tails_of_student_where_they_have_a_closed_form(t):
    assert student_tails(t, 1) == pytest.approx(1 - 2 * math.atan(t) / math.pi, abs=1e-14)
    assert student_tails(t, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t), abs=1e-14)


def test_tails_of_student_for_broken_degrees_of_freedom_are_what_numbers_drawn_say():
    drawn = np.abs(np.random.default_rng(3).standard_t(3.7, 400_000))
    for t in (0.5, 2.0, 4.0):
        share = (drawn > t).mean()
        assert student_tails(t, 3.7) == pytest.approx(share, abs=4 * math.sqrt(share / len(drawn)))


def test_ratios_of_variances_have_the_tails_of_f():
    for ratio in (0.1, 1.0, 3.0, 50.0):
        assert ratio_tail(ratio, 2, 7) == pytest.approx((1 + 2 * ratio / 7) ** -3.5, abs=1e-14)  # closed for 2 above
        assert ratio_tail(ratio, 3, 5) == pytest.approx(1 - ratio_tail(1 / ratio, 5, 3), abs=1e-14)
        assert ratio_tail(ratio, 1, 4.5) == pytest.approx(student_tails(math.sqrt(ratio), 4.5), abs=1e-14)
    assert (ratio_tail(0.0, 3, 2), ratio_tail(math.inf, 3, 2)) == (1.0, 0.0)


def test_the_limits_of_an_estimate_are_where_its_p_value_is_five_percent():
    found = estimate(0.3, [Variance(0.01, 5), Variance(0.002, 19)], "items and seeds")
    assert found.error == pytest.approx(math.sqrt(0.012))
    assert found.freedom == pytest.approx(0.012**2 / (0.01**2 / 5 + 0.002**2 / 19))  # Welch and Satterthwaite
    assert found.p_value(found.low) == pytest.approx(0.05)
    assert found.p_value(found.high) == pytest.approx(0.05)
    assert found.contains(0.3)
    assert not found.contains(found.high + 1e-9)


def test_parts_without_variance_take_no_freedom_away():
    assert estimate(1.0, [Variance(0.0, 1), Variance(0.04, 30)], "items").freedom == pytest.approx(30)
    same = estimate(0.0, [Variance(0.0, 1)], "seeds")
    assert (same.low, same.high, same.p_value(), same.p_value(0.1)) == (0.0, 0.0, 1.0, 0.0)


def test_without_a_variance_nothing_is_known():
    found = estimate(0.3, [], "nothing")
    assert found == Estimate(0.3)
    assert found.p_value() is None
    assert not found.contains(0.3)
    assert is_certain(found.p_value()) is None


def test_marks_of_one_table_are_corrected_by_holm():
    """Worked by hand: .01 x 4, .02 x 3, .03 x 2 (less than the one before), .5 x 1; what is not known is not counted."""
    assert holm([0.03, 0.01, None, 0.5, 0.02]) == pytest.approx([0.06, 0.04, None, 0.5, 0.06], nan_ok=True)
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_tables_without_any_effect_err_in_five_percent_where_uncorrected_ones_err_in_half():
    tables = np.random.default_rng(5).random((4000, 12))
    plain = np.mean([min(table) < 0.05 for table in tables])
    corrected = np.mean([any(map(is_certain, holm(list(table)))) for table in tables])
    assert plain == pytest.approx(1 - 0.95**12, abs=0.025)  # .46
    assert corrected <= 0.061  # .05 by theory; three standard deviations more
