"""Pieces of the real section: its stain taken apart, its borders straightened.

A piece is float32 (y, x, 3): densities of hematoxylin, protein (what eosin stains) and melanin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter1d, percentile_filter

from helpers import REAL
from quilt.places import (
    BASAL,
    GRANULAR,
    INFILTRATED,
    PAPILLARY,
    PIGMENTED,
    RETICULAR,
    SPINOUS,
)
from quilt.raster import blurred
from quilt.skin import Plane

SLIDE = "CMU-1-Small-Region.svs"
WHITE = 244.0  # its glass
DARKEST = 3  # grey level below which the scanner tells nothing
HEMATOXYLIN, EOSIN = (0.60, 0.71, 0.37), (0.19, 0.84, 0.51)  # as on that slide
NO_MELANIN = np.array([1, 1, 0], np.float32)

# Rows of straightened strips, one per pixel away from the border.
BASAL_PX = 60
GRANULAR_PX = 64
CORNEUM_PX = 110

Levels = tuple[tuple[float, float], tuple[float, float]]
"""Two quantiles of the hematoxylin in a piece, and the densities they are brought to."""

BASAL_LEVELS: Levels = (0.30, 0.93), (0.11, 0.62)
GRANULAR_LEVELS: Levels = (0.35, 0.985), (0.11, 0.55)
SPINOUS_LEVELS: Levels = (0.35, 0.965), (0.11, 0.56)
PAPILLARY_LEVELS: Levels = (0.45, 0.985), (0.035, 0.55)
RETICULAR_LEVELS: Levels = (0.45, 0.985), (0.03, 0.55)
INFILTRATED_LEVELS: Levels = (0.40, 0.96), (0.05, 0.62)


@dataclass(frozen=True)
class Sources:
    """Pieces by tissue. Strips begin at a border: basal ones go up, granular down, corneum up."""

    basal: list[Plane]
    granular: list[Plane]
    corneum: list[Plane]
    spinous: list[Plane]
    papillary: list[Plane]
    reticular: list[Plane]
    infiltrated: list[Plane]


def _densities() -> Plane:
    """Return the whole slide as hematoxylin, protein and melanin."""
    light = np.clip(tifffile.imread(REAL / SLIDE).astype(np.float32), DARKEST, None)
    od = -np.log10(light / WHITE)
    red, green, blue = od[..., 0], od[..., 1], od[..., 2]
    apart = np.clip(od, 0, None) @ np.linalg.pinv(np.stack([HEMATOXYLIN, EOSIN]))
    # JPEG stored the slide's colour coarsely, but red, which eosin hardly absorbs, finely enough:
    # hematoxylin mostly follows it.
    hematoxylin = np.clip(0.6 * apart[..., 0] + 0.4 * (red - 0.12 * green) / 0.52, 0, None)
    protein = np.clip(apart[..., 1], 0, None)
    # Brown takes up more blue, against green, than either stain.
    melanin = blurred(np.clip(blue - 0.62 * green - 0.02, 0, None), 0.8)
    return np.dstack([hematoxylin, protein, melanin]).astype(np.float32)


def _straightened(
    slide: Plane, border: Sequence[tuple[int, int]], side: int, height_px: int
) -> Plane:
    """Strip along a border that goes down: a column per pixel along it, rows away from it.

    With `side` 1 its rows go to the right (+x), with -1 to the left.
    """
    corners = np.array(border, float)
    at = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
    every = np.arange(0, at[-1], 1.0)
    # The clicked corners are rounded off, or the strip would fold over itself there.
    line = np.stack(
        [gaussian_filter1d(np.interp(every, at, corners[:, k]), 6) for k in (0, 1)], axis=1
    )
    along = gaussian_filter1d(np.gradient(line, axis=0), 8, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    away = np.stack([along[:, 1], -along[:, 0]], axis=1) * side
    row = np.arange(0, height_px, 1.0)[:, None]
    x, y = line[:, 0] + row * away[:, 0], line[:, 1] + row * away[:, 1]
    strip = cv2.remap(slide, x.astype(np.float32), y.astype(np.float32), cv2.INTER_CUBIC)
    return np.asarray(strip)


def _cut(slide: Plane, box: tuple[int, int, int, int]) -> Plane:
    """Cut out a box, turned so that the surface of the skin is above."""
    left, top, right, bottom = box
    return np.ascontiguousarray(np.rot90(slide[top:bottom, left:right]))


def _levelled(piece: Plane, levels: Levels) -> Plane:
    """Bring the hematoxylin of a piece to common levels, so that pieces can be joined."""
    quantiles, (low, high) = levels
    piece = piece.copy()
    # What varies slowly is cytoplasm: four fifths of that are taken off. A quarter of the size
    # is fine enough to see it.
    small = cv2.resize(piece[..., 0], None, fx=0.25, fy=0.25, interpolation=cv2.INTER_LINEAR)
    small = blurred(percentile_filter(small, 30, 11, mode="reflect"), 3.5)
    slow = cv2.resize(small, piece.shape[1::-1])
    piece[..., 0] = np.clip(piece[..., 0] - 0.8 * (slow - slow.mean()), 0, None)
    found_low, found_high = np.quantile(piece[..., 0], quantiles)
    spread = max(found_high - found_low, 0.05)  # flat pieces are not stretched without limit
    level = low + (piece[..., 0] - found_low) * (high - low) / spread
    piece[..., 0] = np.clip(level, 0, 1.2)
    return piece


def _basal(slide: Plane, number: int) -> Plane:
    strip = _levelled(_straightened(slide, BASAL[number], 1, BASAL_PX), BASAL_LEVELS)
    if number not in PIGMENTED:
        strip[..., 2] = 0
    # It fades out from 12 to 22 um above the border: brown further up is not melanin.
    strip[..., 2] *= np.clip((44 - np.arange(BASAL_PX)) / 20.0, 0, 1)[:, None]
    return strip


def _granular(slide: Plane, border: list[tuple[int, int]], corneum_side: int) -> Plane:
    strip = _straightened(slide, border, -corneum_side, GRANULAR_PX)
    strip = _levelled(strip, GRANULAR_LEVELS)
    # Keratohyalin, dark in this stain, is pale without eosin.
    strip[..., 0] *= np.clip(0.5 + np.arange(GRANULAR_PX) / 40.0, 0, 1)[:, None]
    strip[..., 2] = 0
    return strip


def _corneum(slide: Plane, border: list[tuple[int, int]], corneum_side: int) -> Plane:
    """Lamellae by all they take up: in H-DAB they are protein with a breath of hematoxylin."""
    strip = _straightened(slide, border, corneum_side, CORNEUM_PX)
    both = strip[..., 0] + strip[..., 1]
    hematoxylin = 0.16 * np.tanh(both) + 0.05 * strip[..., 0]
    return np.dstack([hematoxylin, np.tanh(0.9 * both), 0 * strip[..., 2]])


@cache
def sources() -> Sources:
    """Take all pieces from the real section, once."""
    slide = _densities()

    def boxes(places: list[tuple[int, int, int, int]], levels: Levels) -> list[Plane]:
        return [_levelled(_cut(slide, box) * NO_MELANIN, levels) for box in places]

    return Sources(
        basal=[_basal(slide, number) for number in range(len(BASAL))],
        granular=[_granular(slide, *border) for border in GRANULAR],
        corneum=[_corneum(slide, *border) for border in GRANULAR],
        spinous=boxes(SPINOUS, SPINOUS_LEVELS),
        papillary=boxes(PAPILLARY, PAPILLARY_LEVELS),
        reticular=boxes(RETICULAR, RETICULAR_LEVELS),
        infiltrated=boxes(INFILTRATED, INFILTRATED_LEVELS),
    )
