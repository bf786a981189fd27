"""Polygons in um: which points and which pixels lie inside.

A polygon that crosses itself is taken by the even-odd rule, so that a hasty lasso encloses what
it looks to enclose.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from skimage.measure import grid_points_in_poly, points_in_poly

Points = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def points_inside(points_um: Points, polygon_um: Sequence[Sequence[float]]) -> Mask:
    """Which of (n, 2) points (y, x) in um lie in a polygon."""
    corners = np.asarray(polygon_um, np.float64)
    inside = (
        (points_um >= corners.min(axis=0)) & (points_um <= corners.max(axis=0))
    ).all(axis=1)  # fmt: skip
    near = np.flatnonzero(inside)
    inside[near] = points_in_poly(points_um[near], corners)
    return np.asarray(inside, np.bool_)


def pixels_inside(
    shape: tuple[int, ...], mpp: float, polygon_um: Sequence[Sequence[float]]
) -> tuple[tuple[slice, slice], Mask]:
    """Window of a picture around a polygon, and which of its pixels have their centre inside.

    Parameters
    ----------
    shape, mpp
        Of the picture; pixel (i, j) covers ``[i, i + 1) x [j, j + 1)`` times `mpp`.
    """
    corners = np.asarray(polygon_um, np.float64) / mpp - 0.5  # pixel centres at whole numbers
    low = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, shape[:2])
    high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, low, shape[:2])
    window = slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))
    size = high - low
    if not size.all():
        return window, np.zeros(tuple(size), np.bool_)
    return window, np.asarray(grid_points_in_poly(tuple(size), corners - low), np.bool_)
