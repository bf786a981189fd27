"""Pixels that were never there: transparent, left out by the writer, or cut off."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from histoquant import measuring
from histoquant.errors import SlideError
from histoquant.slides import open_slide

SCALE = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}


def test_transparent_pixels_of_a_tiff_are_blank_and_not_black(tmp_path: Path) -> None:
    pixels = np.full((128, 128, 4), 200, np.uint8)
    pixels[..., 3] = 255
    pixels[40:60] = 0  # black, and transparent
    path = tmp_path / "cut_out.tif"
    tifffile.imwrite(
        path, pixels, photometric="rgb", extrasamples=["unassalpha"], tile=(64, 64), **SCALE
    )
    with open_slide(path) as slide:
        read = slide.region(0, 0, 128, 128)
    assert read.shape == (128, 128, 3)
    assert (read[40:60] == 255).all()
    assert (read[:40] == 200).all()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_blank_marker_does_not_wipe_the_nuclear_channel(tmp_path: Path, zarr_format: int) -> None:
    pixels = np.full((2, 64, 64), 300, np.uint16)
    pixels[1, :32] = 0  # chunks of zeros are not written
    path = tmp_path / "two_channels.ome.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    options = {"config": {"write_empty_chunks": False}}
    array = group.create_array(
        "0", shape=pixels.shape, dtype="uint16", chunks=(1, 32, 32), **options
    )
    array[:] = pixels
    axes = [{"name": "c", "type": "channel"}] + [
        {"name": n, "type": "space", "unit": "micrometer"} for n in "yx"
    ]
    scale = [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]
    multiscales = [
        {"version": "0.4", "axes": axes,
         "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    ]  # fmt: skip
    if zarr_format == 2:
        group.attrs["multiscales"] = multiscales
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.region(0, 0, 64, 64), np.moveaxis(pixels, 0, -1))
        assert slide.missing_percent == 0


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000"])
def test_a_tile_whose_end_was_never_written_is_an_error(tmp_path: Path, compression: str) -> None:
    """As a copy leaves it that was given its full length first and then broke off."""
    rng = np.random.default_rng(3)
    path = tmp_path / "cut.tif"
    pixels = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    tifffile.imwrite(path, pixels, tile=(128, 128), compression=compression, **SCALE)
    with tifffile.TiffFile(path) as tiff:
        offset, count = tiff.pages[0].dataoffsets[3], tiff.pages[0].databytecounts[3]
    content = bytearray(path.read_bytes())
    content[offset + count // 2 : offset + count] = bytes(count - count // 2)
    path.write_bytes(content)
    with open_slide(path) as slide:
        assert slide.region(0, 0, 128, 256).shape == (128, 256, 3)
        with pytest.raises(SlideError, match="row 1, column 1"):
            slide.region(128, 128, 128, 128)
    with open_slide(path, on_damage="missing") as slide:
        assert (slide.region(128, 128, 128, 128) == 255).all()
        assert slide.damaged_tiles == 1


def test_two_images_of_one_size_are_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "twins.ome.tif"
    pixels = np.zeros((64, 64, 3), np.uint8)
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for name in ("first", "second"):
            tiff.write(pixels, photometric="rgb", metadata={"axes": "YXS", "Name": name})
    with pytest.raises(SlideError, match="which of them is the slide is not known"):
        open_slide(path, require_scale=False)


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (OSError(errno.EIO, "Input/output error"), True),
        (MemoryError(), True),
        (OSError("cannot decode"), False),
        (SlideError("damaged"), False),
    ],
)
def test_a_fault_of_the_disk_is_known_behind_the_slides_error(
    error: BaseException, passing: bool
) -> None:
    assert measuring._is_passing(error) is passing
    with pytest.raises(SlideError) as caught:
        raise SlideError("a.svs: cannot be read") from error
    assert measuring._is_passing(caught.value) is passing


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    ("shape", "dtype", "planar"),
    [((1500, 1200, 3), "uint8", "contig"), ((3, 2100, 2000), "uint8", "separate"),
     ((2, 1300, 1700), "uint16", "separate")],
)  # fmt: skip
def test_one_large_strip_is_read_in_parts(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, planar: str, byteorder: str
) -> None:
    """As Fiji and tifffile write what is not tiled: a window must not decode the whole."""
    pixels = np.random.default_rng(1).integers(0, 255, shape).astype(dtype)
    path = tmp_path / "strip.tif"
    kind = "rgb" if 3 in shape else "minisblack"
    tifffile.imwrite(
        path, pixels, photometric=kind, planarconfig=planar, byteorder=byteorder, metadata=None,
        rowsperstrip=max(shape), **SCALE,
    )  # fmt: skip
    expected = pixels if planar == "contig" else np.moveaxis(pixels, 0, -1)
    with open_slide(path) as slide:
        height, width = slide.levels[0].shape
        assert slide.levels[0].tile[0] < height
        np.testing.assert_array_equal(slide.region(0, 0, height, width), expected)
        np.testing.assert_array_equal(
            slide.region(height - 70, 5, 70, 90), expected[height - 70 :, 5:95]
        )
