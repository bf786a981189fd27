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
from histoquant.slides.tiff_headers import CLAIMS, Claim, frame_header

_LARGEST_TILE_BYTES = 2**29
_JPEG = {6, 7, 34892, 33007}
_JPEG2000_YCBCR = 33003
ALPHA = {1, 2}
_ENDED = {6, 7, 33003, 33004, 33005, 33007, 34712, 34892}
"""JPEG and JPEG 2000, which end with a marker."""
_END = b"\xff\xd9"
_FRAME_SIZE = 10
"""Bytes of a JPEG's frame header up to the number of samples (ITU-T T.81, B.2.2)."""

_LARGEST_STRIP_BYTES = 2**22  # of pixels as they are; read in pieces of this size beyond it

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
    """Give rows and columns of a tile, of a strip, or of the pieces of one large strip."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    if _is_one_plain_strip(page):
        return max(1, _LARGEST_STRIP_BYTES // _row_bytes(page)), page.imagewidth
    return page.rowsperstrip, page.imagewidth


def _is_one_plain_strip(page: TiffPage) -> bool:
    """Whether each plane is one large run of uncompressed rows, which can be read in parts."""
    dtype = page.dtype
    return bool(
        not page.is_tiled
        and page.compression == 1
        and page.predictor == 1
        and page.fillorder == 1
        and dtype is not None
        and page.bitspersample == dtype.itemsize * 8
        and page.rowsperstrip >= page.imagelength
        and _row_bytes(page) * page.imagelength > _LARGEST_STRIP_BYTES
    )


def _row_bytes(page: TiffPage) -> int:
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    return page.imagewidth * samples * (page.dtype.itemsize if page.dtype is not None else 1)


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
    if _is_one_plain_strip(page):
        offsets, counts = _cut_strips(page, offsets, counts)
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


def _cut_strips(
    page: TiffPage, offsets: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the pieces of each plane's one strip lie, row by row."""
    rows = tile_shape(page)[0]
    starts = np.arange(0, page.imagelength, rows)
    within = starts * _row_bytes(page)
    lengths = (np.minimum(starts + rows, page.imagelength) - starts) * _row_bytes(page)
    there = (counts > 0) & (offsets > 0)
    cut = np.where(there[:, None], offsets[:, None] + within, 0)
    return cut.ravel(), np.where(there[:, None], lengths, 0).ravel()


def _plain_rows(page: TiffPage, samples: int) -> Callable[..., Any]:
    """As `TiffPage.decode`, for any run of whole uncompressed rows."""
    width = page.imagewidth
    stored = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)

    def decode(data: bytes, index: int) -> tuple[list[NDArray[Any]]]:
        rows = np.frombuffer(data, stored).reshape(-1, width, samples)
        return ([rows.astype(stored.newbyteorder("="))],)

    return decode


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
    plain = _is_one_plain_strip(page)
    decode_segment: Callable[..., Any] = _plain_rows(page, samples) if plain else page.decode
    tables: dict[str, Any] = {}
    if page.compression in _JPEG:
        tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
    # libjpeg and OpenJPEG paint what is lacking grey. NDPI's tiles are pieces of one picture.
    has_end = int(page.compression) in _ENDED and page.jpegheader is None
    claim = CLAIMS.get(int(page.compression))
    if claim is None:
        raise SlideError(
            f"{where}: pixels compressed as {compression_name(page)}, which is not read. "
            "Export the slide as an OME-TIFF with JPEG, LZW or deflate."
        )
    has_alpha = samples > kept and any(int(kind) in ALPHA for kind in page.extrasamples[:1])
    unseen = dtype.type(255 if dtype == np.uint8 and kept == 3 else 0)
    convert = _ycbcr_to_rgb if page.compression == _JPEG2000_YCBCR and samples == 3 else None

    check = _size_check(claim, tile, samples, is_jpeg=page.compression in _JPEG)

    def decode(data: bytes, index: int) -> NDArray[Any]:
        if has_end and not data.endswith(_END) and _END not in data.rstrip(b"\0")[-16:]:
            raise ValueError("they have no end: the tile is cut short")
        check(data)
        pixels: NDArray[Any] = decode_segment(data, index, **tables)[0][0]
        if has_alpha:
            # What nothing was drawn on is often stored as black.
            return np.where(pixels[..., kept:][..., :1] == 0, unseen, pixels[..., :kept])
        return pixels[..., :kept] if convert is None else convert(pixels)

    return decode


def _size_check(
    claim: Callable[[bytes], Claim], tile: tuple[int, int], samples: int, *, is_jpeg: bool
) -> Callable[[bytes], None]:
    """A check that a tile claims no more than a tile, as its codec would allocate that.

    The JPEG tiles of a page begin alike up to the frame header, which is read once.
    """
    known = b""

    def check(data: bytes) -> None:
        nonlocal known
        if known and data.startswith(known):
            return
        height, width, claimed = claim(data)
        if height > tile[0] or width > tile[1] or claimed > samples:
            raise ValueError(
                f"they claim {height} x {width} px of {claimed or samples} samples in a tile of "
                f"{tile[0]} x {tile[1]} px of {samples}"
            )
        if is_jpeg and (start := frame_header(data)):
            known = data[: start + _FRAME_SIZE]

    return check


def _ycbcr_to_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo the full-range ITU-R BT.601 of JFIF 1.02, as Aperio's JPEG 2000 33003 is not RGB."""
    y, cb, cr = (pixels[..., k].astype(np.float32) for k in range(3))
    cb -= 128
    cr -= 128
    rgb = np.stack((y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb), axis=-1)
    return np.asarray(np.clip(np.rint(rgb), 0, 255), dtype=np.uint8)
