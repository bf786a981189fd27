"""Pen, ink and debris: what no stain of the slide has the colour of, or no light gets through.

Colour is taken as the share of each channel in the optical density, which does not depend on
how dense a thing is. A pixel is foreign when its colour lies outside both the mixtures of the
known stains and pigments, and outside the colours that are common on this very slide: stains
of real slides lie well off the published vectors, and so do scanners.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.artefacts import DEBRIS, PEN
from histoquant.planes import over_channels
from histoquant.stains import Preset
from histoquant.tissue import closed, drop_small, opened
from histoquant.windowed import Windowed, strips

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_SMOOTH_UM = 6.0
_MIN_SUM_OD = 0.45  # of the three channels: paler pixels have no colour to speak of
_OPAQUE_OD = 0.75  # in every channel, over a width that no nucleus has
_SHARE_OFF = 0.045  # distance in shares of the channels from any mixture of stains
_BULK_SDS, _BULK_OFF = 3.0, 0.05  # distance from the slide's common colours
_BULK_SAMPLES, _MIN_BULK_SAMPLES, _BULK_FLOOR = 40_000, 200, 0.01
_MIN_USUAL_OD = 0.1  # of the three channels
_STROKE_UM = 14.0  # half the width of the thinnest stroke
_SPECK_UM = 5.0
_VIVID = 2.5  # times as far off as foreign: green ink in specks, not only in strokes
_MIN_SPECK_UM2, _MIN_PEN_UM2 = 400.0, 10_000.0
_TINGED = 0.4  # as far off as foreign: the rim of what is
_RIM_UM = 12.0  # ink fades out over about this width

# Shares (R, G, B) of optical density of what may be in tissue.
_STAINS: dict[Preset, tuple[str, ...]] = {
    "hdab": ("hematoxylin", "dab", "blood"),
    "he": ("hematoxylin", "eosin", "dab", "blood"),
    "haec": ("hematoxylin", "aec", "dab", "blood"),
}
_VECTORS = {
    "hematoxylin": (0.650, 0.704, 0.286),
    "eosin": (0.072, 0.990, 0.105),
    "dab": (0.268, 0.570, 0.776),  # melanin lies between it and hematoxylin
    "aec": (0.2743, 0.6796, 0.6803),
    "blood": (0.14, 0.48, 0.86),
}


def find_ink(od: Windowed, mpp: float, preset: Preset) -> npt.NDArray[np.uint8]:
    """Find pen, ink and debris.

    Parameters
    ----------
    od
        Optical densities (h, w, 3), float32, of the whole slide at `mpp` um/px, some 4: an array,
        or what gives its windows one by one.
    preset
        The slide's stain set.

    Returns
    -------
    uint8 (h, w): `PEN`, `DEBRIS` or 0.
    """
    codes = np.zeros(od.shape[:2], np.uint8)
    usual = _usual_shares(od, mpp)
    foreign, vivid, tinged, opaque = (np.zeros(codes.shape, np.bool_) for _ in range(4))
    for rows, smooth in _smooth_strips(od, mpp):
        off = _foreignness(smooth, usual, preset)
        opaque[rows] = over_channels(np.minimum, smooth) >= _OPAQUE_OD
        foreign[rows], vivid[rows], tinged[rows] = off >= 1, off >= _VIVID, off >= _TINGED
    strokes = opened(opaque | foreign, _STROKE_UM, mpp)
    specks = opened(vivid, _SPECK_UM, mpp)
    ink = drop_small(strokes | specks, _MIN_SPECK_UM2 / mpp**2)
    if not ink.any():
        return codes
    rim = closed(ink, _RIM_UM, mpp)
    reach = 2 * round(_RIM_UM / mpp) + 1
    rim |= (cv2.dilate(rim.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0) & (
        tinged | opaque
    )
    large = drop_small(rim, _MIN_PEN_UM2 / mpp**2)
    codes[rim] = DEBRIS
    codes[large] = PEN
    return codes


def _smooth_strips(od: Windowed, mpp: float) -> Iterator[tuple[slice, FloatArray]]:
    """Rows, and smoothed densities (h, w, 3) of them, one strip after the other."""
    sigma = _SMOOTH_UM / mpp
    for rows, strip, inner in strips(od, math.ceil(4 * sigma) + 1):
        yield rows, np.asarray(cv2.GaussianBlur(strip, (0, 0), sigma)[inner], np.float32)


def _foreignness(smooth: FloatArray, usual: FloatArray, preset: Preset) -> FloatArray:
    """How far each colour lies from tissue's, 1 where it is foreign; 0 where it is too pale."""
    coloured = over_channels(np.add, smooth) >= _MIN_SUM_OD
    chosen = smooth[coloured]
    shares = chosen / chosen.sum(axis=1, keepdims=True)
    off = _off_mixtures(shares, preset)
    if len(usual) >= _MIN_BULK_SAMPLES:
        off = np.minimum(off, _off_bulk(shares, usual))
    result = np.zeros(coloured.shape, np.float32)
    result[coloured] = off
    return result


def _usual_shares(od: Windowed, mpp: float) -> FloatArray:
    """Colours (n, 3) of what there is on the slide, by area: mostly tissue, pale or not."""
    shown = sum(
        np.count_nonzero(over_channels(np.add, smooth) >= _MIN_USUAL_OD)
        for _, smooth in _smooth_strips(od, mpp)
    )
    every, seen, chosen = max(1, shown // _BULK_SAMPLES), 0, [np.empty((0, 3), np.float32)]
    for _, smooth in _smooth_strips(od, mpp):
        some = smooth[over_channels(np.add, smooth) >= _MIN_USUAL_OD]
        chosen.append(some[-seen % every :: every])
        seen += len(some)
    samples = np.concatenate(chosen)
    return np.asarray(samples / samples.sum(axis=1, keepdims=True), np.float32)


def _off_mixtures(shares: FloatArray, preset: Preset) -> FloatArray:
    """Distance of colours (n, 3) from the mixtures of the known stains, over `_SHARE_OFF`."""
    corners = np.array([_VECTORS[name] for name in _STAINS[preset]], np.float32)
    corners = np.ascontiguousarray((corners / corners.sum(axis=1, keepdims=True))[:, :2])
    hull = cv2.convexHull(corners)[:, 0]
    # One table of distances over the plane of shares, rather than a polygon test a pixel.
    size = 512
    plane = np.zeros((size, size), np.uint8)
    cv2.fillPoly(plane, [np.rint(hull * size).astype(np.int32)], 1)
    away = cv2.distanceTransform(1 - plane, cv2.DIST_L2, 5) / size / _SHARE_OFF
    at = np.clip(np.rint(shares[:, :2] * size), 0, size - 1).astype(np.int64)
    return np.asarray(away[at[:, 1], at[:, 0]], np.float32)


def _off_bulk(shares: FloatArray, usual: FloatArray) -> FloatArray:
    """Distance of colours (n, 3) from the slide's usual ones, 1 where they are far from them.

    Medians, because a stroke over a small section may be a third of all that is coloured.
    """
    centre = np.median(usual[:, :2], axis=0)
    spread = 1.4826 * np.median(np.abs(usual[:, :2] - centre), axis=0) + _BULK_FLOOR
    apart = shares[:, :2] - centre
    sds = np.hypot(*(apart / spread).T) / _BULK_SDS
    return np.asarray(np.minimum(sds, np.hypot(*apart.T) / _BULK_OFF), np.float32)
