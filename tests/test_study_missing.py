"""What lost pairs could have changed: by hand, by brute force, and nothing without a reason."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from histoquant.study.means import Mean, Scale
from histoquant.study.missing import (
    COLUMNS,
    Effects,
    at_baseline,
    bounds,
    missing_lines,
    shifted,
    tipping_point,
    tipping_text,
)


def effects(seed: int, n: int = 17, shift: float = -0.4, missing: int = 19) -> Effects:
    return Effects(np.random.default_rng(seed).normal(shift, 0.3, n), missing)


def brute_force(given: Effects, step: float = 1e-3, reach: float = 5.0) -> float:
    """Smallest shift, of either sign, at which the conclusion is another one."""

    def excludes(mean: Mean) -> bool:
        return mean.low > 0 or mean.high < 0

    start = excludes(given.completers)
    for size in np.arange(0, reach, step):
        for sign in (1, -1):
            if excludes(shifted(given, sign * size)) != start:
                return float(sign * size)
    raise AssertionError("no tipping point within reach")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shift", [-0.4, 0.0, 0.15, 0.5])
def test_the_tipping_point_is_that_of_brute_force(seed: int, shift: float) -> None:
    given = effects(seed, shift=shift)
    found = tipping_point(given)
    assert found.delta == pytest.approx(brute_force(given), abs=1.1e-3)
    assert found.missing_effect == pytest.approx(given.completers.estimate + found.delta)


def test_the_tipping_point_by_hand() -> None:
    # Mean 3, sd 1, n 3: limits 3 -+ 4.3027 / root 3; half of the people are missing.
    given = Effects(np.array([2.0, 3.0, 4.0]), 3, "linear")
    found = tipping_point(given)
    low = 3 - 4.302652729749464 / math.sqrt(3)
    assert found.significant
    assert found.delta == pytest.approx(-low / 0.5, rel=1e-9)
    at = shifted(given, found.delta)
    assert at.low == pytest.approx(0, abs=1e-12)
    assert at.se == given.completers.se


def test_one_missing_pair_is_one() -> None:
    given = Effects(np.log([0.5, 0.6, 0.7, 0.55, 0.65]), 1)
    words = " ".join(row.meaning for row in missing_lines(given))
    assert "missing: 1 of 6 enrolled" in words
    assert "if the missing pair had the lowest effect seen" in words
    assert "if the missing pair had a ratio of" in words
    assert "1 missing pairs" not in words
    assert "on average" not in words


def test_the_tipping_point_is_told_as_people_read_it() -> None:
    given = Effects(np.log([0.5, 0.6, 0.7, 0.55, 0.65]), 5)
    found = tipping_point(given)
    text = tipping_text(found, given)
    assert "no longer exclude no effect if the 5 missing pairs had" in text
    assert f"a ratio of {math.exp(found.missing_effect):.2f}" in text
    weak = Effects(np.array([-1.0, 2.0, 0.5]), 2, "linear")
    assert "would exclude no effect if the 2 missing pairs" in tipping_text(
        tipping_point(weak), weak
    )


@pytest.mark.parametrize(
    ("values", "missing", "word"),
    [
        ([1.0, 2.0, 3.0], 0, "no pair is missing"),
        ([], 4, "no pair was measured"),
        ([1.0], 4, "one pair"),
        ([1.0, 1.0], 4, "show the same"),
        ([0.0, 0.0, 0.0], 4, "show the same"),
        ([np.nan, np.inf], 4, "no pair was measured"),
    ],
)
def test_without_an_interval_or_a_loss_there_is_no_tipping_point(
    values: list[float], missing: int, word: str
) -> None:
    given = Effects(np.array(values), missing, "linear", (0.0, 100.0))
    found = tipping_point(given)
    assert math.isnan(found.delta)
    assert word in tipping_text(found, given)
    lines = missing_lines(given)
    assert [line.analysis for line in lines[:2]] == ["completers", "tipping point"]
    assert all(math.isnan(line.mean.p) for line in lines[1:])
    assert all(line.meaning and "nan" not in line.meaning for line in lines)


def test_worst_cases_by_hand() -> None:
    given = Effects(np.array([1.0, 2.0, 3.0]), 1, "linear", (0.0, 100.0))
    lines = {line.analysis: line.mean for line in bounds(given)}
    estimates = {name: mean.estimate for name, mean in lines.items()}
    assert estimates == pytest.approx(
        {
            "every missing pair as the lowest seen": (6 + 1) / 4,
            "every missing pair as the highest seen": (6 + 3) / 4,
            "every missing pair the lowest possible": (6 - 100) / 4,
            "every missing pair the highest possible": (6 + 100) / 4,
        }
    )
    seen = lines["every missing pair as the lowest seen"]
    half = stats.t.ppf(0.975, 2) / math.sqrt(3)
    assert (seen.low, seen.high) == pytest.approx((1.75 - half, 1.75 + half))
    assert math.isnan(lines["every missing pair the lowest possible"].p)


def test_possible_bounds_are_for_outcomes_with_limits_on_the_linear_scale() -> None:
    for scale, limits in (("log", (0.0, 100.0)), ("linear", (0.0, math.inf))):
        given = Effects(np.array([1.0, 2.0]), 1, scale, limits)  # type: ignore[arg-type]
        assert [line.analysis.split()[-1] for line in bounds(given)] == ["seen", "seen"]


def test_pairs_that_nobody_measured_do_not_narrow_the_interval() -> None:
    given = effects(1, missing=1000)
    width = given.completers.high - given.completers.low
    for line in bounds(given):
        assert line.mean.high - line.mean.low == pytest.approx(width)


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_completers_are_compared_with_those_lost_at_baseline(scale: Scale) -> None:
    rng = np.random.default_rng(2)
    kept, lost = rng.lognormal(2, 0.3, 17), rng.lognormal(2.4, 0.3, 12)
    line = at_baseline(kept, np.append(lost, np.nan), scale)
    both = (np.log(kept), np.log(lost)) if scale == "log" else (kept, lost)
    test = stats.ttest_ind(*both, equal_var=False)
    assert line.mean.p == pytest.approx(test.pvalue, rel=1e-9)
    assert line.row()["scale"] == ("ratio" if scale == "log" else "difference")
    assert "17 completers against 12 lost" in line.meaning


def test_baselines_of_zero_are_compared_as_differences() -> None:
    line = at_baseline([0.0, 1.0, 2.0], [3.0, 4.0])
    assert line.scale == "linear"
    assert line.mean.estimate == pytest.approx(-2.5)
    assert "values of 0 or below" in line.meaning


def test_nobody_lost_with_a_baseline_is_said() -> None:
    line = at_baseline([1.0, 2.0], [])
    assert math.isnan(line.mean.p)
    assert "0 lost" in line.meaning
    assert "one of the groups is empty" in line.meaning


def test_rows_have_the_columns_of_the_table() -> None:
    for line in missing_lines(effects(3)):
        assert set(line.row()) | {"marker", "outcome"} == set(COLUMNS)
    ratio = missing_lines(effects(3))[0].row()["estimate"]
    assert ratio == pytest.approx(math.exp(effects(3).completers.estimate))
