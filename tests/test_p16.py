"""Positivity, rates with limits, compartments; and tables that no tiling changes."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from histoquant import nuclei as nuclei_module
from histoquant import rates
from histoquant.anatomy import DERMIS, EPIDERMIS, STRATUM_CORNEUM, Compartments
from histoquant.blocks import plan_blocks
from histoquant.errors import SlideError
from histoquant.junction import Junction, Stretch
from histoquant.p16 import find_nuclei, measure_p16, threshold_sweep, warn_of_field
from histoquant.settings import Settings
from histoquant.slides import open_slide
from histoquant.stains import StainModel, measure_white
from histoquant.tables import NUCLEI, conform, conform_summary

KI67 = Path(__file__).parents[1] / "sample_slides" / "real" / "OS-2-ndpi.ome.tif"
SETTINGS = Settings()


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [  # Newcombe 1998, table I, method 3
        (81, 263, 25.53, 36.62),
        (15, 148, 6.24, 16.05),
        (0, 20, 0.0, 16.11),
        (1, 29, 0.61, 17.18),
        (29, 29, 88.30, 100.0),
    ],
)
def test_wilson_limits(count: int, total: int, low: float, high: float) -> None:
    rate = rates.percent(count, total)
    assert rate == pytest.approx((100 * count / total, low, high), abs=0.006)


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.390), (25, 16.179, 36.905)],
)
def test_garwood_limits(count: int, low: float, high: float) -> None:
    rate = rates.per_unit(count, 2.0)
    assert rate == pytest.approx((count / 2, low / 2, high / 2), abs=0.001)


@pytest.mark.parametrize("exposure", [0.0, -1.0, np.nan])
def test_a_zero_denominator_is_missing(exposure: float) -> None:
    assert np.isnan(rates.per_unit(3, exposure)).all()
    assert np.isnan(rates.percent(0, 0)).all()
    assert np.isnan(rates.h_score([])).all()


def test_h_score_of_all_strong_is_300() -> None:
    assert rates.h_score([3, 3, 3]).value == 300
    assert rates.h_score([0, 1, 2, 3]).value == 150


def flat_skin() -> tuple[Compartments, Junction]:
    """A slab, 400 um wide: corneum to 20 um, epidermis to 100 um, dermis to 400 um."""
    labels = np.full((200, 200), DERMIS, np.uint8)
    labels[:50] = EPIDERMIS
    labels[:10] = STRATUM_CORNEUM
    score = np.where(labels == EPIDERMIS, 1, -1).astype(np.float32)
    x = np.arange(0.0, 402.0, 2.0)  # left to right: the dermis below is on the right-hand side
    points = np.column_stack((np.full(x.size, 100.0), x))
    line = Stretch(points, x > 350, course_um=points)
    assert (line.normals[:, 0] > 0).all()
    return Compartments(labels, 2.0, score), Junction((line,))


def table(rows: list[tuple[float, float, float]]) -> pd.DataFrame:
    """Nuclei at (y, x) um with a mean DAB OD."""
    y, x, dab = np.array(rows).T
    return pd.DataFrame(
        {
            "nucleus_id": [f"n{i}" for i in range(len(rows))],
            "x_px": x / 0.5,
            "y_px": y / 0.5,
            "x_um": x,
            "y_um": y,
            "area_um2": 50.0,
            "eccentricity": 0.5,
            "hematoxylin_od_mean": 0.3,
            "dab_od_mean": dab,
            "dab_od_median": dab,
            "dab_od_sd": 0.02,
            "ring_dab_od_mean": 0.05,
            "saturated_fraction": 0.0,
            "red_blue_ratio": 0.5,
        }
    )


def test_compartments_classes_and_rates() -> None:
    nuclei = table(
        [
            (10, 100, 0.9),  # stratum corneum: never counted
            (50, 100, 0.1),
            (50, 120, 0.7),
            (92, 100, 0.19),
            (93, 120, 0.2),
            (93, 380, 0.9),  # beside junction that is not measured: in no rate per mm
            (150, 100, 0.5),
            (199, 100, 0.0),
            (250, 100, 0.3),
            (250, 380, 0.0),  # deep dermis counts wherever it lies
        ]
    )
    measured, summary, reasons = measure_p16(nuclei, *flat_skin(), SETTINGS)
    conform(measured, NUCLEI, "nuclei.parquet")
    assert measured["compartment"].tolist() == [
        "other",
        "epidermis_suprabasal",
        "epidermis_suprabasal",
        "epidermis_basal",
        "epidermis_basal",
        "epidermis_basal",
        "dermis_papillary",
        "dermis_papillary",
        "dermis_reticular",
        "dermis_reticular",
    ]
    assert measured["excluded"].tolist() == [True, *[False] * 9]
    assert measured["beside_measured_junction"].tolist() == [*[True] * 5, False, *[True] * 3, False]
    assert measured["intensity_class"].tolist() == [3, 0, 3, 0, 1, 3, 2, 0, 1, 0]
    assert measured["positive"].tolist() == [c > 0 for c in measured["intensity_class"]]
    assert measured["dej_distance_um"].iloc[[1, 6]].tolist() == pytest.approx([-50, 50])
    assert (summary["n_nuclei"], summary["n_positive"]) == (9, 5)
    assert summary["basal_positive_percent"] == pytest.approx(200 / 3)
    assert summary["h_score"] == pytest.approx(100 * (3 + 1 + 3 + 2 + 1) / 9)
    assert summary["n_epidermis_positive"] == 3
    assert summary["n_epidermis_positive_measured"] == 2
    assert summary["positive_per_mm_dej"] == pytest.approx(2 / 0.350, rel=0.01)
    assert summary["epidermis_area_mm2"] == pytest.approx(0.4 * 0.08)
    assert summary["papillary_area_mm2"] == pytest.approx(0.1 * 0.35, rel=0.05)
    assert summary["reticular_area_mm2"] == pytest.approx(0.2 * 0.4, rel=0.05)
    low, high = (summary[f"positive_percent_{end}"] for end in ("low", "high"))
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert low < 500 / 9 < high
    assert set(reasons) == {f"positive_per_mm_surface{end}" for end in ("", "_low", "_high")}


def test_without_a_junction_the_slide_wide_figures_remain() -> None:
    compartments, _ = flat_skin()
    bare = Compartments(
        np.full_like(compartments.labels, DERMIS), 2.0, compartments.score, "no epithelium"
    )
    nuclei = table([(50, 50, 0.5), (60, 60, 0.1)])
    measured, summary, reasons = measure_p16(nuclei, bare, Junction((), "no line"), SETTINGS)
    assert set(measured["compartment"]) == {"other"}
    assert not measured["excluded"].any()
    assert measured["dej_distance_um"].isna().all()
    assert (summary["n_nuclei"], summary["positive_percent"]) == (2, 50)
    assert reasons["positive_per_mm_dej"] == reasons["n_basal"] == "no epithelium"
    assert conform_summary(summary, "p16")["basal_positive_percent"] is None


def test_without_dab_nothing_is_positive_or_negative() -> None:
    nuclei = table([(50, 50, np.nan), (95, 60, np.nan)])
    measured, summary, reasons = measure_p16(nuclei, *flat_skin(), SETTINGS, has_marker=False)
    assert measured["positive"].isna().all()
    assert measured["intensity_class"].isna().all()
    assert summary["n_nuclei"] == 2
    assert all("has no DAB" in reasons[n] for n in ("n_positive", "positive_percent", "h_score"))
    assert threshold_sweep(measured, SETTINGS.p16).empty
    conform(measured, NUCLEI, "nuclei.parquet")


def test_no_nuclei_is_missing_not_zero() -> None:
    nuclei = table([(50.0, 50.0, 0.5)]).iloc[:0]
    _, summary, reasons = measure_p16(nuclei, *flat_skin(), SETTINGS)
    assert summary["n_nuclei"] == 0
    for name in (
        "positive_percent",
        "positive_per_mm_dej",
        "papillary_positive_per_mm2",
        "reticular_positive_per_mm2_high",
    ):
        assert np.isnan(float(str(summary[name])))
        assert reasons[name] == "no nuclei were found"


def test_pigment_is_suspected_by_texture_and_colour_together() -> None:
    nuclei = table([(95, 100, 0.4)] * 4)
    nuclei["dab_od_sd"] = [0.2, 0.2, 0.05, 0.2]
    nuclei["red_blue_ratio"] = [1.05, 0.75, 1.05, 1.05]
    nuclei.loc[3, "dab_od_mean"] = 0.1  # not positive: nothing to suspect
    measured, summary, _ = measure_p16(nuclei, *flat_skin(), SETTINGS)
    assert measured["pigment_suspected"].tolist() == [True, False, False, False]
    assert (summary["n_pigment_suspected"], summary["n_without_pigment"]) == (1, 3)
    assert summary["positive_percent_without_pigment"] == pytest.approx(200 / 3)


def test_haze_is_counted_and_not_positive() -> None:
    nuclei = table([(95, x, 0.25) for x in (100, 120, 140)] + [(150, 100, 0.1)])
    nuclei["ring_dab_od_mean"] = [0.22, 0.05, 0.05, 0.1]
    measured, summary, _ = measure_p16(nuclei, *flat_skin(), SETTINGS)
    assert measured["positive"].tolist() == [False, True, True, False]
    assert measured["haze_suspected"].tolist() == [True, False, False, False]
    assert measured["intensity_class"].tolist() == [0, 1, 1, 0]
    assert (summary["n_haze_suspected"], summary["n_positive"], summary["n_1plus"]) == (1, 2, 2)
    assert warn_of_field(summary, SETTINGS) == []


def test_a_bright_field_in_fluorescence_is_told_in_its_own_unit() -> None:
    summary = {"ring_dab_od_median": 900.0, "epidermis_positive_percent": 5.0, "n_block_runs": 0}
    summary |= {"n_nuclei": 90, "n_epidermis": 60, "n_left_out_faint": 0}
    (told,) = warn_of_field(summary, SETTINGS, "grey levels (16 bit)")
    assert "900 grey levels (16 bit)" in told
    assert "OD" not in told
    assert "brown" not in told


def test_a_brown_field_and_block_positive_basal_cells_are_warned_of() -> None:
    nuclei = table([(95, 20 + 8 * i, 0.7) for i in range(12)])
    nuclei["ring_dab_od_mean"] = 0.3
    measured, summary, _ = measure_p16(nuclei, *flat_skin(), SETTINGS)
    assert measured["positive"].all()  # strong nuclei are positive whatever surrounds them
    assert measured["block_positive"].all()
    assert (summary["n_block_positive"], summary["n_block_runs"]) == (12, 1)
    assert summary["block_positive_percent"] == 100
    brown, share, block = warn_of_field(summary, SETTINGS)
    assert "whole field is brown" in brown
    assert "100 % of the epidermal nuclei" in share
    assert "1 run(s) of at least 8" in block


@pytest.fixture(scope="module")
def model() -> StainModel:
    with open_slide(KI67) as slide:
        overview = slide.read(8.0, 0, 0, *slide.grid_shape(8.0))
    return StainModel.preset("hdab", measure_white(overview).values)


def ki67(model: StainModel, block_px: int, workers: int = 1) -> pd.DataFrame:
    with open_slide(KI67) as slide:
        blocks = plan_blocks(slide.grid_shape(0.5), block_px)
        return find_nuclei(slide, model, blocks, SETTINGS, workers)


@pytest.fixture(scope="module")
def whole(model: StainModel) -> pd.DataFrame:
    return ki67(model, 4096)


def test_ki67_crop_agrees_with_its_published_counts(whole: pd.DataFrame) -> None:
    """QuPath 0.3.2 found 1066-1323 cells, 12-21 % positive, over its range of thresholds."""
    assert 900 <= len(whole) <= 1500
    assert 10 <= 100 * (whole["dab_od_mean"] >= 0.2).mean() <= 22
    assert whole["nucleus_id"].is_unique
    assert whole["area_um2"].between(12, 400).all()


def test_keep_drops_nuclei_outside_tissue(model: StainModel, whole: pd.DataFrame) -> None:
    with open_slide(KI67) as slide:
        blocks = plan_blocks(slide.grid_shape(0.5), 4096)
        left = find_nuclei(slide, model, blocks, SETTINGS, keep=lambda p: p[:, 1] < 250)
    expected = whole[whole["x_um"] < 250].reset_index(drop=True)
    pd.testing.assert_frame_equal(left, expected, check_exact=True)


def test_a_segmenter_whose_objects_outgrow_the_halo_is_refused(
    model: StainModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = EntryPoints([EntryPoint("all", f"{__name__}:everything", "histoquant.segmenters")])
    monkeypatch.setattr(nuclei_module, "entry_points", lambda group: points.select(group=group))
    greedy = SETTINGS.with_values(["nuclei.segmenter=all"])
    words = f"room for {nuclei_module.MAX_EXTENT_UM:g} um"
    with open_slide(KI67) as slide, pytest.raises(SlideError, match=words):
        find_nuclei(slide, model, plan_blocks(slide.grid_shape(0.5), 4096), greedy)


def everything(stains: np.ndarray, mpp: float, settings: object) -> np.ndarray:
    """A segmenter that takes the whole window for one nucleus."""
    return np.ones(stains.shape[:2], np.int32)


def skin_with_fibres() -> pd.DataFrame:
    """Forty epidermal nuclei (0.4 OD), and in the dermis one pale, one brown and one faint."""
    rows = [(60.0, 5.0 * k + 20, 0.0) for k in range(40)]
    nuclei = table([*rows, (150, 100, 0.0), (150, 150, 0.5), (150, 200, -0.05)])
    return nuclei.assign(hematoxylin_od_mean=[*[0.4] * 40, 0.21, 0.05, 0.19])


def measured_with(nuclei: pd.DataFrame, settings: Settings = SETTINGS, **given: bool):
    return measure_p16(nuclei, *flat_skin(), settings, surface_length_mm=0.35, **given)


def test_bits_of_collagen_are_no_nuclei_of_the_dermis() -> None:
    found, summary, _ = measured_with(skin_with_fibres())
    assert found.index[found["excluded"]].to_list() == [42]
    assert found["exclusion_reason"][42] == "fainter than nuclei"
    assert (summary["n_nuclei"], summary["n_left_out_faint"]) == (42, 1)
    (told,) = warn_of_field(summary, SETTINGS)
    assert told.startswith("1 of 3 objects found in the dermis")
    again, *_ = measured_with(found)
    pd.testing.assert_frame_equal(again, found)


def test_faint_nuclei_count_where_nothing_says_how_dense_nuclei_are() -> None:
    nuclei = skin_with_fibres()
    off = SETTINGS.with_values(["nuclei.least_dermal_share=0"])
    few = nuclei.iloc[15:].reset_index(drop=True)
    no_colours = nuclei.assign(red_blue_ratio=np.nan)
    for found, *_ in (
        measured_with(nuclei, off),
        measured_with(few),
        measured_with(no_colours),
        measured_with(nuclei, has_marker=False),
    ):
        assert not found["excluded"].any()


def test_a_faint_nucleus_that_a_person_gave_a_class_counts() -> None:
    nuclei = skin_with_fibres()
    reviewed = nuclei.assign(reviewed_class=np.where(nuclei.index == 42, 0, -1))
    found, *_ = measured_with(reviewed)
    assert not found["excluded"].any()
