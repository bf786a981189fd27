"""Simulated power is the theory's where there is one, follows the seed, and knows its error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from histoquant.errors import StudyError
from histoquant.study.columns import POWER
from histoquant.study.power import LARGEST, Question, power_curve, power_from_pilot

THEORY = TTestPower()


def pilot(seed: int, n: int = 10, ratio: float = 0.7, sd: float = 0.4) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    placebo = rng.lognormal(3, 0.5, n)
    return placebo * ratio * np.exp(rng.normal(0, sd, n)), placebo


@pytest.mark.parametrize("dz", [0.3, 0.6, 1.2])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_power_of_the_t_test_is_statsmodels(dz: float, alpha: float) -> None:
    curve = power_curve(dz * 0.7, 0.7, Question(sizes=(3, 5, 8, 17, 36), alpha=alpha))
    for point in curve.points:
        wanted = THEORY.power(dz, point.n_enrolled, alpha)
        if math.isnan(wanted):  # the noncentral t of scipy gives up far out
            wanted = 1.0
        assert point.power == pytest.approx(wanted, abs=4 * max(point.mc_error, 1e-3))
        assert point.mc_error == math.sqrt(point.power * (1 - point.power) / 10_000)


def test_without_an_effect_power_is_the_level() -> None:
    for test in ("t", "signed_rank"):
        curve = power_curve(0.0, 1.0, Question(sizes=(12,), test=test))  # type: ignore[arg-type]
        level = 0.05 if test == "t" else 0.0425  # what the exact test can reach with 12 pairs
        assert curve.points[0].power == pytest.approx(level, abs=0.009)


def test_the_smallest_number_is_statsmodels() -> None:
    question = Question(effect=0.7, sizes=(), n_simulations=20_000)
    found = power_from_pilot(*pilot(1), question)
    for curve in found.curves:
        wanted = THEORY.solve_power(math.log(0.7) / curve.sd, None, 0.05, 0.8)
        assert curve.smallest == pytest.approx(math.ceil(wanted), abs=1)
    assert found.curves[1].smallest > found.curves[0].smallest  # type: ignore[operator]


def test_signed_rank_needs_six_pairs_whatever_the_effect() -> None:
    curve = power_curve(5.0, 1.0, Question(sizes=(5, 6), test="signed_rank"))
    assert [p.power for p in curve.points] == [0, pytest.approx(1, abs=0.01)]


@pytest.mark.parametrize("n", [4, 6, 9, 14])
def test_the_signed_rank_test_is_scipys(n: int) -> None:
    curve = power_curve(0.8, 1.0, Question(sizes=(n,), test="signed_rank", seed=2))
    drawn = np.random.default_rng([2, n]).standard_normal((10_000, n)) + 0.8
    p = stats.wilcoxon(drawn, axis=1, method="exact").pvalue
    assert curve.points[0].power == (p <= 0.05).mean()


def test_drop_out_costs_what_it_loses() -> None:
    """With 40 % lost, power is that of a binomial number of pairs."""
    n, dz = 20, 0.8
    curve = power_curve(dz, 1.0, Question(sizes=(n,), drop_out=0.4, n_simulations=20_000))
    pairs = np.arange(2, n + 1)
    chance = stats.binom.pmf(pairs, n, 0.6)
    wanted = sum(c * THEORY.power(dz, m, 0.05) for c, m in zip(chance, pairs, strict=True))
    (point,) = curve.points
    assert point.power == pytest.approx(wanted, abs=4 * point.mc_error)
    assert point.mean_pairs == pytest.approx(12, abs=0.1)


def test_a_size_has_the_same_power_whatever_else_is_tried() -> None:
    one, many = (
        {p.n_enrolled: p for p in power_curve(0.5, 1, Question(sizes=sizes, seed=3)).points}
        for sizes in ((10,), (8, 10, 12))
    )
    assert one[10] == many[10]
    other = power_curve(0.5, 1, Question(sizes=(10,), seed=4)).points[0]
    assert other.power != one[10].power


def test_the_upper_limit_of_the_spread_holds_in_four_of_five_pilots() -> None:
    uppers = []
    for seed in range(400):
        found = power_from_pilot(*pilot(seed, n=5), Question(effect=0.7, sizes=(5,),
                                                              n_simulations=1))  # fmt: skip
        uppers.append(found.curves[1].sd)
    assert np.mean(np.array(uppers) >= 0.4) == pytest.approx(0.8, abs=0.06)


def test_resampling_draws_the_pilots_own_shape() -> None:
    """Effects of two values only: by hand, 8 pairs are significant when 7 or 8 agree."""
    sd = float(np.std([-1.0, 1.0] * 5, ddof=1))
    question = Question(shape="resample", sizes=(8,), n_simulations=20_000)
    curve = power_curve(0.0, sd, question, [-1.0, 1.0] * 5)
    k = np.arange(1, 8)
    t = (2 * k - 8) / np.sqrt(64 - (2 * k - 8) ** 2) * math.sqrt(7)
    significant = np.abs(t) > stats.t.isf(0.025, 7)
    wanted = float(stats.binom.pmf(k[significant], 8, 0.5).sum())  # all 8 alike: no spread
    wanted += float(stats.binom.pmf([0, 8], 8, 0.5).sum())
    assert curve.points[0].power == pytest.approx(wanted, abs=0.008)


def test_sentences_say_what_a_reader_needs() -> None:
    found = power_from_pilot(*pilot(2), Question(effect=0.7, drop_out=0.5))
    first = found.sentences[0]
    assert "a ratio of 0.700 with 80 % power" in first
    assert f"{found.curves[0].smallest} people, 50 % of them lost" in first
    assert "Monte Carlo error 0.4" in first
    assert not any("pilot's own estimate" in s for s in found.sentences)
    own = power_from_pilot(*pilot(2))
    assert "tend to be too large" in own.sentences[-1]
    treated, placebo = pilot(2)
    assert own.question.effect == pytest.approx(stats.gmean(treated / placebo))
    rows = found.curves[0].rows()
    assert all(set(row) | {"marker", "outcome"} == {c.name for c in POWER} for row in rows)


def test_effects_too_small_to_find_are_said_and_not_simulated() -> None:
    for effect in (1.0, 1.0001):
        found = power_from_pilot(*pilot(3), Question(effect=effect))
        assert all(curve.points == () for curve in found.curves)
        assert f"over {LARGEST} people" in found.sentences[0]
    short = power_from_pilot(*pilot(3), Question(effect=0.9, sizes=(4, 5)))
    assert "no size up to 5 is enough" in short.sentences[0]
    long = power_from_pilot(*pilot(3), Question(effect=0.2, sizes=(50, 60)))
    assert "at most 50 people" in long.sentences[0]


@pytest.mark.parametrize(
    ("treated", "placebo", "word"),
    [
        ([], [], "no pair"),
        ([1.0], [2.0], "one pair"),
        ([1.0, np.nan], [2.0, 1.0], "one pair"),
        ([np.inf, np.inf], [2.0, 1.0], "no pair"),
        ([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], "show the same"),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], "show the same"),
        ([1.0, 2.0], [np.nan, np.nan], "no pair"),
    ],
)
def test_a_pilot_without_spread_gives_a_reason_and_no_number(
    treated: list[float], placebo: list[float], word: str
) -> None:
    found = power_from_pilot(treated, placebo)
    assert found.curves == ()
    assert word in found.reason
    assert found.sentences == (found.reason,)


def test_a_pilot_with_zeros_is_compared_by_differences() -> None:
    found = power_from_pilot([0.0, 1.0, 2.0, 1.0], [1.0, 3.0, 3.0, 1.5], Question(effect=-1.0))
    assert found.scale == "linear"
    assert "a difference of -1.00" in found.sentences[0]
    assert any("value of 0 or below" in s for s in found.sentences)


def test_a_ratio_of_nothing_is_said() -> None:
    found = power_from_pilot(*pilot(1), Question(effect=-0.5))
    assert "a ratio lies above 0" in found.reason


@pytest.mark.parametrize(
    "change",
    [{"target": 1.0}, {"alpha": 0.0}, {"drop_out": 1.0}, {"drop_out": -0.1}, {"sizes": (0,)},
     {"n_simulations": 0}, {"effect": math.nan}],
)  # fmt: skip
def test_questions_without_an_answer_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match=r"between 0 and 1|at least 1|must be a number"):
        Question(**change)
