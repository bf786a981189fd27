"""Damage in slides that OpenSlide reads: named, or marked missing, and never spread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from openslide import OpenSlideError

from histoquant.errors import SlideError
from histoquant.slides import open_slide
from histoquant.slides.openslide_source import OpenSlideSource
from slide_writers import TILE, texture, write_mrxs, write_philips, write_scn
from test_slides_openslide import odd_pyramid

SIDE, FRAME = 8 * TILE, 1024
CORNER = 256
SQUARE = 256  # what is read at a time where a format does not tell its tiles


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """A slide with two tiles, in different blocks of a read, that cannot be decoded."""
    monkeypatch.setattr("histoquant.slides.openslide_facts._BLOCK_PX", 2 * SQUARE)
    parts = [(CORNER, CORNER, texture(SIDE, SIDE))]
    written = write_scn(tmp_path / "a.scn", parts, (FRAME, FRAME))
    with tifffile.TiffFile(written.path) as tiff:
        spots = [tiff.pages[1].dataoffsets[k] for k in (1 * 8 + 1, 6 * 8 + 5)]
    data = bytearray(written.path.read_bytes())
    for spot in spots:
        data[spot : spot + 40] = b"\x5a" * 40
    written.path.write_bytes(data)
    for row, column in ((1, 1), (2, 2)):
        top, left = row * SQUARE, column * SQUARE
        written.truth[top : top + SQUARE, left : left + SQUARE] = np.nan
    return written


WHERE = r"a\.scn: level 0, tile row 1, column 1 \(256 x 256 px each\): .*is damaged"


def test_corrupt_tile_is_named_and_the_others_are_read(broken):
    with open_slide(broken.path) as slide:
        for _ in range(2):  # an error of OpenSlide's lasts; ours must not
            with pytest.raises(SlideError, match=WHERE):
                slide.region(0, 0, FRAME, FRAME)
            rest = slice(CORNER, 2 * CORNER), slice(2 * CORNER, 3 * CORNER)
            good = slide.region(CORNER, 2 * CORNER, CORNER, CORNER)
            np.testing.assert_array_equal(good, broken.truth[rest])
        assert slide.damaged_tiles == 0
        assert slide.info()["missing_percent"] is None


def test_corrupt_tiles_can_be_missing_instead(broken):
    expected = np.where(np.isnan(broken.truth), 3, broken.truth)
    with open_slide(broken.path, on_damage="missing") as slide:
        for _ in range(2):
            np.testing.assert_array_equal(slide.region(0, 0, FRAME, FRAME, fill=3), expected)
            assert slide.damaged_tiles == 2
            slide.close()  # what was found stays known
        np.testing.assert_array_equal(slide.known(slide.mpp), ~broken.gaps)
        assert slide.missing_percent == pytest.approx(100 * broken.gaps.mean())
        assert slide.info()["damaged_tiles"] == len(set(slide.damaged_boxes())) == 2


def test_damage_met_by_one_thread_is_not_another_ones(broken):
    expected = np.where(np.isnan(broken.truth), 3, broken.truth)
    windows = [(y, x) for y in range(0, 960, 64) for x in range(0, 960, 64)]
    source = OpenSlideSource(broken.path, on_damage="missing")

    def is_right(corner):
        y, x = corner
        if (y + x) % 192 == 0:
            source.close()  # in the middle of the other threads' reads
        return np.array_equal(source.region(0, y, x, 64, 64, 3), expected[y : y + 64, x : x + 64])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(is_right, windows))
    assert len(source.damaged_boxes()) == 2
    source.close()


@pytest.fixture
def break_shared_handles(monkeypatch):
    """The worst that other threads can do: each read through the shared handle fails."""
    pixels = OpenSlideSource._pixels

    def latched(self, handle, level, box):
        if handle is self._handle:
            raise OpenSlideError("the error of another thread")
        return pixels(self, handle, level, box)

    return lambda: monkeypatch.setattr(OpenSlideSource, "_pixels", latched)


def test_a_handle_that_others_keep_breaking_breaks_nothing(broken, break_shared_handles):
    break_shared_handles()
    source = OpenSlideSource(broken.path, on_damage="missing")
    expected = np.where(np.isnan(broken.truth), 3, broken.truth)
    np.testing.assert_array_equal(source.region(0, 0, 0, FRAME, FRAME, 3), expected)
    assert len(source.damaged_boxes()) == 2
    source.close()


def test_nor_does_it_change_a_pixel_that_lies_between_pixels(tmp_path, break_shared_handles):
    path = odd_pyramid(tmp_path / "a.tif")
    source = OpenSlideSource(path)
    window = (1, 0, 0, *source.levels[1].shape, 0)
    expected = source.region(*window)
    source.close()
    break_shared_handles()
    source = OpenSlideSource(path)
    np.testing.assert_array_equal(source.region(*window), expected)
    source.close()


def test_tiles_that_the_format_tells_are_named_as_such(tmp_path):
    written = write_philips(tmp_path / "a.tiff", texture(300, 400))
    with tifffile.TiffFile(written.path) as tiff:
        spot = tiff.pages[0].dataoffsets[2 * 7 + 3]
    data = bytearray(written.path.read_bytes())
    data[spot : spot + 40] = b"\x5a" * 40
    written.path.write_bytes(data)
    source = OpenSlideSource(written.path)
    with pytest.raises(SlideError, match=r"level 0, tile row 2, column 3 \(64 x 64 px each\)"):
        source.region(0, 0, 0, 300, 400, 0)
    source.close()
    source = OpenSlideSource(written.path, on_damage="missing")
    source.region(0, 0, 0, 300, 400, 0)
    assert source.damaged_boxes() == [(128, 192, 64, 64)]
    source.close()


def test_images_lost_in_the_data_file_of_an_mrxs(tmp_path):
    images = {(r, c): texture(48, 64, 10 * r + c) for r in range(4) for c in range(4)}
    written = write_mrxs(tmp_path / "a.mrxs", images, (4, 4))
    data = written.path.with_suffix("") / "Data0000.dat"
    bytes_ = bytearray(data.read_bytes())
    bytes_[20000:60000] = bytes(40000)
    data.write_bytes(bytes_)
    with open_slide(written.path) as slide, pytest.raises(SlideError, match="level 0, tile row"):
        slide.region(0, 0, 192, 256)
    with open_slide(written.path, on_damage="missing") as slide:
        pixels = slide.region(0, 0, 192, 256, fill=0)
        assert 0 < slide.damaged_tiles < 16
        read = (pixels != 0).any(axis=-1)
        assert 0.1 < read.mean() < 0.9
        np.testing.assert_array_equal(pixels[read], written.truth[read])


def test_slide_that_vanishes(broken):
    slide = open_slide(broken.path)
    slide.close()
    broken.path.unlink()
    with slide, pytest.raises(SlideError, match=r"a\.scn: no format that OpenSlide knows"):
        slide.region(0, 0, 10, 10)


def test_damaged_associated_image_is_an_error_and_nothing_else(tmp_path):
    written = write_scn(tmp_path / "a.scn", [(0, 0, texture(100, 100))], (200, 200))
    with tifffile.TiffFile(written.path) as tiff:
        spot = tiff.pages[0].dataoffsets[0]
    data = bytearray(written.path.read_bytes())
    data[spot : spot + 40] = b"\x5a" * 40
    written.path.write_bytes(data)
    with open_slide(written.path) as slide:
        with pytest.raises(SlideError, match="its macro image cannot be decoded"):
            slide.associated("macro")
        np.testing.assert_array_equal(slide.region(0, 0, 100, 100), texture(100, 100))
