"""The report's pictures, small enough that a page of hundreds of slides still opens.

All pictures of a page share a budget of bytes; each slide gets its part of it, within bounds.
"""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

PAGE_BYTES = 20_000_000
"""Bytes of all pictures of a page, before base64 makes them a third more."""
_LEAST_BYTES, _MOST_BYTES = 40_000, 400_000
_MOST_SIDE, _LEAST_SIDE = 2000, 360
_QUALITIES = (82, 74)

Rgb = npt.NDArray[np.uint8]

# From glass to strong DAB: lightness falls evenly, so it reads without colour vision too.
_BROWN = np.array([(255, 255, 255), (240, 221, 196), (208, 163, 112), (158, 98, 52),
                   (101, 53, 22), (48, 22, 10)], np.float64)  # fmt: skip
_UNKNOWN = (223, 230, 240)


def slide_budget(n_slides: int) -> int:
    """Bytes for the pictures of one slide of `n_slides`."""
    return int(min(max(PAGE_BYTES / max(n_slides, 1), _LEAST_BYTES), _MOST_BYTES))


def overlay_uri(path: Path, budget: int) -> str:
    """A picture file as a WebP data URI of at most `budget` bytes; empty where there is none.

    A damaged file raises `OSError`.
    """
    if not path.exists():
        return ""
    with Image.open(path) as image:
        return fitting_uri(image.convert("RGB"), budget)


def fitting_uri(image: Image.Image, budget: int) -> str:
    """`image` as WebP within `budget` bytes: first at lower quality, then smaller.

    The smallest, 360 px a side, is taken even when it is larger than that.
    """
    side = min(_MOST_SIDE, max(image.size))
    while True:
        small = image.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        for quality in _QUALITIES:
            content = _webp(small, quality)
            if len(content) <= budget:
                return _uri(content)
        if side <= _LEAST_SIDE:
            return _uri(content)
        # Bytes go about with the area; a little less, so that the second try mostly fits.
        side = max(_LEAST_SIDE, min(int(0.93 * side * math.sqrt(budget / len(content))), side - 1))


def brown_uri(od: npt.NDArray[np.float32], highest: float) -> str:
    """Optical densities (y, x) as a picture, brown from 0 to `highest`; NaN is blue-grey."""
    share = np.clip(np.nan_to_num(od, nan=0.0) / max(highest, 1e-6), 0, 1) * (len(_BROWN) - 1)
    steps = np.arange(len(_BROWN))
    rgb = np.stack([np.interp(share, steps, _BROWN[:, k]) for k in range(3)], axis=-1)
    picture = np.round(rgb).astype(np.uint8)
    picture[np.isnan(od)] = _UNKNOWN
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "WEBP", quality=70, method=4)
    return _uri(out.getvalue())


def _webp(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", quality=quality, method=3)
    return out.getvalue()


def _uri(content: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(content).decode("ascii")
