"""TIFF slides of every vendor and make, written here, against known pixels and second readers."""

from __future__ import annotations

import pickle

import numpy as np
import openslide
import pytest
import tifffile

from histoquant.errors import SlideError
from histoquant.slides import open_slide
from tiff_writers import (
    halved,
    picture,
    write_ndpi,
    write_ome,
    write_philips,
    write_pyramid,
    write_svs,
)

IMAGE = picture(512, 640)
GIB = 2**30


def by_openslide(path, level=0):
    with openslide.OpenSlide(path) as slide:
        return np.array(slide.read_region((0, 0), level, slide.level_dimensions[level]))[..., :3]


def whole(slide, level=0):
    return slide.region(0, 0, *slide.levels[level].shape, level)


@pytest.mark.parametrize("compression", ["jpeg", 33005], ids=["JPEG", "JPEG 2000"])
def test_aperio(tmp_path, compression):
    quality = {"mct": False, "level": 60} if compression == 33005 else None
    path = write_svs(tmp_path / "a.svs", IMAGE, 0.2525, compression, quality)
    with open_slide(path) as slide:
        assert (slide.format, slide.mpp) == ("Aperio SVS", 0.2525)
        assert [level.downsample for level in slide.levels] == [(1, 1), (4, 4)]
        for level in range(2):
            np.testing.assert_array_equal(whole(slide, level), by_openslide(path, level))
        assert np.abs(whole(slide).astype(int) - IMAGE).max() < 16
        # The edge tiles hang over by 208 rows and 80 columns.
        np.testing.assert_array_equal(slide.region(500, 630, 12, 10), whole(slide)[500:, 630:])


def test_aperio_label_macro_and_thumbnail_by_name(tmp_path):
    path = write_svs(tmp_path / "a.svs", IMAGE)
    with open_slide(path) as slide, openslide.OpenSlide(path) as other:
        assert slide.info()["associated_images"] == ["thumbnail", "label", "macro"]
        np.testing.assert_array_equal(slide.associated("label"), picture(90, 80, seed=8))
        for name in ("thumbnail", "label", "macro"):
            expected = np.array(other.associated_images[name])[..., :3]
            np.testing.assert_array_equal(slide.associated(name), expected)
        with pytest.raises(SlideError, match="'map'; there are: thumbnail, label, macro"):
            slide.associated("map")


def test_damaged_label_does_not_refuse_the_slide(tmp_path):
    path = write_svs(tmp_path / "a.svs", IMAGE)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[3].tags["ImageWidth"].overwrite(2**31 - 1)
    with open_slide(path) as slide:
        assert slide.region(0, 0, 5, 5).shape == (5, 5, 3)
        assert slide.associated("macro").shape == (60, 150, 3)
        with pytest.raises(SlideError, match=r"label claims 90 x 2147483647 px"):
            slide.associated("label")


@pytest.mark.parametrize("start", [16, 4 * GIB - 30_000, 5 * GIB + 12])
def test_ndpi_also_beyond_4_gib(tmp_path, start):
    """The second case has tiles on both sides of 4 GiB, in one JPEG."""
    path = write_ndpi(tmp_path / "a.ndpi", IMAGE, mpp=0.23, start=start)
    with open_slide(path) as slide:
        assert slide.format == "Hamamatsu NDPI"
        assert slide.mpp == pytest.approx(0.23, rel=1e-4)
        assert [level.shape for level in slide.levels] == [(512, 640), (256, 320)]
        assert slide.levels[0].tile == (8, 64)
        for level in range(2):
            np.testing.assert_array_equal(whole(slide, level), by_openslide(path, level))
        assert np.abs(whole(slide).astype(int) - IMAGE).max() < 12
        assert slide.info()["associated_images"] == ["macro"]
        assert slide.associated("macro").shape == (60, 152, 3)


def test_ndpi_fluorescence_of_one_stain_is_colour_with_two_dark_channels(tmp_path):
    """Hamamatsu stores DAPI as RGB whose blue alone carries the picture."""
    stain = np.zeros_like(IMAGE)
    stain[..., 2] = IMAGE[..., 2]
    path = write_ndpi(tmp_path / "a.ndpi", stain)
    with open_slide(path) as slide:
        assert slide.channels == ("red", "green", "blue")
        np.testing.assert_array_equal(whole(slide), by_openslide(path))
        assert whole(slide)[..., :2].max() < 40
        assert np.corrcoef(whole(slide)[..., 2].ravel(), stain[..., 2].ravel())[0, 1] > 0.99


@pytest.mark.parametrize("shape", [(512, 640), (500, 700)], ids=["whole tiles", "padded"])
def test_philips(tmp_path, shape):
    path = write_philips(tmp_path / "a.tiff", picture(*shape), 0.2438)
    base = tuple(-(-side // 128) * 128 for side in shape)
    with open_slide(path) as slide, openslide.OpenSlide(path) as other:
        assert slide.format == "Philips TIFF"
        assert slide.mpp == pytest.approx(0.2438)
        assert float(other.properties["openslide.mpp-x"]) == pytest.approx(0.2438)
        assert [level.downsample for level in slide.levels] == [(k, k) for k in (1, 2, 4)]
        assert [level.shape for level in slide.levels] == [
            (base[0] // k, base[1] // k) for k in (1, 2, 4)
        ]
        for level in range(3):
            assert other.level_dimensions[level] == slide.levels[level].shape[::-1]
            np.testing.assert_array_equal(whole(slide, level), by_openslide(path, level))
        assert slide.info()["associated_images"] == ["macro", "label"]
        label = np.array(other.associated_images["label"])[..., :3]
        np.testing.assert_array_equal(slide.associated("label"), label)


def test_philips_leaves_out_tiles_of_glass(tmp_path):
    path = write_philips(tmp_path / "a.tiff", IMAGE)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for name in ("TileOffsets", "TileByteCounts"):
            tag = tiff.pages[0].tags[name]
            tag.overwrite([0 if k == 7 else value for k, value in enumerate(tag.value)])
    with open_slide(path) as slide:
        assert slide.missing_tiles == 1
        assert (slide.region(128, 256, 128, 128) == 255).all()
        assert not slide.known(2.0)[16:32, 32:48].any()
        assert slide.known(2.0).sum() == 64 * 80 - 16 * 16


def test_philips_with_levels_that_the_xml_does_not_tell_of(tmp_path):
    path = write_philips(tmp_path / "a.tiff", IMAGE)
    text = tifffile.tiffcomment(path).replace("DICOM_PIXEL_SPACING", "DICOM_PIXEL_SPACIN_", 2)
    tifffile.tiffcomment(path, text.encode())
    with pytest.raises(SlideError, match="3 levels, but pixel spacings"):
        open_slide(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "deflate", "jpeg2000"])
def test_ome_of_channels(tmp_path, dtype, compression):
    image = picture(300, 410, 4, dtype)
    names = ("DAPI", "p16", "COL7", "AF")
    path = write_ome(
        tmp_path / "a.ome.tif", image, 0.5, names=names, compression=compression, rgb=False
    )
    with open_slide(path) as slide:
        assert (slide.dtype, slide.channels, slide.mpp) == (dtype, names, 0.5)
        assert [level.shape for level in slide.levels] == [(300, 410), (150, 205), (75, 102)]
        np.testing.assert_array_equal(whole(slide), image)
        np.testing.assert_array_equal(whole(slide, 1), halved(image))
        np.testing.assert_array_equal(slide.read(0.5, 20, 30, 40, 50), image[20:60, 30:80])
        mean = slide.read(1.0, 0, 0, 150, 205)
        np.testing.assert_array_equal(mean, halved(image))
        assert (slide.read(0.5, -5, -5, 5, 5) == 0).all()


def test_ome_rgb_of_levels_that_are_not_halves(tmp_path):
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    options = {"tile": (64, 64), "photometric": "rgb"}
    shapes = [(512, 640), (171, 213), (51, 64)]
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(IMAGE, subifds=2, metadata=metadata, **options)
        for height, width in shapes[1:]:
            tiff.write(IMAGE[:height, :width], subfiletype=1, metadata=None, **options)
    with open_slide(path) as slide:
        assert [level.shape for level in slide.levels] == shapes
        assert [level.downsample for level in slide.levels] == [(1, 1), (3, 3), (10, 10)]
        np.testing.assert_array_equal(whole(slide, 2), IMAGE[:51, :64])


def test_ome_of_several_images_takes_the_largest(tmp_path):
    path = tmp_path / "a.ome.tif"
    label = picture(60, 80, seed=3)
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(label, metadata={"axes": "YXS", "Name": "label"}, photometric="rgb")
        physical = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
        tiff.write(IMAGE, metadata={"axes": "YXS", **physical}, photometric="rgb", tile=(64, 64))
        stack = np.moveaxis(picture(70, 90, 2), -1, 0)
        tiff.write(stack, metadata={"axes": "CYX", "Name": "test"}, photometric="minisblack")
    with open_slide(path) as slide:
        assert len(slide.levels) == 1
        np.testing.assert_array_equal(whole(slide), IMAGE)
        assert slide.info()["associated_images"] == ["label", "test"]
        np.testing.assert_array_equal(slide.associated("label"), label)
        with pytest.raises(SlideError, match="test has its channels on 2 pages"):
            slide.associated("test")


@pytest.mark.parametrize(
    "options",
    [
        {"byteorder": ">"},
        {"byteorder": ">", "bigtiff": True, "compression": "lzw", "predictor": True},
        {"bigtiff": True},
        {"planarconfig": "separate", "compression": "deflate"},
        {"tile": None, "rowsperstrip": 7},
        {"tile": None, "rowsperstrip": 7, "planarconfig": "separate", "byteorder": ">"},
        {"compression": "webp", "compressionargs": {"level": 101}},
        {"compression": "jpegxl", "compressionargs": {"lossless": True}},
        {"compression": "png"},
    ],
    ids=lambda options: " ".join(f"{key}={value}" for key, value in options.items())[:50],
)
def test_pyramids_of_every_make(tmp_path, options):
    path = write_pyramid(tmp_path / "a.tif", IMAGE[:500, :601], **options)
    with open_slide(path) as slide, tifffile.TiffFile(path) as tiff:
        assert [level.shape for level in slide.levels] == [(500, 601), (250, 300), (125, 150)]
        for k, page in enumerate(tiff.pages):
            truth = page.asarray()
            if options.get("planarconfig"):
                truth = np.moveaxis(truth, 0, -1)
            np.testing.assert_array_equal(whole(slide, k), truth)
        if "webp" not in options.values():
            np.testing.assert_array_equal(whole(slide), IMAGE[:500, :601])


def test_16_bit_colours_are_read_as_they_are_stored(tmp_path):
    image = picture(200, 220, 3, np.uint16)
    with open_slide(write_pyramid(tmp_path / "a.tif", image, levels=1)) as slide:
        assert not slide.is_colour
        np.testing.assert_array_equal(whole(slide), image)
        np.testing.assert_array_equal(slide.overview(0.5), halved(image))


def test_alpha_in_a_plane_of_its_own_is_left_out(tmp_path):
    image = picture(150, 170, channels=4)
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.moveaxis(image, -1, 0),
        photometric="rgb",
        planarconfig="separate",
        extrasamples=["unassalpha"],
        tile=(64, 64),
        metadata=None,
    )
    with open_slide(tmp_path / "a.tif", mpp=0.25) as slide:
        np.testing.assert_array_equal(whole(slide), image[..., :3])


def test_plain_pages_that_are_no_levels_are_found_by_name(tmp_path):
    path = tmp_path / "a.tif"
    label, other = picture(60, 80, seed=4), picture(33, 90, 1, seed=5)
    with tifffile.TiffWriter(path) as tiff:
        options = {"photometric": "rgb", "metadata": None}
        tiff.write(IMAGE, tile=(64, 64), **options)
        tiff.write(label, description="Label", **options)
        tiff.write(halved(IMAGE), tile=(64, 64), **options)
        tiff.write(other[..., 0], photometric="minisblack", metadata=None)
        tiff.write(label[::-1], description="label again", **options)
    with open_slide(path, mpp=0.25) as slide:
        assert [level.shape for level in slide.levels] == [(512, 640), (256, 320)]
        assert slide.info()["associated_images"] == ["label", "image 3", "label #2"]
        np.testing.assert_array_equal(slide.associated("label"), label)
        np.testing.assert_array_equal(slide.associated("label #2"), label[::-1])
        np.testing.assert_array_equal(slide.associated("image 3"), np.repeat(other, 3, axis=2))


def test_level_that_is_left_out_of_the_pyramid(tmp_path):
    """1, 2, 16: levels 4 and 8 are averaged from 2, and never from 16."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for step in (1, 2, 16):
            small = IMAGE[: 512 // step, : 640 // step]
            tiff.write(small, tile=(64, 64), photometric="rgb", metadata=None)
    with open_slide(path, mpp=0.25) as slide:
        assert [level.downsample[0] for level in slide.levels] == [1, 2, 16]
        np.testing.assert_array_equal(slide.overview(1.0), halved(IMAGE[:256, :320]))
        np.testing.assert_array_equal(slide.overview(4.0), IMAGE[:32, :40])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lazy_pixels_of_channels(tmp_path, dtype):
    path = write_ome(tmp_path / "a.ome.tif", picture(300, 410, 4, dtype), 0.5, rgb=False)
    with open_slide(path) as slide:
        for mpp in (0.5, 0.7, 1.0):
            lazy = slide.pixels(mpp)
            assert (lazy.shape[2], lazy.dtype) == (4, dtype)
            np.testing.assert_array_equal(lazy.compute(scheduler="sync"), slide.overview(mpp))


def test_chunks_follow_the_tiles_and_the_graph_stays_small(tmp_path):
    """A slide of 40,000 px a side, of which only the directory is real: no tile has data."""
    path = tmp_path / "a.tif"
    side, tile = 40_000, 256
    tiles = (-(-side // tile)) ** 2
    empty = (b"" for _ in range(tiles))
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(
            empty,
            shape=(side, side, 3),
            dtype=np.uint8,
            tile=(tile, tile),
            photometric="rgb",
            compression="jpeg",
            metadata=None,
        )
    with open_slide(path, mpp=0.25) as slide:
        assert slide.missing_tiles == tiles
        lazy = slide.pixels(0.25)
        assert all(size % tile == 0 for sizes in lazy.chunks[:2] for size in sizes[:-1])
        assert len(lazy.__dask_graph__()) <= lazy.npartitions + 1 <= 450
        assert len(pickle.dumps(lazy)) < 40_000
        assert (lazy[:20, :20].compute(scheduler="sync") == 255).all()
