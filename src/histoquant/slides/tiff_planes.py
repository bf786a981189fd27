"""Where the tiles of a TIFF page lie and how their bytes become pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from histoquant.errors import SlideError
from histoquant.slides.tiff_headers import CLAIMS

_LARGEST_TILE_BYTES = 2**29
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


def compression_name(page: TiffPage) -> str:
    """Give the name of a page's compression, or its number."""
    return str(getattr(page.compression, "name", page.compression))


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
    depth = page.tiledepth if page.is_tiled else 1
    if dtype is None or math.prod(tile) * samples * depth * dtype.itemsize > _LARGEST_TILE_BYTES:
        raise SlideError(
            f"{where}: tiles or strips of {tile[0]} x {tile[1]} px ({dtype}) are too large to "
            "decode at once. Export the slide as a tiled OME-TIFF."
        )
    # Bound here and not in the closure's body: the page must not be touched by threads.
    decode_segment: Callable[..., Any] = page.decode
    tables: dict[str, Any] = {}
    if page.compression in _JPEG:
        tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
    claim = CLAIMS.get(int(page.compression))
    if claim is None:
        raise SlideError(
            f"{where}: pixels compressed as {compression_name(page)}, which is not read. "
            "Export the slide as an OME-TIFF with JPEG, LZW or deflate."
        )
    convert = _ycbcr_to_rgb if page.compression == _JPEG2000_YCBCR and samples == 3 else None

    def decode(data: bytes, index: int) -> NDArray[Any]:
        height, width, claimed = claim(data)
        if height > tile[0] or width > tile[1] or claimed > samples:
            raise ValueError(
                f"they claim {height} x {width} px of {claimed or samples} samples in a tile of "
                f"{tile[0]} x {tile[1]} px of {samples}"
            )
        pixels: NDArray[Any] = decode_segment(data, index, **tables)[0][0]
        return pixels[..., :kept] if convert is None else convert(pixels)

    return decode


def _ycbcr_to_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo the full-range ITU-R BT.601 of JFIF 1.02, as Aperio's JPEG 2000 33003 is not RGB."""
    y, cb, cr = (pixels[..., k].astype(np.float32) for k in range(3))
    cb -= 128
    cr -= 128
    rgb = np.stack((y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb), axis=-1)
    return np.asarray(np.clip(np.rint(rgb), 0, 255), dtype=np.uint8)
