"""Pictures as PNG, in strips, so that several threads can pack them."""

from __future__ import annotations

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

_STRIP_ROWS = 256
_UP = 2  # the filter that takes off the pixel above


def encode_png(image: npt.NDArray[np.uint8], workers: int = 1) -> bytes:
    """Write RGB pixels (h, w, 3) as PNG. The bytes do not depend on the workers."""
    height, width = image.shape[:2]
    starts = range(0, height, _STRIP_ROWS)

    def pack(start: int) -> tuple[bytes, bytes]:
        rows = _filtered(image, start)
        deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_RLE)
        end = zlib.Z_FINISH if start == starts[-1] else zlib.Z_FULL_FLUSH
        return rows, deflate.compress(rows) + deflate.flush(end)

    body, check = [b"\x78\x01"], 1
    with ThreadPoolExecutor(workers) as pool:
        for rows, packed in pool.map(pack, starts):
            body.append(packed)
            check = zlib.adler32(rows, check)
    body.append(struct.pack(">I", check))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", b"".join(body)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _filtered(image: npt.NDArray[np.uint8], start: int) -> bytes:
    """Rows from `start` on, each less the row above it, behind the number of that filter."""
    strip = image[start : start + _STRIP_ROWS]
    rows = np.empty((strip.shape[0], 1 + 3 * strip.shape[1]), np.uint8)
    rows[:, 0] = _UP
    differences = rows[:, 1:].reshape(strip.shape)
    differences[:] = strip
    differences[1:] -= strip[:-1]
    if start:
        differences[0] -= image[start - 1]
    return rows.tobytes()


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)
