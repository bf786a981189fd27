"""Every column has a unit and a meaning, tables keep to the registry, sections pool by sums."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fakes import make_result, table_of
from histoquant import columns, p16, pooling, rates, tables
from histoquant.errors import ResultError
from histoquant.pooling import Section

PROMISED = {
    "nuclei": """nucleus_id x_px y_px x_um y_um area_um2 eccentricity hematoxylin_od_mean
        dab_od_mean dab_od_median ring_dab_od_mean positive intensity_class compartment
        dej_distance_um pigment_suspected excluded""",
    "junction": """bin arc_start_um arc_end_um x_px y_px depth_peak_um peak_od integrated_od_um
        fwhm_um background_od saturated_fraction positive feature excluded""",
    "p16": """epidermis_area_mm2 papillary_area_mm2 reticular_area_mm2 n_nuclei n_positive
        positive_percent epidermis_positive_percent basal_positive_percent
        suprabasal_positive_percent positive_per_mm_dej positive_per_mm_surface
        papillary_positive_percent papillary_positive_per_mm2 reticular_positive_percent
        reticular_positive_per_mm2 h_score n_pigment_suspected positive_percent_without_pigment""",
    "col7": """continuity_percent n_gaps gap_length_median_um peak_od_mean peak_od_median
        integrated_od_um_mean integrated_od_um_median integrated_od_um_iqr fwhm_um_median
        saturated_percent background_od_mean""",
    "both": """dej_length_mm measured_length_mm surface_length_mm epidermis_thickness_um_mean
        interdigitation_index ridges_per_mm ridge_height_um_median tissue_area_mm2
        excluded_area_mm2 focus_score mpp mpp_source white_r white_g white_b hematoxylin_vector
        dab_vector stain_source slide_sha256 settings_sha256 version n_edits""",
}
RATES = [name for name in PROMISED["p16"].split() if "positive_per" in name]


def _names(table: tuple[columns.Column, ...]) -> list[str]:
    return [c.name for c in table]


def _in_order(wanted: list[str], found: list[str]) -> bool:
    rest = iter(found)
    return all(name in rest for name in wanted)


@pytest.mark.parametrize(
    ("promised", "table"),
    [
        ("nuclei", columns.NUCLEI),
        ("junction", tables.junction_columns("col7")),
        ("p16", tables.summary_columns("p16")),
        ("both", tables.summary_columns("p16")),
        ("col7", tables.summary_columns("col7")),
        ("both", tables.summary_columns("col7")),
        ("p16", tables.marker_columns()),
        ("col7", tables.marker_columns()),
        ("both", tables.marker_columns()),
    ],
)
def test_promised_columns_are_there_in_order(
    promised: str, table: tuple[columns.Column, ...]
) -> None:
    assert _in_order(PROMISED[promised].split(), _names(table))


def test_p16_junction_table_has_no_profile() -> None:
    found = _names(tables.junction_columns("p16"))
    assert not set(_names(columns.PROFILE)) & set(found)
    assert _in_order(
        ["bin", "arc_start_um", "arc_end_um", "x_px", "y_px", "feature", "excluded"], found
    )


def test_every_rate_has_limits() -> None:
    found = _names(tables.marker_columns())
    assert len(RATES) == 11
    for name in [*RATES, "h_score"]:
        assert {f"{name}_low", f"{name}_high"} <= set(found)


def test_columns_json_describes_every_column_of_every_table() -> None:
    described = tables.columns_json()
    assert {"markers.csv", "ledger.csv", "nuclei.parquet"} <= set(described)
    for table, entries in described.items():
        names = [entry["name"] for entry in entries]
        assert len(set(names)) == len(names), table
        for entry in entries:
            assert entry["dtype"] in ("string", "int64", "float64", "bool")
            assert entry["meaning"].endswith("."), entry
            if entry["dtype"] == "float64":
                assert entry["unit"], entry


@pytest.mark.parametrize("suffix", ["_um", "_mm", "_mm2", "_px", "_od", "_percent"])
def test_names_carry_their_units(suffix: str) -> None:
    units = {"_um": "um", "_mm": "mm", "_mm2": "mm2", "_px": "px", "_od": "OD", "_percent": "%"}
    own = [c for c in tables.marker_columns() if c.name.endswith(suffix) and "_per_" not in c.name]
    for column in own:
        allowed = {units[suffix], "OD um"} if suffix == "_um" else {units[suffix]}
        assert column.unit in allowed, column


def test_pooling_rules_name_columns_that_exist() -> None:
    names = set(_names(tables.marker_columns())) | set(_names(columns.PROFILE))
    for column in tables.marker_columns():
        for part in (column.pool.top, column.pool.bottom):
            assert not part or part in names, column


def test_sections_pool_what_a_slide_divides() -> None:
    divided = [c for c in columns.P16 if c.pool.how in ("percent", "rate")]
    rules = {c.name: (c.pool.top, c.pool.bottom) for c in divided}
    assert rules == p16._RATES


def test_conform_orders_and_casts() -> None:
    frame = table_of(columns.NUCLEI, 3)[[c.name for c in columns.NUCLEI if c.required][::-1]]
    frame["intensity_class"] = [1.0, 2.0, 0.0]
    out = tables.conform(frame, columns.NUCLEI, "nuclei")
    assert list(out.columns) == [c.name for c in columns.NUCLEI if c.required]
    assert out["intensity_class"].dtype == "int64"


def test_conform_keeps_gaps_in_flags_and_counts() -> None:
    frame = table_of(columns.NUCLEI, 2)
    frame["positive"] = pd.array([True, pd.NA], dtype="boolean")
    frame["intensity_class"] = [1.0, np.nan]
    out = tables.conform(frame, columns.NUCLEI, "nuclei")
    assert out["positive"].isna().tolist() == [False, True]
    assert out["intensity_class"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"brightness": 1.0}, id="unregistered"),
        pytest.param({"area_um2": "large"}, id="wrong kind"),
    ],
)
def test_conform_refuses(change: dict[str, Any]) -> None:
    frame = table_of(columns.NUCLEI, 2).assign(**change)
    with pytest.raises(ResultError, match="|".join(change)):
        tables.conform(frame, columns.NUCLEI, "nuclei")


def test_conform_refuses_a_missing_column() -> None:
    with pytest.raises(ResultError, match="area_um2"):
        tables.conform(
            table_of(columns.NUCLEI, 2).drop(columns="area_um2"), columns.NUCLEI, "nuclei"
        )


def test_summary_with_unregistered_figure_is_an_error() -> None:
    with pytest.raises(ResultError, match="happiness"):
        tables.conform_summary({"happiness": 3}, "p16")


def test_summary_values_become_plain() -> None:
    out = tables.conform_summary(
        {"n_nuclei": np.int64(3), "h_score": np.float32("nan"), "dab_vector": (0.5, 0.25, 1.0)},
        "p16",
    )
    assert (out["n_nuclei"], out["h_score"], out["n_positive"]) == (3, None, None)
    assert out["dab_vector"] == "0.5000 0.2500 1.0000"


def _section(name: str, marker: str = "p16", person: str = "P1", **summary: Any) -> Section:
    result = make_result(marker, name)
    values = tables.conform_summary(result.summary | summary, marker)  # type: ignore[arg-type]
    reasons = {k: f"{name} has none" for k, v in values.items() if v is None}
    sample = {"person": person, "site": "left", "visit": "m8", "control": "none"}
    return Section(name, marker, sample, values, reasons, lambda: result.junction, 20.0)  # type: ignore[arg-type]


def test_one_section_passes_through_unchanged() -> None:
    section = _section("a")
    (row,) = pooling.marker_rows([section])
    assert {k: row[k] for k in section.summary} == dict(section.summary)
    assert (row["n_sections"], row["slides"], row["reasons"]) == (1, "a", "")


def test_sections_pool_by_sums_not_by_averages() -> None:
    few = _section("a", n_nuclei=10, n_positive=5, positive_percent=50.0)
    many = _section("b", n_nuclei=990, n_positive=5, positive_percent=0.5)
    (row,) = pooling.marker_rows([many, few])
    expected = rates.percent(10, 1000)
    got = [row["positive_percent"], row["positive_percent_low"], row["positive_percent_high"]]
    assert got == pytest.approx(list(expected))
    assert (row["n_nuclei"], row["n_positive"], row["slides"]) == (1000, 10, "a; b")


def test_rates_per_length_pool_with_poisson_limits() -> None:
    a = _section("a", n_epidermis_positive_measured=3, measured_length_mm=1.0)
    b = _section("b", n_epidermis_positive_measured=0, measured_length_mm=2.0)
    (row,) = pooling.marker_rows([a, b])
    expected = rates.per_unit(3, 3.0)
    assert row["positive_per_mm_dej"] == pytest.approx(expected.value)
    assert row["positive_per_mm_dej_high"] == pytest.approx(expected.high)


def test_a_section_without_junction_is_left_out_of_its_figure_only() -> None:
    a = _section("a", n_epidermis_positive_measured=4, measured_length_mm=2.0, n_nuclei=5)
    b = _section("b", n_epidermis_positive_measured=None, measured_length_mm=None, n_nuclei=7)
    (row,) = pooling.marker_rows([a, b])
    assert row["positive_per_mm_dej"] == pytest.approx(2.0)
    assert row["n_nuclei"] == 12
    assert "positive_per_mm_dej: without b" in str(row["reasons"])


def test_length_beside_which_no_nuclei_were_found_is_in_no_denominator() -> None:
    """Whoever divides the row's count by its length must get the row's rate."""
    a = _section("a", n_epidermis_positive_measured=4, measured_length_mm=2.0, dej_length_mm=2.5,
                 n_reticular_positive=3, reticular_area_mm2=1.5)  # fmt: skip
    blank = dict.fromkeys(("n_epidermis_positive_measured", "positive_per_mm_dej",
                           "positive_per_mm_surface", "reticular_positive_per_mm2"))  # fmt: skip
    b = _section("b", **blank, n_reticular_positive=0, measured_length_mm=3.0,
                 dej_length_mm=3.0, reticular_area_mm2=5.0)  # fmt: skip
    (row,) = pooling.marker_rows([a, b])
    for top, rate, bottom in (
        ("n_epidermis_positive_measured", "positive_per_mm_dej", "measured_length_mm"),
        ("n_epidermis_positive_measured", "positive_per_mm_surface", "surface_length_mm"),
        ("n_reticular_positive", "reticular_positive_per_mm2", "reticular_area_mm2"),
    ):
        assert row[rate] == pytest.approx(float(str(row[top])) / float(str(row[bottom])))
        assert f"{bottom}: without b" in str(row["reasons"])
    assert (row["measured_length_mm"], row["dej_length_mm"]) == (2.0, 5.5)
    (row,) = pooling.marker_rows([b, replace(b, slide_id="c")])
    assert row["measured_length_mm"] == 6.0
    assert tables.is_missing(row["positive_per_mm_dej"])


def test_none_goes_where_another_section_has_something_to_say() -> None:
    a, b = _section("a", warnings="none"), _section("b", warnings="37 % of it is brown")
    (row,) = pooling.marker_rows([a, b])
    assert row["warnings"] == "37 % of it is brown"
    (row,) = pooling.marker_rows([a, _section("b", warnings="none")])
    assert row["warnings"] == "none"


def test_artefacts_pool_over_the_sections_where_they_were_looked_for() -> None:
    a = _section("a", artefact_percent=4.0, excluded_fold_mm2=0.1, tissue_area_mm2=2.0)
    b = _section("b", artefact_percent=None, excluded_fold_mm2=None, tissue_area_mm2=2.0)
    (row,) = pooling.marker_rows([a, b])
    assert (row["artefact_percent"], row["excluded_fold_mm2"]) == (4.0, 0.1)
    assert "artefact_percent: without b" in str(row["reasons"])


def test_missing_in_every_section_stays_missing_with_its_reason() -> None:
    (row,) = pooling.marker_rows([_section(n, surface_length_mm=None) for n in "ab"])
    assert row["surface_length_mm"] is None
    assert row["epidermis_thickness_um_mean"] is None
    assert "surface_length_mm: a has none" in str(row["reasons"])


def test_figures_of_bins_pool_over_all_bins() -> None:
    a, b = _section("a", "col7"), _section("b", "col7")
    wide = table_of(tables.junction_columns("col7"), 9).assign(stretch=0)
    narrow = wide.iloc[:2]
    a = Section(**{**vars(a), "junction": lambda: wide})
    b = Section(**{**vars(b), "junction": lambda: narrow})
    (row,) = pooling.marker_rows([a, b])
    peaks = np.concatenate([wide["peak_od"], narrow["peak_od"]])
    positive = np.concatenate([wide["positive"], narrow["positive"]])
    assert row["peak_od_median"] == pytest.approx(np.median(peaks))
    assert row["peak_od_mean"] == pytest.approx(peaks.mean())
    assert row["continuity_percent"] == pytest.approx(100 * positive.mean())


def test_h_score_pools_from_class_counts() -> None:
    a = _section("a", n_1plus=1, n_2plus=0, n_3plus=0, n_nuclei=10)
    b = _section("b", n_1plus=0, n_2plus=0, n_3plus=30, n_nuclei=90)
    (row,) = pooling.marker_rows([a, b])
    expected = rates.h_score([1] + [0] * 9 + [3] * 30 + [0] * 60)
    assert expected.value == pytest.approx(91.0)
    got = [row[name] for name in ("h_score", "h_score_low", "h_score_high")]
    assert got == pytest.approx(list(expected))


def test_h_score_of_sections_without_nuclei_is_missing() -> None:
    counts = ("n_1plus", "n_2plus", "n_3plus", "n_positive", "n_nuclei")
    nothing = dict.fromkeys(counts, 0) | {"h_score": None}
    (row,) = pooling.marker_rows([_section(n, **nothing) for n in "ab"])
    assert tables.is_missing(row["h_score"])
    assert tables.is_missing(row["h_score_low"])
    assert "h_score: a has none" in str(row["reasons"])


def test_section_without_nuclei_adds_no_area_to_a_rate() -> None:
    """Where nothing was found, an area without positive nuclei says nothing."""
    counts = {"n_reticular_positive": 4, "reticular_area_mm2": 2.0}
    empty = {"n_reticular_positive": 0, "reticular_area_mm2": 9.0}
    a = _section("a", **counts)
    b = _section("b", **empty, reticular_positive_per_mm2=None)
    (row,) = pooling.marker_rows([a, b])
    assert row["reticular_positive_per_mm2"] == pytest.approx(2.0)
    assert "reticular_positive_per_mm2: without b" in str(row["reasons"])


def test_markers_people_and_controls_stay_apart() -> None:
    sections = [_section("a"), _section("b", "col7"), _section("c", person="P2")]
    control = _section("d")
    sections.append(
        Section(**{**vars(control), "sample": {**control.sample, "control": "negative"}})
    )
    rows = pooling.marker_rows(sections)
    assert [row["slides"] for row in rows] == ["b", "a", "d", "c"]


def test_slides_without_a_person_are_their_own_samples() -> None:
    rows = pooling.marker_rows([_section("a", person=""), _section("b", person="")])
    assert [row["slides"] for row in rows] == ["a", "b"]


def test_marker_csv_is_the_same_whatever_the_order_of_slides() -> None:
    sections = [_section(n, person=f"P{n}", h_score=1 / 3) for n in "abc"]
    text = pooling.marker_csv(pooling.marker_rows(sections))
    assert text == pooling.marker_csv(pooling.marker_rows(sections[::-1]))
    assert "0.3333333333," in text
    assert text.splitlines()[0].split(",") == _names(tables.marker_columns())


def test_marker_parquet_has_the_registered_types() -> None:
    frame = pooling.marker_frame(pooling.marker_rows([_section("a"), _section("b", "col7")]))
    assert frame["n_nuclei"].dtype == "Int64"
    assert frame["n_nuclei"].isna().tolist() == [True, False]
    assert math.isnan(frame["continuity_percent"].tolist()[1])
