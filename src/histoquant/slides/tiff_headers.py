"""How large a compressed tile claims to be, read from its own header before it is decoded.

A codec allocates what the header asks for: a damaged header of a few bytes would be given
gigabytes. Tiles of codecs without a size of their own are bounded by the size of a tile.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

Claim = tuple[int, int, int]
"""Rows, columns and samples per pixel; 0 where the header does not say."""

NO_CLAIM: Claim = (0, 0, 0)
_JXL_RATIOS = ((0, 1), (1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_JXL_SIGNATURE = b"\0\0\0\x0cJXL "
_JXL_BITS = (9, 13, 18, 30)


def no_header(data: bytes) -> Claim:
    """Claim nothing: the codec is told how many bytes to expect."""
    return NO_CLAIM


def jpeg_claim(data: bytes) -> Claim:
    """Find the frame header of a JPEG; a tile without one (NDPI) has the page's.

    ITU-T T.81, annex B: markers other than SOI are followed by their length.
    """
    position = frame_header(data)
    if not position:
        return NO_CLAIM
    height, width, samples = struct.unpack_from(">HHB", data, position + 5)
    return height, width, samples


def frame_header(data: bytes) -> int:
    """Where the marker of a JPEG's frame header begins; 0 where there is none."""
    position = 2
    while data[position : position + 1] == b"\xff":
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return position
        position += 2 + length
    return 0


def jpeg2000_claim(data: bytes) -> Claim:
    """Read the SIZ segment of a JPEG 2000 codestream (ITU-T T.800, A.5.1)."""
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0:
        raise ValueError("they hold no JPEG 2000 codestream")
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    (samples,) = struct.unpack_from(">H", data, start + 40)
    return bottom - top, right - left, samples


def webp_claim(data: bytes) -> Claim:
    """Read the first chunk of a WebP (RFC 9649, 2.5 to 2.7); sizes are at most 16384 px."""
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF, 0
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1, 0
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[k : k + 3], "little") + 1 for k in (24, 27))
        return height, width, 0
    raise ValueError("they hold no WebP picture")


def png_claim(data: bytes) -> Claim:
    """Read the IHDR chunk of a PNG (ISO/IEC 15948, 11.2.2)."""
    width, height = struct.unpack_from(">II", data, 16)
    return height, width, 0


def jpegxl_claim(data: bytes) -> Claim:
    """Read the size header of a JPEG XL codestream, bare or in boxes (ISO/IEC 18181-1, -2)."""
    stream = _jxl_codestream(data)
    if stream[:2] != b"\xff\x0a":
        raise ValueError("they hold no JPEG XL codestream")
    bits = _Bits(stream[2:16])
    is_small = bits.take(1)
    height = _jxl_side(bits, is_small)
    times, parts = _JXL_RATIOS[bits.take(3)]
    width = height * times // parts if times else _jxl_side(bits, is_small)
    return height, width, 0


CLAIMS: dict[int, Callable[[bytes], Claim]] = {
    **dict.fromkeys((1, 5, 8, 32773, 32946, 34925, 34926, 50000), no_header),
    **dict.fromkeys((6, 7, 33007, 34892), jpeg_claim),
    **dict.fromkeys((33003, 33004, 33005, 34712), jpeg2000_claim),
    **dict.fromkeys((34927, 50001), webp_claim),
    **dict.fromkeys((50002, 52546), jpegxl_claim),
    34933: png_claim,
}
"""TIFF's number of each compression that can be decoded within known bounds.

JPEG XR is not among them: the one decoder there is (jxrlib) ends the process on damaged data.
"""


class _Bits:
    """Bits of a JPEG XL header, lowest first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        return value


def _jxl_side(bits: _Bits, is_small: int) -> int:
    if is_small:
        return 8 * (bits.take(5) + 1)
    return bits.take(_JXL_BITS[bits.take(2)]) + 1


def _jxl_codestream(data: bytes) -> bytes:
    """Find the first bytes of the codestream among the boxes of a file, if it has boxes."""
    if not data.startswith(_JXL_SIGNATURE):
        return data
    position = 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        header = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, position + 8)
            header = 16
        if kind in (b"jxlc", b"jxlp"):
            body = position + header + (4 if kind == b"jxlp" else 0)
            return data[body : body + 16]
        if length < header:
            break
        position += length
    return b""
