"""The interval of an arc covers about what it should, and shrinks with the length."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from histoquant.arc import FEWEST_BINS, Adequacy, Floats, Width, along_arc, block_length
from histoquant.study.adequacy import (
    adequacy_rows,
    adequacy_sentence,
    positive_per_mm,
    sample_adequacy,
    sampling_share,
    section_runs,
)
from histoquant.study.analyse import Material, analyse
from histoquant.study.columns import ADEQUACY, table_csv
from histoquant.study.pairs import make_pairs
from histoquant.study.plan import Plan
from histoquant.study.sections import Section
from study_cohort import LEFT, RIGHT, markers, outcome, write_design

OD = outcome("col7:integrated_od_um_mean")
PER_MM = outcome("p16:positive_per_mm_dej")


def arc(seed: int, n: int, rho: float, mean: float = 0.0) -> Floats:
    """A first-order autoregressive series of variance 1."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, math.sqrt(1 - rho**2), n)
    out = np.empty(n)
    out[0] = rng.normal()
    for i in range(1, n):
        out[i] = rho * out[i - 1] + steps[i]
    return out + mean


def covered(rho: float, blocks: bool) -> float:
    """Share of 95 % intervals that hold the true mean, over 300 arcs of 600 bins."""
    hits = 0
    for seed in range(300):
        values = arc(seed, 600, rho)
        if not blocks:
            values = np.random.default_rng(seed).permutation(values)
        last = along_arc([values], draws=199, seed=seed).widths[-1]
        hits += last.low <= 0 <= last.high
    return hits / 300


def test_blocks_cover_where_neighbours_are_alike_and_single_bins_do_not() -> None:
    # Standard error of a share of 0.95 in 300: 0.0126.
    assert covered(0.7, blocks=True) >= 0.91
    assert covered(0.7, blocks=False) <= 0.70  # true standard error 2.4 times as large
    assert 0.91 <= covered(0.0, blocks=True) <= 0.98


def test_the_standard_error_is_that_of_the_theory() -> None:
    rho, n = 0.6, 20_000
    found = along_arc([arc(1, n, rho)], draws=400)
    theory = math.sqrt((1 + rho) / (1 - rho) / n)
    assert found.se == pytest.approx(theory, rel=0.12)
    iid = along_arc([np.random.default_rng(2).normal(size=n)], draws=400)
    assert iid.se == pytest.approx(1 / math.sqrt(n), rel=0.12)


def test_block_length_follows_the_likeness_of_neighbours() -> None:
    lengths = [block_length([arc(4, 5000, rho)]) for rho in (0.0, 0.5, 0.8, 0.95)]
    assert lengths[0] <= 3
    assert lengths == sorted(lengths)
    # The optimum for AR(1): (1.5 (2 rho / (1 - rho^2))^2 n)^(1/3).
    for length, rho in zip(lengths[1:], (0.5, 0.8, 0.95), strict=True):
        optimum = (6 * rho**2 / (1 - rho**2) ** 2 * 5000) ** (1 / 3)
        assert length == pytest.approx(optimum, rel=0.35)


def test_likeness_is_not_taken_across_a_break() -> None:
    """Two runs of alternating sign: within each neighbours differ, at the break nothing counts."""
    one = np.tile([1.0, -1.0], 50)
    assert block_length([one, one]) == block_length([one, one[::-1]])
    assert block_length([np.ones(10)]) == 1


def test_the_interval_shrinks_with_the_root_of_the_length() -> None:
    found = along_arc([arc(3, 800, 0.5, mean=10)], lengths_mm=(2, 8, 32), draws=2000)
    assert [w.length_mm for w in found.widths] == [2, 32, 8]  # what was measured comes last
    at = {w.length_mm: w.high - w.low for w in found.widths}
    assert at[2] / at[8] == pytest.approx(2, rel=0.12)
    assert at[8] / at[32] == pytest.approx(2, rel=0.12)
    assert found.measured_mm == 8
    half = found.needed_mm(found.widths[-1].relative / 2)
    assert half == pytest.approx(32)
    assert math.isnan(found.needed_mm(0))


@pytest.mark.parametrize("statistic", ["mean", "percent", "median", "iqr"])
def test_every_statistic_is_that_of_the_bins(statistic: str) -> None:
    values = np.random.default_rng(5).gamma(2, 1, 300)
    if statistic == "percent":
        values = (values > 1).astype(float)
    found = along_arc([values[:100], values[100:]], statistic, draws=199)
    wanted = {
        "mean": values.mean(),
        "percent": 100 * values.mean(),
        "median": np.median(values),
        "iqr": np.subtract(*np.percentile(values, [75, 25])),
    }[statistic]
    assert found.estimate == pytest.approx(wanted)
    assert found.widths[-1].low < wanted < found.widths[-1].high


def test_the_same_seed_gives_the_same_interval_whatever_else_is_tried() -> None:
    values = arc(6, 300, 0.5, mean=3)
    alone = along_arc([values], draws=99, seed=4).widths[-1]
    assert along_arc([values], lengths_mm=(1, 2), draws=99, seed=4).widths[-1] == alone
    assert along_arc([values], draws=99, seed=5).widths[-1] != alone


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ([], "no bin"),
        ([np.nan, np.inf], "no bin"),
        ([1.0], "1 bins"),
        ([1.0, 2.0, 3.0], "3 bins"),
        ([1.0] * 50, "all bins are the same"),
        ([0.0] * 50, "all bins are the same"),
    ],
)
def test_an_arc_too_short_or_too_even_has_a_reason(values: list[float], word: str) -> None:
    found = along_arc([values, []])
    assert word in found.reason
    assert found.widths == ()
    assert math.isnan(found.needed_mm(0.1))
    assert "nan" not in adequacy_sentence({("P1", LEFT, "v"): found})


def test_a_mean_of_zero_has_no_relative_width() -> None:
    found = along_arc([np.tile([1.0, -1.0], 20)])
    assert math.isnan(found.widths[-1].relative)
    assert "cannot be said" in adequacy_sentence({("P1", LEFT, "v"): found})


def bins(values: Floats, excluded: Any = (), stretch: Any = 0) -> pd.DataFrame:
    n = len(values)
    start = 10.0 * np.arange(n)
    return pd.DataFrame(
        {
            "bin": np.arange(n), "stretch": np.broadcast_to(stretch, n),
            "arc_start_um": start, "arc_end_um": start + 10,
            "x_px": 20.0 * np.arange(n) + 10, "y_px": 10.0,
            "excluded": np.isin(np.arange(n), excluded), "integrated_od_um": values,
        }
    )  # fmt: skip


def test_runs_end_at_excluded_bins_and_at_the_ends_of_stretches() -> None:
    table = bins(np.arange(10.0), excluded=[2, 3], stretch=[0] * 6 + [1] * 4)
    runs = [list(r) for r in section_runs(table, "integrated_od_um")]
    assert runs == [[0, 1], [4, 5], [6, 7, 8, 9]]
    whole = section_runs(table.drop(columns="stretch").assign(excluded=False), "integrated_od_um")
    assert [len(r) for r in whole] == [10]


def test_positive_nuclei_go_to_the_nearest_measured_bin() -> None:
    table = bins(np.zeros(4), excluded=[1])
    nuclei = pd.DataFrame(
        {
            "x_px": [9.0, 31.0, 31.0, 70.0, 70.0, 70.0, 70.0], "y_px": 11.0,
            "positive": [True, True, True, True, False, True, True],
            "excluded": [False, False, False, False, False, True, False],
            "beside_measured_junction": [True, True, False, True, True, True, True],
            "compartment": ["epidermis_basal"] * 6 + ["dermis_papillary"],
        }
    )  # fmt: skip
    # 31 px lies in the excluded bin, 1 px nearer to bin 2 (at 50) than to bin 0 (at 10).
    per_mm = positive_per_mm(table, nuclei)["per_mm"]
    assert list(per_mm) == [100, 0, 100, 100]
    assert list(positive_per_mm(table, nuclei.iloc[:0])["per_mm"]) == [0, 0, 0, 0]


def section(person: str, site: str, table: pd.DataFrame, marker: str = "col7",
            nuclei: pd.DataFrame | None = None, **summary: Any) -> Section:  # fmt: skip
    return Section(
        slide_id=f"{person}{site}", marker=marker, person=person, site=site, visit="month_8",
        batch="", summary=summary, settings={}, nuclei=lambda: nuclei,  # type: ignore[arg-type,return-value]
        junction=lambda: table,
    )  # fmt: skip


def test_sections_of_a_sample_are_taken_together() -> None:
    first, second = arc(1, 60, 0.3, 5), arc(2, 40, 0.3, 5)
    sections = [section("P1", LEFT, bins(v), integrated_od_um_mean=5.0) for v in (first, second)]
    lacking = section("P1", LEFT, bins(first + 100), integrated_od_um_mean=None)
    (found,) = sample_adequacy([*sections, lacking], OD, draws=99).values()
    assert found.measured_mm == pytest.approx(1.0)
    assert found.estimate == pytest.approx(np.concatenate([first, second]).mean())


def test_p16_is_counted_along_the_junction() -> None:
    rng = np.random.default_rng(1)
    nuclei = pd.DataFrame(
        {
            "x_px": rng.uniform(0, 2000, 150), "y_px": 10.0, "positive": True, "excluded": False,
            "beside_measured_junction": True, "compartment": "epidermis_basal",
        }
    )  # fmt: skip
    one = section("P1", LEFT, bins(np.zeros(100)), "p16", nuclei, positive_per_mm_dej=150.0)
    (found,) = sample_adequacy([one], PER_MM, draws=499).values()
    assert found.estimate == pytest.approx(150)
    # Nuclei at random: a Poisson count of 150 on 1 mm.
    assert found.se == pytest.approx(math.sqrt(150), rel=0.25)
    unmarked = nuclei.drop(columns="beside_measured_junction")
    old = section("P1", LEFT, bins(np.zeros(100)), "p16", unmarked, positive_per_mm_dej=1.0)
    assert sample_adequacy([old], PER_MM)[old.sample].reason == "no bin of junction is measured"


def test_outcomes_that_are_not_along_the_junction_have_no_adequacy() -> None:
    for key in ("p16:positive_percent", "p16:h_score", "col7:gap_length_median_um"):
        assert sample_adequacy([], outcome(key)) == {}


def found_of(estimate: float, se: float, relative: float, mm: float = 2.0) -> Adequacy:
    return Adequacy(estimate, (Width(1.0, 0, 0, 9.0), Width(mm, 0, 0, relative)), mm, 30.0, se)


def test_the_share_of_sampling_by_hand(tmp_path: Path) -> None:
    people = ["P1", "P2"]
    design = write_design(tmp_path / "design.csv", people)
    values = {("P1", LEFT): 2.0, ("P1", RIGHT): 1.0, ("P2", LEFT): 1.0, ("P2", RIGHT): 3.0}
    table = markers([(*k, "month_8", v) for k, v in values.items()], OD.name, "col7")
    pairs = make_pairs(design, table, OD)
    found = {(*k, "month_8"): found_of(v, 0.1 * v, 0.4) for k, v in values.items()}
    between = float(np.var([math.log(2), math.log(3)], ddof=1))
    share = sampling_share(found, pairs, design.sites)
    assert share == pytest.approx((0.1**2 + 0.1**2) / between)
    assert "sampling along the junction accounts for 24" in adequacy_sentence(found, share)
    assert math.isnan(sampling_share({}, pairs, design.sites))
    del found["P2", LEFT, "month_8"]
    assert sampling_share(found, pairs, design.sites) == pytest.approx(share)


def test_rows_give_every_length_and_the_median_of_the_samples() -> None:
    found = {
        ("P1", LEFT, "v"): found_of(1, 0.1, 0.2),
        ("P1", RIGHT, "v"): found_of(1, 0.1, 0.6, mm=3),
        ("P2", LEFT, "v"): Adequacy(math.nan, reason="no bin of junction is measured"),
    }
    rows = adequacy_rows(found)
    assert all(set(row) <= {c.name for c in ADEQUACY} for row in rows)
    assert [row.get("length_mm") for row in rows] == [
        1,
        2,
        1,
        3,
        pytest.approx(math.nan, nan_ok=True),
        1,
    ]
    assert rows[4]["reason"] == "no bin of junction is measured"
    assert (rows[-1]["person"], rows[-1]["relative_width"]) == ("median of samples", 9)
    text = adequacy_sentence(found)
    assert "2 samples 2.50 mm" in text
    assert "40.0 % of its value" in text


def test_fewest_bins_is_enough() -> None:
    values = np.random.default_rng(1).normal(5, 1, FEWEST_BINS)
    assert len(along_arc([values], draws=99).widths) == 1
    assert along_arc([values[1:]]).widths == ()


def test_the_table_of_a_study_has_a_line_per_sample_and_length(tmp_path: Path) -> None:
    people = ["P1", "P2", "P3"]
    design = write_design(tmp_path / "design.csv", people)
    slides = [
        section(person, site, bins(arc(seed, 300, 0.3, 5.0)), integrated_od_um_mean=5.0)
        for seed, (person, site) in enumerate((p, s) for p in people for s in (LEFT, RIGHT))
    ]
    table = markers([(s.person, s.site, "month_8", 5.0) for s in slides], OD.name, "col7")
    found = analyse(Material(design, table, Plan(), None, slides), OD, lead=True)
    text = table_csv("adequacy.csv", found.adequacy_rows)
    rows = pd.read_csv(io.StringIO(text))
    assert list(rows.columns) == [c.name for c in ADEQUACY]
    own = rows[rows["person"] == "P2"]
    assert own["measured_mm"].eq(3.0).all()
    assert set(own["length_mm"]) == {0.5, 1, 2, 3, 4, 8}
    for _, one in own.sort_values("length_mm").groupby("site"):
        assert one["relative_width"].is_monotonic_decreasing
    assert rows.loc[rows["person"] == "median of samples", "length_mm"].to_list() == [
        0.5,
        1,
        2,
        4,
        8,
    ]
    other = analyse(Material(design, table, Plan(), None, slides), OD, lead=False)
    assert other.adequacy_rows == []
