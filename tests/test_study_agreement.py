"""Agreement of readers against published worked examples."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from histoquant.errors import StudyError
from histoquant.study.agreement import (
    bland_altman,
    cohens_kappa,
    confusion,
    icc21,
    mean_squares,
)

# Shrout & Fleiss 1979, table 2: six targets, four judges.
JUDGES = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
# Bland & Altman 1986, table 1: peak expiratory flow (l/min), first reading of each meter.
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
# Boyd et al. 1982, in Altman 1991, p. 403-409: two radiologists, 85 xeromammograms.
RADIOLOGISTS = [[21, 12, 0, 0], [4, 17, 1, 0], [3, 9, 15, 2], [0, 0, 0, 1]]
# Fleiss 1981, table 13.1: two raters, 100 patients, three diagnoses.
DIAGNOSES = [[75, 1, 4], [5, 4, 1], [0, 0, 10]]


def items(table: list[list[int]]) -> tuple[list[int], list[int]]:
    """The judgements that a table of counts was made from."""
    pairs = [(i, j) for i, row in enumerate(table) for j, n in enumerate(row) for _ in range(n)]
    return [i for i, _ in pairs], [j for _, j in pairs]


def test_icc_of_shrout_and_fleiss() -> None:
    found = icc21(JUDGES)
    assert found.estimate == pytest.approx(0.29, abs=0.005)
    assert (found.low, found.high) == pytest.approx((0.019, 0.761), abs=0.001)  # McGraw & Wong
    assert found.n == 6
    assert mean_squares(np.array(JUDGES, float)) == pytest.approx((11.24, 32.49, 1.02), abs=0.005)


def test_mean_squares_are_those_of_an_analysis_of_variance() -> None:
    ratings = np.random.default_rng(0).normal(0, 1, (7, 3)) + np.arange(7)[:, None]
    columns = {
        "y": ratings.ravel(),
        "sample": np.repeat(np.arange(7), 3),
        "reader": np.tile(np.arange(3), 7),
    }
    data = pd.DataFrame(columns)
    expected = anova_lm(ols("y ~ C(sample) + C(reader)", data).fit())["mean_sq"]
    assert mean_squares(ratings) == pytest.approx(tuple(expected), rel=1e-9)


def test_icc_is_of_agreement_and_not_of_correlation() -> None:
    truth = np.array([1.0, 2, 3, 4, 5, 7])
    close = np.column_stack([truth, truth + 0.1, truth - 0.1])
    apart = np.column_stack([truth, truth + 4])
    assert icc21(close).estimate > 0.99
    variance, shift = truth.var(ddof=1), 4**2 / 2
    assert icc21(apart).estimate == pytest.approx(variance / (variance + shift), rel=1e-9)
    with_gap = np.vstack([JUDGES, [[5, np.nan, 3, 4]]])
    assert icc21(with_gap) == icc21(JUDGES)


def test_limits_of_agreement_of_bland_and_altman() -> None:
    """As printed: bias -2.1, SD 38.8, limits at 2 SD -79.7 and 75.5 l/min, with intervals."""
    found = bland_altman(WRIGHT, MINI, multiple=2)
    assert found.n == 17
    assert found.sd == pytest.approx(38.8, abs=0.05)
    assert found.bias.estimate == pytest.approx(-2.1, abs=0.05)
    assert (found.lower.estimate, found.upper.estimate) == pytest.approx((-79.7, 75.5), abs=0.1)
    assert (found.bias.low, found.bias.high) == pytest.approx((-22.0, 17.8), abs=0.1)
    assert (found.lower.low, found.lower.high) == pytest.approx((-114.3, -45.1), abs=0.2)
    assert (found.upper.low, found.upper.high) == pytest.approx((40.9, 110.1), abs=0.2)


def test_exchanging_the_methods_mirrors_the_limits() -> None:
    one, two = bland_altman(WRIGHT, MINI), bland_altman(MINI, WRIGHT)
    assert two.bias.estimate == pytest.approx(-one.bias.estimate)
    assert two.lower.low == pytest.approx(-one.upper.high)


def test_kappa_of_two_radiologists() -> None:
    found = cohens_kappa(*items(RADIOLOGISTS))
    assert found.estimate == pytest.approx(0.47, abs=0.005)
    assert found.n == 85
    linear = cohens_kappa(*items(RADIOLOGISTS), weights="linear")
    assert linear.estimate == pytest.approx(0.57, abs=0.005)
    assert linear.low < linear.estimate < linear.high


def test_kappa_of_two_diagnosticians() -> None:
    found = cohens_kappa(*items(DIAGNOSES))
    assert found.estimate == pytest.approx(0.68, abs=0.005)
    assert (found.high - found.low) / 2 / 1.959964 == pytest.approx(0.088, abs=0.001)


def test_quadratic_kappa_written_out() -> None:
    table = np.array(RADIOLOGISTS)
    k, n = len(table), table.sum()
    weight = np.array([[(i - j) ** 2 for j in range(k)] for i in range(k)])
    chance = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    expected = 1 - (weight * table).sum() / (weight * chance).sum()
    found = cohens_kappa(*items(RADIOLOGISTS), weights="quadratic")
    assert found.estimate == pytest.approx(expected, rel=1e-9)


def test_classes_keep_their_order_and_gaps_are_left_out() -> None:
    order = ["low", "middle", "high"]
    first, second = ["low", "middle", "high", None], ["middle", "middle", "high", "low"]
    table = confusion(first, second, order)
    np.testing.assert_array_equal(table, [[0, 1, 0], [0, 1, 0], [0, 0, 1]])
    assert cohens_kappa(first, second, order).n == 3
    with pytest.raises(StudyError, match="both must judge each item"):
        cohens_kappa([1], [1, 2])
    with pytest.raises(StudyError, match=r"classes \[3\] are not among \[1, 2\]"):
        cohens_kappa([1, 3], [1, 2], [1, 2])


def test_nothing_to_agree_on_is_said() -> None:
    assert cohens_kappa([], []).reason == "no item was judged by both"
    assert "one and the same class" in cohens_kappa([1, 1], [1, 1]).reason
    assert math.isnan(cohens_kappa([1, 1], [1, 1]).estimate)
    perfect = cohens_kappa([1, 2, 2], [1, 2, 2])
    assert perfect.estimate == 1
    assert perfect.reason or perfect.low == 1
    assert "fewer than two samples" in icc21([[1, 2]]).reason
    assert "all readings are the same" in icc21(np.ones((5, 2))).reason
    assert "constant at most" in icc21([[1, 1], [2, 2], [4, 4]]).reason
    with pytest.raises(StudyError, match="two at least"):
        icc21([[1], [2]])
    assert bland_altman([], []).bias.reason == "no sample was measured by both"
    assert bland_altman([np.nan], [1]).n == 0
    one = bland_altman([3], [1])
    assert one.bias.estimate == 2
    assert "one sample" in one.lower.reason
    with pytest.raises(StudyError, match="2 and 1 values"):
        bland_altman([1, 2], [1])
