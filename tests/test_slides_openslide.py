"""Formats read through OpenSlide: known pixels, what was not scanned, offsets, scale."""

from __future__ import annotations

import json
import pickle
import re
import shutil

import numpy as np
import pytest
import tifffile

from helpers import REAL
from histoquant.errors import ScaleError, SlideError
from histoquant.slides import open_slide
from histoquant.slides.coverage import outside, percent_inside
from histoquant.slides.openslide_gaps import boxes_of
from histoquant.slides.openslide_source import OpenSlideSource
from slide_writers import (
    TILE,
    halved,
    texture,
    write_bif,
    write_mrxs,
    write_philips,
    write_scn,
    write_vms,
)

SCANNED = {(r, c): texture(48, 64, 10 * r + c) for r in range(2, 6) for c in range(3, 8)}


def scn(path, **options):
    parts = [(100, 200, texture(200, 300)), (500, 700, texture(200, 300, 1))]
    return write_scn(path / "a.scn", parts, (900, 1200), **options)


def bif(path, **options):
    return write_bif(path / "a.bif", [(0, 0, 2, 3), (400, 300, 3, 2)], **options)


def philips(path, **options):
    return write_philips(path / "a.tiff", texture(300, 400), empty=[(0, 0), (2, 3)], **options)


def mrxs(path, **options):
    images = {place: image for place, image in SCANNED.items() if place != (3, 4)}
    return write_mrxs(path / "a.mrxs", images, (8, 12), **options)


def vms(path, **options):
    return write_vms(path / "a.vms", **options)


WRITERS = [scn, bif, philips, mrxs, vms]
NAMES = {
    scn: "Leica SCN",
    bif: "Ventana BIF",
    philips: "Philips TIFF",
    mrxs: "3DHISTECH MRXS",
    vms: "Hamamatsu VMS",
}


def covered(boxes, shape):
    mask = np.zeros(shape, np.int64)
    for top, left, height, width in boxes:
        mask[round(top) : round(top + height), round(left) : round(left + width)] += 1
    return mask


@pytest.mark.parametrize("write", WRITERS)
def test_every_pixel_is_the_one_written_and_none_is_invented(tmp_path, write):
    written = write(tmp_path)
    height, width = written.truth.shape[:2]
    with open_slide(written.path) as slide:
        assert slide.format == NAMES[write]
        assert slide.shape == (height, width, 3)
        assert slide.is_colour
        expected = np.where(np.isnan(written.truth), 7, written.truth)
        np.testing.assert_array_equal(slide.region(0, 0, height, width, fill=7), expected)
        np.testing.assert_array_equal(slide.overview(slide.mpp)[~written.gaps],
                                      written.truth[~written.gaps])  # fmt: skip
        assert (slide.overview(slide.mpp)[written.gaps] == 255).all()


@pytest.mark.parametrize("write", WRITERS)
def test_what_was_not_scanned_is_missing_not_black(tmp_path, write):
    written = write(tmp_path)
    with open_slide(written.path) as slide:
        np.testing.assert_array_equal(slide.known(slide.mpp), ~written.gaps)
        boxes = slide._source.missing_boxes()
        assert covered(boxes, written.gaps.shape).max() <= 1
        assert slide.missing_percent == pytest.approx(100 * written.gaps.mean())
        assert slide.info()["missing_percent"] == pytest.approx(slide.missing_percent, abs=1e-3)
        if write is not vms:
            assert slide.missing_percent > 5
        coarse = slide.known(4 * slide.mpp)
        below = np.repeat(np.repeat(coarse, 4, axis=0), 4, axis=1)
        assert not (below[: written.gaps.shape[0], : written.gaps.shape[1]] & written.gaps).any()


def test_gaps_are_found_at_a_coarse_level_where_level_0_is_large(tmp_path, monkeypatch):
    monkeypatch.setattr("histoquant.slides.openslide_source._SCAN_PX", 100 * 200)
    written = mrxs(tmp_path)
    read = []
    pixels = OpenSlideSource._pixels
    monkeypatch.setattr(
        OpenSlideSource,
        "_pixels",
        lambda self, handle, level, box: read.append(level) or pixels(self, handle, level, box),
    )
    with open_slide(written.path) as slide:
        np.testing.assert_array_equal(slide.known(0.25), ~written.gaps)
        assert read.count(2) == 1
        assert 0 < read.count(0) < 60  # only where level 2 is of one dark colour
        slide.overview(1.0)
        slide.known(1.0)
        assert read.count(2) == 1  # what is read once is not read again


@pytest.mark.parametrize("write", WRITERS)
def test_scale_and_its_source_are_the_vendors(tmp_path, write):
    with open_slide(write(tmp_path, um=0.5).path) as slide:
        assert slide.mpp == pytest.approx(0.5, rel=1e-6)
        assert slide.mpp_source.startswith(NAMES[write].split()[0])


@pytest.mark.parametrize("write", [scn, philips, mrxs, vms])
def test_pixels_that_are_not_square_are_refused(tmp_path, write):
    slide = write(tmp_path, um_y=0.251).path
    assert open_slide(slide).mpp == pytest.approx(0.2505, rel=1e-3)
    for other in tmp_path.iterdir():
        shutil.rmtree(other) if other.is_dir() else other.unlink()
    with pytest.raises(ScaleError, match=r"not square: 0\.25 um in x, 0\.3 um in y"):
        open_slide(write(tmp_path, um_y=0.3).path)


@pytest.mark.parametrize("um", [0, -0.25, 25.0])
def test_absurd_scale_of_a_vendor_is_refused(tmp_path, um):
    with pytest.raises(ScaleError, match="0.05-20.0 um/px|does not state its scale"):
        open_slide(bif(tmp_path, um=um).path)


def test_offsets_are_kept_in_the_scanners_frame(tmp_path):
    with open_slide(mrxs(tmp_path).path) as slide:
        assert slide.info()["bounds"] == (96, 192, 192, 320)
        np.testing.assert_array_equal(slide.region(96, 192, 48, 64), SCANNED[2, 3])
        np.testing.assert_array_equal(slide.region(48, 96, 24, 32, level=1), halved(SCANNED[2, 3]))
        np.testing.assert_array_equal(
            slide.region(24, 48, 12, 16, level=2), halved(halved(SCANNED[2, 3]))
        )
        json.dumps(slide.info())


@pytest.mark.parametrize("write", WRITERS)
def test_label_and_macro_are_no_levels_and_come_by_name(tmp_path, write):
    shapes = {
        scn: {"macro": (80, 120, 3)},
        bif: {"macro": (90, 60, 3)},
        philips: {"label": (40, 30, 3)},
        mrxs: {"label": (30, 20, 3), "macro": (50, 70, 3)},
        vms: {"macro": (30, 60, 3)},
    }[write]
    source = OpenSlideSource(write(tmp_path).path)
    assert source.associated == tuple(sorted(shapes))
    assert {name: source.associated_image(name).shape for name in shapes} == shapes
    assert source.associated_image(min(shapes)).dtype == np.uint8
    assert not {level.shape for level in source.levels} & {s[:2] for s in shapes.values()}
    names = ", ".join(sorted(shapes))
    with pytest.raises(SlideError, match=f"no associated image 'portrait'; there are: {names}"):
        source.associated_image("portrait")
    source.close()


def test_associated_image_is_the_one_written(tmp_path):
    with open_slide(scn(tmp_path).path) as slide:
        assert slide.info()["associated_images"] == ["macro"]
        np.testing.assert_array_equal(slide.associated("macro"), texture(80, 120, seed=99))


# A pyramid whose levels OpenSlide places between pixels, and tiles that lie between them.
def odd_pyramid(path):
    image = texture(701, 907)
    with tifffile.TiffWriter(path) as tiff:
        for k in range(3):
            options = {"resolution": (4e4 / 2**k,) * 2, "resolutionunit": "CENTIMETER"}
            tiff.write(image, tile=(TILE, TILE), photometric="rgb", metadata=None,
                       subfiletype=int(k > 0), **options)  # fmt: skip
            image = halved(image)
    return path


def overlapping_mrxs(path):
    return write_mrxs(path, SCANNED, (8, 12), overlap=(6, 10)).path


@pytest.mark.parametrize(("write", "name"), [(odd_pyramid, "a.tif"), (overlapping_mrxs, "a.mrxs")])
def test_no_pixel_depends_on_the_window_it_is_read_in(tmp_path, monkeypatch, write, name):
    monkeypatch.setattr("histoquant.slides.openslide_facts._BLOCK_PX", 100)
    path = write(tmp_path / name)
    rng = np.random.default_rng(2)
    for level in range(3):
        source = OpenSlideSource(path)
        height, width = source.levels[level].shape
        whole = source.region(level, 0, 0, height, width, 9)
        assert len(np.unique(whole)) > 50
        for _ in range(25):
            y, x = int(rng.integers(height - 5)), int(rng.integers(width - 5))
            h, w = int(rng.integers(1, height - y)), int(rng.integers(1, width - x))
            fresh = OpenSlideSource(path)
            np.testing.assert_array_equal(
                fresh.region(level, y, x, h, w, 9), whole[y : y + h, x : x + w]
            )
            fresh.close()
        source.close()


def test_levels_keep_the_whole_number_they_were_halved_by(tmp_path):
    source = OpenSlideSource(odd_pyramid(tmp_path / "a.tif"))
    assert [level.downsample for level in source.levels] == [(1, 1), (2, 2), (4, 4)]
    source.close()


def test_two_readers_give_the_same_pixels(tmp_path):
    """Our TIFF reader and OpenSlide, on a pyramid written here and on a real scan."""
    path = odd_pyramid(tmp_path / "a.tif")
    for file in (path, REAL / "CMU-1-Small-Region.svs"):
        other = OpenSlideSource(file)
        with open_slide(file) as slide:
            assert slide.mpp == pytest.approx(other.claims[0].x_um, rel=1e-6)
            window = (0, 0, *slide.levels[0].shape)
            ours, theirs = slide.region(*window), other.region(0, *window, 255)
        np.testing.assert_array_equal(ours, theirs)
        other.close()


def test_two_readers_agree_on_a_sparse_philips_slide(tmp_path):
    written = philips(tmp_path)
    other = OpenSlideSource(written.path)
    with open_slide(written.path) as slide:
        assert [level.shape for level in slide.levels] == [level.shape for level in other.levels]
        for k, level in enumerate(slide.levels):
            window = (0, 0, *level.shape)
            np.testing.assert_array_equal(
                slide.region(*window, level=k, fill=7), other.region(k, *window, 7)
            )
        assert slide.mpp == pytest.approx(other.claims[0].x_um)
        known = covered(other.missing_boxes(), written.gaps.shape) == 0
        np.testing.assert_array_equal(slide.known(slide.mpp), known)
    other.close()


def test_real_scan_through_openslide_knows_itself():
    source = OpenSlideSource(REAL / "CMU-1-Small-Region.svs")
    assert (source.format, source.associated) == ("Aperio SVS", ("label", "macro", "thumbnail"))
    with open_slide(REAL / "CMU-1-Small-Region.svs") as slide:
        for name in source.associated:
            np.testing.assert_array_equal(source.associated_image(name), slide.associated(name))
    assert source.missing_boxes() == []
    source.close()


def test_icc_profile_is_noted(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / "a.tif"
    options = {"tile": (64, 64), "photometric": "rgb", "metadata": None}
    tifffile.imwrite(path, texture(100, 100), iccprofile=profile, **options)
    with_profile = OpenSlideSource(path)
    tifffile.imwrite(path, texture(100, 100), **options)
    without = OpenSlideSource(path)
    assert (with_profile.has_icc_profile, without.has_icc_profile) == (True, False)
    for source in (with_profile, without):
        source.close()


@pytest.mark.parametrize("write", [scn, bif, philips])
def test_vendor_is_known_by_content_not_by_name(tmp_path, write):
    written = write(tmp_path)
    renamed = tmp_path / "biopsy.svs"
    written.path.rename(renamed)
    with open_slide(renamed) as slide:
        assert slide.format == NAMES[write]


def test_mrxs_whose_folder_is_gone_is_not_read_as_its_preview(tmp_path):
    written = mrxs(tmp_path)
    with pytest.raises(SlideError, match=r"directory with the pixels .* \(a\.mrxs\)"):
        open_slide(written.path.with_suffix(""), mpp=0.25)
    written.path.with_suffix("").rename(tmp_path / "elsewhere")
    with pytest.raises(SlideError, match=r"a\.mrxs: the folder .* not beside it .*a/Slidedat.ini"):
        open_slide(written.path, mpp=0.25)


@pytest.mark.parametrize(
    ("write", "options", "reason"),
    [
        (bif, {"direction": "LEFT"}, 'Bad direction attribute "LEFT"'),
        (scn, {"illumination": "fluorescence"}, "Can't find main image"),
    ],
)
def test_what_no_reader_reads_says_what_each_had_against_it(tmp_path, write, options, reason):
    path = write(tmp_path, **options).path
    with pytest.raises(SlideError) as error:
        open_slide(path)
    pattern = rf"(?s){re.escape(str(path))}: found a TIFF file.*\[tifffile\].*\[OpenSlide\].*"
    assert re.match(pattern + re.escape(reason), str(error.value))


@pytest.mark.parametrize("write", WRITERS)
def test_pickles_as_its_path(tmp_path, write):
    with open_slide(write(tmp_path).path) as slide:
        slide.region(0, 0, 10, 10)
        pickled = pickle.dumps(slide)
        assert len(pickled) < 500
        with pickle.loads(pickled) as copy:
            np.testing.assert_array_equal(copy.overview(1.0), slide.overview(1.0))


def test_boxes_cover_the_mask_and_nothing_else():
    rng = np.random.default_rng(4)
    for _ in range(30):
        mask = rng.random((int(rng.integers(1, 40)), int(rng.integers(1, 40)))) < rng.random()
        count = np.zeros(mask.shape, int)
        for top, left, height, width in boxes_of(mask, 5, 7):
            count[top - 5 : top - 5 + height, left - 7 : left - 7 + width] += 1
        np.testing.assert_array_equal(count, mask)


def test_boxes_of_a_ragged_mask_are_bounded_and_cover_it():
    mask = np.random.default_rng(5).random((300, 300)) < 0.5
    boxes = boxes_of(mask, 0, 0)
    assert 0 < len(boxes) <= 4096
    assert covered(boxes, mask.shape)[mask].all()


def biopsy(height, width, seed):
    """Pale glass with noise and a purple round section of 0.4 of its height."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    inside = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (0.4 * height) ** 2
    colours = np.where(inside[..., None], [150, 90, 160], [236, 234, 238])
    noisy = np.clip(colours + rng.normal(0, 3, (height, width, 3)), 0, 252)
    return noisy.astype(np.uint8), inside


def test_what_was_not_scanned_is_no_tissue(tmp_path):
    """Unscanned images lie inside the section, and a coarser level shows them black."""
    from histoquant.settings import Settings
    from histoquant.staining import survey_slide

    picture, inside = biopsy(480, 640, 3)
    images = {
        (r, c): picture[r * 48 :][:48, c * 64 :][:, :64] for r in range(10) for c in range(10)
    }
    for place in ((4, 4), (4, 5), (5, 6)):
        del images[place]
    written = write_mrxs(tmp_path / "a.mrxs", images, (12, 12), um=4.0, levels=2)
    inside = np.pad(inside, ((0, 96), (0, 128))) & ~written.gaps
    with open_slide(written.path) as slide:
        survey = survey_slide(slide, Settings())
        rows, columns = (np.arange(n) * 2 + 1 for n in survey.tissue.shape)
        truth = inside[np.ix_(rows, columns)]
        assert not (survey.tissue & written.gaps[np.ix_(rows, columns)]).any()
        assert (survey.tissue == truth).mean() > 0.98
        assert np.abs(np.array(survey.white.values) - [236, 234, 238]).max() < 3


def test_a_pixel_that_a_gap_touches_is_not_known():
    boxes = [(7.0, 10.0, 5.0, 3.0), (90.0, 90.0, 20.0, 20.0), (50.5, 0.0, 0.25, 8.0)]
    expected = np.ones((25, 25), bool)
    expected[1:3, 2:4] = False  # rows 7-12 and columns 10-13 of pixels of 4
    expected[22:, 22:] = False
    expected[12:13, :2] = False
    np.testing.assert_array_equal(outside(boxes, (25, 25), 0.25), expected)


def test_part_inside_boxes_counts_overlaps_once_and_what_is_beyond_not_at_all():
    boxes = [(0.0, 0.0, 50.0, 100.0), (25.0, 0.0, 50.0, 50.0), (90.0, 150.0, 100.0, 100.0)]
    share = 0.5 * 0.5 + 0.25 * 0.25 + 0.1 * 0.25
    assert percent_inside(boxes, (100, 200)) == pytest.approx(100 * share)
    large = [tuple(300 * side for side in box) for box in boxes]
    assert percent_inside(large, (30000, 60000)) == pytest.approx(100 * share, abs=0.1)
