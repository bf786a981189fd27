"""The exact tests against enumeration written another way, and against scipy."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from histoquant.study import exact
from histoquant.study.exact import (
    doubled_ranks,
    floor_of,
    hodges_lehmann,
    sign_flip,
    signed_rank,
    subset_sums,
)


def enumerated_rank_p(differences: list[int], *, pratt: bool) -> Fraction:
    """Two-sided P over all 2^m sign patterns, with ranks counted one by one."""
    used = [d for d in differences if pratt or d]
    ranks = [
        Fraction(sum(abs(e) < abs(d) for e in used))
        + Fraction(1 + sum(abs(e) == abs(d) for e in used), 2)
        for d in used
    ]
    moving = [(r, d > 0) for r, d in zip(ranks, used, strict=True) if d]
    observed = sum(r if up else -r for r, up in moving)
    patterns = list(product((-1, 1), repeat=len(moving)))
    hits = sum(
        abs(sum(s * r for s, (r, _) in zip(signs, moving, strict=True))) >= abs(observed)
        for signs in patterns
    )
    return Fraction(hits, len(patterns))


def enumerated_flip_p(differences: list[int]) -> Fraction:
    patterns = list(product((-1, 1), repeat=len(differences)))
    observed = abs(sum(differences))
    hits = sum(
        abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= observed
        for signs in patterns
    )
    return Fraction(hits, len(patterns))


def not_rejected(differences: list[float], alpha: float) -> tuple[float, float]:
    """Ends of the shifts that the enumerated signed-rank test does not reject."""
    walsh = sorted({(a + b) / 2 for a, b in product(differences, repeat=2)})
    middles = [(a + b) / 2 for a, b in zip(walsh, walsh[1:], strict=False)]
    patterns = np.array(list(product((0, 1), repeat=len(differences))))
    null = patterns @ np.arange(1, len(differences) + 1)
    kept = []
    for shift in middles:
        moved = np.array(differences) - shift
        w = (np.abs(moved).argsort().argsort() + 1)[moved > 0].sum()
        tail = min((null <= w).mean(), (null >= w).mean())
        if 2 * tail > alpha:
            kept.append(shift)
    low = max(v for v in walsh if v < kept[0])
    high = min(v for v in walsh if v > kept[-1])
    return low, high


@pytest.mark.parametrize("n", range(1, 13))
def test_the_least_p_is_two_over_two_to_the_n(n: int) -> None:
    one_way = np.arange(1, n + 1) / 7
    assert floor_of(n) == 2 / 2**n
    for found in (signed_rank(one_way), sign_flip(-one_way), signed_rank(np.full(n, 3.0))):
        assert found.p == pytest.approx(2 / 2**n, abs=1e-15)
        assert found.floor == 2 / 2**n
        assert found.exact


def test_eight_people_cannot_give_less_than_0_0078125() -> None:
    assert signed_rank([3, 1, 4, 1.5, 9, 2, 6, 5]).p == 0.0078125


@pytest.mark.parametrize(
    "differences",
    [
        [1, 2, 3, 4, 5, -6],
        [1, 1, 1, -1, 2, 2, -3],  # ties across signs
        [0, 0, 1, 2, -3, 4, 5],  # zeros
        [0, 0, 0, 2, 2, -2, 2, 5, 5],  # zeros and ties
        [0, 0, 7],
        [0, 0, 0],
        [-1],
        [2, 2, 2, 2, 2, 2, 2, 2],
    ],
)
@pytest.mark.parametrize("zeros", ["pratt", "wilcox"])
def test_ties_and_zeros_against_enumeration(differences: list[int], zeros: exact.Zeros) -> None:
    expected = enumerated_rank_p(differences, pratt=zeros == "pratt")
    assert signed_rank(differences, zeros).p == pytest.approx(float(expected), abs=1e-12)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_any_small_sample_against_enumeration(differences: list[int]) -> None:
    found = signed_rank(differences).p
    assert found == pytest.approx(float(enumerated_rank_p(differences, pratt=True)), abs=1e-12)
    flipped = sign_flip(differences).p
    assert flipped == pytest.approx(float(enumerated_flip_p(differences)), abs=1e-12)


def test_zeros_weaken_and_do_not_vanish() -> None:
    with_zeros, with_losses = [0, 0, 3, 4, 5, 6, 7, 8], [-1, -2, 3, 4, 5, 6, 7, 8]
    assert signed_rank(with_zeros).p < signed_rank(with_losses).p
    found = signed_rank(with_zeros)
    assert (found.n, found.n_zero, found.floor) == (8, 2, 2 / 2**6)


@pytest.mark.parametrize("n", [3, 8, 17, 40])
def test_the_same_as_scipy_where_it_is_exact(n: int) -> None:
    values = np.random.default_rng(n).normal(0.3, 1, n)
    expected = stats.wilcoxon(values, method="exact")
    found = signed_rank(values)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert min(found.statistic, n * (n + 1) / 2 - found.statistic) == expected.statistic


@pytest.mark.parametrize("n", [4, 9, 12])
def test_sign_flips_are_scipys_permutation_test(n: int) -> None:
    values = np.random.default_rng(n).lognormal(0, 1, n) - 1
    expected = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=10**5
    )
    assert sign_flip(values).p == pytest.approx(expected.pvalue, rel=1e-9)


def test_many_pairs_are_drawn_with_a_seed_and_an_error() -> None:
    values = np.random.default_rng(4).normal(0.35, 1, 36)
    found = sign_flip(values, seed=1)
    assert not found.exact
    assert found.method == "Monte Carlo, 100000 sign flips, seed 1"
    assert found == sign_flip(values, seed=1)
    assert found.p != sign_flip(values, seed=2).p
    assert found.p_se == pytest.approx(np.sqrt(found.p * (1 - found.p) / 100_000))
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)


def test_a_drawn_p_agrees_with_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(7).normal(0.5, 1, 16)
    whole = sign_flip(values)
    monkeypatch.setattr(exact, "LARGEST_FLIPPED", 10)
    drawn = sign_flip(values, seed=3)
    assert whole.exact
    assert abs(drawn.p - whole.p) < 4 * drawn.p_se


def test_twenty_pairs_are_exact_and_a_drawn_p_is_never_zero() -> None:
    assert sign_flip(np.ones(20)).p == pytest.approx(2 / 2**20)
    assert sign_flip(np.arange(1, 60.0)).p == pytest.approx(1 / 100_001)


def test_the_distribution_of_ranks_counts_subsets() -> None:
    sums = [sum(s) for s in product(*[(0, w) for w in (2, 3, 5, 5)])]
    expected = np.bincount(sums, minlength=16) / 16
    np.testing.assert_allclose(subset_sums([2, 3, 5, 5]), expected, atol=1e-15)


def test_ranks_are_scipys_and_rounding_makes_ties() -> None:
    sizes = np.array([0.3 - 0.1, 0.2, 5.0, 0.1, 0.2, 5.0])
    expected = stats.rankdata(np.round(sizes, 9))
    np.testing.assert_array_equal(doubled_ranks(sizes), (2 * expected).astype(int))


def test_beyond_the_largest_exact_sample_the_method_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(0).normal(0.1, 1, 60)
    whole = signed_rank(values)
    monkeypatch.setattr(exact, "LARGEST_EXACT", 30)
    rough = signed_rank(values)
    assert (rough.exact, rough.method) == (False, "normal approximation")
    assert rough.p == pytest.approx(whole.p, abs=0.005)
    expected = stats.wilcoxon(values, method="asymptotic", correction=False).pvalue
    assert rough.p == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [6, 7, 9])
@pytest.mark.parametrize("alpha", [0.05, 0.1])
def test_the_interval_is_what_the_test_does_not_reject(n: int, alpha: float) -> None:
    values = np.random.default_rng(n).normal(1, 1, n).tolist()
    found = hodges_lehmann(values, alpha)
    assert (found.low, found.high) == pytest.approx(not_rejected(values, alpha), abs=1e-12)
    assert found.coverage >= 1 - alpha


def test_the_published_interval_of_nine_patients() -> None:
    """Hollander & Wolfe, Nonparametric Statistical Methods, table 3.1: depression scores."""
    first = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
    second = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
    found = hodges_lehmann(second - first, alpha=0.04)
    assert found.estimate == pytest.approx(-0.46, abs=0.001)
    assert (found.low, found.high) == pytest.approx((-0.786, -0.010), abs=0.001)
    assert found.coverage == pytest.approx(0.961, abs=0.001)
    assert signed_rank(second - first).p == pytest.approx(2 * 0.0195, abs=0.0002)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_too_few_pairs_for_an_interval_say_what_they_could(n: int) -> None:
    found = hodges_lehmann(np.arange(n))
    assert found.estimate == (n - 1) / 2
    assert np.isnan(found.low)
    assert f"{n} pair{' allows' if n == 1 else 's allow'} an exact interval of" in found.reason
    assert f"{100 * (1 - 2 / 2**n):.4g} %" in found.reason


def test_nothing_gives_nothing_with_a_reason() -> None:
    for values in ([], [np.nan], [np.inf, -np.inf]):
        assert np.isnan(signed_rank(values).p)
        assert signed_rank(values).method == sign_flip(values).method == "no pair"
        assert hodges_lehmann(values).reason == "no pair was measured"


def test_all_zero_is_no_evidence_and_has_no_interval() -> None:
    zeros = np.zeros(9)
    assert signed_rank(zeros).p == sign_flip(zeros).p == signed_rank(zeros).floor == 1
    assert hodges_lehmann(zeros).estimate == 0
    assert "the same" in hodges_lehmann(zeros).reason


def test_values_that_are_not_finite_are_missing() -> None:
    values = [1.0, np.nan, 2.0, np.inf, -3.0]
    assert signed_rank(values) == signed_rank([1.0, 2.0, -3.0])
    assert sign_flip(values) == sign_flip([1.0, 2.0, -3.0])
    assert repr(hodges_lehmann(values)) == repr(hodges_lehmann([1.0, 2.0, -3.0]))  # NaN


SAMPLES = st.lists(st.floats(-1e3, 1e3).map(lambda v: round(v, 3)), min_size=1, max_size=14).map(
    np.array
)


@given(SAMPLES, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_order_does_not_matter(values: np.ndarray, random) -> None:
    order = list(range(values.size))
    random.shuffle(order)
    assert signed_rank(values[order]).p == signed_rank(values).p
    assert sign_flip(values[order]).p == pytest.approx(sign_flip(values).p, abs=1e-12)
    mixed, sorted_ = hodges_lehmann(values[order]), hodges_lehmann(values)
    np.testing.assert_array_equal(
        [mixed.estimate, mixed.low, mixed.high], [sorted_.estimate, sorted_.low, sorted_.high]
    )


@given(SAMPLES)
@settings(max_examples=60, deadline=None)
def test_exchanging_the_arms_turns_the_effect_and_keeps_p(values: np.ndarray) -> None:
    assert signed_rank(-values).p == signed_rank(values).p
    assert sign_flip(-values).p == pytest.approx(sign_flip(values).p, abs=1e-12)
    there, back = hodges_lehmann(values), hodges_lehmann(-values)
    assert back.estimate == -there.estimate
    np.testing.assert_array_equal([back.low, back.high], [-there.high, -there.low])


@given(SAMPLES, st.sampled_from([1e-6, 0.5, 3.0, 1e5]))
@settings(max_examples=60, deadline=None)
def test_the_unit_does_not_matter(values: np.ndarray, unit: float) -> None:
    assert signed_rank(values * unit).p == pytest.approx(signed_rank(values).p, abs=1e-12)
    assert sign_flip(values * unit).p == pytest.approx(sign_flip(values).p, abs=1e-12)
    scaled = hodges_lehmann(values * unit)
    plain = hodges_lehmann(values)
    np.testing.assert_allclose(
        [scaled.estimate, scaled.low, scaled.high],
        np.array([plain.estimate, plain.low, plain.high]) * unit,
        rtol=1e-9,
    )
