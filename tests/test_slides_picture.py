"""Plain pictures of a field of view."""

from __future__ import annotations

import os
import random
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import on_two_cores
from histoquant.errors import ScaleError, SlideError
from histoquant.slides import picture
from histoquant.slides.picture import PictureSource, is_picture
from histoquant.slides.scale import resolve_scale

RNG = np.random.default_rng(31)
RGB = RNG.integers(0, 256, (90, 130, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def whole(source, fill=0):
    return source.region(0, 0, 0, *source.levels[0].shape, fill)


def save(path, pixels, mode=None, **options):
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp", "a.jpg"])
@pytest.mark.parametrize("pixels", [RGB, GREY], ids=["rgb", "grey"])
def test_formats_against_pillow(tmp_path, name, pixels):
    options = {"lossless": True} if name == "a.webp" else {}
    path = save(tmp_path / name, pixels, **options)
    assert is_picture(path)
    source = PictureSource(path)
    kind = {"a.jpg": "JPEG"}.get(name, name[2:].upper())
    assert source.format == f"{kind} picture"
    assert source.compression == kind
    assert source.is_colour
    assert source.dtype == np.uint8
    with Image.open(path) as image:
        is_rgb = image.mode == "RGB"
        expected = np.asarray(image)
    assert source.channels == (("red", "green", "blue") if is_rgb else ("grey",))
    assert len(source.levels) == 1
    assert source.levels[0].shape == (90, 130)
    assert source.levels[0].missing_tiles == 0
    np.testing.assert_array_equal(whole(source).squeeze(), expected)
    np.testing.assert_array_equal(
        source.region(0, 10, 20, 30, 40, 0).squeeze(), expected[10:40, 20:60]
    )
    if name != "a.jpg":
        np.testing.assert_array_equal(np.broadcast_to(whole(source), RGB.shape)[..., 0], GREY)
    assert source.missing_boxes() == source.damaged_boxes() == []
    source.close()
    np.testing.assert_array_equal(whole(source).squeeze(), expected)


def test_16_bit_grey(tmp_path):
    pixels = RNG.integers(0, 65536, (40, 50)).astype(np.uint16)
    source = PictureSource(save(tmp_path / "a.png", pixels))
    assert source.dtype == np.uint16
    assert source.channels == ("grey",)
    read = whole(source)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read[..., 0], pixels)


def test_palette_and_one_bit(tmp_path):
    colours = (GREY // 64 * 60)[..., None] + np.array([0, 10, 20], np.uint8)
    source = PictureSource(save(tmp_path / "a.png", colours, "P", format="PNG"))
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(whole(source), np.asarray(image.convert("RGB")))
    assert source.channels == ("red", "green", "blue")
    source = PictureSource(save(tmp_path / "b.png", GREY > 100))
    np.testing.assert_array_equal(whole(source)[..., 0], np.where(GREY > 100, 255, 0))


def test_strips_make_no_seams(tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "_STRIP_PX", 7)
    np.testing.assert_array_equal(whole(PictureSource(save(tmp_path / "a.png", RGB))), RGB)


# --- scale -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
def test_resolution_tag_is_no_scale(tmp_path, name):
    path = save(tmp_path / name, RGB, dpi=(50800, 50800))  # 0.5 um, if it were meant so
    source = PictureSource(path)
    with pytest.raises(ScaleError, match=r"resolution tag of 5080\d(\.\d)? per inch.*--mpp"):
        resolve_scale(path, source.claims, None)
    assert resolve_scale(path, source.claims, 0.4).source == "given"


def test_no_resolution_tag(tmp_path):
    path = save(tmp_path / "a.png", RGB)
    with pytest.raises(ScaleError, match=r"found a PNG picture\)"):
        resolve_scale(path, PictureSource(path).claims, None)


# --- alpha -----------------------------------------------------------------------------------


def with_alpha(pixels, alpha):
    return np.dstack([pixels, alpha])


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
@pytest.mark.parametrize("is_grey", [False, True])
def test_transparent_pixels_are_missing(tmp_path, name, is_grey):
    alpha = np.full(GREY.shape, 255, np.uint8)
    alpha[:20, 30:50] = alpha[40:60, :10] = alpha[89, 129] = 0
    alpha[70:75] = 1  # nearly transparent is still there
    pixels = with_alpha(GREY if is_grey else RGB, alpha)
    options = {"lossless": True, "exact": True} if name == "a.webp" else {}
    source = PictureSource(save(tmp_path / name, pixels, **options))
    expected = np.broadcast_to(GREY[..., None], RGB.shape) if is_grey else RGB
    expected = np.where((alpha == 0)[..., None], np.uint8(212), expected)
    read = whole(source, fill=212)
    np.testing.assert_array_equal(np.broadcast_to(read, RGB.shape), expected)
    assert source.missing_boxes() == [(0, 30, 20, 20), (40, 0, 20, 10), (89, 129, 1, 1)]


def test_boxes_cover_any_mask(tmp_path):
    y, x = np.ogrid[:90, :130]
    alpha = np.where((y - 45) ** 2 + (x - 60) ** 2 < 1500, 255, 0).astype(np.uint8)
    source = PictureSource(save(tmp_path / "a.png", with_alpha(RGB, alpha)))
    covered = np.zeros(alpha.shape, int)
    for box in source.missing_boxes():
        top, left, height, width = map(int, box)
        covered[top : top + height, left : left + width] += 1
    np.testing.assert_array_equal(covered, alpha == 0)


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_transparent_colour(tmp_path, mode):
    pixels = np.zeros((8, 12), np.uint8)
    pixels[:, 6:] = 200
    key = (0, 0, 0) if mode == "RGB" else 0
    path = save(tmp_path / "a.png", pixels, mode, transparency=key)
    source = PictureSource(path)
    assert source.missing_boxes() == [(0, 0, 8, 6)]
    read = whole(source, fill=9)
    assert (read[:, :6] == 9).all()
    assert (read[:, 6:] == 200).all()


def test_opaque_alpha(tmp_path):
    alpha = np.full(GREY.shape, 255, np.uint8)
    source = PictureSource(save(tmp_path / "a.png", with_alpha(RGB, alpha)))
    assert source.missing_boxes() == []
    np.testing.assert_array_equal(whole(source), RGB)


def test_scattered_transparency(tmp_path):
    alpha = np.where(np.add.outer(np.arange(300), np.arange(300)) % 2, 255, 0).astype(np.uint8)
    source = PictureSource(save(tmp_path / "a.png", with_alpha(np.zeros_like(alpha), alpha)))
    with pytest.raises(SlideError, match="scattered places"):
        source.missing_boxes()


# --- what is refused -------------------------------------------------------------------------


def png(width, height, depth, colour):
    """The header of a PNG, and pixels that are none."""
    header = struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", bytes(20))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def test_cmyk(tmp_path):
    path = save(tmp_path / "a.jpg", RGB, "CMYK")
    with pytest.raises(SlideError, match="stored as CMYK"):
        PictureSource(path)


def test_animation(tmp_path):
    first, second = (Image.fromarray(p) for p in (RGB, RGB[::-1]))
    first.save(tmp_path / "a.png", save_all=True, append_images=[second])
    with pytest.raises(SlideError, match="an animation of 2 pictures"):
        PictureSource(tmp_path / "a.png")


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_16_bit_colours(tmp_path, colour):
    path = tmp_path / "a.png"
    path.write_bytes(png(8, 8, 16, colour))
    with pytest.raises(SlideError, match="16 bits, which would be cut to 8"):
        PictureSource(path)


@pytest.mark.parametrize("side", [8_300, 10_000, 60_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_large(tmp_path, side):
    path = tmp_path / "a.png"
    path.write_bytes(png(side, side, 8, 2))
    with pytest.raises(SlideError, match=r"at most 67,108,864 px are read.*pyramidal OME-TIFF"):
        PictureSource(path)


def test_associated(tmp_path):
    source = PictureSource(save(tmp_path / "a.png", RGB))
    assert source.associated == ()
    with pytest.raises(SlideError, match="no image 'label'; there are: none"):
        source.associated_image("label")


def test_icc_profile(tmp_path):
    assert PictureSource(save(tmp_path / "a.png", RGB, icc_profile=bytes(200))).has_icc_profile
    assert not PictureSource(save(tmp_path / "b.png", RGB)).has_icc_profile


def test_sniffing(tmp_path):
    path = tmp_path / "a.svs"
    assert not is_picture(path)
    for content in (b"", b"II*\0", b"RIFF\0\0\0\0WAVE", b"GIF89a"):
        path.write_bytes(content)
        assert not is_picture(path)
    assert is_picture(save(path, RGB, format="JPEG"))
    assert not is_picture(tmp_path)


# --- damage ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp"])
def test_truncated(tmp_path, name):
    path = save(tmp_path / name, RGB)
    content = path.read_bytes()
    for part in (0.3, 0.9, 0.98):
        path.write_bytes(content[: int(len(content) * part)])
        with pytest.raises(SlideError, match=r"a\.\w+: .*(cannot be|damaged)"):
            whole(PictureSource(path))
        try:
            tolerant = PictureSource(path, on_damage="missing")
        except SlideError:
            continue
        assert (whole(tolerant, fill=77) == 77).all()
        assert tolerant.damaged_boxes() == [(0, 0, 90, 130)]


def test_vanished_and_changed(tmp_path):
    path = save(tmp_path / "a.png", RGB)
    source = PictureSource(path)
    save(path, RGB[:50])
    with pytest.raises(SlideError, match="has changed since it was opened"):
        whole(source)
    path.unlink()
    with pytest.raises(SlideError, match=r"a\.png"):
        whole(source)


def test_not_a_picture(tmp_path):
    path = tmp_path / "a.png"
    for content in (b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"):
        path.write_bytes(content)
        with pytest.raises(SlideError, match=r"a\.png: "):
            PictureSource(path)


# --- threads, processes, files ---------------------------------------------------------------


def test_threads(tmp_path):
    source = PictureSource(save(tmp_path / "a.png", RGB))
    corners = [(y, x) for y in range(0, 40, 3) for x in range(0, 80, 7)]

    def read(corner):
        if corner == (12, 35):
            source.close()
        return source.region(0, *corner, 50, 50, 0)

    with ThreadPoolExecutor(8) as pool:
        windows = list(pool.map(read, corners))
    for (y, x), window in zip(corners, windows, strict=True):
        np.testing.assert_array_equal(window, RGB[y : y + 50, x : x + 50])


def read_sum(path: str, y: int) -> int:
    return int(PictureSource(Path(path)).region(0, y, 0, 45, 130, 0).sum())


def test_spawned_processes(tmp_path):
    path = save(tmp_path / "a.png", RGB)
    sums = on_two_cores(read_sum, [(str(path), y) for y in (0, 45)])
    assert sums == [int(RGB[:45].sum()), int(RGB[45:].sum())]


def test_no_file_stays_open(tmp_path):
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("open files cannot be counted here")
    path = save(tmp_path / "a.png", RGB)
    whole(PictureSource(path))
    before = len(os.listdir(descriptors))
    sources = [PictureSource(path) for _ in range(5)]
    for source in sources:
        whole(source)
    assert len(os.listdir(descriptors)) == before


# --- fuzz ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp"])
def test_fuzzed_files(tmp_path, name):
    """Whatever bytes the file holds: pixels, or SlideError."""
    content = save(tmp_path / name, RGB[:40, :40]).read_bytes()
    path = tmp_path / name
    rng = random.Random(5)
    for _ in range(150):
        data = bytearray(content)
        for _ in range(rng.choice((1, 2, 8))):
            data[rng.randrange(min(len(data), 200))] = rng.choice((0, 255, rng.randrange(256)))
        path.write_bytes(data)
        try:
            source = PictureSource(path)
            height, width = (min(side, 64) for side in source.levels[0].shape)
            assert source.region(0, 0, 0, height, width, 0).shape[:2] == (height, width)
            source.missing_boxes()
        except SlideError:
            pass
