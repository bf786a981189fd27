"""Files that are no slides, and slides that were damaged: SlideError, and nothing else."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest
import tifffile

from histoquant.errors import SlideError
from histoquant.slides import open_slide

RNG = np.random.default_rng(5)
IMAGE = RNG.integers(0, 256, (300, 400, 3), dtype=np.uint8)


def write(path, **options):
    options = {"tile": (64, 64), "photometric": "rgb", "metadata": None, **options}
    tifffile.imwrite(path, IMAGE, resolution=(4e4, 4e4), resolutionunit="CENTIMETER", **options)
    return path


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"slide,marker\n", r"found bytes b'slide,marker\\n', which is no TIFF"),
        (b"IJrE" + bytes(100), "which is no TIFF"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "found a PNG image"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "found a JPEG image"),
        (b"PK\x03\x04", "found a ZIP archive"),
        (bytes(128) + b"DICM", "a DICOM file"),
        (b"II*\0", "structure .* cannot be read"),
        (b"II*\0\x08\0\0\0\0\0", "cannot be read|without an image|an image of"),
        (b"MM\0*\xff\xff\xff\xff", "cannot be read|without an image|an image of"),
        (b"II+\0\x08\0\0\0" + b"\xff" * 8, "cannot be read|without an image|an image of"),
    ],
)
def test_what_is_no_slide(tmp_path, content, found):
    path = tmp_path / "scan.svs"
    path.write_bytes(content)
    with pytest.raises(SlideError, match=f"(?s){re.escape(str(path))}.*({found})"):
        open_slide(path)


def test_no_such_file_and_directory(tmp_path):
    with pytest.raises(SlideError, match=r"nothing\.svs: no such file"):
        open_slide(tmp_path / "nothing.svs")
    with pytest.raises(SlideError, match="is a directory"):
        open_slide(tmp_path)


def test_slide_that_vanishes(tmp_path):
    slide = open_slide(write(tmp_path / "a.tif"))
    slide.path.unlink()
    with pytest.raises(SlideError, match="level 0, tile row 0, column 0.*cannot be read"):
        slide.region(0, 0, 10, 10)
    with pytest.raises(SlideError, match="cannot be read"):
        _ = slide.fingerprint


def test_truncated_slide_names_the_tile(tmp_path):
    path = write(tmp_path / "a.tif", compression="deflate")
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[0].dataoffsets[9]  # 7 tiles a row: row 1, column 2
    path.write_bytes(path.read_bytes()[: offset + 100])
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.region(0, 0, 64, 400), IMAGE[:64])
        with pytest.raises(SlideError, match="level 0, tile row 1, column 2: .*truncated"):
            slide.region(100, 150, 20, 20)
        with pytest.raises(SlideError, match="truncated"):
            slide.overview(2.0)


@pytest.mark.parametrize("compression", ["deflate", "lzw", "jpeg", "jpeg2000", "zstd"])
def test_corrupt_tile_is_named(tmp_path, compression):
    path = write(tmp_path / "a.tif", compression=compression)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        offset, count = page.dataoffsets[9], page.databytecounts[9]
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = b"\x5a" * count
    path.write_bytes(data)
    with open_slide(path) as slide:
        assert slide.region(0, 0, 64, 64).shape == (64, 64, 3)
        with pytest.raises(SlideError, match="level 0, tile row 1, column 2: .*damaged"):
            slide.region(64, 128, 64, 64)


@pytest.mark.parametrize(
    ("compression", "marker", "skip", "form"),
    [("jpeg", b"\xff\xc0", 5, ">HH"), ("jpeg2000", b"\xff\x4f\xff\x51", 8, ">II")],
)
def test_tile_that_claims_to_be_huge_is_not_allocated(tmp_path, compression, marker, skip, form):
    path = write(tmp_path / "a.tif", compression=compression)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[0].dataoffsets[0]
    struct.pack_into(form, data, data.index(marker, offset) + skip, 65500, 65500)
    path.write_bytes(data)
    with (
        open_slide(path) as slide,
        pytest.raises(SlideError, match="tile row 0, column 0.*claim 65500 x 65500 px"),
    ):
        slide.region(0, 0, 64, 64)


def test_too_few_tiles_listed(tmp_path):
    path = write(tmp_path / "a.tif")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags["ImageLength"].overwrite(3000)
    with pytest.raises(SlideError, match="lists 35 tiles or strips where 329 are needed"):
        open_slide(path)


@pytest.mark.parametrize(
    ("photometric", "samples", "found"),
    [("separated", 4, "SEPARATED"), ("palette", 1, "PALETTE"), ("miniswhite", 1, "MINISWHITE")],
)
def test_colours_that_would_be_read_wrongly(tmp_path, photometric, samples, found):
    path = tmp_path / "a.tif"
    image = RNG.integers(0, 256, (64, 64, samples), dtype=np.uint8).squeeze()
    options = {"colormap": np.zeros((3, 256), np.uint16)} if photometric == "palette" else {}
    tifffile.imwrite(path, image, photometric=photometric, metadata=None, **options)
    with pytest.raises(SlideError, match=f"stored as {found}"):
        open_slide(path, mpp=0.5)


def test_stacks_and_data_sets_of_several_files(tmp_path):
    stack = RNG.integers(0, 256, (3, 64, 64), dtype=np.uint8)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, stack, ome=True, metadata={"axes": "ZYX"})
    with pytest.raises(SlideError, match="3 focal planes and 1 time points"):
        open_slide(path, mpp=0.5)
    xml = tifffile.tiffcomment(path).replace('SizeZ="3"', 'SizeZ="1"')
    xml = re.sub(
        r"<TiffData[^>]*?(/>|>.*?</TiffData>)",
        '<TiffData IFD="0"><UUID FileName="b.ome.tif">urn:uuid:2</UUID></TiffData>',
        xml,
    )
    tifffile.tiffcomment(path, xml.encode())
    with pytest.raises(SlideError, match=r"several files \(b\.ome\.tif\)"):
        open_slide(path, mpp=0.5)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "jpeg"},
        {"compression": "deflate", "tile": None, "rowsperstrip": 8},
        {"compression": "jpeg2000", "ome": True, "metadata": {"axes": "YXS"}},
        {"description": "Aperio Image Library v12|MPP = 0.25"},
    ],
    ids=lambda options: "-".join(options),
)
def test_mutated_and_truncated_files_give_pixels_or_slide_error(tmp_path, options):
    path = write(tmp_path / "a.tif", **options)
    good = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        spots = [*range(16), *range(tiff.pages[0].offset, tiff.pages[0].offset + 300)]
        spots += [tiff.pages[0].dataoffsets[0] + k for k in range(200)]
    rng = np.random.default_rng(11)
    outcomes = {"pixels": 0, "error": 0}
    for _ in range(80):
        data = bytearray(good)
        for spot in rng.choice(spots, rng.integers(1, 4)):
            data[spot] = rng.integers(0, 256)
        if rng.random() < 0.3:
            data = data[: int(rng.integers(1, len(data)))]
        path.write_bytes(data)
        try:
            with open_slide(path, mpp=0.25) as slide:
                slide.region(0, 0, *(min(side, 200) for side in slide.shape[:2]))
            outcomes["pixels"] += 1
        except SlideError:
            outcomes["error"] += 1
    assert min(outcomes.values()) > 5, outcomes
