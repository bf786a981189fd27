"""One outcome compared: against scipy, by hand, and where there is little to say."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from histoquant.study.contrasts import (
    compare,
    contrast_rows,
    influence_sentence,
    leave_one_out,
)
from histoquant.study.means import number
from histoquant.study.outcomes import declared_outcomes
from histoquant.study.pairs import Pairs, pairs_from_arrays

REQUIRED = (
    "marker", "outcome", "role", "n_enrolled", "n_pairs", "treated_median", "placebo_median",
    "ratio", "ratio_low", "ratio_high", "difference_hl", "difference_low", "difference_high",
    "p_signed_rank", "p_sign_flip", "p_t", "p_floor", "p_holm", "p_bh", "dz",
)  # fmt: skip
NUMBERS = REQUIRED[5:]
"""Beyond who and how many."""
OUTCOME = declared_outcomes({"primary": ["p16:positive_per_mm_dej"]})[0]


def pairs_of(treated, placebo) -> Pairs:
    return pairs_from_arrays(OUTCOME, treated, placebo)


def row_of(treated, placebo) -> dict:
    return compare(pairs_of(treated, placebo)).row()


def drawn(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    people = rng.normal(2, 0.6, n)
    return np.exp(people + rng.normal(-0.3, 0.4, n)), np.exp(people + rng.normal(0, 0.4, n))


@pytest.mark.parametrize("n", [3, 8, 17])
def test_the_same_as_scipy(n: int) -> None:
    treated, placebo = drawn(n)
    row = row_of(treated, placebo)
    logs = np.log(treated / placebo)
    t = stats.ttest_1samp(logs, 0)
    limits = t.confidence_interval(0.95)
    expected = {
        "n_enrolled": n,
        "n_pairs": n,
        "treated_median": np.median(treated),
        "placebo_median": np.median(placebo),
        "ratio": stats.gmean(treated / placebo),
        "ratio_low": math.exp(limits.low),
        "ratio_high": math.exp(limits.high),
        "p_t": t.pvalue,
        "p_signed_rank": stats.wilcoxon(treated, placebo, method="exact").pvalue,
        "p_floor": 2 / 2**n,
        "dz": logs.mean() / logs.std(ddof=1),
        "mean_difference": (treated - placebo).mean(),
    }
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-9), name
    assert row["scale"] == "ratio"
    assert math.isnan(row["p_bh"])


def test_every_column_of_the_contract_is_there_in_order() -> None:
    assert tuple(row_of(*drawn(8)))[: len(REQUIRED)] == REQUIRED


def test_the_primary_p_and_its_interval_agree() -> None:
    for seed in range(40):
        row = row_of(*drawn(8, seed))
        assert (row["p_t"] < 0.05) == (row["ratio_low"] > 1 or row["ratio_high"] < 1)
        inside = row["difference_low"] <= 0 <= row["difference_high"]
        assert (row["p_signed_rank"] <= 0.05) == (not inside)


def test_a_zero_means_differences_for_all_and_no_constant() -> None:
    treated, placebo = drawn(9)
    treated[3] = 0.0
    row = row_of(treated, placebo)
    assert all(math.isnan(row[k]) for k in ("ratio", "ratio_low", "ratio_high"))
    assert "a value of 0 or below" in row["ratio_reason"]
    t = stats.ttest_rel(treated, placebo)
    assert row["scale"] == "difference"
    assert row["n_pairs"] == 9
    assert row["p_t"] == pytest.approx(t.pvalue, rel=1e-9)
    assert row["mean_difference_low"] == pytest.approx(t.confidence_interval().low, rel=1e-9)


@pytest.mark.parametrize(
    ("treated", "placebo", "words"),
    [
        ([], [], "no pair was measured"),
        ([1], [2], "one pair has no spread"),
        ([1, 2], [2, 2], "2 pairs: no exact P below 1"),
        ([1, 2, 4], [2, 3, 5], "3 pairs: no exact P below 0.25"),
        ([1] * 8, [1] * 8, "8 of 8 pairs have no difference"),
        ([0] * 8, [0] * 8, "8 pairs have a value of 0 or below"),
        ([2] * 8, [1] * 8, "all 8 pairs show the same"),
        ([np.nan] * 4, [1, 2, 3, 4], "no pair was measured"),
        ([np.nan, np.inf, 1, 2], [1, 1, 2, np.nan], "one pair"),
    ],
)
def test_degenerate_input_gives_what_can_be_said_and_a_sentence(treated, placebo, words) -> None:
    row = row_of(treated, placebo)
    assert words in row["note"]
    n = row["n_pairs"]
    floor = row["p_floor"]
    for name in ("p_signed_rank", "p_sign_flip"):
        assert math.isnan(row[name]) if n == 0 else row[name] >= floor
    if math.isnan(row["p_t"]):
        assert row["p_reason"]
        assert math.isnan(row["dz"])
    if math.isnan(row["ratio_low"]):
        assert row["ratio_reason"]
    if math.isnan(row["difference_low"]):
        assert row["difference_reason"]
    assert influence_sentence(pairs_of(treated, placebo))


def test_nothing_measured_is_all_missing() -> None:
    row = row_of([], [])
    assert row["n_pairs"] == 0
    assert all(math.isnan(row[name]) for name in NUMBERS)


def test_equal_arms_are_no_evidence() -> None:
    row = row_of([3.0] * 8, [3.0] * 8)
    assert (row["p_signed_rank"], row["p_sign_flip"], row["ratio"]) == (1, 1, 1)
    assert math.isnan(row["p_t"])
    assert math.isnan(row["ratio_low"])


def test_roles_choose_the_correction() -> None:
    roles = {
        "primary": ["p16:positive_per_mm_dej"],
        "secondary": ["p16:h_score", "p16:positive_percent"],
        "exploratory": ["col7:continuity_percent", "col7:peak_od_mean"],
    }
    found = [
        compare(pairs_from_arrays(o, *drawn(9, seed)))
        for seed, o in enumerate(declared_outcomes(roles))
    ]
    rows = contrast_rows(found)
    p = [row["p_t"] for row in rows]
    low, high = sorted(p[1:3])
    assert rows[0]["p_holm"] == p[0]
    assert sorted(r["p_holm"] for r in rows[1:3]) == pytest.approx(
        [min(1, 2 * low), min(1, max(2 * low, high))]
    )
    assert max(r["p_bh"] for r in rows[3:]) == pytest.approx(max(p[3:]))
    assert all(math.isnan(r["p_bh"]) for r in rows[:3])
    assert all(math.isnan(r["p_holm"]) for r in rows[3:])


def test_leaving_out_each_person_in_turn() -> None:
    treated, placebo = drawn(7)
    treated[2] = 9 * placebo[2]
    found = leave_one_out(pairs_of(treated, placebo))
    rest = np.delete(np.arange(7), 2)
    expected = stats.gmean(treated[rest] / placebo[rest])
    assert [f.person for f in found] == [f"{i:03d}" for i in range(1, 8)]
    assert found[2].estimate == pytest.approx(expected, rel=1e-12)
    assert found[2].n == 6
    assert min(found, key=lambda f: f.estimate).person == "003"
    low, high = (number(math.exp(v)) for v in stats.ttest_1samp(
        np.log(treated[rest] / placebo[rest]), 0).confidence_interval())  # fmt: skip
    said = influence_sentence(pairs_of(treated, placebo))
    assert f"(95 % interval {low} to {high}, without 003)" in said
    assert ", with t tests from P = " in said
    strong = influence_sentence(pairs_of(placebo * np.linspace(0.31, 0.33, 7), placebo))
    assert strong.endswith("each time with P < 0.0001 (t)")


def test_the_seed_decides_a_drawn_p() -> None:
    pairs = pairs_of(*drawn(30))
    assert compare(pairs, seed=1).flip == compare(pairs, seed=1).flip
    row = contrast_rows([compare(pairs, seed=1)])[0]
    assert row["p_sign_flip_se"] > 0
    assert "Monte Carlo" in row["p_reason"]


def test_alpha_moves_the_limits() -> None:
    pairs = pairs_of(*drawn(12))
    wide, narrow = (contrast_rows([compare(pairs, a)])[0] for a in (0.01, 0.2))
    assert wide["ratio_low"] < narrow["ratio_low"] < narrow["ratio_high"] < wide["ratio_high"]
    assert wide["difference_low"] < narrow["difference_low"]


POSITIVE = st.floats(0.01, 100).map(lambda v: round(v, 3))
PAIRED = st.lists(st.tuples(POSITIVE, POSITIVE), min_size=2, max_size=12)
SHOWN = ("ratio", "ratio_low", "ratio_high", "p_t", "p_signed_rank", "p_sign_flip")


@given(PAIRED, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_people_does_not_matter(values, random) -> None:
    mixed = list(values)
    random.shuffle(mixed)
    one, two = (row_of(*zip(*v, strict=True)) for v in (values, mixed))
    for name in NUMBERS:
        assert two[name] == pytest.approx(one[name], rel=1e-9, abs=1e-12, nan_ok=True), name


@given(PAIRED)
@settings(max_examples=40, deadline=None)
def test_exchanging_the_arms_inverts_the_ratio(values) -> None:
    treated, placebo = zip(*values, strict=True)
    one, two = row_of(treated, placebo), row_of(placebo, treated)
    assert two["ratio"] == pytest.approx(1 / one["ratio"])
    assert two["ratio_low"] == pytest.approx(1 / one["ratio_high"], nan_ok=True)
    assert two["difference_hl"] == pytest.approx(-one["difference_hl"], abs=1e-12)
    for name in ("p_t", "p_signed_rank", "p_sign_flip"):
        assert two[name] == pytest.approx(one[name], abs=1e-9, nan_ok=True)


@given(PAIRED, st.sampled_from([1e-3, 7.0, 1e4]))
@settings(max_examples=40, deadline=None)
def test_the_unit_does_not_matter(values, unit) -> None:
    treated, placebo = np.transpose(values)
    one, two = row_of(treated, placebo), row_of(treated * unit, placebo * unit)
    for name in SHOWN:
        assert two[name] == pytest.approx(one[name], rel=1e-6, abs=1e-9, nan_ok=True), name
    assert two["difference_hl"] == pytest.approx(one["difference_hl"] * unit, abs=1e-9 * unit)


def test_importing_histoquant_does_not_load_statsmodels() -> None:
    code = (
        "import sys, histoquant, histoquant.study.contrasts, histoquant.study.counts, "
        "histoquant.study.agreement; sys.exit('statsmodels' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
