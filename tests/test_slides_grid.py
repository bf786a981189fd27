"""Pixels at a scale: the area average, the same in every window, from whatever level."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from histoquant.errors import SlideError
from histoquant.slides import open_slide
from histoquant.slides.resample import area_mean, axis_weights
from histoquant.slides.tiff import TiffSource
from histoquant.slides.tiff_pyramid import downsample

SVS = Path(__file__).parent.parent / "sample_slides" / "real" / "CMU-1-Small-Region.svs"


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(path, *levels, mpp=0.25, tile=(64, 64)):
    per_cm = 1e4 / mpp
    with tifffile.TiffWriter(path) as tiff:
        for image in levels:
            tiff.write(
                image,
                tile=tile,
                photometric="rgb",
                metadata=None,
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
            )
    return path


def weights(n_out, factor, n_in, down, extent):
    """Overlap of output and input pixels along one axis, in exact arithmetic."""
    edges = [min(i * down, extent) for i in range(n_in)] + [extent]
    table = np.zeros((n_out, n_in))
    for j in range(n_out):
        low, high = j * factor, min((j + 1) * factor, extent)
        overlap = [
            max(Fraction(0), min(high, edges[i + 1]) - max(low, edges[i])) for i in range(n_in)
        ]
        table[j] = [float(o / (high - low)) for o in overlap]
    return table


def reference(level, extent, factor, down=1):
    """Brute force: `level` averaged to `factor` level-0 px per pixel."""
    factor, down = Fraction(factor), Fraction(down)
    y, x = (
        weights(
            math.ceil(Fraction(extent[axis]) / factor),
            factor,
            level.shape[axis],
            down,
            extent[axis],
        )
        for axis in (0, 1)
    )
    return np.einsum("ij,jkc,lk->ilc", y, level.astype(float), x)


@pytest.mark.parametrize("step", [2, 3, 4, 6, 7])
def test_whole_factor_is_the_block_mean_rounded_half_up(tmp_path, step):
    image = noise(step * 30, step * 41)
    total = image.reshape(30, step, 41, step, 3).sum(axis=(1, 3), dtype=np.int64)
    expected = (2 * total + step**2) // (2 * step**2)
    with open_slide(write(tmp_path / "a.tif", image)) as slide:
        np.testing.assert_array_equal(slide.overview(0.25 * step), expected)


@pytest.mark.parametrize("factor", ["1.002", "1.5", "2.19", "3.7", "8.8", "0.996", "0.51"])
def test_any_factor_is_the_area_mean(tmp_path, factor):
    image = noise(67, 43)
    mpp = float(Fraction(factor) / 4)
    with open_slide(write(tmp_path / "a.tif", image)) as slide:
        expected = reference(image, image.shape, factor)
        found = slide.overview(mpp)
        assert found.shape == expected.shape
        # Rounded half up; the reference itself is only good to the last bits of a double.
        assert np.abs(found - expected).max() <= 0.5 + 1e-6


def old_mean(source, rows, columns):
    """Weighted sums down, then along, in the order of the pixels, in plain float64."""
    line = np.zeros((len(rows.first), *source.shape[1:]))
    for k in range(rows.overlap.shape[1]):
        at = np.minimum(rows.first - rows.start + k, len(source) - 1)
        line += rows.overlap[:, k, None, None] * source[at]
    total = np.zeros((len(rows.first), len(columns.first), source.shape[2]))
    for k in range(columns.overlap.shape[1]):
        at = np.minimum(columns.first - columns.start + k, source.shape[1] - 1)
        total += columns.overlap[None, :, k, None] * line[:, at]
    share = (1 / rows.total)[:, None, None] * (1 / columns.total)[None, :, None]
    return np.floor(total * share + (0.5 + 1e-9)).astype(source.dtype)


FACTORS = [0.7, 1.0, 1.002, 1.05, 1.37, 1.978, 2.0, 2.19, 3.0, 3.5, 4.0, 8.0, 16.0, 17.0, 31.3]


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize(
    ("dtype", "channels", "down"),
    [(np.uint8, 3, 1), (np.uint8, 1, 1), (np.uint8, 3, 4), (np.uint16, 3, 1), (np.uint16, 5, 2.5)],
)
def test_every_loop_gives_the_same_bits(factor, dtype, channels, down):
    """Fast loops for whole factors and factors near 1 must not change a value."""
    shape = (211, 342)
    source = np.random.default_rng(3).integers(
        0, np.iinfo(dtype).max + 1, (*shape, channels), dtype=dtype
    )
    source[:60, :60] = np.iinfo(dtype).max
    weights = []
    for size in shape:
        extent = math.floor(size * down - 0.4 * (down > 1))
        count = math.ceil(extent / (factor * down))
        weights.append(
            axis_weights(0, count, factor * down, downsample=down, size=size, extent=extent)
        )
    rows, columns = weights
    source = source[: rows.stop, : columns.stop]
    expected = old_mean(source, rows, columns)
    found = area_mean(source, rows, columns)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)
    inner = rows.part(1, len(rows.first)), columns.part(2, len(columns.first) - 1)
    window = source[inner[0].start : inner[0].stop, inner[1].start : inner[1].stop]
    np.testing.assert_array_equal(area_mean(window, *inner), expected[1:, 2:-1])


def test_pixels_of_other_types_cannot_be_averaged():
    rows = axis_weights(0, 5, 2.0, downsample=1.0, size=10, extent=10)
    with pytest.raises(SlideError, match="type float32 cannot be averaged"):
        area_mean(np.zeros((10, 10, 1), np.float32), rows, rows)


@pytest.mark.parametrize(
    ("shape", "small", "down"),
    [
        ((121, 77), (60, 38), 2),  # sides rounded down
        ((121, 77), (61, 39), 2),  # rounded up
        ((126, 78), (15, 9), 8),
        ((100, 150), (40, 60), Fraction(5, 2)),
    ],
)
@pytest.mark.parametrize("times", ["1", "1.3", "2", "1.004"])
def test_average_of_a_level_does_not_shift(tmp_path, shape, small, down, times):
    """The level holds a picture of its own, so that what was read from is seen."""
    level = noise(*small, seed=1)
    factor = down * Fraction(times)
    with open_slide(write(tmp_path / "a.tif", noise(*shape), level)) as slide:
        assert slide.levels[1].downsample == (down, down)
        found = slide.overview(float(factor / 4))
        expected = reference(level, shape, factor, down)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(
    ("mpp", "level"),
    [
        (0.25, 0),
        (0.49, 0),  # the coarser level would lose detail
        (0.4965, 1),  # within 1 % of the level's scale
        (0.5, 1),
        (0.5 * (1 + 1e-8), 1),
        (1.9, 1),
        (2.0, 2),
        (16.0, 2),
    ],
)
def test_the_next_finer_level_is_read(tmp_path, mpp, level):
    flat = [np.full((s, s + 64, 3), v, np.uint8) for s, v in ((512, 10), (256, 20), (64, 30))]
    flat[1], flat[2] = flat[1][:, :288], flat[2][:, :72]
    with open_slide(write(tmp_path / "a.tif", *flat)) as slide:
        assert len(slide.levels) == 3
        assert (slide.overview(mpp) == (10, 20, 30)[level]).all()


def test_same_scale_is_a_plain_copy(tmp_path):
    image, level = noise(121, 77), noise(60, 38, seed=1)
    with open_slide(write(tmp_path / "a.tif", image, level)) as slide:
        np.testing.assert_array_equal(slide.overview(0.25), image)
        np.testing.assert_array_equal(slide.overview(0.25 * (1 + 5e-7)), image)
        found = slide.overview(0.5)
        assert found.shape == (61, 39, 3)  # the odd last row of level 0 is not lost
        np.testing.assert_array_equal(found, np.pad(level, ((0, 1), (0, 1), (0, 0)), "edge"))


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    path = tmp_path_factory.mktemp("slides") / "a.tif"
    slide = open_slide(write(path, noise(701, 533), noise(350, 266, seed=1), noise(87, 66, seed=2)))
    scales = (0.25, 0.2501, 0.3, 0.4999, 0.5, 0.73, 1.0, 2.0, 2.3, 9.1)
    return slide, {mpp: slide.overview(mpp) for mpp in scales}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_window_never_changes_a_value(wholes, data):
    slide, overviews = wholes
    mpp = data.draw(st.sampled_from(sorted(overviews)))
    whole = overviews[mpp]
    y, x = (data.draw(st.integers(-30, side + 10)) for side in whole.shape[:2])
    height, width = (data.draw(st.integers(0, side + 40)) for side in whole.shape[:2])
    padded = np.full((whole.shape[0] + 900, whole.shape[1] + 900, 3), 93, np.uint8)
    padded[30 : 30 + whole.shape[0], 30 : 30 + whole.shape[1]] = whole
    expected = padded[y + 30 : y + 30 + height, x + 30 : x + 30 + width]
    np.testing.assert_array_equal(slide.read(mpp, y, x, height, width, fill=93), expected)


def test_blocks_with_halo_reassemble_a_real_slide():
    with open_slide(SVS) as slide:
        whole = slide.overview(0.5)
        assert whole.shape[:2] == slide.grid_shape(0.5) == (2962, 2216)
        for y in range(0, 2962, 700):
            for x in range(0, 2216, 900):
                block = slide.read(0.5, y - 64, x - 64, 828, 1028)
                core = block[64:-64, 64:-64][: 2962 - y, : 2216 - x]
                np.testing.assert_array_equal(core, whole[y : y + 700, x : x + 900])
        assert (slide.read(0.5, -64, -64, 64, 64) == 255).all()


def test_two_scanners_of_one_tissue_agree(tmp_path):
    fine = noise(480, 640)
    coarse = fine.reshape(240, 2, 320, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    with (
        open_slide(write(tmp_path / "40x.tif", fine, mpp=0.25)) as forty,
        open_slide(write(tmp_path / "20x.tif", coarse, mpp=0.5)) as twenty,
    ):
        for mpp in (0.5, 1.0, 2.0, 4.5):
            difference = forty.overview(mpp).astype(int) - twenty.overview(mpp)
            assert np.abs(difference).max() <= 1


def test_scale_too_fine_for_the_slide(tmp_path):
    with open_slide(write(tmp_path / "a.tif", noise(64, 64), mpp=1.0)) as slide:
        assert slide.read(0.51, 0, 0, 5, 5).shape == (5, 5, 3)
        with pytest.raises(SlideError, match=r"1 um/px is too coarse to be read at 0\.49 um/px"):
            slide.read(0.49, 0, 0, 5, 5)
        for mpp in (0.0, -1.0, math.nan, math.inf):
            with pytest.raises(SlideError, match="cannot be read at"):
                slide.grid_shape(mpp)


@pytest.mark.parametrize("stored", [{"tile": (256, 256)}, {"rowsperstrip": 8}])
def test_one_level_is_read_block_by_block_and_each_tile_about_once(tmp_path, monkeypatch, stored):
    image = np.tile(noise(256, 256), (6, 8, 1))
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image, photometric="rgb", metadata=None, compression="zlib", **stored)
    monkeypatch.setattr("histoquant.slides.reading._BLOCK_SOURCE_PX", 600**2)
    sizes, decoded = [], []
    region, decode = TiffSource.region, TiffSource._decode

    def spy_region(self, *args):
        pixels = region(self, *args)
        sizes.append(pixels.nbytes)
        return pixels

    def spy_decode(self, *args):
        tile = decode(self, *args)
        decoded.append(tile.nbytes)
        return tile

    monkeypatch.setattr(TiffSource, "region", spy_region)
    monkeypatch.setattr(TiffSource, "_decode", spy_decode)
    with open_slide(path, mpp=0.25) as slide:
        overview = slide.overview(4.0)
    tile_mean = image[:256, :256].reshape(16, 16, 16, 16, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(overview, np.tile(np.floor(tile_mean + 0.5), (6, 8, 1)))
    assert max(sizes) <= 3 * 800**2
    assert sum(decoded) == image.nbytes


@pytest.mark.parametrize(
    ("base", "level", "factor"),
    [
        ((2967, 2220), (1483, 1110), (2, 2)),
        ((3567, 4443), (1783, 2221), (2, 2)),
        ((32914, 46000), (8228, 11500), (4, 4)),
        ((32914, 46000), (2057, 2875), (16, 16)),
        ((250, 300), (31, 37), (8, 8)),
        ((960, 1200), (320, 400), (3, 3)),
        ((1000, 500), (401, 201), (1000 / 401, 500 / 201)),
        ((2967, 2220), (768, 900), None),
        ((463, 387), (431, 1280), None),
        ((100, 100), (0, 0), None),
    ],
)
def test_nominal_downsample(base, level, factor):
    assert downsample(base, level) == factor
