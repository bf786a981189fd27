"""Counts with an offset, against statsmodels written out and in words where no model fits."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf

from histoquant.errors import StudyError
from histoquant.study.counts import MODELS, compare_counts, count_sentence, rate_ratio
from histoquant.study.outcomes import declared_outcomes
from histoquant.study.pairs import Pairs, pairs_from_arrays


def drawn(n: int, seed: int = 0, ratio: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mm = rng.uniform(3, 6, (n, 2))
    rate = 9 * np.exp(rng.normal(0, 0.5, (n, 1))) * rng.gamma(4, 0.25, (n, 2)) * [ratio, 1]
    return rng.poisson(rate * mm).astype(float), mm


def by_formula(counts: np.ndarray, mm: np.ndarray, family) -> tuple[float, float]:
    """Log ratio and standard error of the same model through a formula and a data frame."""
    n = len(counts)
    table = pd.DataFrame(
        {
            "count": counts.T.ravel(),
            "mm": mm.T.ravel(),
            "arm": ["treated"] * n + ["placebo"] * n,
            "person": [*range(n), *range(n)],
        }
    ).sort_values("person", kind="stable")
    model = smf.gee(
        "count ~ C(arm, Treatment('placebo'))", "person", table, family=family,
        offset=np.log(table["mm"]),
    )  # fmt: skip
    found = model.fit(cov_type="bias_reduced")
    return found.params.iloc[1], found.bse.iloc[1]


def test_the_poisson_ratio_is_that_of_the_pooled_rates() -> None:
    counts, mm = drawn(12)
    found = rate_ratio(counts, mm, "poisson")
    pooled = counts.sum(axis=0) / mm.sum(axis=0)
    log_ratio, se = by_formula(counts, mm, sm.families.Poisson())
    assert found.ratio == pytest.approx(pooled[0] / pooled[1], rel=1e-6)
    assert found.ratio == pytest.approx(math.exp(log_ratio), rel=1e-9)
    assert math.log(found.high / found.low) == pytest.approx(2 * 2.200985160 * se, rel=1e-6)
    assert found.n == 12
    assert found.dispersion > 2


def test_the_negative_binomial_model_gives_high_counts_less_weight() -> None:
    counts, mm = drawn(12, seed=3)
    mu = np.exp(np.log(mm) + np.log(counts.sum(axis=0) / mm.sum(axis=0)))
    spread = ((counts - mu) ** 2 - mu).sum() / (mu**2).sum()
    log_ratio, _ = by_formula(counts, mm, sm.families.NegativeBinomial(alpha=spread))
    found = rate_ratio(counts, mm)
    assert found.model == "negative_binomial"
    assert found.ratio == pytest.approx(math.exp(log_ratio), rel=1e-5)
    assert found.ratio != pytest.approx(rate_ratio(counts, mm, "poisson").ratio, rel=1e-3)


@pytest.mark.parametrize("model", MODELS)
def test_exchanging_the_arms_inverts_the_ratio(model) -> None:
    counts, mm = drawn(9)
    one, two = rate_ratio(counts, mm, model), rate_ratio(counts[:, ::-1], mm[:, ::-1], model)
    assert two.ratio == pytest.approx(1 / one.ratio, rel=1e-6)
    assert two.low == pytest.approx(1 / one.high, rel=1e-6)
    assert two.p == pytest.approx(one.p, rel=1e-5)


def test_counts_no_more_variable_than_chance_fall_back_to_poisson() -> None:
    counts = np.array([[10.0, 12.0], [11.0, 12.0], [9.0, 13.0], [10.0, 11.0]])
    mm = np.ones((4, 2))
    assert rate_ratio(counts, mm).ratio == rate_ratio(counts, mm, "poisson").ratio


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("counts", "ratio", "words"),
    [
        (np.empty((0, 2)), math.nan, "no pair was counted"),
        ([[3, 4]], 0.75, "too few for a model"),
        ([[3, 4], [3, 2]], 1.0, "too few for a model"),
        (np.zeros((8, 2)), math.nan, "no positives on either arm"),
        (np.tile([0, 5], (8, 1)), 0.0, "no positives on any treated site"),
        (np.tile([5, 0], (8, 1)), math.inf, "no positives on any placebo site"),
        (np.tile([4, 8], (8, 1)), 0.5, "the pairs do not vary"),
        ([[np.nan, 1], [np.inf, 2]], math.nan, "no pair was counted"),
    ],
)
def test_where_no_model_fits_it_says_so(model, counts, ratio, words) -> None:
    counts = np.asarray(counts, float)
    found = rate_ratio(counts, np.ones_like(counts), model)
    assert found.ratio == pytest.approx(ratio, nan_ok=True)
    assert words in found.reason
    assert math.isnan(found.p)
    assert math.isnan(found.low)
    assert words in count_sentence(found)


def test_three_pairs_have_wide_limits_and_no_traceback() -> None:
    found = rate_ratio([[9, 1], [1, 30], [4, 4]], np.ones((3, 2)))
    assert found.low < 0.05
    assert found.high > 1
    assert found.p > 0.3


def test_a_site_without_length_is_left_out() -> None:
    counts, mm = drawn(8)
    mm[2, 0] = 0
    counts[5, 1] = np.nan
    found = rate_ratio(counts, mm)
    assert found.n == 6
    assert found == rate_ratio(np.delete(counts, [2, 5], 0), np.delete(mm, [2, 5], 0))


def test_the_counts_of_pairs() -> None:
    rate, other = declared_outcomes({"primary": ["p16:positive_per_mm_dej", "p16:h_score"]})
    counts, mm = drawn(8)
    values = counts / mm
    people = tuple(f"P{i}" for i in range(8))
    pairs = Pairs(
        rate, "", people, values[:, 0], values[:, 1], 8, numerators=counts, denominators=mm
    )
    found = compare_counts(pairs)
    assert found == rate_ratio(counts, mm)
    text = count_sentence(found)
    assert "negative binomial model clustered by person: ratio of rates 0." in text
    assert "95 % interval" in text
    with pytest.raises(StudyError, match="p16:h_score is no rate"):
        compare_counts(pairs_from_arrays(other, [1], [2]))
