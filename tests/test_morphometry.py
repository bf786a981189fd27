"""Thickness, undulation, ridges and bins of skin drawn by formula."""

from dataclasses import replace

import numpy as np
import pytest

from helpers import Skin, junction_of, sine
from histoquant.anatomy import Compartments
from histoquant.junction import Junction, trace_junction
from histoquant.morphometry import junction_bins, measure_morphometry, ridge_heights
from histoquant.settings import Settings

SETTINGS = Settings()
AMPLITUDE, WAVELENGTH = 20.0, 120.0
SKIN = Skin(sine(AMPLITUDE, WAVELENGTH), length_um=900.0, plate_um=70.0, side_um=1100.0)
FLAT = replace(SKIN, border=lambda u: 0 * u)


def measure(skin, settings=SETTINGS):
    drawn = skin.draw()
    compartments = replace(drawn, artefacts=np.zeros(drawn.labels.shape, np.uint8))
    junction = trace_junction(compartments, settings.junction, settings.anatomy)
    return junction, *measure_morphometry(compartments, junction, settings)


def wave_length(amplitude, wavelength, way):
    u = np.arange(0, way, 0.1)
    return np.hypot(np.diff(u), np.diff(sine(amplitude, wavelength)(u))).sum()


# --- figures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [0, 70, 215])
def test_wavy_skin_is_measured_as_drawn(angle):
    junction, summary, reasons = measure(replace(SKIN, angle_deg=float(angle)))
    ratio = wave_length(AMPLITUDE, WAVELENGTH, 1200) / 1200
    assert reasons == {}
    assert summary["dej_length_mm"] == pytest.approx(0.9 * ratio, rel=0.02)
    assert summary["measured_length_mm"] == pytest.approx(0.875 * 0.9 * ratio, rel=0.025)
    assert summary["dej_length_mm"] == junction.length_um / 1e3
    assert summary["interdigitation_index"] == pytest.approx(ratio, rel=0.04)
    assert summary["epidermis_thickness_um_mean"] == pytest.approx(70, rel=0.04)
    assert summary["ridge_height_um_median"] == pytest.approx(2 * AMPLITUDE, rel=0.05)
    assert summary["ridges_per_mm"] == pytest.approx(1e3 / WAVELENGTH, rel=0.12)
    assert summary["tissue_area_mm2"] == pytest.approx(0.9 * (0.2 + 0.07 + 0.015), rel=0.01)
    epidermis = 0.9 * 0.07
    assert 0 < summary["excluded_area_mm2"] < 0.2 * epidermis


@pytest.mark.parametrize("plate", [45.0, 90.0])
def test_flat_skin_has_no_ridges_and_says_so(plate):
    _, summary, reasons = measure(replace(FLAT, plate_um=plate))
    assert summary["interdigitation_index"] == pytest.approx(1, abs=0.02)
    assert summary["epidermis_thickness_um_mean"] == pytest.approx(plate, rel=0.03)
    assert summary["ridges_per_mm"] == 0
    assert np.isnan(summary["ridge_height_um_median"])
    assert reasons == {"ridge_height_um_median": "no rete ridge reaches 10 um"}


@pytest.mark.parametrize(("amplitude", "counted"), [(4.0, False), (6.0, True)])
def test_a_ridge_counts_from_its_least_height(amplitude, counted):
    """Peak to valley of 8 and 12 um, about a setting of 10."""
    _, summary, _ = measure(replace(SKIN, border=sine(amplitude, WAVELENGTH)))
    assert (summary["ridges_per_mm"] > 0) == counted


def test_nothing_but_area_is_known_without_a_junction():
    labels = np.full((50, 50), 3, np.uint8)
    dermis = Compartments(labels, 2.0, np.full((50, 50), -1, np.float32), "no epidermis found")
    junction = Junction((), "no epidermis found")
    summary, reasons = measure_morphometry(dermis, junction, SETTINGS)
    known = {n: v for n, v in summary.items() if not np.isnan(v)}
    assert {n: v for n, v in known.items() if v} == {"tissue_area_mm2": 0.01}
    assert "excluded_area_mm2" in known
    artefacts = {n for n in summary if n.startswith("excluded_") or n == "artefact_percent"}
    artefacts -= set(known)
    assert len(artefacts) == 8
    others = set(summary) - set(known) - artefacts
    assert reasons == dict.fromkeys(others, "no epidermis found") | dict.fromkeys(
        artefacts, "artefacts were not looked for"
    )
    assert junction_bins(junction, 0.5, SETTINGS).empty


def test_no_artefact_found_is_told_from_none_looked_for():
    labels = np.full((50, 50), 3, np.uint8)
    plain = Compartments(labels, 2.0, np.full((50, 50), -1, np.float32), "no epidermis found")
    searched = replace(plain, artefacts=np.zeros_like(labels))
    summary, reasons = measure_morphometry(searched, Junction((), "none"), SETTINGS)
    assert (summary["excluded_fold_mm2"], summary["artefact_percent"]) == (0, 0)
    assert "artefact_percent" not in reasons


def test_wholly_excluded_junction_has_no_surface():
    settings = SETTINGS.with_values(["anatomy.cut_edge_um=1000", "anatomy.cut_edge_share=0.5"])
    junction, summary, reasons = measure(SKIN, settings)
    assert junction.length_um > 900
    assert summary["measured_length_mm"] == 0
    assert np.isnan(summary["epidermis_thickness_um_mean"])
    assert "no skin surface" in reasons["epidermis_thickness_um_mean"]
    assert summary["excluded_area_mm2"] == pytest.approx(0.9 * 0.07, rel=0.03)


@pytest.mark.parametrize("amplitude", [12.0, 20.0, 30.0])
def test_ridge_heights_are_peak_to_valley(amplitude):
    course = np.column_stack([np.zeros(400), np.arange(0, 800, 2.0)])
    rise = sine(amplitude, 100)(course[:, 1] - 25)  # begins at the top of a papilla
    line = course + np.column_stack([rise, np.zeros(400)])
    whole = ridge_heights(junction_of(line, course=course).stretches[0], SETTINGS.junction)
    assert whole == pytest.approx(np.full(8, 2 * amplitude), rel=0.02)
    half = junction_of(line, course=course, excluded=np.s_[:200]).stretches[0]
    assert len(ridge_heights(half, SETTINGS.junction)) == 4


# --- bins ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_bins_cover_the_junction(mpp):
    junction, _, _ = measure(SKIN)
    bins = junction_bins(junction, mpp, SETTINGS)
    stretch = junction.stretches[0]
    assert bins["bin"].tolist() == list(range(len(bins)))
    assert len(bins) == int(stretch.length_um // 10)
    assert (bins["arc_end_um"] - bins["arc_start_um"]).unique() == pytest.approx([10])
    assert bins["arc_start_um"].iloc[1:].tolist() == bins["arc_end_um"].iloc[:-1].tolist()
    middle = bins[["y_px", "x_px"]].to_numpy() * mpp
    assert np.abs(junction.depth_um(middle)).max() < 0.5
    excluded = bins["excluded"].to_numpy()
    assert (bins["exclusion_reason"] == np.where(excluded, stretch.exclusion, "")).all()
    assert excluded.sum() in range(9, 15)  # a sixteenth at both ends, less a last part of a bin
    assert excluded[:5].all()
    assert excluded[-4:].all()


def test_bins_of_every_stretch_start_at_zero():
    x = np.arange(0, 105, 2.0)
    line = np.column_stack([np.zeros_like(x), x])
    bins = junction_bins(junction_of(line, line[:3] + 50), 0.5, SETTINGS)
    assert bins.groupby("stretch")["arc_start_um"].agg(["min", "count"]).values.tolist() == [
        [0, 10],
        [0, 1],  # even the shortest stretch has a bin
    ]
    assert bins["bin"].is_unique


def test_features_follow_the_undulation():
    """Ridges reach into the dermis: below the course by more than 5 um."""
    course = np.column_stack([np.zeros(500), np.arange(0, 1000, 2.0)])
    line = course + np.column_stack([sine(20, 100)(course[:, 1]), np.zeros(500)])
    bins = junction_bins(junction_of(line, course=course), 0.5, SETTINGS)
    depth = bins["y_px"] * 0.5
    expected = np.select([depth > 5.5, depth < -5.5, depth.abs() < 4.5], [0, 1, 2], -1)
    for code, name in enumerate(["ridge", "papilla", "flank"]):
        assert (expected == code).sum() > 10
        assert (bins.loc[expected == code, "feature"] == name).all()
