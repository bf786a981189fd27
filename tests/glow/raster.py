"""A picture's pixels: how far from a line, where there is room, and noise over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from woven.grid import Grid
from woven.skin import Array, Mask, Plane

COARSE_UM = 2.0  # a pixel where distances matter, and where room for cells is looked for


def grid_over(size_um: Array, mpp: float) -> Grid:
    """Return the pixels of a picture of `size_um` (x, y)."""
    return Grid(mpp, (int(size_um[1] / mpp), int(size_um[0] / mpp)))


def extent_um(grid: Grid) -> Array:
    """Size of a picture in um, (x, y)."""
    return np.array(grid.shape[::-1]) * grid.mpp


def coarsened(grid: Grid) -> Grid:
    """Return larger pixels over the same picture."""
    return grid_over(extent_um(grid), COARSE_UM)


def enlarged(plane: Plane, grid: Grid) -> Plane:
    """Return a coarse plane at the pixels of `grid`."""
    return np.asarray(cv2.resize(plane, grid.shape[::-1]), np.float32)


def distance_to(lines: Sequence[Array], grid: Grid) -> Plane:
    """Distance to the nearest of `lines`, um, a little smoothed."""
    drawn = np.zeros(grid.shape, np.uint8)
    for line in lines:
        cv2.polylines(drawn, [np.round(line / grid.mpp - 0.5).astype(np.int32)], False, [1])
    return np.asarray(cv2.GaussianBlur(grid.distance(drawn > 0), (0, 0), 1.0), np.float32)


def look(image: NDArray[Any], point: NDArray[Any]) -> Any:
    """Value of a coarse image at x, y; 0 outside."""
    row, column = int(point[1] / COARSE_UM), int(point[0] / COARSE_UM)
    inside = 0 <= row < image.shape[0] and 0 <= column < image.shape[1]
    return image[row, column] if inside else 0


def scattered(where: Mask, count: int, rng: np.random.Generator) -> Array:
    """Points (count, 2) anywhere in a coarse mask; none where it is empty."""
    pixels = np.argwhere(where)[:, ::-1]
    chosen = pixels[rng.integers(0, len(pixels), count)] if len(pixels) else np.empty((0, 2))
    return np.asarray((chosen + rng.random(chosen.shape)) * COARSE_UM)


def texture(
    grid: Grid, rng: np.random.Generator, wide_um: float, high_um: float | None = None
) -> Plane:
    """Noise of unit variance, correlated over `wide_um` in x and `high_um` (or as much) in y.

    It is drawn as coarsely as that allows.
    """
    wide, high = wide_um / grid.mpp, (high_um or wide_um) / grid.mpp
    step = max(int(min(wide, high) / 2), 2)
    raw = rng.standard_normal([side // step + 2 for side in grid.shape], np.float32)
    sigma = [max(length / step, 0.3) for length in (wide, high)]
    soft = cv2.GaussianBlur(raw, (0, 0), sigmaX=sigma[0], sigmaY=sigma[1])
    how = cv2.INTER_LINEAR if step < 4 else cv2.INTER_CUBIC
    unit = (soft - soft.mean()) / soft.std()
    return np.asarray(cv2.resize(unit, grid.shape[::-1], interpolation=how), np.float32)
