"""The profile along the junction, on straightened lines of known height, width and gaps."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from helpers import DEPTH, FWHM_SIGMAS, PaintedSlide, junction_of, lined, sine, straight_junction
from histoquant.collagen7 import gap_lengths, measure_collagen7, missing_collagen7, straighten
from histoquant.junction import Junction
from histoquant.line_picture import draw_line
from histoquant.line_threshold import with_noise_threshold
from histoquant.morphometry import junction_bins
from histoquant.settings import Settings
from histoquant.stains import StainModel

SETTINGS = Settings()
COL7 = SETTINGS.collagen7


def measure(straightened, bins, settings=COL7):
    return measure_collagen7(straightened, bins, settings)


# --- the line --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peak", "fwhm", "centre", "background"),
    [
        (0.5, 2.5, 0.0, 0.03),
        (0.15, 2.0, 0.0, 0.0),
        (1.2, 3.5, 2.0, 0.2),  # below the traced line
        (0.6, 3.0, -3.5, -0.02),  # above it, on glass whiter than white
        (0.6, 3.0, 5.5, 0.1),  # at the end of where it is looked for
    ],
)
def test_a_gaussian_line_is_measured_as_drawn(peak, fwhm, centre, background):
    table, summary, reasons = measure(*lined(peak, fwhm, centre, background))
    area = peak * fwhm / FWHM_SIGMAS * np.sqrt(2 * np.pi)
    assert len(table) == 60
    assert table["positive"].all()
    assert summary["peak_od_mean"] == pytest.approx(peak, rel=1e-3)
    assert summary["peak_od_median"] == pytest.approx(peak, rel=1e-3)
    assert summary["integrated_od_um_mean"] == pytest.approx(area, rel=0.01)
    assert summary["integrated_od_um_median"] == pytest.approx(area, rel=0.01)
    assert summary["integrated_od_um_iqr"] == pytest.approx(0, abs=1e-5)
    assert summary["fwhm_um_median"] == pytest.approx(fwhm, abs=0.05)
    assert summary["background_od_mean"] == pytest.approx(background, abs=1e-4)
    assert table["depth_peak_um"].to_numpy() == pytest.approx(np.full(60, centre))
    assert summary["continuity_percent"] == 100
    assert summary["n_gaps"] == 0
    assert {n for n in reasons if not n.startswith(("ridge", "papilla"))} == {
        "gap_length_median_um",
        "continuity_percent_low",
        "continuity_percent_high",
    }
    assert summary["fwhm_corrected_um_median"] == pytest.approx(
        np.sqrt(fwhm**2 - COL7.optics_fwhm_um**2), abs=0.06
    )
    assert summary["flank_continuity_percent"] == 100
    assert "20 um" in reasons["gap_length_median_um"]


@pytest.mark.parametrize(("peak", "positive"), [(0.09, False), (0.11, True)])
def test_positive_begins_at_the_threshold(peak, positive):
    table, summary, reasons = measure(*lined(peak, centre_um=1.0))
    assert (table["positive"] == positive).all()
    assert summary["continuity_percent"] == 100 * positive
    assert table["depth_peak_um"].isna().all() == (not positive)
    assert reasons.get("fwhm_um_median") == (None if positive else "no bin is positive")


def with_noise(peak, sd, seed=3):
    """A straightened line of even height under noise, a third of it missing; its bins."""
    found, bins = lined(peak, 2.5)
    od = found.od.copy()
    od[len(od) // 3 : 2 * len(od) // 3] = 0.0
    od += np.random.default_rng(seed).normal(0, sd, od.shape)
    return replace(found, od=od.astype(np.float32)), bins


def test_a_threshold_from_noise_finds_a_line_that_the_usual_one_misses():
    by_noise = COL7.model_copy(update={"threshold_source": "noise"})
    found, bins = with_noise(peak=0.08, sd=0.02)
    own = with_noise_threshold(by_noise, found)
    rows = COL7.bin_um / COL7.depth_step_um
    noise = 0.02 / np.sqrt(rows)  # of the mean over a bin
    assert own.threshold_od == pytest.approx(max(5 * noise, by_noise.min_threshold_od), rel=0.2)
    assert "x the noise beside the slide's own line" in own.threshold_locked
    assert measure(found, bins)[1]["continuity_percent"] < 5
    assert measure(found, bins, own)[1]["continuity_percent"] == pytest.approx(200 / 3, abs=4)


def test_a_threshold_from_noise_rises_with_it_and_has_a_floor():
    by_noise = COL7.model_copy(update={"threshold_source": "noise"})
    clean, loud = (with_noise_threshold(by_noise, with_noise(0.3, sd)[0]) for sd in (1e-4, 0.1))
    assert clean.threshold_od == by_noise.min_threshold_od
    assert "raised from 0.0" in clean.threshold_locked
    assert loud.threshold_od > 0.06
    assert with_noise_threshold(COL7, with_noise(0.3, 0.1)[0]) == COL7  # only where asked for
    assert with_noise_threshold(loud, with_noise(0.3, 0.3)[0]) == loud  # a redrawn line keeps it


def test_bins_cut_obliquely_are_flagged_by_their_width():
    narrow, wide = (measure(*lined(0.5, fwhm)) for fwhm in (3.0, 7.5))
    assert not narrow[0]["oblique"].any()
    assert wide[0]["oblique"].all()
    assert (narrow[1]["oblique_percent"], wide[1]["oblique_percent"]) == (0, 100)


def test_a_line_outside_the_band_is_not_the_junctions():
    table, _, _ = measure(*lined(0.5, 2.0, centre_um=9.0))
    assert not table["positive"].any()


def test_base_line_follows_both_sides():
    """More DAB in dermis than in epidermis is background, not signal."""
    straightened, bins = lined(background=0.0)
    slope = np.interp(DEPTH, [-6, 6], [0.05, 0.15]).astype(np.float32)
    _, plain, _ = measure(straightened, bins)
    _, summary, _ = measure(replace(straightened, od=straightened.od + slope), bins)
    assert summary["background_od_mean"] == pytest.approx(0.10, abs=1e-4)
    for figure in ("peak_od_mean", "integrated_od_um_mean"):
        assert summary[figure] == pytest.approx(plain[figure], rel=1e-3)


@pytest.mark.parametrize("leak", [0.05, -0.05])
def test_basal_nuclei_beside_the_line_do_not_change_its_integral(leak):
    """More than half the epidermal band is nuclei whose blue passes for DAB, or hides it."""
    straightened, bins = lined(0.5, 2.5)
    _, plain, _ = measure(straightened, bins)
    row = (DEPTH >= -12.5) & (DEPTH <= -7.5)
    assert row.sum() > 0.5 * (DEPTH < -6).sum()
    stained = replace(
        straightened,
        od=straightened.od + np.float32(leak) * row,
        hematoxylin=straightened.hematoxylin + np.float32(0.4) * row,
    )
    _, summary, _ = measure(stained, bins)
    for figure in ("integrated_od_um_mean", "peak_od_mean", "background_od_mean"):
        assert summary[figure] == pytest.approx(plain[figure], rel=1e-4), figure


# --- gaps ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gaps", "lengths", "continuity"),
    [
        ([(100, 130)], [30], 95),
        ([(100, 110)], [], 100 - 10 / 6),  # too short for a gap, long enough to be negative
        ([(100, 120), (300, 380)], [20, 80], 100 - 100 / 6),
        ([(0, 50), (560, 600)], [40, 50], 85),  # at both ends
        ([(0, 600)], [600], 0),
        ([(100, 130), (140, 170)], [30, 30], 90),  # one bin of line keeps them apart
    ],
)
def test_gaps_are_runs_of_negative_bins(gaps, lengths, continuity):
    straightened, bins = lined(gaps=gaps)
    table, summary, reasons = measure(straightened, bins)
    assert sorted(gap_lengths(table, COL7.min_gap_um)) == lengths
    assert summary["n_gaps"] == len(lengths)
    assert summary["continuity_percent"] == pytest.approx(continuity)
    if lengths:
        assert summary["gap_length_median_um"] == np.median(lengths)
    else:
        assert np.isnan(summary["gap_length_median_um"])
        assert "no gap" in reasons["gap_length_median_um"]


@pytest.mark.parametrize(
    ("excluded", "lengths"),
    [
        ([], [40, 40]),  # a gap ends with its stretch
        ([7], [40, 40]),  # not measured between negatives: of the gap
        ([6], [30, 40]),  # not measured beside the line: not of the gap
        ([8, 9, 10], [20, 30]),
        (range(10, 20), [40]),
    ],
)
def test_gaps_are_of_measured_junction(excluded, lengths):
    bins = junction_bins(straight_junction(100, stretches=2), 0.5, SETTINGS)
    table = bins.assign(positive=[True] * 6 + [False] * 8 + [True] * 6)
    table.loc[list(excluded), "excluded"] = True
    assert sorted(gap_lengths(table, 0)) == lengths


def test_only_measured_bins_count():
    straightened, bins = lined(gaps=[(0, 300)])
    bins["excluded"] = bins["arc_start_um"] < 300
    table, summary, _ = measure(straightened, bins)
    assert summary["continuity_percent"] == 100
    assert summary["n_gaps"] == 0
    assert len(table) == 60


# --- what is missing -------------------------------------------------------------------------


def test_missing_samples_do_not_move_the_line():
    straightened, bins = lined(0.5, 2.5)
    od = straightened.od.copy()
    od[np.random.default_rng(5).random(od.shape) < 0.4] = np.nan
    _, summary, _ = measure(replace(straightened, od=od), bins)
    _, plain, _ = measure(straightened, bins)
    for figure in ("integrated_od_um_mean", "peak_od_mean"):
        assert summary[figure] == pytest.approx(plain[figure], rel=1e-3), figure


def test_one_free_side_is_enough_for_a_background():
    straightened, bins = lined(0.5, 2.5, background=0.07)
    od = np.where(DEPTH > 6, np.float32(np.nan), straightened.od)
    _, summary, _ = measure(replace(straightened, od=od), bins)
    assert summary["background_od_mean"] == pytest.approx(0.07, abs=1e-4)
    assert summary["peak_od_mean"] == pytest.approx(0.5, rel=1e-3)


def test_a_bin_without_free_normals_is_excluded_and_says_so():
    straightened, bins = lined(0.5, 2.5)
    od = straightened.od.copy()
    od[straightened.arc_um < 100] = np.nan
    table, summary, _ = measure(replace(straightened, od=od), bins)
    lost = table["arc_start_um"] < 100
    assert (table["excluded"] == lost).all()
    assert table.loc[lost, "exclusion_reason"].str.contains("folds back").all()
    assert table.loc[lost, ["peak_od", "integrated_od_um"]].isna().all(axis=None)
    assert not table.loc[lost, "positive"].any()
    assert summary["continuity_percent"] == 100
    assert summary["peak_od_mean"] == pytest.approx(0.5, rel=1e-3)


def test_width_is_missing_where_the_profile_is_cut_off():
    straightened, bins = lined(0.5, 4.0)
    od = np.where(DEPTH > 1, np.float32(np.nan), straightened.od)
    table, summary, reasons = measure(replace(straightened, od=od), bins)
    assert table["positive"].all()
    assert np.isnan(summary["fwhm_um_median"])
    assert "both sides" in reasons["fwhm_um_median"]


@pytest.mark.parametrize("how", ["excluded before", "nothing sampled"])
def test_without_a_measured_bin_every_figure_is_missing_with_a_reason(how):
    straightened, bins = lined()
    if how == "excluded before":
        bins["excluded"] = True
    else:
        straightened = replace(straightened, od=np.full_like(straightened.od, np.nan))
    _, summary, reasons = measure(straightened, bins)
    assert np.isnan(list(summary.values())).all()
    assert reasons == dict.fromkeys(summary, "every bin of the junction is excluded")


def test_missing_has_the_columns_of_a_measurement():
    straightened, bins = lined()
    table, summary, _ = measure(straightened, bins)
    empty, nothing, reasons = missing_collagen7(bins, "no DAB")
    assert list(empty.columns) == list(table.columns)
    assert list(nothing) == list(summary) == list(reasons)
    assert np.isnan(list(nothing.values())).all()
    assert empty[["peak_od", "positive"]].isna().all(axis=None)
    assert set(reasons.values()) == {"no DAB"}


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_saturation_is_that_of_the_line(share):
    straightened, bins = lined()
    saturated = np.zeros(straightened.od.shape, bool)
    saturated[: round(share * len(saturated))] = True
    saturated[:, DEPTH > 10] = True  # beside the line: nobody's business
    _, summary, _ = measure(replace(straightened, saturated=saturated), bins)
    assert summary["saturated_percent"] == pytest.approx(100 * share, abs=0.1)


# --- straightening ---------------------------------------------------------------------------

WHITE = (240.0, 238.0, 236.0)
MODEL = StainModel.preset("hdab", WHITE)


def stained(hematoxylin, dab):
    od = np.multiply.outer(hematoxylin, MODEL.vectors[0]) + np.multiply.outer(dab, MODEL.vectors[1])
    return WHITE * 10**-od


@pytest.mark.parametrize(("centre", "reverse"), [(0.0, False), (3.0, False), (3.0, True)])
def test_straightened_depth_is_depth_below_the_junction(centre, reverse):
    """A wavy line; walked the other way round, down becomes up."""
    x = np.arange(100, 500, 0.5)
    y = 150 + sine(20, 200)(x)
    line = np.column_stack([y, x])[::4]  # dermis, below, on the right
    side = -1 if reverse else 1

    def paint(y_um, x_um):
        slope = 20 * 2 * np.pi / 200 * np.cos(2 * np.pi * x_um / 200)
        depth = (y_um - 150 - sine(20, 200)(x_um)) / np.hypot(1, slope)
        dab = 0.5 * np.exp(-(((depth - centre) / 1.2) ** 2) / 2) + 0.05
        return stained(np.where(depth < 0, 0.3, 0.1), dab)

    junction = junction_of(line[::-1] if reverse else line)
    slide = PaintedSlide((600, 1200), 0.5, paint)
    found = straighten(slide, MODEL, junction, COL7, SETTINGS.stains.max_od)
    assert found.od.shape == found.hematoxylin.shape == (len(found.arc_um), len(DEPTH))
    assert found.od.dtype == np.float32
    assert found.depth_um == pytest.approx(DEPTH)
    profile = np.nanmean(found.od[40:-40], axis=0)
    assert DEPTH[np.argmax(profile)] == pytest.approx(side * centre, abs=0.5)
    assert profile.max() == pytest.approx(0.55, abs=0.03)
    epidermal = found.hematoxylin[40:-40][:, DEPTH * side < -8]
    assert np.nanmedian(epidermal) == pytest.approx(0.3, abs=0.02)
    bins = junction_bins(junction, 0.5, SETTINGS)
    table, _, _ = measure_collagen7(found, bins, COL7)
    area = 0.5 * 1.2 * np.sqrt(2 * np.pi)
    assert table["integrated_od_um"].iloc[3:-3].mean() == pytest.approx(area, rel=0.05)


def test_normals_that_reach_another_flank_are_left_out():
    """Two flanks 12 um apart: beyond the middle, samples belong to the other flank."""
    x = np.arange(0, 201, 2.0)
    lower, upper = (np.column_stack([np.full_like(x, y), x]) for y in (112.0, 100.0))
    junction = junction_of(lower, upper[::-1])  # epidermis between, dermis outside
    slide = PaintedSlide((400, 420), 0.5, lambda y, x: stained(0.1 + 0 * y, 0.02 + 0 * x))
    found = straighten(slide, MODEL, junction, COL7, 2.5)
    inner = found.od[(found.arc_um > 30) & (found.arc_um < 170)]
    missing = np.isnan(inner).mean(axis=0)
    assert (missing[DEPTH < -8.5] == 1).all()
    assert (missing[DEPTH > -6.5] == 0).all()


def test_capped_pixels_are_saturated():
    slide = PaintedSlide((200, 420), 0.5, lambda y, x: np.where((y > 50)[..., None], 1.0, 200.0))
    found = straighten(slide, MODEL, straight_junction(200), COL7, 2.0)
    assert found.saturated[:, DEPTH > 1].all()
    assert not found.saturated[:, DEPTH < -1].any()
    assert np.isfinite(found.od).all()


def test_normals_that_leave_the_slide_have_no_samples():
    """The junction runs 10 um above the lower edge of the slide."""
    slide = PaintedSlide((120, 420), 0.5, lambda y, x: stained(0.1 + 0 * y, 0.02 + 0 * x))
    missing = np.isnan(straighten(slide, MODEL, straight_junction(200), COL7, 2.5).od)
    assert missing[:, DEPTH > 10.5].all()
    assert not missing[:, DEPTH < 9.5].any()


def test_no_junction_gives_an_empty_picture():
    found = straighten(PaintedSlide((9, 9), 0.5, None), MODEL, Junction((), "none"), COL7, 2.5)
    assert found.od.shape == (0, len(DEPTH))


@pytest.mark.parametrize(("cut_um", "known"), [(4.6, True), (0.5, False), (2.0, False)])
def test_a_part_of_the_line_is_not_taken_for_all_of_it(cut_um, known):
    straightened, bins = lined(background=0.0)
    whole, *_ = measure(straightened, bins)
    od = straightened.od.copy()
    od[:, cut_um < straightened.depth_um] = np.nan
    table, *_ = measure(replace(straightened, od=od), bins)
    if known:
        np.testing.assert_allclose(
            table["integrated_od_um"], whole["integrated_od_um"], rtol=0.02, atol=0.01
        )
    else:
        assert table["integrated_od_um"].isna().all()


@pytest.mark.parametrize("length_um", [499.6, 500.0, 500.4, 1000.0])
def test_the_picture_of_the_line_has_a_row_for_every_length(length_um):
    straightened, bins = lined(length_um=length_um)
    table, *_ = measure(straightened, bins)
    height = cv2.imdecode(
        np.frombuffer(draw_line(straightened, table, COL7), np.uint8), cv2.IMREAD_COLOR
    ).shape[0]
    one = cv2.imdecode(
        np.frombuffer(draw_line(*_measured(300.0), COL7), np.uint8), cv2.IMREAD_COLOR
    ).shape[0]
    assert height == one * np.ceil((straightened.arc_um[-1] + 0.5) / 500)


def _measured(length_um):
    straightened, bins = lined(length_um=length_um)
    return straightened, measure(straightened, bins)[0]


def test_the_number_of_threads_does_not_change_the_picture():
    """Two stretches of several chunks each: every sample, and which stretch it belongs to."""
    x = np.arange(0, 401, 2.0)
    lines = [np.column_stack([np.full_like(x, y), x]) for y in (100.0, 250.0)]
    slide = PaintedSlide((700, 840), 0.5, lambda y, x: stained(0.1 + 0 * y, 0.3 * np.sin(x) ** 2))
    one, three = (
        straighten(slide, MODEL, junction_of(*lines), COL7, 2.5, workers) for workers in (1, 3)
    )
    assert np.bincount(one.stretch).tolist() == [800, 800]
    for name in ("od", "hematoxylin", "residual", "saturated", "stretch", "arc_um"):
        np.testing.assert_array_equal(getattr(one, name), getattr(three, name))
