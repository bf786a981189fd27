"""Channels, levels, tissue and thresholds of fluorescence slides."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from histoquant.collagen7 import Straightened
from histoquant.errors import SettingsError, SlideError, StainError
from histoquant.fluorescence import (
    FluorescenceModel,
    choose_channels,
    look_over,
    measure_model,
    swapped,
)
from histoquant.fluorescent_section import with_nuclear_thresholds
from histoquant.line_threshold import line_noise
from histoquant.nuclei import segment_nuclei
from histoquant.planes import NUCLEAR_LEVEL
from histoquant.report.charts import sweep
from histoquant.settings import FluorescenceSettings, Settings, read_settings
from histoquant.slides import open_slide
from histoquant.stains import StainModel, optical_density, unmix

SETTINGS = Settings()
RNG = np.random.default_rng


def cells(
    dtype=np.uint16, background=(300, 500), nuclear=6000, marker=4000, noise=20.0, own=250, seed=1
):
    """(h, w, 2) at 0.5 um/px: glass, then tissue with round nuclei in every 15 um.

    Every second nucleus has the marker; the tissue itself shines a little.
    """
    y, x = np.mgrid[:480, :480]
    tissue = (y >= 80) & (y < 400) & (x >= 80) & (x < 400)
    disc = (((y % 30 - 15) ** 2 + (x % 30 - 15) ** 2) < 64) & tissue
    positive = disc & ((x // 30) % 2 == 0)
    picture = np.empty((480, 480, 2))
    picture[..., 0] = background[0] + own * tissue + nuclear * disc
    picture[..., 1] = background[1] + own * tissue + marker * positive
    picture += RNG(seed).normal(0, noise, picture.shape)
    return np.rint(picture).clip(0, np.iinfo(dtype).max).astype(dtype), disc, positive


def write(path: Path, picture, names=("DAPI", "FITC"), mpp=0.5) -> Path:
    """A fluorescence OME-TIFF of a picture (h, w, c)."""
    metadata = {"axes": "CYX", "Channel": {"Name": list(names)}}
    metadata |= {f"PhysicalSize{axis}": mpp for axis in "XY"}
    planes = np.ascontiguousarray(np.moveaxis(picture, -1, 0))
    tifffile.imwrite(path, planes, ome=True, metadata=metadata, photometric="minisblack",
                     tile=(128, 128))  # fmt: skip
    return path


def looked(path: Path, settings: Settings = SETTINGS):
    with open_slide(path) as slide:
        look = look_over(slide, settings)
        return look, measure_model(slide, look, settings)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("DAPI", "FITC"), (0, 1)),
        (("Cy5", "Hoechst 33342"), (1, 0)),
        (("Alexa 488", "DRAQ-5"), (1, 0)),
        (("nuclear DAPI 2 (387)", "marker TRITC 2 (560)"), (0, 1)),
        (("nuclear a", "marker DAPI"), (0, 1)),  # the file's role goes before the name
    ],
)
def test_channels_go_by_their_names(names, chosen):
    assert choose_channels(names, FluorescenceSettings()) == chosen


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ({"nuclear": "dapi", "marker": "Cy5"}, (0, 2)),
        ({"marker": "fitc"}, (0, 1)),
        ({"nuclear": 2, "marker": 1}, (2, 1)),
        ({"nuclear": "1", "marker": "2"}, (1, 2)),
    ],
)
def test_channels_can_be_asked_for_by_name_part_and_number(asked, chosen):
    assert choose_channels(("DAPI", "FITC", "Cy5"), FluorescenceSettings(**asked)) == chosen


@pytest.mark.parametrize(
    ("names", "asked", "words"),
    [
        (("DAPI", "FITC", "Cy5"), {}, r"any of 2 channels.*0 'DAPI', 1 'FITC', 2 'Cy5'"),
        (("a", "b"), {}, "no channel is named like a nuclear stain"),
        (("DAPI 1", "DAPI 2", "b"), {}, "2 channels are named like"),
        (("DAPI", "FITC"), {"marker": "Cy3"}, "'Cy3' is no channel.*0 'DAPI', 1 'FITC'"),
        (("DAPI", "FITC"), {"marker": 2}, "'?2'? is no channel"),
        (("DAPI", "FITC 1", "FITC 2"), {"marker": "FITC"}, "fits 2 channels"),
        (("DAPI", "FITC"), {"nuclear": "FITC", "marker": "FITC"}, "both channel 1"),
        (("DAPI",), {}, r"one channel \(0 'DAPI'\).*--nuclear-slide"),
    ],
)
def test_channels_that_cannot_be_told_are_an_error_that_lists_them(names, asked, words):
    with pytest.raises(StainError, match=words):
        choose_channels(names, FluorescenceSettings(**asked))


def test_planes_are_what_is_above_background_in_grey_levels(tmp_path):
    picture, disc, positive = cells()
    look, model = looked(write(tmp_path / "a.ome.tif", picture))
    assert look.background == pytest.approx((300, 500), abs=5)
    assert model.unit == "grey levels (16 bit)"
    planes = model.planes(picture, 1.9)
    assert planes.stains.dtype == np.float32
    assert planes.stains[disc, 0].mean() == pytest.approx(NUCLEAR_LEVEL, rel=0.05)
    assert planes.stains[positive, 1].mean() == pytest.approx(4250, rel=0.01)
    assert planes.stains[:40, :, 1].mean() == pytest.approx(0, abs=5)
    assert planes.stains[..., 1].min() < 0  # noise keeps its sign
    assert (planes.stains[..., 2] == 0).all()
    assert not planes.saturated.any()


def test_tissue_is_found_by_what_shines(tmp_path):
    look, _ = looked(write(tmp_path / "a.ome.tif", cells()[0]))
    assert look.tissue.mean() == pytest.approx((320 / 480) ** 2, rel=0.2)


@pytest.mark.parametrize("rise", [(0, 60), (60, 0), (-50, 90)])
def test_unevenly_lit_glass_is_no_tissue(tmp_path, rise):
    """Across the slide the glass brightens by up to half of what tissue shines."""
    picture, _, _ = cells()
    down, across = (np.linspace(0, 1, 480) for _ in "yx")
    light = rise[0] * down[:, None] + rise[1] * across**2
    uneven = (picture + np.rint(light)[..., None]).astype(np.uint16)
    even, _ = looked(write(tmp_path / "even.ome.tif", picture))
    look, _ = looked(write(tmp_path / "uneven.ome.tif", uneven))
    assert (look.tissue == even.tissue).mean() > 0.95


def test_padding_of_a_stitched_slide_is_no_background(tmp_path):
    picture, _, _ = cells()
    whole, _ = looked(write(tmp_path / "whole.ome.tif", picture))
    picture[:, 432:] = 0  # a tenth, on the grid of the overview
    stitched, _ = looked(write(tmp_path / "stitched.ome.tif", picture))
    assert stitched.background == pytest.approx(whole.background, abs=15)
    assert (stitched.tissue == whole.tissue).mean() > 0.97


def test_a_background_that_the_camera_cut_off_is_background(tmp_path):
    """Noise around 0: many pixels at the minimum, and no gap above it."""
    look, _ = looked(write(tmp_path / "a.ome.tif", cells(background=(0, 0))[0]))
    assert max(look.background) < 25


def test_bright_field_planes_are_the_unmixed_capped_densities():
    picture = RNG(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    model = StainModel.preset("hdab", (240.0, 238.0, 236.0))
    planes = model.planes(picture, 1.9)
    od = np.minimum(optical_density(picture, model.white), np.float32(1.9))
    np.testing.assert_array_equal(planes.stains, unmix(od, model))
    np.testing.assert_array_equal(planes.od, od)
    np.testing.assert_array_equal(planes.saturated, (od >= np.float32(1.9)).any(axis=-1))
    assert model.unit == "OD"


@pytest.mark.parametrize("crop", [np.s_[3:60, 5:90], np.s_[::2, ::3]])
def test_planes_are_the_same_bit_for_bit_in_any_crop(crop):
    picture, *_ = cells()
    model = FluorescenceModel((0, 1), ("a", "b"), (300.5, 498.2), 5987.1, 65535.0, 16, 0.01)
    np.testing.assert_array_equal(
        model.planes(picture, 1.9).stains[crop], model.planes(picture[crop], 1.9).stains
    )


def test_nuclei_do_not_depend_on_exposure_or_on_the_marker(tmp_path):
    found = []
    for k, (nuclear, marker) in enumerate([(2500, 0), (6000, 4000), (20_000, 30_000)]):
        picture, *_ = cells(nuclear=nuclear, marker=marker)
        _, model = looked(write(tmp_path / f"{k}.ome.tif", picture))
        stains = model.planes(picture, 1.9).stains.copy()
        stains[..., 1] = 0
        found.append(len(np.unique(segment_nuclei(stains, 0.5, SETTINGS.nuclei))) - 1)
    assert found[0] == found[1] == found[2]
    assert found[0] >= 100  # of 121, the outermost are cut


@pytest.mark.parametrize(
    ("dtype", "marker", "given", "full"),
    [
        (np.uint8, 400, None, 255),
        (np.uint16, 80_000, None, 65_535),
        (np.uint16, 3000, None, 65_535),  # far from any end: nothing is saturated
        (np.uint16, 3000, 2000.0, 2000),
    ],
)
def test_the_end_of_the_camera_is_saturation(tmp_path, dtype, marker, given, full):
    picture, _, positive = cells(dtype, (10, 10), 200, marker, noise=1.0, own=20)
    settings = SETTINGS.model_copy(update={"fluorescence": FluorescenceSettings(full_scale=given)})
    _, model = looked(write(tmp_path / "a.ome.tif", picture), settings)
    assert model.full_scale == full
    assert model.planes(picture, 1.9).saturated[positive].all() == (marker != 3000 or bool(given))


def test_a_nuclear_channel_that_is_saturated_all_over_tissue_shows_no_nuclei(tmp_path):
    picture, *_ = cells(np.uint8, (10, 10), 200, 400, noise=1.0, own=250)
    with pytest.raises(StainError, match="is saturated"):
        looked(write(tmp_path / "a.ome.tif", picture))


def test_nuclei_set_the_scale_where_they_are_few_and_collagen_shines(tmp_path):
    picture, disc, _ = cells(own=0)
    y, x = np.mgrid[: disc.shape[0], : disc.shape[1]]
    tissue = (abs(y - 240) < 160) & (abs(x - 240) < 160)
    few = disc & (y % 90 < 30) & (x % 90 < 30)
    picture[..., 0] = 300 + 1500 * (tissue & (y % 14 < 10)) + 4500 * few  # bundles, and gaps
    _, model = looked(write(tmp_path / "a.ome.tif", picture))
    assert model.nuclear_span == pytest.approx(6000, rel=0.1)


def test_a_twelve_bit_camera_in_sixteen_bits_is_known_by_its_pile(tmp_path):
    picture, _, positive = cells(marker=9000)
    picture = np.minimum(picture, 4095)
    _, model = looked(write(tmp_path / "a.ome.tif", picture))
    assert model.full_scale == 4095
    assert model.planes(picture, 1.9).saturated[positive].all()


def test_bleed_is_subtracted(tmp_path):
    picture, disc, positive = cells()
    leaky = picture.astype(np.int64)
    leaky[..., 1] += (0.05 * (picture[..., 0] - 300.0)).astype(np.int64)
    settings = SETTINGS.with_values(["fluorescence.bleed=0.05"])
    _, model = looked(write(tmp_path / "a.ome.tif", leaky.astype(np.uint16)), settings)
    planes = model.planes(leaky, 1.9).stains
    assert planes[disc & ~positive, 1].mean() == pytest.approx(250, abs=15)
    assert "bleed subtracted" in model.source


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda p: p[..., 1].fill(0), StainError, "channel FITC holds nothing.*all at 0"),
        (lambda p: p[..., 0].fill(300), StainError, "channel DAPI holds nothing"),
    ],
)
def test_an_empty_channel_is_refused(tmp_path, change, error, words):
    picture, *_ = cells()
    change(picture)
    with pytest.raises(error, match=words):
        looked(write(tmp_path / "a.ome.tif", picture))


def test_noise_alone_is_no_tissue(tmp_path):
    picture = np.rint(RNG(3).normal(400, 20, (400, 400, 2))).astype(np.uint16)
    with pytest.raises(SlideError, match="no tissue found"):
        looked(write(tmp_path / "a.ome.tif", picture))


def test_swapped_channels_are_suspected_by_their_names():
    model = FluorescenceModel((1, 0), ("FITC", "DAPI"), (0.0, 0.0), 1.0, 255.0, 8)
    assert "are they swapped?" in swapped(model)
    assert not swapped(FluorescenceModel((0, 1), ("DAPI", "FITC"), (0.0, 0.0), 1.0, 255.0, 8))


def straightened(od, step=0.5):
    rows, columns = od.shape
    flat = np.zeros(od.shape, np.float32)
    return Straightened(od.astype(np.float32), flat, flat > 1, np.zeros(rows, np.int64),
                        np.arange(rows) * step, np.arange(columns) * step - 15)  # fmt: skip


def test_noise_beside_the_line_is_that_of_a_bins_mean():
    picture = RNG(0).normal(500, 40, (4000, 71))
    picture[:, 30:] += 300  # dermis shines more than epidermis: a step is no noise
    picture[:, 28:33] += 5000
    picture[::7, 5] = np.nan
    found = line_noise(straightened(picture), band_um=6, bin_um=10)
    assert found == pytest.approx(40 / np.sqrt(20), rel=0.2)


def test_thresholds_come_from_the_slides_own_negative_nuclei():
    rng = RNG(0)
    marker = np.concatenate([rng.normal(600, 50, 900), rng.normal(5000, 800, 100)])
    model = FluorescenceModel((0, 1), ("a", "b"), (0.0, 0.0), 1.0, 65535.0, 16)
    used = with_nuclear_thresholds(SETTINGS, model, pd.DataFrame({"dab_od_mean": marker})).p16
    first, second, third = used.thresholds_od
    assert 800 < first < 1000
    assert second - first == pytest.approx(third - second, rel=1e-3)
    assert "own nuclei" in used.threshold_locked
    assert used.sweep_od[2] == first
    given = SETTINGS.with_values(["fluorescence.p16_thresholds=[1000, 2000, 4000]"])
    used = with_nuclear_thresholds(given, model, pd.DataFrame({"dab_od_mean": marker})).p16
    assert used.thresholds_od == (1000, 2000, 4000)
    assert used.haze_below_od == 2000


def test_thresholds_of_a_negative_control_in_grey_levels_are_used():
    locked = {"threshold_locked": "negative control of batch B: 812 grey levels (16 bit)",
              "thresholds_od": (812.0, 1624.0, 2436.0)}  # fmt: skip
    settings = SETTINGS.model_copy(update={"p16": SETTINGS.p16.model_copy(update=locked)})
    model = FluorescenceModel((0, 1), ("a", "b"), (0.0, 0.0), 1.0, 65535.0, 16)
    used = with_nuclear_thresholds(settings, model, pd.DataFrame({"dab_od_mean": np.ones(99)})).p16
    assert used.thresholds_od == (812.0, 1624.0, 2436.0)


def test_settings_of_fluorescence_are_checked(tmp_path):
    with pytest.raises(SettingsError, match="must rise"):
        SETTINGS.with_values(["fluorescence.p16_thresholds=[3, 2, 1]"])
    file = tmp_path / "s.toml"
    file.write_text('[fluorescence]\nnuclear = "Hoechst"\nmarker = 2\n')
    assert read_settings(file).fluorescence.marker == 2


def test_the_sweep_is_drawn_over_grey_levels():
    rows = [
        {"compartment": "all", "threshold_od": t, "positive_percent": 9.0,
         "positive_percent_low": 5.0, "positive_percent_high": 12.0}
        for t in (500.0, 900.0)
    ]  # fmt: skip
    assert "DAB OD" in sweep(rows, 900).inline()
    drawn = sweep(rows, 900, "grey levels (16 bit)").inline()
    assert "grey levels (16 bit)" in drawn
    assert "OD" not in drawn
