"""Slides against files with known pixels and scale, and against tifffile on real ones."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import numpy as np
import psutil
import pytest
import tifffile

from histoquant.errors import ScaleError, SlideError
from histoquant.slides import Slide, open_slide
from histoquant.slides.files import TileCache
from histoquant.slides.handles import Handle
from histoquant.slides.tiff import TiffSource

REAL = Path(__file__).parent.parent / "sample_slides" / "real"
SVS = REAL / "CMU-1-Small-Region.svs"
NDPI = REAL / "skin-if-DAPI.ndpi"
OME = REAL / "OS-2-ndpi.ome.tif"


def picture(height, width, channels=3, dtype=np.uint8, seed=0):
    """Noise on a gradient: every pixel differs from its neighbours, no axis is symmetric."""
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    ramp = np.linspace(0, 0.6, height)[:, None, None] + np.linspace(0, 0.2, width)[None, :, None]
    noise = rng.random((height, width, channels)) * 0.2
    return np.squeeze(((ramp + noise) * top).astype(dtype))


def halved(image):
    height, width = (side // 2 * 2 for side in image.shape[:2])
    cropped = image[:height, :width].astype(np.uint32)
    total = cropped[::2, ::2] + cropped[1::2, ::2] + cropped[::2, 1::2] + cropped[1::2, 1::2]
    return ((total + 2) // 4).astype(image.dtype)


def write_ome(path, image, mpp=0.25, levels=1, mpp_y=None, unit="µm", **options):
    options = {"tile": (128, 128), "photometric": "rgb", **options}
    metadata = {"axes": "YXS" if image.ndim == 3 else "YX"}
    if mpp is not None:
        metadata |= {"PhysicalSizeX": mpp, "PhysicalSizeXUnit": unit}
        metadata |= {"PhysicalSizeY": mpp_y or mpp, "PhysicalSizeYUnit": unit}
    with tifffile.TiffWriter(path, ome=True, byteorder=options.pop("byteorder", None)) as tiff:
        tiff.write(image, subifds=levels - 1, metadata=metadata, **options)
        for _ in range(levels - 1):
            image = halved(image)
            tiff.write(image, subfiletype=1, metadata=None, **options)
    return path


def write_tiff(path, image, per_cm=40000.0, unit=3, **options):
    options = {"photometric": "rgb", "metadata": None, **options}
    tifffile.imwrite(path, image, resolution=(per_cm, per_cm), resolutionunit=unit, **options)
    return path


def write_aperio(path, image, description="Aperio Image Library v12\r\n|MPP = 0.2500|AppMag = 40"):
    """Write an SVS as scanners do: scan, striped thumbnail, level, label and macro."""
    options = {"photometric": "rgb", "metadata": None, "compression": "deflate"}
    quarter = halved(halved(image))
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(image, tile=(240, 240), description=description, **options)
        tiff.write(halved(image), rowsperstrip=16, **options)
        tiff.write(quarter, tile=(240, 240), description=description.split("|")[0], **options)
        for name, kind in (("label", 1), ("macro", 9)):
            text = f"Aperio Image Library v12\n{name} 30x40"
            tiff.write(picture(40, 30), subfiletype=kind, description=text, **options)
    return path


# One row per way of storing the same picture; each reads as tifffile reads it.
STORED = {
    "tiled": {"tile": (128, 128)},
    "tiles that are not square": {"tile": (64, 256)},
    "striped": {"rowsperstrip": 16},
    "one strip": {"rowsperstrip": 500},
    "big endian": {"tile": (128, 128), "byteorder": ">"},
    "big endian strips, predictor": {"byteorder": ">", "compression": "lzw", "predictor": True},
    "planar": {"tile": (128, 128), "planarconfig": "separate"},
    "planar strips": {"rowsperstrip": 16, "planarconfig": "separate"},
    "BigTIFF": {"tile": (128, 128), "bigtiff": True},
    "JPEG with YCbCr": {"tile": (128, 128), "compression": "jpeg"},
    "JPEG with RGB": {
        "tile": (128, 128),
        "compression": "jpeg",
        "compressionargs": {"outcolorspace": "rgb"},
    },
    "JPEG 2000": {"tile": (128, 128), "compression": "jpeg2000"},
    "LZW": {"tile": (128, 128), "compression": "lzw"},
    "deflate, predictor": {"tile": (128, 128), "compression": "deflate", "predictor": True},
    "zstd": {"tile": (128, 128), "compression": "zstd"},
}


@pytest.mark.parametrize("how", STORED)
def test_every_way_of_storing_reads_as_tifffile_reads_it(tmp_path, how):
    image = picture(391, 517)
    options = dict(STORED[how])
    planar = "planarconfig" in options
    stored = np.moveaxis(image, -1, 0) if planar else image
    path = write_tiff(tmp_path / "a.tif", stored, **options)
    truth = tifffile.imread(path)
    truth = np.moveaxis(truth, 0, -1) if planar else truth
    with open_slide(path) as slide:
        assert slide.shape == (391, 517, 3)
        np.testing.assert_array_equal(slide.region(0, 0, 391, 517), truth)
        np.testing.assert_array_equal(slide.region(100, 250, 201, 267), truth[100:301, 250:517])
        assert slide.region(0, 0, 0, 5).shape == (0, 5, 3)
        assert slide.mpp == pytest.approx(0.25)
        assert slide.mpp_source == "TIFF resolution"


def test_alpha_is_dropped_where_anything_is_seen(tmp_path):
    image = picture(150, 170, channels=4)
    shown = np.where(image[..., 3:] == 0, 255, image[..., :3])
    assert (image[..., 3] == 0).any()
    path = write_tiff(tmp_path / "a.tif", image, tile=(64, 64), extrasamples=["unassalpha"])
    with open_slide(path) as slide:
        assert slide.channels == ("red", "green", "blue")
        np.testing.assert_array_equal(slide.region(0, 0, 150, 170), shown)


def test_grey_with_alpha_is_grey(tmp_path):
    image = picture(150, 170, channels=2)
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    path = write_tiff(tmp_path / "a.tif", image, extrasamples=["unassalpha"], **options)
    with open_slide(path) as slide:
        assert slide.channels == ("grey",)
        np.testing.assert_array_equal(slide.overview(0.25)[..., 1], image[..., 0])


def test_grey_is_repeated_in_colours(tmp_path):
    image = picture(150, 170, channels=1)
    path = write_tiff(tmp_path / "a.tif", image, tile=(64, 64), photometric="minisblack")
    with open_slide(path) as slide:
        assert slide.shape == (150, 170, 1)
        np.testing.assert_array_equal(slide.region(0, 0, 150, 170)[..., 0], image)
        np.testing.assert_array_equal(slide.read(0.25, 0, 0, 150, 170)[..., 2], image)
        np.testing.assert_array_equal(slide.overview(0.5)[..., 1], halved(image))


def test_channels_on_pages_keep_their_type_and_names(tmp_path):
    image = np.stack([picture(150, 170, 1, np.uint16, seed) for seed in range(3)])
    path = tmp_path / "a.ome.tif"
    metadata = {
        "axes": "CYX",
        "Channel": {"Name": ["DAPI", "p16", "COL7"]},
        "PhysicalSizeX": 0.5,
        "PhysicalSizeY": 0.5,
    }
    with tifffile.TiffWriter(path, ome=True) as tiff:
        options = {"tile": (64, 64), "photometric": "minisblack"}
        tiff.write(image, subifds=1, metadata=metadata, **options)
        tiff.write(image[:, ::2, ::2], subfiletype=1, metadata=None, **options)
    with open_slide(path) as slide:
        assert slide.channels == ("DAPI", "p16", "COL7")
        assert [level.shape for level in slide.levels] == [(150, 170), (75, 85)]
        np.testing.assert_array_equal(slide.region(0, 0, 150, 170), np.moveaxis(image, 0, -1))
        np.testing.assert_array_equal(
            slide.region(0, 0, 75, 85, 1), np.moveaxis(image[:, ::2, ::2], 0, -1)
        )
        assert not slide.is_colour


# One row per kind of pixels that are not 8-bit colours: type, channels as stored, how.
MEASURED = {
    "16-bit channels": (np.uint16, 3, {"photometric": "minisblack", "planarconfig": "separate"}),
    "8-bit channels": (np.uint8, 4, {"photometric": "minisblack", "planarconfig": "separate"}),
    "16-bit grey": (np.uint16, 1, {"photometric": "minisblack"}),
    "16-bit colours": (np.uint16, 3, {"photometric": "rgb", "planarconfig": "contig"}),
}


@pytest.mark.parametrize("how", MEASURED)
def test_what_is_no_colour_reads_in_its_own_type_and_channels(tmp_path, how):
    dtype, channels, options = MEASURED[how]
    image = picture(391, 517, channels, dtype).reshape(391, 517, channels)
    stored = image if "contig" in options.values() else np.moveaxis(image, -1, 0)
    path = write_tiff(tmp_path / "a.tif", np.squeeze(stored), tile=(128, 128), **options)
    with open_slide(path) as slide:
        assert not slide.is_colour
        native, half = slide.overview(0.25), slide.overview(0.5)
        assert (native.dtype, native.shape) == (dtype, (391, 517, channels))
        np.testing.assert_array_equal(native, image)
        np.testing.assert_array_equal(half[:195, :258], halved(image))
        np.testing.assert_array_equal(slide.read(0.5, 40, 50, 60, 70), half[40:100, 50:120])
        lazy = slide.pixels(0.5)
        assert (lazy.dtype, lazy.shape) == (dtype, half.shape)
        np.testing.assert_array_equal(lazy.compute(), half)
        beyond = slide.read(0.25, -5, -5, 10, 10)
        assert (beyond[:5] == 0).all()  # dark, not white: there is no glass in these
        np.testing.assert_array_equal(beyond[5:, 5:], image[:5, :5])


def test_grey_of_8_bits_still_stands_for_colours(tmp_path):
    image = picture(150, 170, channels=1)
    path = write_tiff(tmp_path / "a.tif", image, tile=(64, 64), photometric="minisblack")
    with open_slide(path) as slide:
        assert slide.is_colour
        assert slide.pixels(0.5).shape == (75, 85, 3)


@pytest.mark.parametrize("path", [SVS, NDPI, OME], ids=lambda path: path.name)
def test_real_slides_equal_tifffile_pixel_by_pixel(path):
    with tifffile.TiffFile(path) as tiff, open_slide(path) as slide:
        series = tiff.series[0]
        assert [level.shape for level in slide.levels] == [p.shape[:2] for p in series.levels]
        for k, page in enumerate(series.levels):
            whole = slide.region(0, 0, *slide.levels[k].shape, level=k)
            np.testing.assert_array_equal(whole, page.asarray())


@pytest.mark.parametrize(
    ("path", "name", "mpp", "source", "associated"),
    [
        (SVS, "Aperio SVS", 0.499, "Aperio MPP tag", ["thumbnail", "label", "macro"]),
        (NDPI, "Hamamatsu NDPI", 1e4 / 43826, "Hamamatsu resolution tags", ["macro", "map"]),
        (OME, "OME-TIFF", 0.2270998, "OME PhysicalSize", []),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_real_slides_know_themselves(path, name, mpp, source, associated):
    with open_slide(path) as slide:
        info = json.loads(json.dumps(slide.info()))
        assert (slide.format, slide.mpp_source) == (name, source)
        assert slide.mpp == pytest.approx(mpp, rel=1e-6)
        assert info["mpp"] == slide.mpp
        assert info["associated_images"] == associated
        assert info["levels"][0]["shape"] == list(slide.shape[:2])
        assert info["compression"] == "JPEG"
        assert f"{slide.format}, {slide.shape[1]} x {slide.shape[0]} px" in repr(slide)


def test_ndpi_is_known_by_content_not_by_name(tmp_path):
    renamed = tmp_path / "scan.tif"
    renamed.write_bytes(NDPI.read_bytes())
    image = picture(100, 120)
    plain = write_tiff(tmp_path / "plain.NDPI", image, tile=(64, 64))
    with open_slide(renamed) as slide, open_slide(NDPI) as original:
        assert slide.format == "Hamamatsu NDPI"
        assert slide.fingerprint == original.fingerprint
        np.testing.assert_array_equal(
            slide.region(900, 900, 64, 64), original.region(900, 900, 64, 64)
        )
    with open_slide(plain) as slide:
        assert slide.format == "TIFF"
        np.testing.assert_array_equal(slide.region(0, 0, 100, 120), image)


def test_labels_macros_and_thumbnails_are_no_levels(tmp_path):
    image = picture(963, 1201)
    with open_slide(write_aperio(tmp_path / "a.svs", image)) as slide:
        assert [level.shape for level in slide.levels] == [(963, 1201), (240, 300)]
        assert [level.downsample for level in slide.levels] == [(1, 1), (4, 4)]
        assert slide.info()["associated_images"] == ["thumbnail", "label", "macro"]
        np.testing.assert_array_equal(slide.region(0, 0, 240, 300, 1), halved(halved(image)))


def test_plain_pyramid_of_pages_of_any_ratio(tmp_path):
    """As libvips writes it: pages in a row; one level skipped, one ratio that is not whole."""
    image = picture(960, 1200)
    shapes = [(960, 1200), (320, 400), (128, 160)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for height, width in shapes:
            small = image[:height, :width]
            tiff.write(
                small,
                tile=(64, 64),
                photometric="rgb",
                metadata=None,
                resolution=(40000, 40000),
                resolutionunit="CENTIMETER",
            )
        tiff.write(picture(90, 60), tile=(64, 64), photometric="rgb", metadata=None)
    with open_slide(tmp_path / "a.tif") as slide:
        assert [level.shape for level in slide.levels] == shapes
        assert [level.downsample[0] for level in slide.levels] == [1, 3, 7.5]
        assert slide.info()["associated_images"] == ["image 3"]


def test_two_images_of_one_size_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for seed in (0, 1):
            tiff.write(picture(90, 60, seed=seed), photometric="rgb", metadata=None)
    with pytest.raises(SlideError, match="2 images of 60 x 90 px"):
        open_slide(path, mpp=0.25)


@pytest.mark.parametrize(
    "window",
    [(-1, 0, 5, 5), (0, 0, 392, 5), (0, 516, 1, 2), (5, 5, -1, 2)],
)
def test_region_outside_the_slide_is_an_error(tmp_path, window):
    with open_slide(write_ome(tmp_path / "a.ome.tif", picture(391, 517))) as slide:
        with pytest.raises(SlideError, match="leaves level 0 of 391 x 517 px"):
            slide.region(*window)
        with pytest.raises(SlideError, match="no level 1; there are 1"):
            slide.region(0, 0, 5, 5, level=1)


def test_slide_pickles_as_its_path_and_options(tmp_path):
    path = write_tiff(tmp_path / "a.tif", picture(391, 517), tile=(128, 128))
    with open_slide(path, mpp=0.3) as slide:
        slide.read(0.6, 0, 0, 100, 100)
        pickled = pickle.dumps(slide)
        assert len(pickled) < 500
        with pickle.loads(pickled) as copy:
            assert (copy.mpp, copy.mpp_source, copy.path) == (0.3, "given", path)
            np.testing.assert_array_equal(copy.overview(0.6), slide.overview(0.6))


def read_sum(slide: Slide) -> int:
    with slide:
        return int(slide.overview(2.0).sum())


def test_spawned_process_reads_the_same():
    with open_slide(SVS) as slide:
        expected = read_sum(slide)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.map(read_sum, [slide]) == [expected]


def test_threads_read_the_same_as_one(tmp_path):
    image = picture(700, 900)
    slide = open_slide(write_tiff(tmp_path / "a.tif", image, tile=(64, 64), compression="deflate"))
    windows = [(y, x) for y in range(0, 600, 37) for x in range(0, 800, 41)]

    def is_right(corner):
        if corner[0] % 5 == 0:
            slide.close()  # in the middle of the other threads' reads
        y, x = corner
        return np.array_equal(slide.region(y, x, 100, 100), image[y : y + 100, x : x + 100])

    with slide, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(is_right, windows))


def test_no_handle_is_left_behind(tmp_path):
    path = write_ome(tmp_path / "a.ome.tif", picture(391, 517), levels=2)
    process = psutil.Process()

    def is_open():
        return any(Path(file.path) == path for file in process.open_files())

    slide = open_slide(path)
    assert not is_open()  # opening reads the structure only
    with slide:
        slide.region(0, 0, 10, 10)
        assert is_open()
    assert not is_open()
    slide.region(0, 0, 10, 10)  # lazy arrays outlive the with block
    assert is_open()
    del slide
    assert not is_open()
    for _ in range(20):
        open_slide(path).region(0, 0, 10, 10)
    assert not is_open()


def test_fingerprint_is_that_of_the_content(tmp_path):
    path = write_ome(tmp_path / "a.ome.tif", picture(50, 60))
    copy = tmp_path / "b.tif"
    copy.write_bytes(path.read_bytes())
    assert open_slide(path).fingerprint == open_slide(copy).fingerprint
    assert len(open_slide(path).fingerprint) == 64


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_dask_array_equals_the_overview(tmp_path, scheduler):
    image = picture(1500, 5000)
    path = write_tiff(tmp_path / "a.tif", image, tile=(256, 256), compression="deflate")
    with open_slide(path) as slide:
        for mpp in (0.25, 0.37, 0.5):
            lazy = slide.pixels(mpp)
            assert lazy.dtype == np.uint8
            with dask.config.set(scheduler=scheduler):
                np.testing.assert_array_equal(lazy.compute(), slide.overview(mpp))
        native = slide.pixels(0.25)
        assert native.numblocks == (1, 2, 1)
        assert all(size % 256 == 0 for size in native.chunks[1][:-1])
        assert len(pickle.dumps(native)) < 20000
        assert pickle.loads(pickle.dumps(native))[5, 7].compute().tolist() == image[5, 7].tolist()
        assert slide.pixels(0.5).name == open_slide(path).pixels(0.5).name


def test_missing_tiles_are_white_and_counted(tmp_path):
    image = np.full((256, 256, 3), 40, np.uint8)
    path = write_tiff(tmp_path / "a.tif", image, tile=(128, 128), compression="deflate")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tag = tiff.pages[0].tags["TileByteCounts"]
        tag.overwrite([0 if k == 1 else count for k, count in enumerate(tag.value)])
    with open_slide(path) as slide:
        assert slide.missing_tiles == 1
        assert slide.info()["levels"][0]["missing_tiles"] == 1
        assert (slide.region(0, 128, 128, 128) == 255).all()
        assert (slide.read(0.5, 0, 0, 128, 128, fill=7)[:64, 64:] == 7).all()
        assert (slide.read(0.5, 0, 0, 128, 64) == 40).all()


def test_aperio_ycbcr_jpeg2000_becomes_rgb(tmp_path):
    """33003 holds YCbCr, which tifffile hands out as it is."""
    image = np.full((64, 64, 3), (200, 80, 130), np.uint8)
    r, g, b = image[0, 0].astype(float)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    ycbcr = np.rint([y, 128 + (b - y) / 1.772, 128 + (r - y) / 1.402]).astype(np.uint8)
    path = write_tiff(
        tmp_path / "a.tif",
        np.broadcast_to(ycbcr, image.shape).copy(),
        tile=(64, 64),
        compression=33003,
        compressionargs={"mct": False, "reversible": True},
    )
    with open_slide(path) as slide:
        assert np.abs(slide.region(0, 0, 64, 64).astype(int) - image).max() <= 1


def test_scale_is_not_needed_to_look(tmp_path):
    path = write_tiff(tmp_path / "a.tif", picture(50, 60), per_cm=72.0, unit=2)
    with open_slide(path, require_scale=False) as slide:
        assert slide.mpp is None
        assert slide.info()["mpp"] is None
        assert "no scale" in repr(slide)
        assert slide.region(0, 0, 50, 60).shape == (50, 60, 3)
        with pytest.raises(ScaleError, match="--mpp"):
            slide.read(0.5, 0, 0, 10, 10)


def test_importing_slides_is_cheap():
    code = "import sys, histoquant.slides; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    heavy = {"numba", "dask", "tifffile", "distributed", "openslide", "zarr", "pydicom", "PIL"}
    assert not heavy & set(loaded.stdout.split())


def test_reading_without_pread(tmp_path, monkeypatch):
    """Windows has none; threads must then not move each other's file position."""
    monkeypatch.delattr("os.pread", raising=False)
    image = picture(300, 400)
    with open_slide(write_tiff(tmp_path / "a.tif", image, tile=(64, 64))) as slide:
        with ThreadPoolExecutor(8) as pool:
            parts = list(pool.map(lambda y: slide.region(y, 0, 10, 400), range(0, 300, 10)))
        np.testing.assert_array_equal(np.concatenate(parts), image)


def test_a_window_takes_the_file_once_for_all_its_tiles(tmp_path, monkeypatch):
    taken = []
    use = Handle.use
    monkeypatch.setattr(Handle, "use", lambda self: taken.append(self) or use(self))
    with open_slide(write_tiff(tmp_path / "a.tif", picture(300, 400), tile=(64, 64))) as slide:
        slide.region(0, 0, 300, 400)
    assert len(taken) == 1


def test_no_tile_is_held_while_the_next_is_decoded(tmp_path, monkeypatch):
    decode, alive = TiffSource._decode, []

    def watched(self, *args):
        assert all(tile() is None for tile in alive)
        tile = decode(self, *args)
        alive.append(weakref.ref(tile))
        return tile

    monkeypatch.setattr(TiffSource, "_decode", watched)
    with open_slide(write_tiff(tmp_path / "a.tif", picture(320, 384), tile=(64, 64))) as slide:
        slide.region(0, 0, 320, 384)
    assert len(alive) == 30


def test_decoded_tiles_stay_within_their_limit():
    cache = TileCache(1000)
    for k in range(20):
        cache.put(k, np.full(300, k, np.uint8))
        assert cache.get(k)[0] == k
        cache.get(0 if k < 5 else 17)
    kept = [k for k in range(20) if cache.get(k) is not None]
    assert kept == [17, 18, 19]
    with pytest.raises(ValueError, match="read-only"):
        cache.get(19)[0] = 1
    cache.put("large", np.zeros(1001, np.uint8))
    assert cache.get("large") is None


def test_neighbouring_windows_share_their_tiles(monkeypatch):
    decoded = []
    decode = TiffSource._decode
    monkeypatch.setattr(
        TiffSource, "_decode", lambda self, *args: decoded.append(args[3]) or decode(self, *args)
    )
    with open_slide(SVS) as slide:
        for y in range(0, 1800, 600):
            for x in range(0, 1800, 600):
                slide.read(slide.mpp, y - 64, x - 64, 728, 728)
    assert len(decoded) == len(set(decoded)) == 8 * 8
