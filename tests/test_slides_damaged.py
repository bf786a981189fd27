"""Files that are no slides, and slides that were damaged: SlideError, and nothing else."""

from __future__ import annotations

import re
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile

from fuzzing import run_cases
from histoquant.errors import SlideError
from histoquant.slides import open_slide
from histoquant.slides.tiff_headers import CLAIMS
from tiff_writers import write_ndpi, write_ome, write_pyramid

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
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "found a PNG image|no PNG, JPEG"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "found a JPEG image|no PNG, JPEG"),
        (b"PK\x03\x04", "found a ZIP archive"),
        (bytes(128) + b"DICM", "a DICOM file"),
        (b"II*\0", "structure .* cannot be read"),
        (
            b"II*\0\x08\0\0\0\0\0",
            "cannot be read|without an image|an image of|truncated or damaged",
        ),
        (
            b"MM\0*\xff\xff\xff\xff",
            "cannot be read|without an image|an image of|truncated or damaged",
        ),
        (
            b"II+\0\x08\0\0\0" + b"\xff" * 8,
            "cannot be read|without an image|an image of|truncated or damaged",
        ),
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


HUGE = 65500
# Where each codec keeps a size: after which bytes, how far behind, and the size to write.
CODEC_SIZES = {
    "jpeg": (b"\xff\xc0", 5, struct.pack(">HH", HUGE, HUGE)),
    "jpeg2000": (b"\xff\x4f\xff\x51", 8, struct.pack(">II", HUGE, HUGE)),
    "webp": (b"VP8L", 9, ((1 << 28) - 1).to_bytes(4, "little")),
    "png": (b"IHDR", 4, struct.pack(">II", HUGE, HUGE)),
    # Not small, side of 30 bits, ratio 1:1.
    "jpegxl": (b"\xff\x0a", 2, ((HUGE - 1) << 3 | 3 << 1 | 1 << 33).to_bytes(5, "little")),
}


@pytest.mark.parametrize("compression", CODEC_SIZES)
def test_tile_that_claims_to_be_huge_is_not_allocated(tmp_path, compression):
    options = {"compressionargs": {"level": 101}} if compression == "webp" else {}
    path = write(tmp_path / "a.tif", compression=compression, **options)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[0].dataoffsets[0]
    marker, skip, size = CODEC_SIZES[compression]
    start = data.index(marker, offset) + skip
    data[start : start + len(size)] = size
    path.write_bytes(data)
    claim = "tile row 0, column 0.*claim [0-9]{5} x [0-9]{5} px"
    with open_slide(path) as slide:
        with pytest.raises(SlideError, match=claim):
            slide.region(0, 0, 64, 64)
        slide.region(64, 64, 128, 128)  # that others claim no more excuses nothing
        with pytest.raises(SlideError, match=claim):
            slide.region(0, 0, 64, 64)


@pytest.mark.parametrize("at", [5, 7, 9], ids=["rows", "columns", "samples"])
def test_each_number_of_a_jpeg_header_is_read_of_every_tile(tmp_path, at):
    path = write(tmp_path / "a.tif", compression="jpeg")
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[0].dataoffsets[1]
    data[data.index(b"\xff\xc0", offset) + at] = 200
    path.write_bytes(data)
    with open_slide(path) as slide:
        slide.region(0, 0, 64, 64)
        with pytest.raises(SlideError, match="tile row 0, column 1.*they claim"):
            slide.region(0, 64, 64, 64)


def boxed(stream):
    """Put a JPEG XL codestream into the boxes of a file."""
    signature = b"\0\0\0\x0cJXL \r\n\x87\n"
    kind = struct.pack(">I", 20) + b"ftypjxl \0\0\0\0jxl "
    return signature + kind + struct.pack(">I4s", len(stream) + 8, b"jxlc") + stream


CODES = {
    "jpeg": 7,
    "jpeg2000": 34712,
    "webp": 50001,
    "png": 34933,
    "jpegxl": 50002,
}


@pytest.mark.parametrize("shape", [(64, 64), (48, 80), (37, 51), (256, 8), (600, 300)])
@pytest.mark.parametrize("codec", [*CODES, "jpegxl in boxes", "lossy webp"])
def test_the_size_a_codec_writes_is_the_size_that_is_found(codec, shape):
    name = codec.split()[-1] if "webp" in codec else codec.split()[0]
    options = {"level": 60} if codec == "lossy webp" else {}
    options = {"lossless": True} if codec == "webp" else options
    pixels = np.resize(IMAGE, (*shape, 3))
    encoder = {"jpeg2000": "jpeg2k"}.get(name, name)
    data = getattr(imagecodecs, f"{encoder}_encode")(pixels, **options)
    data = boxed(data) if "boxes" in codec else data
    claim = CLAIMS[CODES[name]](data)
    assert claim[:2] == shape
    assert claim[2] in (0, 3)


def test_compression_that_cannot_be_bounded_is_refused(tmp_path):
    for compression in ("lerc", "jpegxr"):
        path = write(tmp_path / "a.tif", compression=compression)
        with pytest.raises(SlideError, match=f"compressed as {compression.upper()}, which is not"):
            open_slide(path)


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


def spoil(path, page, *tiles):
    """Overwrite tiles of a page, so that no codec can read them."""
    with tifffile.TiffFile(path) as tiff:
        spots = [
            (tiff.pages[page].dataoffsets[k], tiff.pages[page].databytecounts[k]) for k in tiles
        ]
    data = bytearray(path.read_bytes())
    for offset, count in spots:
        data[offset : offset + count] = b"\x5a" * count
    path.write_bytes(data)


def test_damaged_tiles_are_missing_where_that_is_asked_for(tmp_path):
    path = write_pyramid(tmp_path / "a.tif", IMAGE, levels=2, tile=(64, 64), compression="deflate")
    spoil(path, 0, 9, 20)  # 7 tiles a row: row 1, column 2, and row 2, column 6
    spoil(path, 1, 0)
    expected = IMAGE.copy()
    expected[64:128, 128:192] = 255
    expected[128:192, 384:400] = 255
    with open_slide(path, on_damage="missing") as slide:
        assert (slide.damaged_tiles, slide.missing_tiles) == (0, 0)
        np.testing.assert_array_equal(slide.region(0, 0, 300, 400), expected)
        assert slide.damaged_tiles == 2
        assert slide._source.damaged_boxes() == [(64, 128, 64, 64), (128, 384, 64, 64)]
        known = slide.known(0.25)
        np.testing.assert_array_equal(known, (expected != 255).any(axis=2) | known)
        assert (~known).sum() == 64 * 64 + 64 * 16
        slide.region(0, 0, 10, 10, level=1)
        assert slide._source.damaged_boxes()[-1] == (0, 0, 128, 128)
        assert (slide.region(64, 128, 64, 64, fill=7) == 7).all()
        assert slide.damaged_tiles == 3
    with open_slide(path) as slide:
        with pytest.raises(SlideError, match="level 0, tile row 1, column 2"):
            slide.region(0, 0, 300, 400)
        with pytest.raises(SlideError, match="level 1, tile row 0, column 0"):
            slide.region(0, 0, 10, 10, level=1)
        assert slide.damaged_tiles == 0


def test_truncated_tiles_are_missing_too(tmp_path):
    path = write(tmp_path / "a.tif", compression="deflate")
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[0].dataoffsets[30]
    path.write_bytes(path.read_bytes()[: offset + 10])
    with open_slide(path, on_damage="missing") as slide:
        region = slide.region(0, 0, 300, 400)
        assert slide.damaged_tiles == 5
        np.testing.assert_array_equal(region[:256], IMAGE[:256])
        assert (region[256:, 128:] == 255).all()


def test_one_damaged_channel_makes_the_tile_missing(tmp_path):
    image = np.repeat(IMAGE.astype(np.uint16), 1, axis=2) * 200
    path = tmp_path / "a.ome.tif"
    write_ome(path, image, 0.25, levels=1, rgb=False, tile=(64, 64), compression="deflate")
    spoil(path, 1, 0)
    with open_slide(path, on_damage="missing") as slide:
        assert (slide.region(0, 0, 64, 64) == 0).all()
        assert slide.damaged_tiles == 1
        np.testing.assert_array_equal(slide.region(64, 0, 64, 64), image[64:128, :64])


def test_a_disk_that_cannot_be_read_is_no_damaged_tile(tmp_path):
    slide = open_slide(write(tmp_path / "a.tif"), on_damage="missing")
    slide.path.unlink()
    with slide, pytest.raises(SlideError, match="cannot be read"):
        slide.region(0, 0, 10, 10)
    assert slide.damaged_tiles == 0


def last_directory(path):
    with tifffile.TiffFile(path) as tiff:
        return max(page.offset for page in tiff.pages)


@pytest.mark.parametrize("make", [{}, {"bigtiff": True}, {"byteorder": ">"}])
@pytest.mark.parametrize("keep", [-40, 0, 1, 30])
def test_file_that_lost_its_last_levels_is_refused(tmp_path, make, keep):
    """Without a look at the chain, tifffile gives the levels that are left."""
    path = write_pyramid(tmp_path / "a.tif", IMAGE, tile=(64, 64), compression="deflate", **make)
    path.write_bytes(path.read_bytes()[: last_directory(path) + keep])
    with pytest.raises(SlideError, match=r"image 2: .*(truncated|damaged)"):
        open_slide(path)


def test_file_that_lost_its_table_of_tiles_is_refused(tmp_path):
    path = write_pyramid(tmp_path / "a.tif", IMAGE, tile=(64, 64), compression="deflate", levels=2)
    with tifffile.TiffFile(path) as tiff:
        table = tiff.pages[1].tags["TileOffsets"].valueoffset
    path.write_bytes(path.read_bytes()[: table + 8])
    with pytest.raises(SlideError, match=r"image 1: its table \(tag 32[45]\) lies at byte"):
        open_slide(path)


def test_ndpi_that_lost_its_macro_is_refused(tmp_path):
    path = write_ndpi(tmp_path / "a.ndpi", IMAGE[:256, :384])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SlideError, match="image 2: its directory lies at byte"):
        open_slide(path)


def test_subifd_behind_the_end_of_the_file_is_refused(tmp_path):
    path = write_ome(tmp_path / "a.ome.tif", IMAGE, tile=(64, 64))
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tag = tiff.pages[0].tags["SubIFDs"]
        tag.overwrite([tag.value[0], 2**31])
    with pytest.raises(SlideError, match="image 0: its SubIFD lies at byte 2147483648"):
        open_slide(path)


def test_chain_of_images_that_runs_in_a_circle(tmp_path):
    path = write_pyramid(tmp_path / "a.tif", IMAGE, levels=3, tile=(64, 64))
    with tifffile.TiffFile(path) as tiff:
        pointer, first = tiff.pages.next_page_offset, tiff.pages[0].offset
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, pointer, first)
    path.write_bytes(data)
    with pytest.raises(SlideError, match="runs in a circle"):
        open_slide(path)


def test_spoiled_slides_give_pixels_or_slide_error(tmp_path):
    """A small part of benchmarks/fuzz_slides.py."""
    found = run_cases(tmp_path, 300, seed=2024)
    assert set(found) == {"pixels", "SlideError"}, found
    assert min(found.values()) > 60
