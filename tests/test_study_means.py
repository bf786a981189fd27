"""Means and intervals agree with scipy, and say so where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from histoquant.study import means

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("n", [2, 3, 8, 36])
@pytest.mark.parametrize("alpha", [0.05, 0.1])
def test_a_mean_is_that_of_scipys_t_test(n: int, alpha: float) -> None:
    x = RNG.normal(0.4, 1.3, n)
    found = means.mean_of(x, alpha)
    result = stats.ttest_1samp(x, 0)
    limits = result.confidence_interval(1 - alpha)
    wanted = (x.mean(), limits.low, limits.high, result.pvalue, n - 1)
    got = (found.estimate, found.low, found.high, found.p, found.df)
    assert got == pytest.approx(wanted, rel=1e-9)
    assert found.se == pytest.approx(stats.sem(x), rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (5, 9), (30, 4)])
def test_a_difference_of_means_is_welchs(n: int, m: int) -> None:
    a, b = RNG.normal(1, 1, n), RNG.normal(0, 3, m)
    found = means.difference_of_means(a, b)
    result = stats.ttest_ind(a, b, equal_var=False)
    limits = result.confidence_interval()
    got = (found.low, found.high, found.p, found.df)
    assert got == pytest.approx((limits.low, limits.high, result.pvalue, result.df), rel=1e-9)


@pytest.mark.parametrize(
    ("values", "n", "estimate", "word"),
    [
        ([], 0, math.nan, "no pair"),
        ([np.nan, np.inf], 0, math.nan, "no pair"),
        ([2.0], 1, 2.0, "one pair"),
        ([0.0, 0.0, 0.0], 3, 0.0, "show the same"),
        ([0.1 + 0.2, 0.3, 0.3], 3, 0.3, "show the same"),  # equal but for rounding
    ],
)
def test_without_spread_there_is_no_interval_and_no_p(
    values: list[float], n: int, estimate: float, word: str
) -> None:
    found = means.mean_of(values)
    assert found.n == n
    assert found.estimate == pytest.approx(estimate, nan_ok=True)
    assert math.isnan(found.p)
    assert not found.has_interval
    assert word in found.reason


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ([], [1.0, 2.0], "empty"),
        ([1.0], [1.0, 2.0], "group of one"),
        ([1.0, 1.0], [2.0, 2.0], "no spread"),
    ],
)
def test_groups_too_small_to_compare_have_a_reason(
    first: list[float], second: list[float], word: str
) -> None:
    found = means.difference_of_means(first, second)
    assert math.isnan(found.p)
    assert word in found.reason


def test_values_that_are_not_finite_do_not_count() -> None:
    assert means.mean_of([1.0, np.nan, 2.0, np.inf, 4.0]) == means.mean_of([1.0, 2.0, 4.0])


def test_a_mean_times_a_negative_number_swaps_its_limits() -> None:
    found = means.mean_of([1.0, 2.0, 4.0])
    turned = found.times(-2)
    assert (turned.low, turned.high) == (-2 * found.high, -2 * found.low)
    assert (turned.p, turned.se) == (found.p, 2 * found.se)


def test_pairs_are_compared_as_ratios_where_all_values_have_logarithms() -> None:
    effects, scale, note = means.pair_effects([2.0, 9.0, np.nan], [1.0, 3.0, 1.0])
    assert scale == "log"
    assert np.exp(effects) == pytest.approx([2, 3])
    assert note == ""


def test_a_zero_keeps_its_pair_and_changes_the_scale_of_all() -> None:
    effects, scale, note = means.pair_effects([0.0, 9.0], [1.0, 3.0])
    assert scale == "linear"
    assert list(effects) == [-1, 6]
    assert "1 pair has a value of 0" in note


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (1, "1.00"), (0.123456, "0.123"), (-12.345, "-12.3"), (1234.5, "1234"),
        (2e-5, "2.00e-05"), (3e7, "3.00e+07"), (math.nan, "nan"), (-math.inf, "-inf"),
    ],
)  # fmt: skip
def test_numbers_are_read_with_three_digits(value: float, text: str) -> None:
    assert means.number(value) == text


def test_texts_give_the_interval_or_why_there_is_none() -> None:
    mean = means.mean_of(np.log([0.5, 0.8, 0.7]))
    assert means.interval_text(mean, "log").startswith("0.654 (95 % interval 0.")
    assert "one pair has no spread" in means.interval_text(means.mean_of([1.0]), "linear")
    assert "not known" in means.interval_text(means.mean_of([]), "log")
    assert means.p_text(3e-9) == "P < 0.0001"
    assert means.p_text(math.nan) == "no P"


def test_a_limit_too_large_for_a_ratio_is_infinite() -> None:
    assert means.shown(1e4, "log") == math.inf
    assert means.shown(-1e4, "log") == 0
