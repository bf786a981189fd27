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

PAGE_BYTES = 12_000_000
"""Bytes of all pictures of a page, before base64 makes them a third more."""
_LEAST_BYTES, _MOST_BYTES = 40_000, 300_000
_MOST_SIDE, _LEAST_SIDE = 2000, 360
_QUALITY = 78
_BYTES_PER_PX = 0.11  # of an overlay at that quality: what the first try starts from
_TRIES, _FULL, _CARE = 5, 0.6, 0.94

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
    """`image` as WebP within `budget` bytes, as large as a few tries make it.

    360 px a side is taken even when that is more than the budget.
    """
    largest = min(_MOST_SIDE, max(image.size))
    shape = min(image.size) / max(image.size)
    side = min(largest, max(_LEAST_SIDE, int(math.sqrt(budget / _BYTES_PER_PX / shape))))
    best = b""
    for _ in range(_TRIES):
        content = _webp(image, side)
        fits = len(content) <= budget
        if fits or side <= _LEAST_SIDE:
            best = content
        enough = side == largest or len(content) > _FULL * budget
        if best and (enough or not fits):
            break
        # Bytes go about with the area; a little less, so that the next try mostly fits.
        wanted = int(_CARE * side * math.sqrt(budget / len(content)))
        side = min(largest, max(_LEAST_SIDE, wanted))
    return _uri(best or _webp(image, _LEAST_SIDE))


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


def _webp(image: Image.Image, side: int) -> bytes:
    """`image` with a longest side of `side` px."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=2.0)
    out = io.BytesIO()
    small.save(out, "WEBP", quality=_QUALITY, method=2)
    return out.getvalue()


def _uri(content: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(content).decode("ascii")
