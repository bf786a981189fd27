"""Where the tiles of a TIFF page lie and how their bytes become pixels."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from histoquant.errors import SlideError

_LARGEST_TILE_BYTES = 2**30
_JPEG = {6, 7, 34892, 33007}
_JPEG2000_YCBCR = 33003

Decoder = Callable[[bytes, int], NDArray[Any]]


@dataclass(frozen=True)
class Plane:
    """Tiles or strips that hold the channels `out` of a level.

    Attributes
    ----------
    offsets, counts
        int64 (tiles,), position and length of each tile's bytes in the file, row by row.
    decode
        Thread-safe function of a tile's bytes and `first` + its index, giving (y, x, c).
    first
        Index of the first tile in the page.
    out
        The channels of the level that the tiles hold.
    """

    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    decode: Decoder
    first: int
    out: slice

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Bool (tiles,): tiles that the file declares but holds no data for."""
        missing: NDArray[np.bool_] = (self.counts == 0) | (self.offsets == 0)
        return missing


def tile_shape(page: TiffPage) -> tuple[int, int]:
    """Give rows and columns of a tile, or of a strip."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return page.rowsperstrip, page.imagewidth


def tile_grid(page: TiffPage) -> tuple[int, int]:
    """Count the rows and columns of tiles that cover a page."""
    height, width = tile_shape(page)
    return -(-page.imagelength // height), -(-page.imagewidth // width)


def planes_of(page: TiffPage, first_channel: int, kept: int, where: str) -> tuple[Plane, ...]:
    """List the planes of a page: one, or one per sample where samples are stored apart.

    Only the first `kept` samples are; the rest is alpha. They become the channels from
    `first_channel` on. The page's file must be open.
    """
    tiles = math.prod(tile_grid(page))
    apart = page.planarconfig == 2 and page.samplesperpixel > 1
    planes, width = (kept, 1) if apart else (1, kept)
    offsets = np.asarray(page.dataoffsets, dtype=np.int64)
    counts = np.asarray(page.databytecounts, dtype=np.int64)
    listed = min(len(offsets), len(counts))
    if listed < tiles * planes:
        raise SlideError(
            f"{where}: the file lists {listed} tiles or strips where {tiles * planes} are "
            "needed. It is damaged; copy it again from the scanner."
        )
    decode = _decoder(page, width, where)
    return tuple(
        Plane(
            offsets[k * tiles : (k + 1) * tiles],
            counts[k * tiles : (k + 1) * tiles],
            decode,
            k * tiles,
            slice(first_channel + k, first_channel + k + width),
        )
        for k in range(planes)
    )


def _decoder(page: TiffPage, kept: int, where: str) -> Decoder:
    dtype, tile = page.dtype, tile_shape(page)
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    if dtype is None or math.prod(tile) * samples * dtype.itemsize > _LARGEST_TILE_BYTES:
        raise SlideError(
            f"{where}: tiles or strips of {tile[0]} x {tile[1]} px ({dtype}) are too large to "
            "decode at once. Export the slide as a tiled OME-TIFF."
        )
    # Bound here and not in the closure's body: the page must not be touched by threads.
    decode_segment: Callable[..., Any] = page.decode
    tables: dict[str, Any] = {}
    if page.compression in _JPEG:
        tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
    check = _HEADERS.get(int(page.compression), _no_header)
    convert = _ycbcr_to_rgb if page.compression == _JPEG2000_YCBCR and samples == 3 else None

    def decode(data: bytes, index: int) -> NDArray[Any]:
        height, width = check(data)
        if height > tile[0] or width > tile[1]:
            # A damaged header of a few bytes would otherwise be given gigabytes.
            raise ValueError(f"they claim {height} x {width} px in a tile of {tile[0]} x {tile[1]}")
        pixels: NDArray[Any] = decode_segment(data, index, **tables)[0][0]
        return pixels[..., :kept] if convert is None else convert(pixels)

    return decode


def _no_header(data: bytes) -> tuple[int, int]:
    return 0, 0


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Find the rows and columns in a JPEG's frame header; (0, 0) where the tile has none.

    ITU-T T.81, annex B: markers other than SOI are followed by their length.
    """
    position = 2
    while data[position : position + 1] == b"\xff":
        marker, length = data[position + 1], data[position + 2 : position + 4]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = data[position + 5 : position + 7], data[position + 7 : position + 9]
            return int.from_bytes(height), int.from_bytes(width)
        position += 2 + int.from_bytes(length)
    return 0, 0


def _jpeg2000_size(data: bytes) -> tuple[int, int]:
    """Find the rows and columns in a JPEG 2000 codestream (ITU-T T.800, A.5.1: SIZ)."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0:
        return 0, 0
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    return bottom - top, right - left


_HEADERS = {
    6: _jpeg_size,
    7: _jpeg_size,
    33003: _jpeg2000_size,
    33004: _jpeg2000_size,
    33005: _jpeg2000_size,
    34712: _jpeg2000_size,
}


def _ycbcr_to_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo the full-range ITU-R BT.601 of JFIF 1.02, as Aperio's JPEG 2000 33003 is not RGB."""
    y, cb, cr = (pixels[..., k].astype(np.float32) for k in range(3))
    cb -= 128
    cr -= 128
    rgb = np.stack((y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb), axis=-1)
    return np.asarray(np.clip(np.rint(rgb), 0, 255), dtype=np.uint8)
