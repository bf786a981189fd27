"""Reversal and slowed progression are told apart, by intervals, or not at all."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy import stats

from histoquant.errors import StudyError
from histoquant.study.baseline import (
    COLUMNS,
    FourPoints,
    Yardstick,
    ancova,
    read_intervals,
    read_reversal,
)
from histoquant.study.means import Mean

LOWER = Yardstick("lower")


def cohort(
    seed: int, n: int = 36, treated: float = 1.0, placebo: float = 1.0, sd: float = 0.2
) -> FourPoints:
    """Log-normal values; `treated` and `placebo` are the ratios follow-up / baseline."""
    rng = np.random.default_rng(seed)
    person = rng.normal(2, 0.5, n)
    noise = rng.normal(0, sd, (4, n))
    change = np.log([1.0, 1.0, treated, placebo])
    return FourPoints(*np.exp(person + change[:, None] + noise))


def points(*columns: list[float]) -> FourPoints:
    return FourPoints(*(np.array(c, float) for c in columns))


def test_differences_in_differences_are_a_t_test_of_the_changes() -> None:
    data = cohort(1, 12, treated=0.7, placebo=1.2)
    found = read_reversal(data, LOWER)
    own = np.log(data.after_treated / data.before_treated)
    other = np.log(data.after_placebo / data.before_placebo)
    for mean, values in ((found.treated, own), (found.placebo, other),
                         (found.difference, own - other)):  # fmt: skip
        test = stats.ttest_1samp(values, 0)
        limits = test.confidence_interval()
        wanted = (values.mean(), limits.low, limits.high, test.pvalue)
        assert (mean.estimate, mean.low, mean.high, mean.p) == pytest.approx(wanted, rel=1e-9)
    row = found.row()
    assert row["treated_change"] == pytest.approx(stats.gmean(np.exp(own)))
    assert row["scale"] == "ratio"
    assert row["did_low"] < row["difference_in_differences"] < row["did_high"]  # type: ignore[operator]
    assert set(row) | {"marker", "outcome", "role"} == set(COLUMNS)


def test_by_hand_on_the_linear_scale() -> None:
    # Changes: treated 1, 2, 3; placebo 4, 4, 7; differences -3, -2, -4: mean -3, sd 1.
    data = points([10, 20, 30], [10, 20, 30], [11, 22, 33], [14, 24, 37])
    found = read_reversal(data, Yardstick("lower", "linear"))
    assert (found.treated.estimate, found.placebo.estimate) == (2, 5)
    assert found.difference.estimate == pytest.approx(-3)
    half = 4.302652729749464 / math.sqrt(3)  # t quantile of 2 degrees of freedom
    assert found.difference.low == pytest.approx(-3 - half, rel=1e-9)
    assert found.row()["scale"] == "difference"


def test_ancova_is_the_intercept_of_a_regression() -> None:
    rng = np.random.default_rng(3)
    before = rng.normal(0.5, 1, 20)
    after = 0.6 * before - 1 + rng.normal(0, 0.5, 20)
    found = ancova(after, before)
    line = stats.linregress(before, after)
    p = 2 * stats.t.sf(abs(line.intercept / line.intercept_stderr), 18)
    half = stats.t.ppf(0.975, 18) * line.intercept_stderr
    got = (found.slope, found.effect.estimate, found.effect.se, found.effect.p)
    wanted = (line.slope, line.intercept, line.intercept_stderr, p)
    assert got == pytest.approx(wanted, rel=1e-9)
    assert found.effect.high == pytest.approx(line.intercept + half, rel=1e-9)


def test_ancova_takes_chance_imbalance_out() -> None:
    """The treated sites began worse by 1 and differ by 1 x slope at the end: no effect."""
    rng = np.random.default_rng(4)
    before = rng.normal(1, 0.5, 400)
    found = ancova(0.5 * before + rng.normal(0, 0.1, 400), before)
    assert found.effect.estimate == pytest.approx(0, abs=0.05)  # unadjusted: 0.5
    assert found.slope == pytest.approx(0.5, abs=0.03)


def test_ancova_without_error_has_no_interval() -> None:
    found = ancova([1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0])
    assert found.effect.estimate == pytest.approx(1)
    assert "without error" in found.effect.reason
    assert math.isnan(found.effect.p)


@pytest.mark.parametrize(
    ("after", "before", "word"),
    [
        ([], [], "0 pair"),
        ([1.0, 2.0], [0.0, 1.0], "2 pair"),
        ([1.0, 2.0, np.nan], [0.0, 1.0, 2.0], "2 pair"),
        ([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], "nothing to adjust for"),
    ],
)
def test_ancova_says_why_there_is_none(after: list[float], before: list[float], word: str) -> None:
    found = ancova(after, before)
    assert word in found.effect.reason
    assert math.isnan(found.effect.estimate)


def mean(low: float, high: float) -> Mean:
    return Mean(10, (low + high) / 2, 1.0, low, high, 0.04, 9.0)


NONE = Mean(3, 1.0, reason="all 3 pairs show the same")


@pytest.mark.parametrize(
    ("treated", "placebo", "difference", "reading"),
    [  # of an outcome of which higher is better, with a margin of 1
        (mean(1, 3), mean(-2, 0.5), mean(2, 4), "reversal"),
        (mean(-3, -1), mean(-6, -4), mean(1, 4), "slowed progression"),
        (mean(-1, 1), mean(-4, -2), mean(1, 4), "slowed progression"),  # holds, placebo falls
        (mean(-1, 3), mean(-3, 1), mean(1, 4), "undecided"),  # better, but which way?
        (mean(1, 3), mean(1, 3), mean(-0.5, 0.5), "no difference"),
        (mean(1, 3), mean(1, 3), mean(-0.5, 1.5), "undecided"),  # beyond the margin
        (mean(1, 3), mean(1, 3), mean(-3, -1), "worse"),  # better than before, but less so
        (mean(-3, -1), mean(-1, 1), mean(-3, -1), "worse"),
        (NONE, mean(-3, -1), mean(1, 3), "undecided"),
        (NONE, mean(-3, -1), mean(-3, -1), "worse"),
        (mean(1, 3), mean(-3, -1), NONE, "undecided"),
        (mean(1, 3), mean(-0.5, 0.1), mean(0.2, 0.9), "reversal"),  # small, but there
    ],
)
def test_readings_follow_from_intervals(
    treated: Mean, placebo: Mean, difference: Mean, reading: str
) -> None:
    for direction, sign in (("higher", 1.0), ("lower", -1.0)):
        yardstick = Yardstick(direction, "linear", margin=1.0)  # type: ignore[arg-type]
        turned = (m.times(sign) for m in (treated, placebo, difference))
        found, reason = read_intervals(*turned, yardstick)
        assert found == reading
        assert reason.startswith(reading.capitalize())
        assert "95 % interval" in reason
        assert f"{direction} is better" in reason
        within = difference.has_interval and difference.low > 0 and difference.high < 1
        assert ("lies within the margin" in reason.split("better.")[-1]) == within


def test_without_a_margin_a_wide_interval_is_never_no_difference() -> None:
    found, reason = read_intervals(mean(-1, 1), mean(-1, 1), mean(-0.1, 0.1), Yardstick("lower"))
    assert found == "undecided"
    assert "no margin" in reason


def test_a_difference_without_a_better_direction_is_undecided() -> None:
    found, reason = read_intervals(mean(1, 2), mean(-1, 1), mean(1, 2), Yardstick(""))
    assert found == "undecided"
    assert "higher than placebo sites, and nothing says which" in reason


@pytest.mark.parametrize(
    ("treated", "placebo", "reading"),
    [
        (0.7, 1.0, "reversal"),
        (0.7, 1.3, "reversal"),
        (1.0, 1.5, "slowed progression"),
        (1.3, 2.0, "slowed progression"),
        (1.0, 1.0, "no difference"),
        (1.4, 1.0, "worse"),
    ],
)
def test_simulated_cohorts_are_read_as_they_were_made(
    treated: float, placebo: float, reading: str
) -> None:
    yardstick = Yardstick("lower", margin=1.4)
    seen: Counter[str] = Counter(
        read_reversal(cohort(seed, 30, treated, placebo), yardstick).reading for seed in range(200)
    )
    assert seen[reading] >= 180, seen


def test_reversal_is_rarely_claimed_where_treated_sites_only_held() -> None:
    seen = Counter(read_reversal(cohort(s, 12, 1.0, 1.6), LOWER).reading for s in range(1000))
    # One tail of 5 %: 25 of 1000 expected; 45 is four standard errors above.
    assert seen["reversal"] <= 45, seen
    # Where they seem better than their baselines, as half of them do, it cannot be told which.
    assert seen["slowed progression"] > 400
    assert seen["slowed progression"] + seen["undecided"] > 940


@pytest.mark.parametrize("n", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["spread", "equal", "zero", "nan", "inf", "one arm"])
def test_degenerate_input_gets_a_sentence(n: int, kind: str) -> None:
    values = np.exp(np.random.default_rng(n).normal(size=(4, n)))
    if kind == "equal":
        values[:] = 2.0
    elif kind == "zero":
        values[:] = 0.0
    elif kind == "nan":
        values[:] = np.nan
    elif kind == "inf":
        values[2] = np.inf
    elif kind == "one arm":
        values[3] = np.nan
    found = read_reversal(FourPoints(*values), Yardstick("lower", margin=1.25))
    usable = n if kind in ("spread", "equal", "zero") else 0
    assert found.difference.n == usable
    assert len(found.reason) > 40
    has_p = usable >= 2 and kind == "spread"
    assert math.isnan(found.difference.p) != has_p
    assert (found.reading == "undecided") or has_p
    row = found.row()
    assert "nan" not in str(row["reason"])
    if n and not usable:
        assert "without all four measurements" in found.note


def test_without_a_baseline_the_reading_does_not_say_that_no_pair_was_measured() -> None:
    nothing = [math.nan] * 3
    found = read_reversal(points(nothing, nothing, [1, 2, 3], [2, 3, 5]), Yardstick("lower"))
    assert found.reason.startswith("Undecided: nobody has all four measurements.")
    assert "no pair was measured" not in found.reason


def test_values_of_zero_are_compared_as_differences_and_the_note_says_so() -> None:
    data = points([1, 2, 3, 4], [2, 2, 3, 5], [0, 1, 1, 2], [2, 3, 4, 5])
    found = read_reversal(data, Yardstick("lower", margin=1.25))
    assert found.yardstick.scale == "linear"
    assert found.yardstick.margin is None
    assert "1 person has values of 0" in found.note
    assert found.treated.estimate == pytest.approx(-1.5)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"margin": 0.9}, "above 1"),
        ({"margin": math.inf}, "above 1"),
        ({"scale": "linear", "margin": 0.0}, "above 0"),
        ({"alpha": 1.0}, "between 0 and 1"),
    ],
)
def test_a_yardstick_that_measures_nothing_is_refused(change: dict[str, Any], word: str) -> None:
    with pytest.raises(StudyError, match=word):
        Yardstick("lower", **change)


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        points([1], [1], [1], [1, 2])
